"""Templates: where the response lies, and what is cut."""

from __future__ import annotations

import pytest
import tiny_models

from palate.backends.text import chat_template, encode_all, encoder_template, plain_template
from palate.errors import ConfigError, InputError


def decoded(tokenizer, encoded):
    return tokenizer.decode(encoded.ids), tokenizer.decode(encoded.ids[encoded.start : encoded.stop])


def test_chat_text_is_what_the_template_gives_and_the_response_is_found_exactly():
    tokenizer = tiny_models.tokenizer(chat=True)
    items = [("How?", "So."), ("", "Alone."), ("Warum?", "Weil naïve 🙂 Leute.")]
    for (prompt, response), encoded in zip(
        items, encode_all(tokenizer, chat_template(tokenizer), items, 200), strict=True
    ):
        messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
        whole = tokenizer.apply_chat_template(messages, tokenize=True)["input_ids"]
        assert list(encoded.ids) == whole[: len(encoded)]
        assert decoded(tokenizer, encoded)[1] == response


def test_plain_text_begins_with_the_first_token_and_an_empty_line_divides():
    tokenizer = tiny_models.tokenizer()
    (encoded,) = encode_all(tokenizer, plain_template(tokenizer), [("ask", "tell")], 100)
    assert decoded(tokenizer, encoded) == ("<|im_start|>ask\n\ntell", "tell")


def test_encoder_text_has_the_special_tokens_of_its_tokenizer():
    tokenizer = tiny_models.tokenizer(encoder=True)
    alone = encode_all(tokenizer, encoder_template(tokenizer, uses_prompt=False), [("ask", "tell")], 100)[0]
    both = encode_all(tokenizer, encoder_template(tokenizer, uses_prompt=True), [("ask", "tell")], 100)[0]
    assert list(alone.ids) == tokenizer("tell")["input_ids"]
    assert decoded(tokenizer, both) == ("[CLS]ask[SEP]tell[SEP]", "tell")
    assert decoded(tokenizer, alone)[1] == "tell"


@pytest.mark.parametrize(
    ("prompt", "response", "kept_prompt", "kept_response"),
    [
        ("p" * 10, "r" * 10, 10, 10),
        ("p" * 100, "r" * 10, 30, 10),
        ("p" * 10, "r" * 100, 10, 30),
        ("p" * 100, "r" * 100, 10, 30),
        ("p" * 5, "r" * 100, 5, 35),
        ("", "r" * 100, 0, 40),
    ],
)
def test_long_texts_keep_the_end_of_the_prompt_and_the_start_of_the_response(
    prompt, response, kept_prompt, kept_response
):
    tokenizer = tiny_models.tokenizer()
    marked = "<" + prompt[2:] + ">" if prompt else ""
    template = plain_template(tokenizer)
    (encoded,) = encode_all(tokenizer, template, [(marked, "(" + response[1:])], 43)
    whole, found = decoded(tokenizer, encoded)
    assert len(encoded) <= 43
    assert found == ("(" + response[1:])[:kept_response]
    assert whole.removeprefix("<|im_start|>") == marked[len(marked) - kept_prompt :] + "\n\n" + found


def test_texts_and_limits_that_cannot_be_used():
    tokenizer = tiny_models.tokenizer(chat=True)
    with pytest.raises(InputError, match="has no token"):
        encode_all(tokenizer, chat_template(tokenizer), [("ask", "")], 100)
    with pytest.raises(ConfigError, match="max_length=20: the template alone has"):
        encode_all(tokenizer, chat_template(tokenizer), [("ask", "tell")], 20)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] | upper }}{% endfor %}"
    with pytest.raises(InputError, match="does not carry the prompt"):
        chat_template(tokenizer)


def test_templates_with_different_tokens_or_parts_have_different_digests():
    tokenizer = tiny_models.tokenizer(chat=True)
    templates = [chat_template(tokenizer), plain_template(tokenizer), chat_template(tokenizer).without_prompt()]
    assert len({template.digest for template in templates}) == 3
    assert chat_template(tokenizer).digest == templates[0].digest
