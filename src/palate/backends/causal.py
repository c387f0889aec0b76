"""A causal language model in this process: how likely it finds a reply, and what it answers itself."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from torch.nn import functional

from palate.backends.base import Messages
from palate.backends.hidden import length_sorted_batches
from palate.backends.huggingface import load_causal, load_tokenizer, revision
from palate.backends.text import EncodedText, chat_template, encode_all, plain_template
from palate.errors import InputError
from palate.files import read_json, write_json
from palate.progress import Progress, silent

__all__ = ["LocalChat", "ReplyLikelihood"]


class ReplyLikelihood:
    """Mean log-probability of a reply's tokens after its prompt, in nats per token: a reward that needs no training.

    The mean and not the sum, so that a reply is not better for being shorter.

    Args:
        name: a bundled name ("smollm2"), a model folder, or a name on the hub.
        dtype: auto, float32, bfloat16 or float16.
        device: auto, cpu, cuda, cuda:1, mps.
        max_length: most tokens read.
    """

    def __init__(self, name: str, *, dtype: str = "auto", device: str = "auto", max_length: int = 2048) -> None:
        self._name = name
        self._model = load_causal(name, dtype=dtype, device=device)
        self._tokenizer = load_tokenizer(name)
        self._max_length = max_length

    def score(
        self, texts: Sequence[tuple[str, str]], *, batch_tokens: int | None = None, progress: Progress = silent
    ) -> np.ndarray:
        """(n,) float32 scores of (prompt, reply) pairs, in their order; arguments as in `SequenceScores.score`.

        Raises:
            InputError: a reply has no token, or a score is NaN or infinite.
        """
        if batch_tokens is None:
            batch_tokens = 1024 if self._model.device.type == "cpu" else 16384
        template = (chat_template if self._tokenizer.chat_template else plain_template)(self._tokenizer)
        encoded = encode_all(self._tokenizer, template, texts, self._max_length)
        scores = np.zeros(len(encoded), np.float32)
        done = 0
        for rows in length_sorted_batches([len(text) for text in encoded], batch_tokens):
            scores[rows] = self._batch([encoded[row] for row in rows])
            done += len(rows)
            progress(done, len(encoded), self._name)
        if not np.isfinite(scores).all():
            raise InputError(f"{self._name} gave likelihoods that are NaN or infinite; use dtype='float32'")
        return scores

    def _batch(self, texts: Sequence[EncodedText]) -> np.ndarray:
        longest = max(len(text) for text in texts)
        ids = torch.zeros((len(texts), longest), dtype=torch.int64)
        present = torch.zeros_like(ids)
        reply = torch.zeros((len(texts), longest))
        for row, text in enumerate(texts):
            ids[row, : len(text)] = torch.tensor(text.ids)
            present[row, : len(text)] = 1
            # The first token of all has nothing before it that could make it likely.
            reply[row, max(1, text.start) : text.stop] = 1.0
        device = self._model.device
        with torch.inference_mode():
            logits = self._model(input_ids=ids.to(device), attention_mask=present.to(device)).logits[:, :-1].float()
        lost = functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:].to(device), reduction="none").cpu()
        counted = reply[:, 1:]
        return (-(lost * counted).sum(1) / counted.sum(1).clamp_min(1.0)).numpy()


class LocalChat:
    """A chat model in this process; a `palate.backends.ChatBackend`.

    One conversation at a time, whatever the number of threads. A conversation that is longer than the model reads is
    refused rather than cut: what would be cut is what matters.

    Args:
        name: a bundled name ("smollm2"), a model folder, or a name on the hub; its tokenizer needs a chat template.
        dtype, device: as in `ReplyLikelihood`.
        cache: folder in which answers at temperature 0 are kept by a hash of model and conversation, or None.

    Raises:
        InputError: no such model, or its tokenizer has no chat template.
    """

    def __init__(
        self,
        name: str = "smollm2",
        *,
        dtype: str = "auto",
        device: str = "auto",
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        self._name, self._options = name, {"dtype": dtype, "device": device}
        self._cache = None if cache is None else Path(cache)
        self._lock = Lock()
        self._model = None
        self._tokenizer = load_tokenizer(name)
        if not self._tokenizer.chat_template:
            raise InputError(f"{name}: its tokenizer has no chat template; take a model that was trained to chat")
        self._revision = revision(name)

    def __repr__(self) -> str:
        return f"LocalChat({self._name} {self._revision[:12]})"

    def __getstate__(self) -> dict[str, object]:
        """What another process needs: it loads the model itself."""
        return {**vars(self), "_lock": None, "_model": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state, _lock=Lock())

    def chat(self, messages: Messages, *, temperature: float = 0.0, max_tokens: int = 256) -> str:
        """The model's next message; arguments as in `ChatBackend.chat`.

        Raises:
            InputError: the conversation is longer than the model reads.
        """
        turns = [dict(message) for message in messages]
        file = None
        if self._cache is not None and temperature == 0:
            asked = json.dumps([self._revision, self._options["dtype"], turns, max_tokens], sort_keys=True)
            key = hashlib.blake2b(asked.encode(), digest_size=20).hexdigest()
            file = self._cache / key[:2] / f"{key}.json"
            try:
                return read_json(file)["text"]
            except (FileNotFoundError, ValueError, KeyError, TypeError):
                pass
        with self._lock:
            text = self._answer(turns, temperature, max_tokens)
        if file is not None:
            write_json(file, {"text": text})
        return text

    def _answer(self, turns: list[dict[str, str]], temperature: float, max_tokens: int) -> str:
        if self._model is None:
            self._model = load_causal(self._name, **self._options)
        model, tokenizer = self._model, self._tokenizer
        asked = tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True, date_string="01 January 2026"
        )
        ids = torch.tensor([tokenizer(asked, add_special_tokens=False, verbose=False)["input_ids"]]).to(model.device)
        limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        if limit is not None and ids.shape[1] + max_tokens > limit:
            raise InputError(
                f"{self._name} reads {limit} tokens and the conversation has {ids.shape[1]}; show fewer examples"
            )
        sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
        end = model.generation_config.eos_token_id
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end
        with torch.inference_mode():
            made = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max_tokens,
                pad_token_id=pad[0] if isinstance(pad, list) else pad,
                **sampling,
            )
        return tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True).strip()
