"""Does a person agree with the own earlier answers, and how accurate can anybody be who predicts them?

Let q be the probability that a person prefers the left of a pair, asked again and again. Two answers agree with
probability p = E[q² + (1 - q)²], and the best possible prediction is right with probability c = E[max(q, 1 - q)]. With
s = |2q - 1| these are p = (1 + E[s²]) / 2 and c = (1 + E[s]) / 2. As s² ≤ s ≤ 1, and by Jensen E[s] ≤ √E[s²]:

    p  ≤  c  ≤  (1 + √(2p - 1)) / 2

The right end is reached when all answers are equally noisy, the left end when some pairs are certain and all others coin
tosses. The right end is the ceiling Paper A's room is measured against (§4.2, "bounded by the consistency").

Where nobody answered a pair twice, circles speak: with a transitive taste and answers that flip independently with
probability e, three answers around a triad are circular with probability e (1 - e) (one flip or two, out of the eight
outcomes; pure chance gives 1/4, Kendall and Babington Smith 1940). So p = 1 - 2e (1 - e) = 1 - 2 · circular.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from palate.evaluate.audit_baselines import draws_for
from palate.statistics import Estimate, two_way

__all__ = ["Answers", "Consistency", "ceiling", "consistency", "repeats", "triads"]

_FEWEST = 30  # repeats or triads; with fewer nothing is said
_MOST_WEDGES = 4_000_000


@dataclass(frozen=True)
class Answers:
    """Every comparison once more, oriented: (m,) columns.

    Args:
        user: whose answer.
        low, high: the two items by number.
        for_low: probability that `low` is preferred.
        swapped: whether `low` was shown on the right.
        time: seconds, or None.
    """

    user: np.ndarray
    low: np.ndarray
    high: np.ndarray
    for_low: np.ndarray
    swapped: np.ndarray
    time: np.ndarray | None = None

    @classmethod
    def of(
        cls, left: np.ndarray, right: np.ndarray, user: np.ndarray, label: np.ndarray, time: np.ndarray | None = None
    ) -> Answers:
        """From comparisons; an item compared with itself is left out."""
        kept = np.asarray(left) != np.asarray(right)
        left, right, user, label = (np.asarray(column)[kept] for column in (left, right, user, label))
        swapped = left > right
        return cls(
            user=user,
            low=np.minimum(left, right),
            high=np.maximum(left, right),
            for_low=np.where(swapped, 1.0 - label, label),
            swapped=swapped,
            time=None if time is None else np.asarray(time)[kept],
        )


@dataclass(frozen=True)
class Consistency:
    """How often people agree with themselves.

    Args:
        agreement: test-retest agreement p, or None.
        method: how it was got, or None.
        reason: why there is none, or None.
        user: (g,) whose repeat or triad.
        agrees: (g,) 1 where it agrees, 0 where not, in units of p.
        details: counts for the record.
    """

    agreement: Estimate | None
    method: str | None
    reason: str | None
    user: np.ndarray
    agrees: np.ndarray
    details: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """`value` (p) with its interval, the `ceiling` it implies, and how it was got or why not."""
        if self.agreement is None:
            empty = {"value": None, "low": None, "high": None, "n": 0, "unit": "users", "claim": False}
            return empty | {"ceiling": None, "method": None, "reason": self.reason} | self.details
        return (
            self.agreement.to_dict() | {"ceiling": self.ceiling(), "method": self.method, "reason": None} | self.details
        )

    def ceiling(self) -> dict[str, float | None] | None:
        """The best accuracy anybody could reach: `value`, its interval, and `least` (the case of uneven noise)."""
        if self.agreement is None:
            return None
        value, low, high = (ceiling(p) for p in (self.agreement.value, self.agreement.low, self.agreement.high))
        least = min(1.0, max(0.5, self.agreement.value))
        return {"value": value, "low": _finite(low), "high": _finite(high), "least": least}


def ceiling(agreement: float) -> float:
    """The accuracy that test-retest agreement p allows when all answers are equally noisy: (1 + √(2p - 1)) / 2.

    Args:
        agreement: p in [0, 1]; below ½ (worse than chance) counts as ½.
    """
    return (1.0 + math.sqrt(min(1.0, max(0.0, 2.0 * agreement - 1.0)))) / 2.0 if math.isfinite(agreement) else math.nan


def consistency(answers: Answers, *, rng: np.random.Generator) -> Consistency:
    """Agreement of people with themselves, from repeated pairs if there are enough, else from circles."""
    user, agrees, counts = repeats(answers)
    copies = answers.time is None and counts["same_order"] == len(agrees) and bool((agrees == 1).all())
    reasons = []
    if len(agrees) < _FEWEST:
        reasons.append(f"{len(agrees)} repeated pairs (at least {_FEWEST} are needed)")
    elif copies:
        reasons.append(f"all {len(agrees)} repeats are identical rows, which look like copies, not like second answers")
    else:
        estimate = two_way(agrees, user, None, rng=rng, draws=draws_for(len(np.unique(user))))
        return Consistency(estimate, "the same pair answered twice by the same person", None, user, agrees, counts)
    user, circular, seen = triads(answers, rng=rng)
    counts = counts | seen
    if len(circular) >= _FEWEST:
        agrees = 1.0 - 2.0 * circular
        estimate = two_way(agrees, user, None, rng=rng, draws=draws_for(len(np.unique(user))))
        return Consistency(estimate, "circles in triads of one person's answers", None, user, agrees, counts)
    reasons.append(f"{len(circular)} triads (at least {_FEWEST} are needed)")
    nothing = np.zeros(0)
    return Consistency(None, None, "; ".join(reasons) + ": ask some pairs twice", nothing, nothing, counts)


def repeats(answers: Answers) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Consecutive answers of one person to one pair: (g,) whose, (g,) whether they agree, and counts by order shown.

    Ties and rows that equal another one in everything, time included, are left out.
    """
    table = pl.DataFrame(
        {
            "user": answers.user,
            "low": answers.low,
            "high": answers.high,
            "choice": np.sign(np.round(answers.for_low - 0.5, 9)),
            "swapped": answers.swapped,
            "time": np.zeros(len(answers.user)) if answers.time is None else answers.time,
        }
    ).filter(pl.col("choice") != 0)
    if answers.time is not None:
        table = table.unique(maintain_order=True)
    keys = ["user", "low", "high"]
    table = (
        table.filter(pl.len().over(keys) > 1)
        .sort([*keys, "time"], maintain_order=True)
        .with_columns(
            before=pl.col("choice").shift(1).over(keys),
            turned=pl.col("swapped") != pl.col("swapped").shift(1).over(keys),
        )
        .filter(pl.col("before").is_not_null())
    )
    turned = int(table["turned"].sum())
    counts = {"repeats": len(table), "other_order": turned, "same_order": len(table) - turned}
    return table["user"].to_numpy(), (table["choice"] == table["before"]).to_numpy().astype(np.float64), counts


def triads(answers: Answers, *, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Triads a person has answered in full: (g,) whose, (g,) 1 where circular; people are sampled if there are many."""
    edges = (
        pl.DataFrame({"user": answers.user, "low": answers.low, "high": answers.high, "for_low": answers.for_low})
        .group_by("user", "low", "high")
        .agg(pl.col("for_low").mean())
        .filter((pl.col("for_low") - 0.5).abs() > 1e-9)
        .with_columns(up=pl.col("for_low") > 0.5)
        .drop("for_low")
    )
    edges = _bounded(edges, rng)
    first = edges.rename({"low": "a", "high": "b", "up": "ab"})
    second = edges.rename({"low": "b", "high": "c", "up": "bc"})
    third = edges.rename({"low": "a", "high": "c", "up": "ac"})
    found = first.join(second, on=["user", "b"]).join(third, on=["user", "a", "c"]).sort("user", "a", "b", "c")
    circular = ((found["ab"] == found["bc"]) & (found["ab"] != found["ac"])).to_numpy().astype(np.float64)
    counts = {"triads": len(found), "circular": int(circular.sum())}
    return found["user"].to_numpy(), circular, counts


def _bounded(edges: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """As many people, in random order, as keep the number of paths of two edges within bounds."""
    ends = edges.group_by("user", "high").len("n_in").rename({"high": "item"})
    starts = edges.group_by("user", "low").len("n_out").rename({"low": "item"})
    paths = (
        ends.join(starts, on=["user", "item"])
        .group_by("user")
        .agg(paths=(pl.col("n_in").cast(pl.Int64) * pl.col("n_out").cast(pl.Int64)).sum())
        .sort("user")
    )
    order = rng.permutation(len(paths))
    kept = paths[order].filter(pl.col("paths").cum_sum() <= _MOST_WEDGES)
    return edges.join(kept.select("user"), on="user", how="semi")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
