"""The findings of an audit that are put together from several parts: people, room, divergence of taste."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

from palate.evaluate.audit_baselines import accuracy_of, credit, draws_for
from palate.evaluate.audit_consistency import Consistency
from palate.evaluate.audit_pairs import HIGH_DISSENT, Votes
from palate.evaluate.audit_people import Agreement, kinds, majority_agreement, mv_acc, summed
from palate.evaluate.audit_room import HeldOut, consensus
from palate.statistics import Estimate, two_way
from palate.types import Comparisons

__all__ = ["People", "room_findings", "spread", "taste_divergence", "vote_findings"]

_FEW_PROMPTS = 20  # with fewer, items are resampled instead


@dataclass(frozen=True)
class People:
    """Findings per person and over people.

    Args:
        minority, noisy: (n_users,) masks.
        minority_share, noisy_share, mv_acc: as they stand in the findings.
        majority: accuracy of the majority of others, or of the consensus model, as a non-personal prediction.
    """

    minority: np.ndarray
    noisy: np.ndarray
    minority_share: dict[str, Any]
    noisy_share: dict[str, Any]
    mv_acc: dict[str, Any]
    majority: dict[str, Any]

    @classmethod
    def of(
        cls,
        rows: Comparisons,
        probed: Comparisons,
        votes: Votes,
        held: HeldOut,
        steady: Consistency,
        *,
        min_raters: int,
        rounds: int,
        rng: np.random.Generator,
    ) -> People:
        """Compare everybody with the majority of the others, or with a consensus model where pairs do not repeat."""
        with_own, without = majority_agreement(votes, min_raters, rows.n_users)
        enough = votes.row_pair >= 0
        enough[enough] = votes.raters[votes.row_pair[enough]] >= min_raters
        if 2 * enough.sum() >= len(enough) > 0:
            method = f"majority of the other raters, pairs with at least {min_raters} raters"
            result = mv_acc(with_own, without, method, rng=rng)
        else:
            shared = consensus(probed, rounds=rounds, rng=rng)
            without = summed(credit(shared - 0.5, probed.label), probed.user, rows.n_users)
            method = "consensus model (shared item effects and features) fitted without the person"
            result = mv_acc(None, without, method, rng=rng)
        own = summed(credit(held.personal - 0.5, probed.label[held.rows]), probed.user[held.rows], rows.n_users)
        itself = summed(steady.agrees, steady.user, rows.n_users) if steady.details.get("triads") is None else None
        nobody = Agreement(np.zeros(rows.n_users), np.zeros(rows.n_users))
        minority, noisy, minority_share, noisy_share = kinds(without, own, itself or nobody)
        summary = {name: result[name] for name in ("value", "low", "high", "n", "unit", "claim")}
        return cls(minority, noisy, minority_share, noisy_share, result, summary)


def room_findings(
    probed: Comparisons,
    held: HeldOut,
    majority: dict[str, Any],
    simple: dict[str, Any],
    steady: Consistency,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Room as an interval: what a quick model gains, up to what consistency allows (Paper A, §4.2)."""
    label, user = probed.label[held.rows], probed.user[held.rows]
    prompt = probed.items.prompt[probed.left[held.rows]]
    pooled, personal = credit(held.pooled - 0.5, label), credit(held.personal - 0.5, label)
    gain, loss = _gains(probed, held, personal - pooled, rng)
    candidates = {
        "pooled model": accuracy_of(pooled, user, prompt, rng=rng),
        "majority of others": majority,
    } | {name: found for name, found in simple.items() if found is not None}
    candidates = {name: found for name, found in candidates.items() if found["value"] is not None}
    # the side of a reply is no reward: in a table whose better reply is always left it is right every time
    rewards = [name for name in candidates if name != "position"]
    best = max(rewards, key=lambda name: candidates[name]["value"]) if rewards else None
    upper = _upper(candidates[best] if best else None, steady)
    value = None if gain is None else _bounded(gain).to_dict()
    return {
        "value": None if value is None else value["value"],
        "low": None if value is None else value["low"],
        "high": None if upper is None else upper["value"],
        "unit": "accuracy",
        "achievable": value,
        "log_loss_gain": None if loss is None else loss.to_dict(),
        "upper": upper,
        "best_non_personal": None if best is None else {"name": best} | candidates[best],
        "non_personal": candidates,
        "personal": accuracy_of(personal, user, prompt, rng=rng),
        "taste_sd": float(math.sqrt(held.taste_variance.mean())) if len(held.rows) else None,
        "n_held_out": int((~np.isnan(pooled)).sum()),
        "n_probe_rows": len(probed),
        "n_probe_users": int((probed.counts() > 0).sum()),
        "method": "cross-fitted probe (low-rank tastes, people latent) against its pooled model; a held-out row shares "
        "no item with the same person's training rows",
        "reason": None if gain is not None else _obstacle(probed),
    }


def _gains(
    probed: Comparisons, held: HeldOut, difference: np.ndarray, rng: np.random.Generator
) -> tuple[Estimate | None, Estimate | None]:
    """Accuracy (on answers that are not ties) and log-likelihood gained over the pooled model, people × prompts."""
    decided = ~np.isnan(difference)
    if not decided.any():
        return None, None
    label, user = probed.label[held.rows], probed.user[held.rows]
    left, right = probed.left[held.rows], probed.right[held.rows]
    prompt = probed.items.prompt[left]
    group = np.stack([left, right], axis=1) if len(np.unique(prompt)) < _FEW_PROMPTS else prompt
    draws = draws_for(len(np.unique(user)))
    gain = two_way(difference[decided], user[decided], group[decided], rng=rng, draws=draws)
    likelihood = _log_likelihood(held.personal, label) - _log_likelihood(held.pooled, label)
    return gain, two_way(likelihood, user, group, rng=rng, draws=draws)


def _bounded(gain: Estimate) -> Estimate:
    """An interval for a difference of accuracies ends at ±1, however few people it rests on."""
    return gain.within(-1.0, 1.0)


def _log_likelihood(probability: np.ndarray, label: np.ndarray) -> np.ndarray:
    p = np.clip(probability, 1e-6, 1 - 1e-6)
    return label * np.log(p) + (1 - label) * np.log(1 - p)


def _upper(best: dict[str, Any] | None, steady: Consistency) -> dict[str, Any] | None:
    """Ceiling minus the best non-personal accuracy, with both uncertainties added in quadrature."""
    if best is None:
        return None
    ceiling = steady.ceiling()
    if ceiling is None:
        top = {"value": 1.0, "low": 1.0, "high": 1.0}
        method = f"1 minus the best non-personal accuracy, as if people were perfectly consistent ({steady.reason})"
    else:
        top = ceiling
        method = f"ceiling of consistency ({steady.method}) minus the best non-personal accuracy"
    value = max(0.0, top["value"] - best["value"])
    below = _quadrature(top["value"], top["low"], best["high"], best["value"])
    above = _quadrature(top["high"], top["value"], best["value"], best["low"])
    return {
        "value": value,
        "low": None if below is None else max(0.0, value - below),
        "high": None if above is None else value + above,
        "ceiling": top["value"] if ceiling is not None else None,
        "method": method,
    }


def _quadrature(a: float | None, b: float | None, c: float | None, d: float | None) -> float | None:
    if a is None or b is None or c is None or d is None:
        return None
    return math.hypot(a - b, c - d)


def _obstacle(probed: Comparisons) -> str:
    """Why nothing could be held out and predicted, in words."""
    people = int((probed.counts() > 0).sum())
    if people == 0:
        return "every row compares an item with itself"
    if people < 2:
        return "there is only one person, and nobody to differ from"
    if (np.abs(probed.label - 0.5) < 1e-9).all():
        return "every answer is a tie"
    if probed.counts().max() < 2:
        return f"each of {people:,} people answered once, so no answer can be predicted from another of the same person"
    return "no answer could be held out that shares no item with the same person's other answers"


def taste_divergence(held: HeldOut, raters: int, room: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """How often people's *tastes* (their noise-free choices) differ, by the probe's variance between people."""
    method = "variance of taste between people in the personal model, without noise"
    if not len(held.rows):
        empty = {"value": None, "low": None, "high": None, "n": 0, "unit": "pairs", "method": method}
        return empty | {"reason": room["reason"]}, empty | {"reason": room["reason"]}
    for_left = norm.cdf(held.shared_logit / np.sqrt(np.maximum(held.taste_variance, 1e-12)))
    any_dissent = 1.0 - for_left**raters - (1.0 - for_left) ** raters
    high = np.minimum(for_left, 1.0 - for_left) >= HIGH_DISSENT
    results = []
    for values in (any_dissent, high.astype(np.float64)):
        folds = np.array([values[held.fold == fold].mean() for fold in np.unique(held.fold)])
        several = len(folds) > 1
        results.append(
            {
                "value": float(values.mean()),
                "low": float(folds.min()) if several else None,
                "high": float(folds.max()) if several else None,
                "n": len(values),
                "unit": "pairs",
                "method": method + ("; range over fits" if several else ""),
                "reason": None,
            }
        )
    return results[0], results[1]


def vote_findings(model: dict[str, Any], name: str) -> dict[str, Any]:
    """The `any` or `high` share of a vote model in the usual form."""
    found = model[name] or {"value": None, "low": None, "high": None}
    return found | {key: model[key] for key in ("n", "unit", "method", "reason")}


def spread(counts: np.ndarray) -> dict[str, float]:
    """Least, median, mean and most, and a histogram by powers of two."""
    counts = counts[counts > 0]
    if len(counts) == 0:
        return {"least": 0, "median": 0.0, "mean": 0.0, "most": 0, "histogram": {"edges": [1, 2], "count": [0]}}
    edges = 2 ** np.arange(int(np.log2(counts.max())) + 2)
    return {
        "least": int(counts.min()),
        "median": float(np.median(counts)),
        "mean": float(counts.mean()),
        "most": int(counts.max()),
        "histogram": {"edges": edges.tolist(), "count": np.histogram(counts, edges)[0].tolist()},
    }
