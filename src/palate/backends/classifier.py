"""Scores of a sequence classifier with one label: the usual form of a reward model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from palate.backends.hidden import length_sorted_batches
from palate.backends.huggingface import load_classifier, load_tokenizer
from palate.errors import InputError
from palate.progress import Progress, silent

__all__ = ["SequenceScores"]

Encoded = Mapping[str, list[int]]


class SequenceScores:
    """A reward model of transformers: one number per (prompt, reply).

    The text is the tokenizer's chat template with a user's and an assistant's turn where it has one; else, for
    tokenizers with a separator (encoders), the pair of texts; else prompt, empty line, reply. A text of more than
    `max_length` tokens loses its middle: the beginning holds the template, the end the reply that is judged.

    Args:
        name: model folder, or a name on the hub.
        dtype: auto, float32, bfloat16 or float16.
        device: auto, cpu, cuda, cuda:1, mps.
        max_length: most tokens read.

    Raises:
        InputError: no such model, or it is no classifier with one label.
    """

    def __init__(self, name: str, *, dtype: str = "auto", device: str = "auto", max_length: int = 2048) -> None:
        self._name = name
        self._model = load_classifier(name, dtype=dtype, device=device)
        self._tokenizer = load_tokenizer(name)
        self._max_length = max_length

    def score(
        self, texts: Sequence[tuple[str, str]], *, batch_tokens: int | None = None, progress: Progress = silent
    ) -> np.ndarray:
        """Scores in batches of texts of like length.

        Args:
            texts: n pairs of prompt and reply.
            batch_tokens: most tokens in one batch, padding counted; None takes 1,024 on a CPU, 32,768 elsewhere.
            progress: called after each batch with the number of texts done.

        Returns:
            (n,) float32, in the order of `texts`.

        Raises:
            InputError: a score is NaN or infinite.
        """
        if batch_tokens is None:
            batch_tokens = 1024 if self._model.device.type == "cpu" else 32768
        encoded = [self.encode(prompt, reply) for prompt, reply in texts]
        pad = self._pad(encoded)
        scores = np.zeros(len(encoded), np.float32)
        done = 0
        for rows in length_sorted_batches([len(text["input_ids"]) for text in encoded], batch_tokens):
            scores[rows] = self._batch([encoded[row] for row in rows], pad)
            done += len(rows)
            progress(done, len(encoded), self._name)
        if not np.isfinite(scores).all():
            raise InputError(f"{self._name} gave scores that are NaN or infinite; use dtype='float32'")
        return scores

    def encode(self, prompt: str, reply: str) -> Encoded:
        """The text as the model reads it: `input_ids`, and `token_type_ids` where the model has them."""
        tokenizer = self._tokenizer
        if tokenizer.chat_template:
            turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]
            # Some templates write today's date, which would make scores of different days different.
            text = tokenizer.apply_chat_template(turns, tokenize=False, date_string="01 January 2026")
            found = tokenizer(text, add_special_tokens=False, verbose=False)
        elif tokenizer.sep_token_id is not None:
            found = tokenizer(prompt, reply, verbose=False)
        else:
            found = tokenizer(f"{prompt}\n\n{reply}", verbose=False)
        return {
            name: _without_middle(found[name], self._max_length)
            for name in ("input_ids", "token_type_ids")
            if name in found
        }

    def _batch(self, texts: Sequence[Encoded], pad: int) -> np.ndarray:
        longest = max(len(text["input_ids"]) for text in texts)
        inputs = {name: np.full((len(texts), longest), pad if name == "input_ids" else 0) for name in texts[0]}
        inputs["attention_mask"] = np.zeros((len(texts), longest), np.int64)
        for row, text in enumerate(texts):
            for name, values in text.items():
                inputs[name][row, : len(values)] = values
            inputs["attention_mask"][row, : len(text["input_ids"])] = 1
        device = self._model.device
        with torch.inference_mode():
            output = self._model(**{name: torch.from_numpy(table).to(device) for name, table in inputs.items()})
        return output.logits[:, 0].float().cpu().numpy()

    def _pad(self, texts: Sequence[Encoded]) -> int:
        """What stands behind a text.

        Causal classifiers read the last token that is not the pad token of their configuration. Where that has none, a
        token is chosen that ends no text, so that each is read at its last token, as it would be alone.
        """
        config = self._model.config
        if config.pad_token_id is not None:
            return config.pad_token_id
        last = {text["input_ids"][-1] for text in texts}
        pad = next(token for token in range(len(last) + 1) if token not in last)
        self._model.config.get_text_config().pad_token_id = pad
        return pad


def _without_middle(tokens: list[int], limit: int) -> list[int]:
    if len(tokens) <= limit:
        return list(tokens)
    head = limit // 8
    return [*tokens[:head], *tokens[head - limit :]]
