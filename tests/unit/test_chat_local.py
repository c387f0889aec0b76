"""A chat model in this process, with a tiny one made here."""

from __future__ import annotations

import pytest
import tiny_models

from palate.backends.chat import LocalChat
from palate.errors import InputError

ASK = [{"role": "system", "content": "You are brief."}, {"role": "user", "content": "Say something."}]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_models.save(tmp_path_factory.mktemp("chat"), "llama", chat=True)


def test_it_answers_the_same_and_at_most_so_many_tokens(model):
    chat = LocalChat(model, device="cpu")
    short, long = (chat.chat(ASK, max_tokens=tokens) for tokens in (4, 12))
    assert short == LocalChat(model, device="cpu").chat(ASK, max_tokens=4)
    assert long.startswith(short.rstrip("\ufffd")) and len(short.encode()) <= 4 * 3
    assert chat.chat(ASK[1:], max_tokens=12) != long  # it reads the whole conversation
    assert "Say something" not in long


def test_temperature_draws(model):
    chat = LocalChat(model, device="cpu")
    assert len({chat.chat(ASK, temperature=2.0, max_tokens=12) for _ in range(4)}) > 1


def test_its_name_says_which_weights(model, tmp_path):
    other = tiny_models.save(tmp_path, "gpt2", chat=True)
    assert repr(LocalChat(model)) == repr(LocalChat(model)) != repr(LocalChat(other))
    assert repr(LocalChat(model)).startswith(f"LocalChat({model}, ")


def test_a_model_without_a_chat_template_and_a_long_text_are_one_line(model, tmp_path):
    plain = tiny_models.save(tmp_path, "llama")
    with pytest.raises(InputError, match="no chat template"):
        LocalChat(plain, device="cpu").chat(ASK)
    with pytest.raises(InputError, match="leave long texts out"):
        LocalChat(model, device="cpu").chat([{"role": "user", "content": "word " * 200}], max_tokens=8)
