"""Questions to a chat model: told beforehand what they cost, asked once each, kept on disk, gone on with after a kill.

An answer is a file of its own, named by a hash of the model and the conversation and renamed into place when it is whole. So a
run that is killed, refused or cut off has lost nothing, and the same run again asks only what is missing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.backends.base import ChatBackend, Messages
from palate.errors import EndpointError, InputError, RefusalError
from palate.files import read_json, write_json
from palate.progress import Progress, silent

__all__ = ["Calls", "Cost"]

_CHARACTERS_PER_TOKEN = 4
_TOKENS_PER_MESSAGE = 4


@dataclass(frozen=True)
class Cost:
    """What questions to a model cost.

    Args:
        calls: questions that differ.
        kept: of these, answers that are on disk already.
        prompt_tokens, answer_tokens: of the questions that are still to be asked: about a token for four characters, and the
            longest answer allowed.
        most: true where this is an upper bound, because an earlier answer decides what is asked later.
    """

    calls: int
    kept: int
    prompt_tokens: int
    answer_tokens: int
    most: bool = False

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.calls + other.calls,
            self.kept + other.kept,
            self.prompt_tokens + other.prompt_tokens,
            self.answer_tokens + other.answer_tokens,
            self.most or other.most,
        )

    def __str__(self) -> str:
        return (
            f"{'at most' if self.most else 'about'} {self.calls - self.kept:,} calls ({self.kept:,} more are answered "
            f"already), {self.prompt_tokens:,} tokens in and up to {self.answer_tokens:,} out; an answer that cannot be "
            "read is asked for once more"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return dict(vars(self))


class Calls:
    """A chat model with a memory on disk.

    Args:
        chat: the model, e.g. `palate.backends.openai.ChatClient` or `palate.backends.chat.LocalChat`.
        folder: where answers are kept.
        name: says which model it is; answers of another name are not taken. Default: the model's own description.
        workers: questions asked at a time; 1 for a model in this process.

    Attributes:
        asked: answers that the model gave to this object.
        refused: of all answers taken, those without a word.
    """

    def __init__(
        self, chat: ChatBackend, folder: str | os.PathLike[str], *, name: str | None = None, workers: int = 8
    ) -> None:
        if workers < 1:
            raise InputError(f"workers={workers}: use at least 1")
        self.chat, self.folder, self.workers = chat, Path(folder), workers
        self.name = repr(chat) if name is None else name
        self.asked = 0
        self.refused = 0

    def expected(self, conversations: Sequence[Messages], *, max_tokens: int) -> Cost:
        """What `ask` with the same arguments would cost."""
        files = {self._file(messages, max_tokens): messages for messages in conversations}
        missing = [messages for file, messages in files.items() if _read(file) is None]
        characters = sum(len(message["content"]) for messages in missing for message in messages)
        overhead = _TOKENS_PER_MESSAGE * sum(len(messages) for messages in missing)
        return Cost(
            calls=len(files),
            kept=len(files) - len(missing),
            prompt_tokens=-(-characters // _CHARACTERS_PER_TOKEN) + overhead,
            answer_tokens=max_tokens * len(missing),
        )

    def known(self, conversations: Sequence[Messages], *, max_tokens: int) -> list[str | None]:
        """Answers that are on disk, None for those that are not (and for refusals); asks nothing."""
        kept = [_read(self._file(messages, max_tokens)) for messages in conversations]
        return [None if answer is None else answer["text"] for answer in kept]

    def ask(
        self, conversations: Sequence[Messages], *, max_tokens: int, progress: Progress = silent, what: str = "asking"
    ) -> list[str | None]:
        """The answers in order, None for a refusal without a word; equal conversations are asked once.

        Raises:
            EndpointError: the model does not answer. What came before is kept, also what was under way.
            StorageError: answers cannot be written.
        """
        files = [self._file(messages, max_tokens) for messages in conversations]
        todo = dict(zip(files, conversations, strict=True))
        found = {file: kept for file in todo if (kept := _read(file)) is not None}
        total, missing = len(todo), [file for file in todo if file not in found]
        progress(len(found), total, what)
        with ThreadPoolExecutor(self.workers) as pool:
            futures = {file: pool.submit(self._answer, file, todo[file], max_tokens) for file in missing}
            try:
                for file, future in futures.items():
                    found[file] = future.result()
                    self.asked += 1
                    progress(len(found), total, what)
            except EndpointError as error:
                done = self._stop(pool, futures, found)
                raise EndpointError(f"{error}; {done:,} of {total:,} answers are kept, run the same again") from None
            except BaseException:
                self._stop(pool, futures, found)
                raise
        self.refused += sum(found[file]["text"] is None for file in todo)
        return [found[file]["text"] for file in files]

    def _stop(self, pool: ThreadPoolExecutor, futures: dict[Path, Future], found: dict[Path, Any]) -> int:
        """Start nothing more, wait for what is under way, count it, and say how many answers there are."""
        pool.shutdown(wait=True, cancel_futures=True)
        late = [
            file
            for file, future in futures.items()
            if file not in found and not future.cancelled() and future.exception() is None
        ]
        self.asked += len(late)
        return len(found) + len(late)

    def _answer(self, file: Path, messages: Messages, max_tokens: int) -> dict[str, Any]:
        try:
            text: str | None = self.chat.chat(messages, temperature=0.0, max_tokens=max_tokens)
        except RefusalError:
            text = None
        kept = {"text": text}
        write_json(file, kept)
        return kept

    def _file(self, messages: Messages, max_tokens: int) -> Path:
        request = json.dumps([self.name, [dict(message) for message in messages], max_tokens], sort_keys=True)
        name = hashlib.blake2b(request.encode(), digest_size=20).hexdigest()
        return self.folder / name[:2] / f"{name}.json"


def _read(file: Path) -> dict[str, Any] | None:
    """A kept answer; None where there is none or it is damaged."""
    try:
        kept = read_json(file)
    except (OSError, ValueError):
        return None
    whole = isinstance(kept, dict) and "text" in kept and (kept["text"] is None or isinstance(kept["text"], str))
    return kept if whole else None
