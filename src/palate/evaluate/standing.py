"""Who counts as a minority person, or among the worst tenth: decided on training and history rows alone.

Such people are the ones personalization is for, so their accuracy stands beside the mean. Choosing them by held-out
results would choose by luck. Instead each person's agreement with the others is taken on rows a method may learn from:

    agreement of u = share of u's rows where the consensus of the *others* picked the same side

The consensus is the majority of at least three other people on the same pair; where there is none, the sign of a
Bradley–Terry score difference, fitted to the rows of other people (five folds of people).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit

from palate.evaluate.audit_people import NOISY_BELOW, SURE, Agreement, below, beta_prior, kinds, summed
from palate.evaluate.audit_room import cross_fit, sample_people
from palate.evaluate.metrics import correct
from palate.rng import derive
from palate.types import Comparisons, Items

__all__ = ["Standing", "consensus_scores", "standing"]

_FOLDS = 5
_RATERS = 3
_RIDGE = 1.0
_PROBED_ROWS = 150_000
_PROBE_RANK, _PROBE_ROUNDS = 3, 6


@dataclass(frozen=True)
class Standing:
    """Where each person of a data set stands, by training and history rows.

    Args:
        agreement: (n_users,) shrunken agreement with the others; NaN for people without decided rows.
        minority: (n_users,) surely (P > .9) agree with the others on fewer than half of the rows.
        noisy: (n_users,) predicted by nobody, neither by the others nor by their own other rows.
        worst_tenth: (n_users,) the tenth with the lowest agreement, among training and among new people.
        n_train: (n_users,) training or history rows.
    """

    agreement: np.ndarray
    minority: np.ndarray
    noisy: np.ndarray
    worst_tenth: np.ndarray
    n_train: np.ndarray


def standing(everything: Comparisons, train: np.ndarray, history: np.ndarray, *, seed: int = 0) -> Standing:
    """Standing of everybody from the rows that methods learn from, and from no others.

    Args:
        everything: all rows of a data set.
        train: rows of the training people.
        history: rows of the new people; their consensus is that of the training people.
        seed: of the folds of people.
    """
    learned = everything.take(np.concatenate([train, history]))
    side = np.concatenate([_others(everything.take(train), seed), _training(everything, train, history)])
    credit = np.where(side > 0, learned.label, np.where(side < 0, 1 - learned.label, 0.5))
    credit[(learned.label == 0.5) | np.isnan(side)] = np.nan
    agreement = summed(credit, learned.user, everything.n_users)
    known = np.bincount(everything.user[train], minlength=everything.n_users) > 0
    prior = beta_prior(Agreement(agreement.right * known, agreement.n * known))
    shrunken = (agreement.right + prior[0]) / (agreement.n + sum(prior))
    shrunken[agreement.n == 0] = np.nan
    minority = np.nan_to_num(below(agreement, 0.5, prior)) > SURE
    return Standing(
        agreement=shrunken,
        minority=minority,
        noisy=_noisy(learned, agreement, seed) & ~minority,
        worst_tenth=_lowest_tenth(shrunken, known) | _lowest_tenth(shrunken, ~known),
        n_train=learned.counts(),
    )


def _others(train: Comparisons, seed: int) -> np.ndarray:
    """(len(train),) side the other training people take on each training row: 1 left, -1 right, 0 neither."""
    side = _majority(train, train, own=True)
    fold = derive(seed, "standing").integers(_FOLDS, size=train.n_users)[train.user]
    for part in range(_FOLDS):
        open_ = (fold == part) & np.isnan(side)
        others = train.take(fold != part)
        if open_.any() and len(others):
            side[open_] = _sign(consensus_scores(others), train.take(open_))
    return side


def _training(everything: Comparisons, train: np.ndarray, history: np.ndarray) -> np.ndarray:
    """(len(history),) side the training people take on each row of the new people."""
    votes, asked = everything.take(train), everything.take(history)
    side = _majority(votes, asked, own=False)
    open_ = np.isnan(side)
    if open_.any():
        side[open_] = _sign(consensus_scores(votes), asked.take(open_))
    return side


def _noisy(learned: Comparisons, agreement: Agreement, seed: int) -> np.ndarray:
    """(n_users,) people whom neither the others nor a quick model of their own taste predict."""
    nobody = Agreement(np.zeros(learned.n_users), np.zeros(learned.n_users))
    if not (np.nan_to_num(below(agreement, NOISY_BELOW)) > SURE).any():
        return np.zeros(learned.n_users, bool)  # the others predict everybody; no need for the model
    rng = derive(seed, "noisy")
    sampled = learned.take(sample_people(learned, _PROBED_ROWS, rng))
    items = learned.items
    bare = Items.of(np.zeros((len(items), 0)), keys=items.keys, prompt=items.prompt)
    held = cross_fit(replace(sampled, items=bare), rank=_PROBE_RANK, rounds=_PROBE_ROUNDS, rng=rng)
    label, user = sampled.label[held.rows], sampled.user[held.rows]
    hit = np.where(label == 0.5, np.nan, correct(label, held.personal))
    return kinds(agreement, summed(hit, user, learned.n_users), nobody)[1]


def consensus_scores(comparisons: Comparisons) -> np.ndarray:
    """(n_items,) Bradley–Terry scores of items with a ridge of 1, the same for everybody; 0 where never compared."""
    n, m = len(comparisons.items), len(comparisons)
    rows = np.tile(np.arange(m), 2)
    columns = np.concatenate([comparisons.left, comparisons.right])
    design = sparse.csr_array((np.repeat([1.0, -1.0], m), (rows, columns)), (m, n))
    label, weight = comparisons.label, comparisons.weight

    def loss(score: np.ndarray) -> tuple[float, np.ndarray]:
        logit = design @ score
        value = weight @ (np.logaddexp(0.0, logit) - label * logit) + _RIDGE / 2 * score @ score
        return value, design.T @ (weight * (expit(logit) - label)) + _RIDGE * score

    return minimize(loss, np.zeros(n), jac=True, method="L-BFGS-B", options={"maxiter": 100}).x


def _sign(score: np.ndarray, rows: Comparisons) -> np.ndarray:
    return np.sign(score[rows.left] - score[rows.right])


def _majority(train: Comparisons, rows: Comparisons, *, own: bool) -> np.ndarray:
    """(len(rows),) side the majority of other people took on the row's pair: 1 left, -1 right, 0 split, NaN too few.

    Args:
        train: the votes.
        rows: the rows asked about.
        own: whether the people of `rows` are among those of `train`, so that their votes must be left out.
    """
    n = len(rows.items)
    votes, asked = _pairs(train, n), _pairs(rows, n)
    pairs, number = np.unique(np.concatenate([votes, asked]), return_inverse=True)
    at, here = number[: len(votes)], number[len(votes) :]
    vote = np.where(train.left < train.right, 1.0, -1.0) * np.sign(train.label - 0.5)
    balance = np.bincount(at, vote, len(pairs))[here]
    raters = np.bincount(at, vote != 0, len(pairs))[here]
    if own:
        _, same = np.unique(at * train.n_users + train.user, return_inverse=True)
        balance = balance - np.bincount(same, vote)[same]
        raters = raters - np.bincount(same, vote != 0)[same]
    side = np.sign(balance) * np.where(rows.left < rows.right, 1.0, -1.0)
    return np.where(raters >= _RATERS, side, np.nan)


def _pairs(comparisons: Comparisons, n: int) -> np.ndarray:
    left, right = comparisons.left.astype(np.int64), comparisons.right.astype(np.int64)
    return np.minimum(left, right) * n + np.maximum(left, right)


def _lowest_tenth(agreement: np.ndarray, among: np.ndarray) -> np.ndarray:
    """(n_users,) the tenth (rounded up) of the people in `among` with the lowest agreement."""
    people = np.flatnonzero(among & ~np.isnan(agreement))
    lowest = people[np.argsort(agreement[people], kind="stable")[: -(-len(people) // 10)]]
    return np.isin(np.arange(len(agreement)), lowest)
