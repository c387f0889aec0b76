"""How sure a number is: estimates with intervals, per person first and then over people.

Results of one person are alike, and so are results on one prompt or item. Intervals therefore resample people, or people
*and* prompts (two-way). Product weights count the variance of single rows up to three times (Owen 2007, "The pigeonhole
bootstrap"), so the two-way draws are shrunk to the variance of crossed effects (Cameron, Gelbach and Miller 2011; for
rows with two items its dyadic form, Fafchamps and Gubert 2007), and widened for few people by Hesterberg's (2015)
expanded percentiles. Everything is a product of weight matrices; nothing loops over draws or people.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import numpy as np
from scipy import sparse, stats

from palate.errors import InputError
from palate.rng import RNGLike, normalise

__all__ = [
    "MINIMUM_PEOPLE",
    "Estimate",
    "Resampling",
    "mean_over_users",
    "mean_over_users_many",
    "paired_difference",
    "share",
    "simultaneous",
    "two_way",
    "two_way_many",
]

MINIMUM_PEOPLE = 20
"""With fewer people an interval is still reported, but nothing is claimed from it."""

_BLOCK = 4_000_000  # numbers in one block of weights (32 MB)


@dataclass(frozen=True)
class Estimate:
    """A number and how sure it is.

    Args:
        value: the point estimate.
        low, high: ends of the interval; NaN where there is too little to say (a single person).
        n: how many units it rests on.
        unit: what is counted by `n` ("users", "pairs", …).
    """

    value: float
    low: float
    high: float
    n: int
    unit: str = "users"

    @property
    def claim(self) -> bool:
        """Whether it rests on enough units (20) and a finite interval, so that something may be claimed."""
        return self.n >= MINIMUM_PEOPLE and math.isfinite(self.low) and math.isfinite(self.high)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; what is not a finite number becomes None."""
        numbers = {name: getattr(self, name) for name in ("value", "low", "high")}
        finite = {name: float(number) if math.isfinite(number) else None for name, number in numbers.items()}
        return finite | {"n": int(self.n), "unit": self.unit, "claim": self.claim}


def mean_over_users(
    values: np.ndarray, *, rng: RNGLike = None, draws: int = 2000, level: float = 0.95, unit: str = "users"
) -> Estimate:
    """Mean over people with a bootstrap over people; people whose value is NaN are left out.

    Args:
        values: (n_users,) one number per person.
        rng: seed or generator of the draws.
        draws: how many resamples.
        level: of the interval.
        unit: what one value stands for.
    """
    values = np.asarray(values, np.float64)
    return mean_over_users_many(values[:, None], rng=rng, draws=draws, level=level, unit=unit)[0]


def mean_over_users_many(
    values: np.ndarray, *, rng: RNGLike = None, draws: int = 2000, level: float = 0.95, unit: str = "users"
) -> tuple[Estimate, ...]:
    """`mean_over_users` for every column of `values` (n_users, j), all with the same resamples of people."""
    values = np.asarray(values, np.float64)
    known = ~np.isnan(values)
    counts = known.sum(axis=0)
    filled = np.where(known, values, 0.0)
    centre = _ratio(filled.sum(axis=0), counts)
    centred = np.where(known, values - centre, 0.0)
    n_users, generator = len(values), normalise(rng)
    blocks = [np.empty((0, values.shape[1]))]
    for size in _sizes(draws, n_users):
        weights = _multiplicities(n_users, size, generator).T
        blocks.append(_ratio(weights @ centred, weights @ known))
    deviations = np.concatenate(blocks)
    narrow = np.sqrt(_ratio(counts, counts - 1.0))  # a resample's variance is (n - 1) / n of the unbiased one
    return tuple(
        _estimate(centre[j], deviations[:, j] * narrow[j] * _widening(counts[j], level), counts[j], unit, level)
        for j in range(values.shape[1])
    )


class Resampling(TypedDict, total=False):
    """How `two_way` and its kin resample; see there."""

    weight: np.ndarray | None
    rng: RNGLike
    draws: int
    level: float
    unit: str


def two_way(values: np.ndarray, user: np.ndarray, group: np.ndarray | None, **how: Unpack[Resampling]) -> Estimate:
    """`two_way_many` of one column, values (m,)."""
    return two_way_many(np.asarray(values, np.float64)[:, None], user, group, **how)[0]


def two_way_many(
    values: np.ndarray,
    user: np.ndarray,
    group: np.ndarray | None,
    *,
    weight: np.ndarray | None = None,
    rng: RNGLike = None,
    draws: int = 2000,
    level: float = 0.95,
    unit: str = "users",
    contrasts: np.ndarray | None = None,
) -> tuple[Estimate, ...]:
    """Mean over people of each person's mean, resampling people and prompts (or items), for every column of `values`.

    Args:
        values: (m, j) numbers per row; all columns get the same resamples.
        user: (m,) whose row it is.
        group: (m,) prompt of the row, or (m, 2) its two items (a row then counts with the product of both
            multiplicities), or None to resample people only.
        weight: (m,) weights of rows inside a person's mean; 1 by default.
        rng: seed or generator of the draws.
        draws: how many resamples.
        level: of the interval.
        unit: what is resampled first, for the record.
        contrasts: (j, c); estimates of these combinations of the columns (a method minus another, say) follow those of the
            columns themselves, at hardly any cost.
    """
    table = _Table.of(np.asarray(values, np.float64), user, group, weight)
    wanted = np.eye(len(table.centre)) if contrasts is None else np.hstack([np.eye(len(table.centre)), contrasts])
    centre = table.centre @ wanted
    deviations = _crossed(table, draws, normalise(rng)) @ wanted
    errors = _crossed_errors(table, wanted)
    factor = np.nan_to_num(_ratio(errors, deviations.std(axis=0))) * _widening(table.least, level)
    return tuple(
        _estimate(centre[j], deviations[:, j] * factor[j], table.n_users, unit, level) for j in range(len(centre))
    )


def paired_difference(
    a: np.ndarray, b: np.ndarray, user: np.ndarray, group: np.ndarray | None, **how: Unpack[Resampling]
) -> Estimate:
    """`two_way` of a - b on the same rows: what one method gains over another on the same people and prompts.

    Args:
        a, b: (m,) results of the two on the same rows.
        user, group, how: as in `two_way_many`.
    """
    return two_way(np.asarray(a, np.float64) - np.asarray(b, np.float64), user, group, **how)


def simultaneous(
    differences: np.ndarray,
    user: np.ndarray,
    group: np.ndarray | None,
    *,
    weight: np.ndarray | None = None,
    rng: RNGLike = None,
    draws: int = 2000,
    level: float = 0.95,
    unit: str = "users",
) -> tuple[Estimate, ...]:
    """Intervals that hold for all columns at once: value ± c·se, c the quantile of the largest |t| over columns.

    Args:
        differences: (m, j) one column per comparison to be made (methods, numbers of answers, …) over the same rows;
            the other arguments are those of `two_way_many`.

    Source: Romano and Wolf 2005, single-step max-t, on the two-way draws.
    """
    table = _Table.of(np.asarray(differences, np.float64), user, group, weight)
    deviations = _crossed(table, draws, normalise(rng))
    errors = _crossed_errors(table, np.eye(len(table.centre)))
    largest = np.nan_to_num(np.abs(_ratio(deviations, deviations.std(axis=0)))).max(axis=1, initial=0.0)
    half = np.quantile(largest, level) * errors * _widening(table.least, level)
    return tuple(
        Estimate(float(value), float(value - width), float(value + width), table.n_users, unit)
        for value, width in zip(table.centre, half, strict=True)
    )


def share(successes: float, n: int, *, level: float = 0.95, unit: str = "pairs") -> Estimate:
    """A share of independent units with Wilson's score interval.

    Args:
        successes: how many (halves allowed, for ties).
        n: out of how many; 0 gives NaN.
        level: of the interval.
        unit: what is counted.

    Source: Wilson 1927; Brown, Cai and DasGupta 2001.
    """
    if not 0 <= successes <= n:
        raise InputError(f"{successes} successes out of {n}; they must be between 0 and n")
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0, unit)
    z = stats.norm.ppf(0.5 + level / 2)
    p = successes / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return Estimate(p, max(0.0, centre - half), min(1.0, centre + half), int(n), unit)


@dataclass(frozen=True)
class _Table:
    """Rows gathered by person and key; a key is a prompt, or an unordered pair of items.

    Args:
        centre: (j,) the estimates.
        offset: (n_users, j) each person's mean minus the centre.
        inside: (s, j) sums of weight · (value - the person's mean) at the s spots (person, key) that have rows.
        mass: (s,) sums of weights there.
        key: (s,) key of each spot.
        start: (n_users + 1,) where each person's spots begin.
        member: sparse (n_keys, n_groups) 1 where the group belongs to the key.
    """

    centre: np.ndarray
    offset: np.ndarray
    inside: np.ndarray
    mass: np.ndarray
    key: np.ndarray
    start: np.ndarray
    member: sparse.csr_array

    def spread(self, at_spots: np.ndarray) -> sparse.csr_array:
        """Sparse (n_users, n_keys) with these numbers at the spots."""
        return sparse.csr_array((at_spots, self.key, self.start), (self.n_users, self.member.shape[0]))

    @property
    def n_users(self) -> int:
        return len(self.offset)

    @property
    def n_groups(self) -> int:
        return self.member.shape[1]

    @property
    def pairs(self) -> bool:
        """Whether keys are pairs of items."""
        return self.member.nnz > self.member.shape[0]

    @property
    def least(self) -> int:
        """The smaller number of what is resampled; one lone group cannot be resampled."""
        return min(self.n_users, self.n_groups) if self.n_groups > 1 else self.n_users

    @classmethod
    def of(cls, values: np.ndarray, user: np.ndarray, group: np.ndarray | None, weight: np.ndarray | None) -> _Table:
        m = len(values)
        group = np.zeros(m, np.int64) if group is None else np.asarray(group)
        weight = np.ones(m) if weight is None else np.asarray(weight, np.float64)
        if not m == len(user) == len(group) == len(weight):
            raise InputError(
                f"{m} values, {len(user)} users, {len(group)} groups, {len(weight)} weights; there must be one per row"
            )
        if not np.isfinite(values).all():
            raise InputError("values have NaN or infinite entries; leave those rows out first")
        kept = weight > 0
        values, weight = values[kept], weight[kept]
        people, who = np.unique(np.asarray(user)[kept], return_inverse=True)
        key, member = _keys(group[kept])
        total = np.bincount(who, weight, len(people))[:, None]
        means = _by(who, len(people)) @ (weight[:, None] * values) / total
        centre = means.mean(axis=0) if len(people) else np.full(values.shape[1], np.nan)

        n_keys = member.shape[0]
        spots, spot = np.unique(who * n_keys + key, return_inverse=True)
        gather = _by(spot, len(spots))
        return cls(
            centre=centre,
            offset=means - centre,
            inside=gather @ (weight[:, None] * (values - means[who])),
            mass=gather @ weight,
            key=spots % n_keys,
            start=np.searchsorted(spots, n_keys * np.arange(len(people) + 1)),
            member=member,
        )


def _keys(group: np.ndarray) -> tuple[np.ndarray, sparse.csr_array]:
    """The key of every row (m,), and which groups each key has."""
    if group.ndim == 1:
        groups, key = np.unique(group, return_inverse=True)
        return key, sparse.eye_array(len(groups), format="csr")
    names, numbers = np.unique(group, return_inverse=True)
    pairs, key = np.unique(np.sort(numbers.reshape(group.shape), axis=1), axis=0, return_inverse=True)
    first = _by(pairs[:, 0], len(names))
    return key.reshape(-1), (first + _by(pairs[:, 1], len(names))).T.tocsr()


def _by(index: np.ndarray, size: int) -> sparse.csr_array:
    """Sparse (size, m): sums rows by their index."""
    return sparse.csr_array((np.ones(len(index)), (index, np.arange(len(index)))), (size, len(index)))


def _crossed(table: _Table, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(draws, j) of estimate - centre, with product weights (the pigeonhole bootstrap)."""
    columns, n_users = len(table.centre), table.n_users
    if n_users == 0:
        return np.zeros((draws, columns))
    people, groups = rng.spawn(2)
    stacked = sparse.vstack([table.spread(column) for column in (table.mass, *table.inside.T)], format="csr")
    blocks = []
    for size in _sizes(draws, max(stacked.shape[0], stacked.shape[1], table.n_groups)):
        user_weight = _multiplicities(n_users, size, people)
        group_weight = _multiplicities(table.n_groups, size, groups)
        key_weight = table.member @ group_weight
        if table.pairs:  # the product of both items' multiplicities, from (w₁ + w₂)² = w₁² + 2 w₁w₂ + w₂²
            key_weight = (key_weight**2 - table.member @ group_weight**2) / 2
        sums = (stacked @ key_weight).reshape(columns + 1, n_users, size)
        present = user_weight * (sums[0] > 0)
        moved = np.einsum("jub,ub->bj", sums[1:], _ratio(present, sums[0], otherwise=0.0)) + present.T @ table.offset
        blocks.append(_ratio(moved, present.sum(axis=0)[:, None], otherwise=0.0))
    return np.concatenate(blocks)


def _crossed_errors(table: _Table, wanted: np.ndarray) -> np.ndarray:
    """(c,) standard errors of the combinations `wanted` (j, c), with people and groups as crossed effects.

    V = V_people + V_groups - V_both, from sums of influences over rows that share a person, a group, or both.
    """
    n_users, n_groups = table.n_users, table.n_groups
    if n_users < 2:
        return np.full(wanted.shape[1], math.nan)
    scale = 1 / (table.spread(table.mass).sum(axis=1) * n_users)
    influence = table.inside @ wanted * np.repeat(scale, np.diff(table.start))[:, None]  # (s, c)
    people = ((table.offset @ wanted / n_users) ** 2).sum(axis=0) * n_users / (n_users - 1)
    errors = []
    for column, by_people in zip(influence.T, people, strict=True):
        shares = table.spread(column)
        by_key = shares.sum(axis=0)
        groups = ((by_key @ table.member) ** 2).sum()
        both = ((shares @ table.member).data ** 2).sum()
        if table.pairs:  # their own square has been counted once for each item
            groups -= (by_key**2).sum()
            both -= (column**2).sum()
        groups *= n_groups / (n_groups - 1) if n_groups > 1 else 0.0
        errors.append(math.sqrt(max(by_people + groups - both, by_people, groups)))
    return np.array(errors)


def _multiplicities(n: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(n, draws) how often each of n units is drawn when n are drawn with replacement."""
    picked = rng.integers(n, size=(draws, n)) + n * np.arange(draws)[:, None]
    return np.bincount(picked.ravel(), minlength=n * draws).reshape(draws, n).T.astype(np.float64)


def _sizes(draws: int, width: int) -> Iterator[int]:
    """Draws in blocks that keep a weight matrix of that width small."""
    step = max(1, min(draws, _BLOCK // max(1, width)))
    return (min(step, draws - start) for start in range(0, draws, step))


def _estimate(value: float, deviations: np.ndarray, n: int, unit: str, level: float) -> Estimate:
    """Percentiles of value + deviations; NaN ends where one unit or none is left."""
    usable = deviations[np.isfinite(deviations)]
    if n < 2 or len(usable) == 0:
        return Estimate(float(value), math.nan, math.nan, int(n), unit)
    low, high = np.quantile(usable, [0.5 - level / 2, 0.5 + level / 2])
    return Estimate(float(value), float(value + low), float(value + high), int(n), unit)


def _widening(n: int, level: float) -> float:
    """How much wider percentiles must be with n units: the quantile of Student's t over the normal's."""
    if n < 2:
        return math.nan
    return float(stats.t.ppf(0.5 + level / 2, n - 1) / stats.norm.ppf(0.5 + level / 2))


def _ratio(a: np.ndarray, b: np.ndarray, otherwise: float = math.nan) -> np.ndarray:
    """a / b, and `otherwise` where b is 0."""
    a, b = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64))
    return np.divide(a, b, out=np.full(a.shape, otherwise), where=b != 0)
