"""A number and how sure it is; means over people, and shares of independent units."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from scipy import stats

from palate.errors import InputError
from palate.rng import RNGLike, normalise

__all__ = [
    "MINIMUM_PEOPLE",
    "Estimate",
    "block_sizes",
    "mean_over_users",
    "mean_over_users_many",
    "multiplicities",
    "percentiles",
    "ratio",
    "share",
    "widening",
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

    def within(self, least: float, most: float) -> Self:
        """The same with its ends inside what the number can be; those of few people lie far out."""
        return replace(self, low=float(np.clip(self.low, least, most)), high=float(np.clip(self.high, least, most)))

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
    centre = ratio(filled.sum(axis=0), counts)
    centred = np.where(known, values - centre, 0.0)
    n_users, generator = len(values), normalise(rng)
    blocks = [np.empty((0, values.shape[1]))]
    for size in block_sizes(draws, n_users):
        weights = multiplicities(n_users, size, generator).T
        blocks.append(ratio(weights @ centred, weights @ known))
    deviations = np.concatenate(blocks)
    narrow = np.sqrt(ratio(counts, counts - 1.0))  # a resample's variance is (n - 1) / n of the unbiased one
    return tuple(
        percentiles(centre[j], deviations[:, j] * narrow[j] * widening(counts[j], level), counts[j], unit, level)
        for j in range(values.shape[1])
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


def multiplicities(n: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(n, draws) how often each of n units is drawn when n are drawn with replacement."""
    picked = rng.integers(n, size=(draws, n)) + n * np.arange(draws)[:, None]
    return np.bincount(picked.ravel(), minlength=n * draws).reshape(draws, n).T.astype(np.float64)


def block_sizes(draws: int, width: int) -> Iterator[int]:
    """Draws in blocks that keep a weight matrix of that width small."""
    step = max(1, min(draws, _BLOCK // max(1, width)))
    return (min(step, draws - start) for start in range(0, draws, step))


def percentiles(value: float, deviations: np.ndarray, n: int, unit: str, level: float) -> Estimate:
    """Percentiles of value + deviations; NaN ends where one unit or none is left."""
    usable = deviations[np.isfinite(deviations)]
    if n < 2 or len(usable) == 0:
        return Estimate(float(value), math.nan, math.nan, int(n), unit)
    low, high = np.quantile(usable, [0.5 - level / 2, 0.5 + level / 2])
    return Estimate(float(value), float(value + low), float(value + high), int(n), unit)


def widening(n: int, level: float) -> float:
    """How much wider percentiles must be with n units: the quantile of Student's t over the normal's."""
    if n < 2:
        return math.nan
    return float(stats.t.ppf(0.5 + level / 2, n - 1) / stats.norm.ppf(0.5 + level / 2))


def ratio(a: np.ndarray, b: np.ndarray, otherwise: float = math.nan) -> np.ndarray:
    """a / b, and `otherwise` where b is 0."""
    a, b = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64))
    return np.divide(a, b, out=np.full(a.shape, otherwise), where=b != 0)
