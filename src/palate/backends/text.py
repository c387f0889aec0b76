"""From a prompt and a response to the token numbers a model reads, with the response's place known exactly.

The prompt and the response are tokenised apart and joined by the fixed tokens of a template, so that the response
begins where generation would begin, and that pooling over it covers it and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from palate.errors import ConfigError, InputError

__all__ = ["EncodedText", "Template", "chat_template", "encoder_template", "encode_all", "plain_template"]

_MARK = "palate prompt goes here"
_SEPARATOR = "\n\n"


@dataclass(frozen=True)
class EncodedText:
    """One text as token numbers; the response is `ids[start:stop]`."""

    ids: tuple[int, ...]
    start: int
    stop: int

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Template:
    """The fixed tokens around the prompt and the response.

    Args:
        before: tokens before the prompt.
        between: tokens between prompt and response.
        after: tokens after the response.
        uses_prompt: False leaves the prompt out.
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    uses_prompt: bool = True

    @property
    def digest(self) -> str:
        """A fingerprint of the template."""
        parts = repr((self.before, self.between, self.after, self.uses_prompt))
        return hashlib.blake2b(parts.encode(), digest_size=8).hexdigest()

    def without_prompt(self) -> Template:
        """The same template with the prompt's place left empty."""
        return replace(self, uses_prompt=False)

    def join(self, prompt: Sequence[int], response: Sequence[int], max_length: int) -> EncodedText:
        """The text of at most `max_length` tokens.

        Where prompt and response do not fit together, the response keeps its start and the prompt its end (what was
        asked last is nearest to the answer); the prompt shrinks first, down to a quarter of the room.

        Raises:
            ConfigError: the template's own tokens leave no room for the texts.
        """
        prompt = prompt if self.uses_prompt else ()
        room = max_length - len(self.before) - len(self.between) - len(self.after)
        if room < 4:
            raise ConfigError(
                f"max_length={max_length}: the template alone has {max_length - room} tokens; set it to 64 or more"
            )
        kept = min(len(response), max(room - len(prompt), room - room // 4))
        prompt = prompt[max(0, len(prompt) - (room - kept)) :]
        head = (*self.before, *prompt, *self.between)
        return EncodedText((*head, *response[:kept], *self.after), len(head), len(head) + kept)


def chat_template(tokenizer: Any) -> Template:
    """The tokenizer's own chat template: a user turn with the prompt, an assistant turn with the response.

    Ends right after the response: what a template puts there is the same for all texts.

    Raises:
        InputError: the template changes the texts, so that they cannot be found in it.
    """
    messages = [{"role": "user", "content": _MARK}]
    # Some templates write today's date, which would make features of different days different.
    text = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, date_string="01 January 2026"
    )
    if text.count(_MARK) != 1:
        raise InputError(f"{tokenizer.name_or_path}: its chat template does not carry the prompt; use template='plain'")
    before, between = text.split(_MARK)
    return Template(_tokens(tokenizer, before), _tokens(tokenizer, between), ())


def plain_template(tokenizer: Any) -> Template:
    """For models without a chat template: the beginning-of-text token if any, prompt, an empty line, response."""
    start = () if tokenizer.bos_token_id is None else (tokenizer.bos_token_id,)
    return Template(start, _tokens(tokenizer, _SEPARATOR), ())


def encoder_template(tokenizer: Any, *, uses_prompt: bool) -> Template:
    """For encoders: the special tokens that the tokenizer puts around a text; with a prompt, a separator between."""
    around = tokenizer(_MARK, return_special_tokens_mask=True)
    special = [bool(flag) for flag in around["special_tokens_mask"]]
    ids = list(around["input_ids"])
    first = special.index(False)
    last = len(special) - special[::-1].index(False)
    between: tuple[int, ...] = ()
    if uses_prompt:
        between = _tokens(tokenizer, _SEPARATOR) if tokenizer.sep_token_id is None else (tokenizer.sep_token_id,)
    return Template(tuple(ids[:first]), between, tuple(ids[last:]), uses_prompt)


def encode_all(
    tokenizer: Any, template: Template, items: Sequence[tuple[str, str]], max_length: int
) -> list[EncodedText]:
    """Every (prompt, response), in order; each distinct prompt is tokenised once.

    Raises:
        InputError: a response has no token (it is empty, or holds nothing the tokenizer knows).
    """
    prompts = sorted({prompt for prompt, _ in items}) if template.uses_prompt else []
    number = {text: tokens for text, tokens in zip(prompts, _batch(tokenizer, prompts), strict=True)}
    responses = _batch(tokenizer, [response for _, response in items])
    encoded = []
    for (prompt, text), response in zip(items, responses, strict=True):
        if not response:
            raise InputError(f"response {text[:40]!r} has no token; leave empty texts out")
        encoded.append(template.join(number.get(prompt, ()), response, max_length))
    return encoded


def _batch(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    if not texts:
        return []
    # verbose=False: texts beyond the model's length are cut by the template, so no notice is due.
    return tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]


def _tokens(tokenizer: Any, text: str) -> tuple[int, ...]:
    return tuple(_batch(tokenizer, [text])[0]) if text else ()
