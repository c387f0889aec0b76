"""Personalize, don't, or collect more first: what a room, its interval and the power of the data add up to.

A design is N people with k answers each about items with P loadings per taste (P items, or P features). Tastes of
variance τ² (in squared logits of a pair), spread over r columns, are learned to the degree that state evolution of
low-rank estimation gives (Lesieur, Krzakala and Zdeborová 2017, §3.2, Gaussian priors, one column at a time):

    a = (k - 1) I τ²/r,   b = (N k / P) I τ²/r,   learned share of the variance = (ab - 1)² / (ab (1 + a)(1 + b)), ab > 1

and 0 for ab ≤ 1: below that point nobody can learn tastes at all, however clever the method. I is the information of an
answer, E[p (1 - p)]. (k - 1, not k: a single answer per person says nothing on how a person's answers hang together.)
The accuracy gained by knowing a part s² of the variance follows from the shared logits at hand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from scipy.optimize import brentq
from scipy.special import expit

from palate.statistics import Estimate

__all__ = ["Decision", "Design", "decide", "gain_from", "learned_share", "power_curve", "reference_variance"]

DETECT = 0.02
"""The gain in accuracy that the power curve asks to be able to see."""

WORTH = 0.05
"""The reference: tastes whose full knowledge would gain this much accuracy."""

_RANK = 2  # columns of the reference's taste
_POWER = 0.8
_Z = 1.96
_ANSWERS = (5, 10, 20, 40, 80)
_USERS = (20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
_NODES = stats.norm.ppf((np.arange(64) + 0.5) / 64)  # equal-weight quantiles of the standard normal


@dataclass(frozen=True)
class Design:
    """What the data at hand could show.

    Args:
        shared_logit: (s,) logits of the average person on some pairs.
        answers: (n_users,) answers per person that can be learned from.
        loadings: P, unknowns per column of taste.
        tau2: variance of taste found by the probe, or None where none was found.
        unseen: rows that exist but were not looked at, to save time.
    """

    shared_logit: np.ndarray
    answers: np.ndarray
    loadings: int
    tau2: float | None = None
    unseen: int = 0


@dataclass(frozen=True)
class Decision:
    """What to do.

    Args:
        verdict: "personalize", "don't" or "collect".
        reason: one sentence.
        expected_gain: accuracy gained for the people at hand, or None where it could not be tried.
        need: how many people, with how many answers each, to see a gain of `DETECT`; None where not asked for.
        power: of the data at hand, to see tastes worth `WORTH`.
        curve: points of the power curve.
        assumes: what the curve takes tastes to be.
    """

    verdict: str
    reason: str
    expected_gain: Estimate | None
    need: dict[str, int] | None
    power: float
    curve: tuple[dict[str, float], ...]
    assumes: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "expected_gain": None if self.expected_gain is None else self.expected_gain.to_dict(),
            "need": self.need,
            "power": self.power,
            "power_curve": list(self.curve),
            "assumes": self.assumes,
        }


def learned_share(tau2: float, rank: int, answers: np.ndarray | float, users: float, loadings: int, information: float):
    """Share of the taste variance that N users × k answers teach (see the module's formula).

    Args:
        tau2: variance of taste over people, squared logits.
        rank: columns it is spread over.
        answers: k, per person; an array gives an array.
        users: N.
        loadings: P.
        information: I in (0, ¼].
    """
    unit = information * tau2 / rank
    k = np.maximum(np.asarray(answers, np.float64), 1.0)
    a = (k - 1.0) * unit
    b = users * k.mean() / max(1, loadings) * unit
    ab = np.maximum(a * b, 1e-12)
    return np.where(ab > 1.0, (ab - 1.0) ** 2 / (ab * (1.0 + a) * (1.0 + b)), 0.0)


def gain_from(shared_logit: np.ndarray, tau2: float, known: float) -> tuple[float, float]:
    """Accuracy gained by knowing `known` of the variance `tau2` of taste, and the share of decisions it changes.

    logit of a person = μ + δ + ε,   δ ~ N(0, known),   ε ~ N(0, tau2 - known);   decide by the sign of μ + δ
    """
    known = min(known, tau2)
    if known <= 0 or len(shared_logit) == 0:
        return 0.0, 0.0
    mu = np.asarray(shared_logit, np.float64)[:, None]
    total = mu + math.sqrt(known) * _NODES
    right = expit(total / math.sqrt(1.0 + math.pi * (tau2 - known) / 8.0))
    changed = np.sign(total) != np.where(mu >= 0, 1.0, -1.0)
    return float(np.where(changed, np.abs(2.0 * right - 1.0), 0.0).mean()), float(changed.mean())


def reference_variance(shared_logit: np.ndarray, worth: float = WORTH) -> float:
    """τ² of tastes whose full knowledge would gain `worth`."""

    def short(log_tau2: float) -> float:
        return gain_from(shared_logit, math.exp(log_tau2), math.inf)[0] - worth

    low, high = math.log(1e-3), math.log(1e4)
    if short(low) > 0:
        return math.exp(low)
    return math.exp(high) if short(high) < 0 else math.exp(brentq(short, low, high, xtol=1e-3))


def _power(shared_logit: np.ndarray, tau2: float, answers: np.ndarray, users: float, loadings: int) -> dict[str, float]:
    """Expected gain of a design and the chance that its interval excludes zero (two-sided, 95 %)."""
    information = float((expit(shared_logit) * expit(-shared_logit)).mean())
    ks, counts = _few(answers)
    shares = np.broadcast_to(learned_share(tau2, _RANK, ks, users, loadings, information), ks.shape)
    gains = np.array([gain_from(shared_logit, tau2, tau2 * share) for share in shares])
    gain, changed = np.average(gains, axis=0, weights=counts)
    rows = users * float(np.average(ks, weights=counts))
    # rows that change are won or lost one by one; besides, people differ in what they gain, by about as much as they gain
    error = math.sqrt(changed / max(rows, 1.0) + gain**2 / max(users, 1.0))
    power = float(stats.norm.cdf(gain / error - _Z)) if gain > 0 else 0.0
    return {"expected_gain": float(gain), "power": power}


def _few(answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most ten representative numbers of answers, with how many people each stands for."""
    answers = np.asarray(answers, np.float64)
    if len(answers) <= 10:
        return answers, np.ones(len(answers))
    return np.quantile(answers, (np.arange(10) + 0.5) / 10), np.full(10, len(answers) / 10)


def power_curve(shared_logit: np.ndarray, tau2: float, loadings: int) -> tuple[dict[str, float], ...]:
    """Expected gain and power for people × answers, by answers, then people."""
    points = []
    for k in _ANSWERS:
        for users in _USERS:
            point = _power(shared_logit, tau2, np.array([float(k)]), users, loadings)
            points.append({"users": users, "answers": k} | point)
    return tuple(points)


def _needed(curve: Sequence[dict[str, float]]) -> dict[str, int] | None:
    """The cheapest design of the curve (fewest answers in all) that sees a gain of `DETECT`."""
    enough = [point for point in curve if point["expected_gain"] >= DETECT and point["power"] >= _POWER]
    if not enough:
        return None
    best = min(enough, key=lambda point: (point["users"] * point["answers"], point["answers"]))
    return {"users": int(best["users"]), "answers": int(best["answers"])}


def decide(
    gain: Estimate | None, most: float | None, design: Design, *, worthwhile: float, obstacle: str | None
) -> Decision:
    """Weigh what was measured against what could have been measured.

    Args:
        gain: achievable gain in accuracy on held-out rows, or None where it could not be tried.
        most: high end of the room's upper bound, or None.
        design: of the data at hand.
        worthwhile: the smallest gain in accuracy worth having.
        obstacle: why the gain could not be tried, in words; None where it was.
    """
    logits = design.shared_logit if len(design.shared_logit) else np.zeros(1)
    found = design.tau2 is not None and gain is not None and gain.low > 0
    reference = reference_variance(logits)
    tau2 = float(design.tau2) if found and design.tau2 is not None else reference
    assumes = (
        f"tastes as strong as the probe found (standard deviation {math.sqrt(tau2):.2f} logits over people)"
        if found
        else f"tastes in {_RANK} dimensions whose full knowledge would gain {WORTH:.0%} accuracy "
        f"({math.sqrt(tau2):.2f} logits over people)"
    )
    curve = power_curve(logits, tau2, design.loadings)
    users = int((design.answers > 0).sum())
    hand = {"expected_gain": 0.0, "power": 0.0}
    if users > 1:
        hand = _power(logits, reference, design.answers[design.answers > 0], users, design.loadings)
    could_see = hand["power"] >= _POWER and hand["expected_gain"] >= worthwhile
    # tastes that are surely there but not yet worth it may become so with more answers
    later = _needed(curve) if found else None
    verdict, reason = _weigh(gain, most, could_see, later is not None, hand["power"], worthwhile, obstacle)
    need = None
    if verdict == "collect":
        need = _needed(curve)
        unseen = f"; first let the audit look at the other {design.unseen:,} rows (max_probe_rows)"
        reason += unseen if design.unseen else _asks(need)
    return Decision(verdict, reason, gain, need, hand["power"], curve, assumes)


def _weigh(
    gain: Estimate | None,
    most: float | None,
    could_see: bool,
    growing: bool,
    power: float,
    worthwhile: float,
    obstacle: str | None,
) -> tuple[str, str]:
    if most is not None and most < worthwhile:
        return "don't", f"one reward for everybody is already right so often that at most {most:.3f} is left to gain"
    if gain is None:
        return "collect", f"{obstacle or 'no answer could be held out'}"
    text = f"{gain.value:+.3f} accuracy [{gain.low:+.3f}, {gain.high:+.3f}] on held-out answers"
    if gain.value >= worthwhile and gain.low > 0:
        if gain.claim:
            return "personalize", f"knowing the person gains {text}"
        return "collect", f"knowing the person seems to gain {text}, but from only {gain.n} people"
    if gain.value >= worthwhile:
        return "collect", f"knowing the person may gain {text}, but the interval includes no gain"
    if gain.low > 0 and gain.claim and growing:
        return (
            "collect",
            f"knowing the person gains {text}: tastes are there, but these answers teach too little of them",
        )
    if could_see:
        return "don't", f"knowing the person gains {text}, less than the {worthwhile:.2f} that would be worth it"
    return (
        "collect",
        f"knowing the person gains {text}, but tastes worth {WORTH:.0%} would go unseen here (power {power:.0%})",
    )


def _asks(need: dict[str, int] | None) -> str:
    if need is None:
        return "; no design of up to 100,000 people × 80 answers would show a gain of 2 points: ask about fewer items"
    return f"; ask about {need['users']:,} people {need['answers']} questions each"
