"""Do people disagree about the same pair, and by how much more than noise alone would make them?

A vote is what one person said about one unordered pair; several answers of one person to one pair make one vote (their
majority). Ties are no votes: who finds two replies equal dissents from nobody.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy import optimize, stats
from scipy.special import betaln

from palate.statistics import share

__all__ = ["HIGH_DISSENT", "Votes", "divergence", "vote_model"]

HIGH_DISSENT = 0.3
"""A pair is highly divergent when at least this share of its raters is against the majority (Paper A, §4.2)."""

_FEWEST_MODEL_PAIRS = 30


@dataclass(frozen=True)
class Votes:
    """One row per person and pair.

    Args:
        user: (v,) whose vote.
        pair: (v,) number of the pair.
        choice: (v,) int8; 1 the item with the lower number, -1 the other, 0 undecided.
        raters: (p,) decided votes of each pair.
        balance: (p,) sum of the choices of each pair.
        row_pair: (m,) the pair of every comparison, -1 where an item is compared with itself.
    """

    user: np.ndarray
    pair: np.ndarray
    choice: np.ndarray
    raters: np.ndarray
    balance: np.ndarray
    row_pair: np.ndarray

    @property
    def n_pairs(self) -> int:
        """Distinct pairs that somebody was asked about."""
        return len(self.raters)

    @classmethod
    def of(cls, left: np.ndarray, right: np.ndarray, user: np.ndarray, label: np.ndarray, n_items: int) -> Votes:
        """Votes from comparisons: (m,) columns; labels are probabilities that left is preferred."""
        left, right = np.asarray(left, np.int64), np.asarray(right, np.int64)
        low, high = np.minimum(left, right), np.maximum(left, right)
        kept = np.flatnonzero(low != high)
        keys, number = np.unique(low[kept] * n_items + high[kept], return_inverse=True)
        row_pair = np.full(len(left), -1, np.int64)
        row_pair[kept] = number
        for_low = np.where(left == low, label, 1.0 - np.asarray(label))[kept]
        table = (
            pl.DataFrame({"pair": number, "user": np.asarray(user)[kept], "for_low": for_low})
            .group_by("pair", "user")
            .agg(pl.col("for_low").mean())
            .sort("pair", "user")
        )
        choice = np.sign(np.round(table["for_low"].to_numpy() - 0.5, 9)).astype(np.int8)
        pair = table["pair"].to_numpy()
        return cls(
            user=table["user"].to_numpy(),
            pair=pair,
            choice=choice,
            raters=np.bincount(pair, choice != 0, len(keys)).astype(np.int64),
            balance=np.bincount(pair, choice, len(keys)).astype(np.int64),
            row_pair=row_pair,
        )

    def minority(self) -> np.ndarray:
        """(p,) how many raters of each pair are against its majority."""
        return (self.raters - np.abs(self.balance)) // 2


def divergence(votes: Votes, min_raters: int, error: float | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Shares of pairs with any, and with at least 30 %, dissent; and what noise alone would give.

    Args:
        votes: all votes.
        min_raters: pairs with fewer raters are not counted; two raters always agree at least as much as five.
        error: how often a person answers against the own taste (1 - ceiling of consistency), or None if unknown.

    Returns:
        Two dicts `value low high n unit method reason` with `coin_expected` (raters who toss coins) and
        `noise_expected` (raters of one taste who err as often as this consistency says).
    """
    enough = votes.raters >= min_raters
    raters, minority = votes.raters[enough], votes.minority()[enough]
    any_dissent = minority > 0
    high = 10 * minority >= round(10 * HIGH_DISSENT) * raters
    results = []
    for name, hits, needed in (("any", any_dissent, np.ones_like(raters)), ("high", high, _needed(raters))):
        if len(raters) == 0:
            result = {"value": None, "low": None, "high": None, "n": 0, "unit": "pairs", "method": None}
            most = int(votes.raters.max(initial=0))
            result["reason"] = f"no pair has {min_raters} raters (the most is {most}); see the model-based estimates"
        else:
            result = share(float(hits.sum()), len(hits)).to_dict()
            result |= {"method": f"votes on pairs with at least {min_raters} raters", "reason": None}
        result["coin_expected"] = _expected(raters, needed, 0.5)
        result["noise_expected"] = None if error is None else _expected(raters, needed, error)
        result["kind"] = name
        results.append(result)
    return results[0], results[1]


def _needed(raters: np.ndarray) -> np.ndarray:
    """The fewest dissenters that make a pair highly divergent."""
    tenths = round(10 * HIGH_DISSENT)
    return -(-tenths * raters // 10)


def _expected(raters: np.ndarray, needed: np.ndarray, error: float) -> float | None:
    """Share of pairs where at least `needed` of the raters end up on the smaller side, if each errs independently."""
    if len(raters) == 0:
        return None
    kinds, counts = np.unique(np.stack([raters, needed], axis=1), axis=0, return_counts=True)
    n, k = kinds[:, 0], kinds[:, 1]
    # the smaller side holds at least k: between k and n - k err
    chance = np.where(2 * k <= n, stats.binom.cdf(n - k, n, error) - stats.binom.cdf(k - 1, n, error), 0.0)
    return float(np.average(chance, weights=counts))


def vote_model(votes: Votes, min_raters: int) -> dict[str, Any]:
    """What the votes on sparse pairs say about divergence, by a symmetric beta-binomial model.

        share of people for one side of a pair ~ Beta(α, α);  votes ~ Binomial

    α is fitted to all pairs with at least two raters. Noise and taste are one here: a pair that splits people because
    nobody can tell its sides apart looks like one that splits them because they differ.

    Returns:
        `any` and `high`: the share of pairs where `min_raters` random raters would not be of one mind, and where at
        least 30 % of all people are on the smaller side; each with `low high` from α's likelihood interval; `n` pairs;
        `method`; or `value` None with the reason.
    """
    usable = votes.raters >= 2
    n_pairs = int(usable.sum())
    base = {
        "n": n_pairs,
        "unit": "pairs",
        "method": "beta-binomial model of the votes on pairs with two or more raters",
    }
    if n_pairs < _FEWEST_MODEL_PAIRS:
        reason = f"{n_pairs} pairs have two raters or more; the model needs {_FEWEST_MODEL_PAIRS}"
        return base | {"any": None, "high": None, "reason": reason}
    low, best, high = _fit_concentration(votes.raters[usable], votes.minority()[usable])
    return base | {
        "any": _interval([_any_dissent(alpha, min_raters) for alpha in (best, low, high)]),
        "high": _interval([_high_dissent(alpha) for alpha in (best, low, high)]),
        "reason": None,
    }


def _interval(values: list[float]) -> dict[str, float]:
    return {"value": values[0], "low": min(values), "high": max(values)}


def _any_dissent(alpha: float, raters: int) -> float:
    return float(1.0 - 2.0 * np.exp(betaln(alpha + raters, alpha) - betaln(alpha, alpha)))


def _high_dissent(alpha: float) -> float:
    return float(stats.beta.cdf(1 - HIGH_DISSENT, alpha, alpha) - stats.beta.cdf(HIGH_DISSENT, alpha, alpha))


def _fit_concentration(raters: np.ndarray, minority: np.ndarray) -> tuple[float, float, float]:
    """Low end, maximum and high end (95 % likelihood interval) of α."""
    kinds, counts = np.unique(np.stack([raters, minority], axis=1), axis=0, return_counts=True)
    n, k = kinds[:, 0], kinds[:, 1]
    span = (math.log(1e-3), math.log(1e3))

    def loss(log_alpha: float) -> float:
        alpha = math.exp(log_alpha)
        return -float(counts @ (betaln(k + alpha, n - k + alpha) - betaln(alpha, alpha)))

    best = float(optimize.minimize_scalar(loss, bounds=span, method="bounded").x)
    limit = loss(best) + stats.chi2.ppf(0.95, 1) / 2

    def end(outer: float) -> float:
        if loss(outer) <= limit:
            return outer
        return float(optimize.brentq(lambda x: loss(x) - limit, *sorted((outer, best))))

    return math.exp(end(span[0])), math.exp(best), math.exp(end(span[1]))
