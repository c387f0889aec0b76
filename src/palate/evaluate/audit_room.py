"""How much better could a personal model do? Measured with a quick one on rows it has not seen.

Every answer is predicted by a fit that knows neither that answer nor any other answer of the same person about either of
its two items (the known-items rule: a person's vote on an item, met in training, gives away every pair with that item).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.special import logit

from palate.evaluate.probe import compress, fit
from palate.progress import Progress, silent
from palate.types import Comparisons

__all__ = ["HeldOut", "consensus", "cross_fit", "fold_of_sides", "sample_people"]

_FOLDS, _FINE_FOLDS = 5, 10  # the finer ones where few rows make every training row count
_FINE_ROWS = 30_000
_DROPPED = 0.2  # with a larger share of dropped rows finer folds would leave too little to hold out
_ROWS_TO_FIT = 120_000  # folds are run until about so many rows have been fitted in all
_SMALL = 1e-6
_NOTHING = (np.zeros(0, np.int64), np.zeros(0, np.int64), *(np.zeros(0),) * 3, np.zeros(0, np.int64))


@dataclass(frozen=True)
class HeldOut:
    """Predictions of rows by fits that have not seen them.

    Args:
        rows: (t,) which comparisons.
        fold: (t,) by which fit.
        pooled: (t,) probability that left is preferred, one reward for everybody.
        personal: (t,) the same with the person's taste.
        taste_variance: (t,) variance between people of the logit of this pair.
        trained: (t,) how many rows of the same person the fit had.
        folds: how many fits were made, out of five or ten parts.
    """

    rows: np.ndarray
    fold: np.ndarray
    pooled: np.ndarray
    personal: np.ndarray
    taste_variance: np.ndarray
    trained: np.ndarray
    folds: int

    @property
    def shared_logit(self) -> np.ndarray:
        """(t,) the logit of the average person: the pooled one, undone of averaging over tastes."""
        clipped = np.clip(self.pooled, _SMALL, 1 - _SMALL)
        return logit(clipped) * np.sqrt(1.0 + math.pi * self.taste_variance / 8.0)


def sample_people(comparisons: Comparisons, most_rows: int, rng: np.random.Generator) -> np.ndarray:
    """Rows (sorted) of as many people, in random order, as fit in `most_rows`; all rows where they fit."""
    if len(comparisons) <= most_rows:
        return np.arange(len(comparisons))
    counts = comparisons.counts()
    order = rng.permutation(comparisons.n_users)
    chosen = np.zeros(comparisons.n_users, bool)
    chosen[order[np.cumsum(counts[order]) <= most_rows]] = True
    if not counts[chosen].any():
        return np.sort(rng.choice(len(comparisons), most_rows, replace=False))
    return np.flatnonzero(chosen[comparisons.user])


def fold_of_sides(comparisons: Comparisons, folds: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(m,) fold of the left and of the right item *of this person*.

    A row is held out by fold f if both sides are in f, trains it if neither is, and is dropped if they differ. Items of a
    person that are linked by comparisons go to one fold together, so that nothing is dropped, unless that would put more
    than half of the person's rows in one fold: then the linked items are dealt out one by one.
    """
    n = len(comparisons.items)
    user = comparisons.user.astype(np.int64)
    keys, node = np.unique(
        np.concatenate([user * n + comparisons.left, user * n + comparisons.right]), return_inverse=True
    )
    m = len(comparisons)
    left, right = node[:m], node[m:]
    graph = sparse.coo_array((np.ones(m, np.int8), (left, right)), (len(keys), len(keys)))
    n_components, component = connected_components(graph, directed=False)
    size = np.bincount(component[left], minlength=n_components)
    owner = np.empty(n_components, np.int64)
    owner[component] = keys // n
    too_large = 2 * size > comparisons.counts()[owner]
    by_component = _dealt(owner, folds, rng)
    by_node = _dealt(keys // n, folds, rng)
    fold = np.where(too_large[component], by_node, by_component[component])
    return fold[left], fold[right]


def _dealt(owner: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """Deal each owner's things to the folds as evenly as possible, from a random fold on."""
    order = np.lexsort((rng.random(len(owner)), owner))
    owners, start = np.unique(owner[order], return_index=True)
    counts = np.diff(np.append(start, len(owner)))
    position = (
        np.arange(len(owner)) - np.repeat(start, counts) + np.repeat(rng.integers(folds, size=len(owners)), counts)
    )
    fold = np.empty(len(owner), np.int64)
    fold[order] = position % folds
    return fold


def cross_fit(
    comparisons: Comparisons, *, rank: int, rounds: int, rng: np.random.Generator, progress: Progress = silent
) -> HeldOut:
    """Predict rows with fits that have seen neither them nor the same person's answers about their items."""
    if len(np.unique(comparisons.user)) < 2:
        return HeldOut(*_NOTHING, folds=0)  # nobody to differ from
    left_fold, right_fold, folds = _folds(comparisons, rng)
    same = left_fold == right_fold
    runs = int(np.clip(_ROWS_TO_FIT // max(1, len(comparisons)), 1, folds))
    parts: list[tuple[np.ndarray, ...]] = []
    for fold in range(runs):
        progress(fold, runs, "fitting the probe")
        held = np.flatnonzero(same & (left_fold == fold))
        kept = np.flatnonzero((left_fold != fold) & (right_fold != fold))
        counts = np.bincount(comparisons.user[kept], minlength=comparisons.n_users)
        held = held[counts[comparisons.user[held]] > 0]
        if len(held) == 0:
            continue
        training = comparisons.take(kept)
        pooled, personal = fit(training, compress(training), rank=rank, rounds=rounds, rng=rng)
        sides = comparisons.left[held], comparisons.right[held]
        user = comparisons.user[held]
        parts.append(
            (
                held,
                np.full(len(held), fold),
                pooled.probability(*sides, user),
                personal.probability(*sides, user),
                personal.taste_variance(*sides),
                counts[user],
            )
        )
    progress(runs, runs, "fitting the probe")
    columns = [np.concatenate(column) for column in zip(*(parts or [_NOTHING]), strict=True)]
    return HeldOut(*columns, folds=len(parts))


def _folds(comparisons: Comparisons, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int]:
    """Folds of both sides of every row, and how many folds there are."""
    if len(comparisons) <= _FINE_ROWS:
        left, right = fold_of_sides(comparisons, _FINE_FOLDS, rng)
        if (left != right).mean() <= _DROPPED:
            return left, right, _FINE_FOLDS
    return *fold_of_sides(comparisons, _FOLDS, rng), _FOLDS


def consensus(comparisons: Comparisons, *, rounds: int, rng: np.random.Generator) -> np.ndarray:
    """(m,) probability that left is preferred by a reward fitted on *other people's* answers alone.

    The stand-in for the majority where pairs do not repeat. With one person there are no others: NaN.
    """
    probability = np.full(len(comparisons), np.nan)
    present = np.unique(comparisons.user)
    folds = min(_FOLDS if len(comparisons) <= _ROWS_TO_FIT else 2, len(present))
    if folds < 2:
        return probability
    fold_of_user = np.zeros(comparisons.n_users, np.int64)
    fold_of_user[present] = rng.permutation(len(present)) % folds
    fold = fold_of_user[comparisons.user]
    for held in range(folds):
        training, rows = comparisons.take(fold != held), np.flatnonzero(fold == held)
        pooled, _ = fit(training, compress(training), rank=0, rounds=rounds, rng=rng)
        probability[rows] = pooled.probability(comparisons.left[rows], comparisons.right[rows], comparisons.user[rows])
    return probability
