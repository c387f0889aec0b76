"""Features that say whose they are: the person's id stands before the prompt.

For `palate.models.conditional` with mode="prefix".
Source: Dong et al. 2025, § 4 (the user id before the prompt).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from palate.errors import InputError
from palate.features.catalogue import make
from palate.features.table import embed_items
from palate.progress import Progress, silent
from palate.types import Comparisons, Items

if TYPE_CHECKING:
    from palate.data import PreferenceDataset

__all__ = ["conditioned_items"]

_GENERIC = "unknown"


def conditioned_items(
    dataset: PreferenceDataset,
    featurizer: Any,
    *,
    known: np.ndarray | Sequence[int] | None = None,
    rows: np.ndarray | None = None,
    cache: bool | str | os.PathLike[str] | None = True,
    progress: Progress = silent,
) -> Comparisons:
    """Comparisons over a table in which every item is there once for each person who judged it.

    The text of an item is embedded with "User: <id>" and an empty line before its prompt; for people who are not in
    `known` with "User: unknown", once for all of them. The keys are those of the plain items, so that methods can still
    share what is the same for everybody.

    Cost: one embedding per (person, item) pair that occurs, instead of one per item: with 20 rows a person, up to
    40 × people. And each id is part of the text, so it lies hashed in the cache, and a remote endpoint gets to see it.

    Args:
        dataset: the rows.
        featurizer: anything that `palate.features.make` takes and that reads the prompt.
        known: (k,) numbers of the people whose id is used, or a mask (n_users,); None for everybody. Give the training
            people: for anybody else an id says nothing.
        rows: indices or mask of the rows wanted, all by default.
        cache, progress: as in `palate.features.featurize`.

    Returns:
        the chosen rows, for all `n_users` people.

    Raises:
        InputError: the featurizer does not read the prompt, or the data has a person called "unknown".
    """
    source = make(featurizer)
    if not source.uses_prompt or not source.cacheable:
        raise InputError(f"{source.name} features do not read the prompt, where the person's id goes; pass prompt=True")
    if _GENERIC in dataset.users:
        raise InputError(f"a person is called {_GENERIC!r}, the name for people without a known id; rename that person")
    chosen = np.arange(len(dataset)) if rows is None else np.arange(len(dataset))[rows]
    has_id = _mask(known, dataset.n_users)
    # Person -1 stands for everybody without a known id.
    user = np.where(has_id, np.arange(dataset.n_users), -1)[dataset.user[chosen]]
    sides = np.concatenate([dataset.left[chosen], dataset.right[chosen]])
    pairs = np.stack([np.tile(user, 2), sides], axis=1)
    pairs, number = np.unique(pairs, axis=0, return_inverse=True)
    number = number.reshape(-1)
    texts = dataset.item_texts()
    names = [*dataset.users, _GENERIC]
    prefixed = [(f"User: {names[person]}\n\n{texts[item][0]}", texts[item][1]) for person, item in pairs.tolist()]
    items = Items.of(
        embed_items(source, prefixed, cache=cache, progress=progress),
        keys=dataset.item_keys()[pairs[:, 1]],
        prompt=dataset.item_prompt[pairs[:, 1]],
    )
    return Comparisons.of(
        items,
        number[: len(chosen)],
        number[len(chosen) :],
        dataset.user[chosen],
        dataset.label[chosen],
        n_users=dataset.n_users,
        weight=dataset.weight[chosen],
        time=None if dataset.time is None else dataset.time[chosen],
    )


def _mask(known: np.ndarray | Sequence[int] | None, n_users: int) -> np.ndarray:
    if known is None:
        return np.ones(n_users, bool)
    known = np.asarray(known)
    if known.dtype == bool:
        if known.shape != (n_users,):
            raise InputError(f"known has shape {known.shape}; a mask must be ({n_users},)")
        return known
    mask = np.zeros(n_users, bool)
    mask[known.astype(np.int64)] = True
    return mask
