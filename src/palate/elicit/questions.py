"""Texts of questions as a pool: every reply once, pairs as numbers, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from palate.errors import InputError
from palate.models.personal import Question

__all__ = ["QuestionTable", "all_pairs", "check_question"]


@dataclass(frozen=True)
class QuestionTable:
    """n questions over distinct (prompt, reply) texts.

    Args:
        texts: distinct (prompt, reply) pairs.
        left, right: (n,) into `texts`.
        prompt: (n,) number of each question's prompt.
    """

    texts: tuple[tuple[str, str], ...]
    left: np.ndarray
    right: np.ndarray
    prompt: np.ndarray

    def __len__(self) -> int:
        return len(self.left)

    def __getitem__(self, number: int) -> Question:
        prompt, left = self.texts[self.left[number]]
        return prompt, left, self.texts[self.right[number]][1]

    @classmethod
    def of(cls, pool: Sequence[Question]) -> Self:
        """From (prompt, left, right) triples; a pair that comes again, in either order, counts once.

        Raises:
            InputError: not a triple of texts, two replies that are the same, or fewer than two questions.
        """
        texts: dict[tuple[str, str], int] = {}
        seen: dict[tuple[int, int], None] = {}
        for number, entry in enumerate(pool):
            prompt, left, right = check_question(entry)
            if left == right:
                raise InputError(f"question {number + 1} ({_short(prompt)}): both replies are the same; leave it out")
            pair = [texts.setdefault((prompt, reply), len(texts)) for reply in (left, right)]
            if (pair[1], pair[0]) not in seen:
                seen[(pair[0], pair[1])] = None
        if len(seen) < 2:
            raise InputError(
                f"the pool has {len(seen)} question{'' if len(seen) == 1 else 's'}; give at least 2 to choose from"
            )
        sides = np.array(list(seen), np.int64)
        return cls._of_sides(tuple(texts), sides[:, 0], sides[:, 1])

    @classmethod
    def _of_sides(cls, texts: tuple[tuple[str, str], ...], left: np.ndarray, right: np.ndarray) -> Self:
        numbers: dict[str, int] = {}
        prompt_of_text = np.array([numbers.setdefault(prompt, len(numbers)) for prompt, _ in texts], np.int64)
        return cls(texts, left, right, prompt_of_text[left])

    def to_json(self) -> dict[str, Any]:
        """JSON-able; `from_json` reads it."""
        return {"texts": [list(text) for text in self.texts], "left": self.left.tolist(), "right": self.right.tolist()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        texts = tuple((prompt, reply) for prompt, reply in value["texts"])
        return cls._of_sides(texts, np.array(value["left"], np.int64), np.array(value["right"], np.int64))


def all_pairs(texts: Sequence[tuple[str, str]]) -> list[Question]:
    """Every pair of different replies to the same prompt, from (prompt, reply) texts."""
    replies: dict[str, dict[str, None]] = {}
    for prompt, reply in texts:
        replies.setdefault(prompt, {})[reply] = None
    return [
        (prompt, left, right)
        for prompt, own in replies.items()
        for place, left in enumerate(own)
        for right in list(own)[place + 1 :]
    ]


def check_question(entry: Question) -> Question:
    """The question as a triple of texts.

    Raises:
        InputError: it is something else.
    """
    if isinstance(entry, str) or len(entry) != 3 or not all(isinstance(text, str) and text for text in entry):
        raise InputError(f"question {entry!r}: give a triple of texts, (prompt, left, right)")
    return (entry[0], entry[1], entry[2])


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")
