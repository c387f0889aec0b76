"""A person's answers as context for the others: which are kept, which are shown, which are asked.

What `gpo` and `vpl` read; both see answers, not a person's number.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from palate.types import Comparisons

__all__ = ["between", "draw", "kept_rows", "lots", "padded", "rows_by_person"]


def between(low: int, high: int, generator: torch.Generator) -> int:
    """A whole number from `low` to `high`, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def draw(own: Tensor, n_context: int, n_targets: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Context and target rows of one person, disjoint; at least one target, as many of both as there are."""
    own = own[torch.randperm(len(own), generator=generator)]
    n_context = min(n_context, len(own) - 1)
    return own[:n_context], own[n_context : n_context + n_targets]


def padded(parts: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """(b, longest) row numbers, padded with 0, and the mask of what is real."""
    index = torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True)
    length = torch.tensor([len(part) for part in parts])
    return index, torch.arange(index.shape[1]) < length[:, None]


def rows_by_person(person: np.ndarray) -> list[np.ndarray]:
    """The rows of each person who has any, in order of the person's number."""
    order = np.argsort(person, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(person[order])) + 1) if len(order) else []


def kept_rows(comparisons: Comparisons, limit: int) -> np.ndarray:
    """Rows to remember: all with weight, and of who has more than `limit` of them the most recent.

    Without times it is `limit` of them at random, fixed by their content, so that their order does not matter.
    """
    rows = np.flatnonzero(comparisons.weight > 0)
    user = comparisons.user[rows]
    if np.bincount(user, minlength=1).max() <= limit:
        return rows
    age = -comparisons.time[rows] if comparisons.time is not None else lots(comparisons.take(rows))
    order = np.lexsort([age, user])
    first = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=comparisons.n_users))])
    rank = np.arange(len(order)) - first[user[order]]
    return np.sort(rows[order[rank < limit]])


def lots(comparisons: Comparisons) -> np.ndarray:
    """(m,) numbers in [0, 1) that depend on a row's two items and answer alone, whichever side is left."""
    used, index = np.unique(np.concatenate([comparisons.left, comparisons.right]), return_inverse=True)
    item = np.array([_hash(row.tobytes()) for row in comparisons.items.features[used]])
    left, right = item[index[: len(comparisons)]], item[index[len(comparisons) :]]
    answer = comparisons.label
    return (left * (1.0 + answer) + right * (2.0 - answer)) * 1e3 % 1.0


def _hash(content: bytes) -> float:
    return int.from_bytes(hashlib.blake2b(content, digest_size=6).digest(), "little") / 2**48
