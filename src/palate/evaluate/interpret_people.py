"""Where people lie on the axes of taste: who disagrees with most others, and whether there are groups at all.

Any cloud of points can be cut into groups; that says nothing about people. Groups are claimed only where the cut is far
clearer than the best cuts of people who spread without groups (Gaussian clouds of the same covariance).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate.statistics import MINIMUM_PEOPLE

__all__ = ["Agreement", "Groups", "agreement_with_others", "groups_of"]

MOST_GROUPS = 8

_CLOUDS = 12
_FAR = 4.0
"""How many standard deviations above the clouds' best cuts a cut must be; chance cuts stay below 3."""

_SAMPLE = 2000
_PAIRS = 4000


@dataclass(frozen=True)
class Groups:
    """Groups of like taste, the largest first.

    Args:
        label: (count,) group of each person, from 0; -1 for everybody where no groups are claimed.
        centres: (g, k) mean coordinates; (0, k) where none are claimed.
        silhouette: of the best cut that was tried, or None.
        by_chance: the silhouette that a cut must exceed to be claimed, or None.
        why: one sentence on what was found and how far to trust it.
    """

    label: np.ndarray
    centres: np.ndarray
    silhouette: float | None
    by_chance: float | None
    why: str

    def __len__(self) -> int:
        return len(self.centres)


@dataclass(frozen=True)
class Agreement:
    """How often each person agrees with most others, as the model sees them.

    Args:
        share: (count,) share of the pool's pairs on which both the person and the others are decided; NaN without one.
        minority: (count,) whether it is below one half.
    """

    share: np.ndarray
    minority: np.ndarray


def agreement_with_others(reward: np.ndarray, prompt: np.ndarray, *, seed: int = 0) -> Agreement:
    """Compare everybody's preferred reply with that of most others.

    Args:
        reward: (count, n) rewards of everybody for the pool.
        prompt: (n,) prompt of each reply; pairs are of replies to one prompt, at most 4,000 drawn.
        seed: of the draw.
    """
    count = len(reward)
    left, right = pairs_within(prompt, most=_PAIRS, seed=seed)
    if count < 2:
        return Agreement(np.full(count, np.nan), np.zeros(count, bool))
    votes = np.zeros(len(left))
    for rows in _chunks(count):
        votes += np.sign(reward[rows][:, left] - reward[rows][:, right]).sum(0)
    share = np.empty(count)
    for rows in _chunks(count):
        own = np.sign(reward[rows][:, left] - reward[rows][:, right])
        others = np.sign(votes - own)
        decided = (own != 0) & (others != 0)
        share[rows] = np.where(decided, own == others, 0).sum(1) / np.maximum(decided.sum(1), 1)
        share[rows][~decided.any(1)] = np.nan
    return Agreement(share, np.nan_to_num(share, nan=1.0) < 0.5)


def pairs_within(prompt: np.ndarray, *, most: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(m,) left and right: pairs of different rows with the same prompt, all of them or `most` at random."""
    left, right = [], []
    order = np.argsort(prompt, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(prompt[order])) + 1):
        # A prompt with very many replies (statements without a prompt) gives a random draw of its pairs.
        if len(rows) > 400:
            rng = np.random.default_rng(seed)
            a, b = rng.integers(len(rows), size=(2, most))
            kept = a != b
            left.append(rows[a[kept]])
            right.append(rows[b[kept]])
        else:
            a, b = np.triu_indices(len(rows), 1)
            left.append(rows[a])
            right.append(rows[b])
    first, second = np.concatenate(left), np.concatenate(right)
    if len(first) > most:
        drawn = np.sort(np.random.default_rng(seed).choice(len(first), most, replace=False))
        first, second = first[drawn], second[drawn]
    return first, second


def groups_of(people: np.ndarray, *, seed: int = 0) -> Groups:
    """Cut people into groups of like taste, where there are any.

    k-means on coordinates for 2 to 8 groups; the cut with the best silhouette is claimed if that lies four standard
    deviations above the mean of the best cuts of Gaussian clouds of the same size and covariance.

    Args:
        people: (count, k) coordinates.
        seed: of k-means and of the clouds.
    """
    count = len(people)
    if count < MINIMUM_PEOPLE:
        why = f"{count} people are too few to tell groups from chance; no claim is made below {MINIMUM_PEOPLE}."
        return _none(people, None, None, why)
    rng = np.random.default_rng(seed)
    drawn = people if count <= _SAMPLE else people[np.sort(rng.choice(count, _SAMPLE, replace=False))]
    silhouette, size = _best_cut(drawn, seed)
    covariance = np.atleast_2d(np.cov(drawn.T))
    clouds = (
        rng.multivariate_normal(np.zeros(people.shape[1]), covariance, len(drawn), method="eigh")
        for _ in range(_CLOUDS)
    )
    cuts = [_best_cut(cloud, seed)[0] for cloud in clouds]
    chance = float(np.mean(cuts) + _FAR * np.std(cuts, ddof=1))
    if not silhouette > chance:
        why = (
            f"no groups: the clearest cut of the {count:,} people (silhouette {silhouette:.2f}) is no clearer than cuts of "
            f"people who spread without groups may be (up to {chance:.2f}). Tastes vary by degrees."
        )
        return _none(people, silhouette, chance, why)
    label = _fit(people, size, seed)
    order = np.argsort(-np.bincount(label, minlength=size), kind="stable")
    label = np.argsort(order)[label]
    centres = np.array([people[label == group].mean(0) for group in range(size)])
    most = " (no more are tried)" if size == MOST_GROUPS else ""
    overlap = " and the groups overlap widely" if silhouette < 0.25 else ""
    why = (
        f"{size} groups{most}: this cut (silhouette {silhouette:.2f}) is clearer than cuts of people who spread "
        f"without groups may be (up to {chance:.2f}). Borders are soft{overlap}; people near one belong to both."
    )
    return Groups(label, centres, silhouette, chance, why)


def _none(people: np.ndarray, silhouette: float | None, chance: float | None, why: str) -> Groups:
    return Groups(np.full(len(people), -1), np.zeros((0, people.shape[1])), silhouette, chance, why)


def _best_cut(people: np.ndarray, seed: int) -> tuple[float, int]:
    from sklearn.metrics import silhouette_score

    best, size = -1.0, 2
    if not np.any(np.ptp(people, axis=0) > 1e-9):
        return best, size
    for groups in range(2, min(MOST_GROUPS, len(people) // 5) + 1):
        label = _fit(people, groups, seed, starts=1)
        if len(np.unique(label)) < 2:
            continue
        value = float(silhouette_score(people, label, sample_size=min(len(people), 600), random_state=seed))
        if value > best:
            best, size = value, groups
    return best, size


def _fit(people: np.ndarray, groups: int, seed: int, starts: int = 10) -> np.ndarray:
    from sklearn.cluster import KMeans

    return KMeans(groups, n_init=starts, random_state=seed).fit_predict(people)


def _chunks(count: int, size: int = 256) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]
