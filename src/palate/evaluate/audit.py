"""Is there anything to personalize here? Paper A's framework, with intervals, and then a decision.

    divergence      do people disagree, and by more than noise?          audit_pairs
    consistency     does a person agree with the own earlier answers?    audit_consistency
    MV-ACC          who is with the majority, who against, who noisy?    audit_people
    baselines       how far do length, position, popularity get?         audit_baselines
    room            what would knowing the person gain?                  audit_room, probe
    decision        personalize, don't, or collect this much more        audit_decision

Source: Dong et al. 2025, "When Personalization Meets Reality" ("Paper A"), §4.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from palate.data.dataset import PreferenceDataset
from palate.errors import DataError, InputError
from palate.evaluate.audit_baselines import accuracy_of, baselines, credit, draws_for
from palate.evaluate.audit_consistency import Answers, Consistency, consistency
from palate.evaluate.audit_decision import Decision, Design, decide
from palate.evaluate.audit_pairs import Votes, divergence, vote_model
from palate.evaluate.audit_people import Agreement, kinds, majority_agreement, mv_acc, summed
from palate.evaluate.audit_room import HeldOut, consensus, cross_fit, sample_people
from palate.evaluate.audit_text import readable
from palate.progress import Progress, silent
from palate.rng import RNGLike, normalise
from palate.statistics import Estimate, paired_difference
from palate.types import Comparisons, Items

__all__ = ["Audit", "audit"]

_RANK = 6
_ROUNDS = 12
_FEW_PROMPTS = 20  # with fewer, items are resampled instead


@dataclass(frozen=True)
class Audit:
    """What an audit found. `str()` is for a terminal, `to_dict()` for a file or a report.

    Args:
        findings: everything, JSON-able.
        minority_users: ids of the people who are surely against the majority, by all rows audited.
        noisy_users: ids of the people whom nothing predicts.
    """

    findings: dict[str, Any]
    minority_users: tuple[str, ...] = field(default=(), repr=False)
    noisy_users: tuple[str, ...] = field(default=(), repr=False)

    @property
    def verdict(self) -> str:
        """ "personalize", "don't" or "collect"."""
        return self.findings["decision"]["verdict"]

    def to_dict(self) -> dict[str, Any]:
        """All findings; people's ids are not among them."""
        return self.findings

    def __str__(self) -> str:
        return readable(self.findings)


def audit(
    dataset: PreferenceDataset,
    *,
    items: Items | None = None,
    min_raters: int = 5,
    worthwhile: float = 0.01,
    max_probe_rows: int = 200_000,
    rng: RNGLike = 0,
    progress: Progress = silent,
) -> Audit:
    """Say whether personalization can help on these comparisons, for whom, and how sure that is.

    Args:
        dataset: who preferred what.
        items: features of the items (`palate.features.featurize`); without them items are known by identity alone.
        min_raters: pairs with fewer raters do not count for divergence and majority votes.
        worthwhile: the smallest gain in accuracy worth having.
        max_probe_rows: models are fitted to at most so many rows, of people drawn at random.
        rng: seed or generator; the same one gives the same audit.
        progress: called now and then.

    Raises:
        DataError: there is no comparison.
        InputError: `min_raters` is below 2, `worthwhile` or `max_probe_rows` not positive, or the items are others.
    """
    _check(dataset, min_raters, worthwhile, max_probe_rows)
    if items is None:
        items = Items.of(np.zeros((dataset.n_items, 0)), keys=dataset.item_keys(), prompt=dataset.item_prompt)
    rows = dataset.comparisons(items)
    # one stream per part: asking for more in one part changes no number of another
    streams = normalise(rng).spawn(6)

    progress(0, 4, "reading answers")
    steady = consistency(Answers.of(rows.left, rows.right, rows.user, rows.label, rows.time), rng=streams[0])
    votes = Votes.of(rows.left, rows.right, rows.user, rows.label, len(items))
    ceiling = steady.ceiling()
    any_dissent, high_dissent = divergence(votes, min_raters, None if ceiling is None else 1.0 - ceiling["value"])

    progress(1, 4, "fitting the probe")
    probed = rows.take(sample_people(rows, max_probe_rows, streams[1]))
    held = cross_fit(probed, rank=_RANK, rounds=_ROUNDS, rng=streams[2])

    progress(2, 4, "comparing people with the majority")
    people = _People.of(rows, probed, votes, held, steady, min_raters, streams[3])
    length = np.array([len(text) for text in dataset.responses], np.int64)[dataset.item_response]
    prompt = items.prompt[rows.left]
    simple = baselines(rows.left, rows.right, rows.user, rows.label, prompt, length, rng=streams[4])

    progress(3, 4, "deciding")
    room = _room(probed, held, people, simple, steady, streams[5])
    decision = _decide(rows, probed, held, room, worthwhile)
    any_dissent["votes_model"] = _part(vote_model(votes, min_raters), "any")
    high_dissent["votes_model"] = _part(vote_model(votes, min_raters), "high")
    any_dissent["taste_model"], high_dissent["taste_model"] = _taste_divergence(held, min_raters, room)
    progress(4, 4, "deciding")

    findings = {
        "data": {"name": dataset.name, "fingerprint": dataset.fingerprint, "licence": dataset.licence},
        "settings": {
            "min_raters": min_raters,
            "worthwhile": worthwhile,
            "features": items.dim,
            "base_reward": items.base_reward is not None,
        },
        "n_comparisons": len(rows),
        "n_users": dataset.n_users,
        "n_items": dataset.n_items,
        "n_prompts": dataset.n_prompts,
        "n_pairs": votes.n_pairs,
        "rows_per_user": _spread(rows.counts()),
        "raters_per_pair": _spread(votes.raters),
        "tie_share": float((np.abs(rows.label - 0.5) < 1e-9).mean()),
        "divergence": any_dissent,
        "high_divergence": high_dissent,
        "minority_share": people.minority_share,
        "noisy_share": people.noisy_share,
        "mv_acc": people.mv_acc,
        "consistency": steady.to_dict(),
        "baselines": simple,
        "room": room,
        "decision": decision.to_dict(),
        "notes": _notes(dataset, rows, probed),
    }
    return Audit(
        findings,
        tuple(dataset.users[i] for i in np.flatnonzero(people.minority)),
        tuple(dataset.users[i] for i in np.flatnonzero(people.noisy)),
    )


def _check(dataset: PreferenceDataset, min_raters: int, worthwhile: float, max_probe_rows: int) -> None:
    if len(dataset) == 0:
        raise DataError(f"{dataset.name}: no comparison to audit; pass at least one row")
    if min_raters < 2:
        raise InputError(f"min_raters={min_raters}: one rater cannot disagree; use at least 2")
    if not 0 < worthwhile < 0.5:
        raise InputError(f"worthwhile={worthwhile}: a gain in accuracy lies between 0 and 0.5; use 0.01, say")
    if max_probe_rows < 1:
        raise InputError(f"max_probe_rows={max_probe_rows}: the probe needs rows; use at least 1")


@dataclass(frozen=True)
class _People:
    """Findings per person and over people."""

    minority: np.ndarray
    noisy: np.ndarray
    minority_share: dict[str, Any]
    noisy_share: dict[str, Any]
    mv_acc: dict[str, Any]
    consensus_accuracy: dict[str, Any]

    @classmethod
    def of(
        cls,
        rows: Comparisons,
        probed: Comparisons,
        votes: Votes,
        held: HeldOut,
        steady: Consistency,
        min_raters: int,
        rng: np.random.Generator,
    ) -> _People:
        with_own, without = majority_agreement(votes, min_raters, rows.n_users)
        enough = votes.row_pair >= 0
        enough[enough] = votes.raters[votes.row_pair[enough]] >= min_raters
        if enough.mean() >= 0.5:
            method = f"majority of the other raters, pairs with at least {min_raters} raters"
            result = mv_acc(with_own, without, method, rng=rng)
        else:
            shared = consensus(probed, rounds=_ROUNDS, rng=rng)
            without = summed(credit(shared - 0.5, probed.label), probed.user, rows.n_users)
            method = "consensus model (shared item effects and features) fitted without the person"
            result = mv_acc(None, without, method, rng=rng)
        own = summed(credit(held.personal - 0.5, probed.label[held.rows]), probed.user[held.rows], rows.n_users)
        itself = summed(steady.agrees, steady.user, rows.n_users) if steady.details.get("triads") is None else None
        nobody = Agreement(np.zeros(rows.n_users), np.zeros(rows.n_users))
        minority, noisy, minority_share, noisy_share = kinds(without, own, itself or nobody)
        summary = {name: result[name] for name in ("value", "low", "high", "n", "unit", "claim")}
        return cls(minority, noisy, minority_share, noisy_share, result, summary)


def _room(
    probed: Comparisons,
    held: HeldOut,
    people: _People,
    simple: dict[str, Any],
    steady: Consistency,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Room as an interval: what a quick model gains, up to what consistency allows (Paper A, §4.2)."""
    label, user = probed.label[held.rows], probed.user[held.rows]
    left, right = probed.left[held.rows], probed.right[held.rows]
    prompt = probed.items.prompt[left]
    group = np.stack([left, right], axis=1) if len(np.unique(prompt)) < _FEW_PROMPTS else prompt
    pooled, personal = credit(held.pooled - 0.5, label), credit(held.personal - 0.5, label)
    decided = ~np.isnan(pooled)
    gain = loss = None
    draws = draws_for(len(np.unique(user)))
    if decided.any():
        gain = paired_difference(
            personal[decided], pooled[decided], user[decided], group[decided], rng=rng, draws=draws
        )
        loss = paired_difference(
            _log_likelihood(held.personal, label),
            _log_likelihood(held.pooled, label),
            user,
            group,
            rng=rng,
            draws=draws,
        )
    candidates = {
        "pooled model": accuracy_of(pooled, user, prompt, rng=rng),
        "majority of others": people.consensus_accuracy,
    } | {name: found for name, found in simple.items() if found is not None}
    candidates = {name: found for name, found in candidates.items() if found["value"] is not None}
    best = max(candidates, key=lambda name: candidates[name]["value"]) if candidates else None
    upper = _upper(candidates[best] if best else None, steady)
    value = None if gain is None else gain.to_dict()
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
        "n_held_out": int(decided.sum()),
        "n_probe_rows": len(probed),
        "n_probe_users": int((probed.counts() > 0).sum()),
        "method": "cross-fitted probe (low-rank tastes, people latent) against its pooled model; a held-out row shares "
        "no item with the same person's training rows",
        "reason": None if gain is not None else _obstacle(probed),
    }


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
    if people < 2:
        return "there is only one person, and nobody to differ from"
    if (np.abs(probed.label - 0.5) < 1e-9).all():
        return "every answer is a tie"
    if probed.counts().max() < 2:
        return f"each of {people:,} people answered once, so no answer can be predicted from another of the same person"
    return "no answer could be held out that shares no item with the same person's other answers"


def _decide(rows: Comparisons, probed: Comparisons, held: HeldOut, room: dict[str, Any], worthwhile: float) -> Decision:
    gain = None
    if room["achievable"] is not None:
        found = room["achievable"]
        ends = (math.nan if found[name] is None else found[name] for name in ("low", "high"))
        gain = Estimate(found["value"], *ends, found["n"], found["unit"])
    used = len(np.unique(np.concatenate([probed.left, probed.right])))
    loadings = min(used, 32) if probed.items.dim else used
    tau2 = None if room["taste_sd"] is None else room["taste_sd"] ** 2
    design = Design(held.shared_logit[:5000], rows.counts()[rows.counts() > 0], loadings, tau2 or None)
    most = room["upper"]["high"] if room["upper"] else None
    return decide(gain, most, design, worthwhile=worthwhile, obstacle=room["reason"])


def _taste_divergence(held: HeldOut, raters: int, room: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """How often people's *tastes* (their noise-free choices) differ, by the probe's variance between people."""
    method = "variance of taste between people in the personal model, without noise"
    if not len(held.rows):
        empty = {"value": None, "low": None, "high": None, "n": 0, "unit": "pairs", "method": method}
        return empty | {"reason": room["reason"]}, empty | {"reason": room["reason"]}
    from scipy.stats import norm

    for_left = norm.cdf(held.shared_logit / np.sqrt(np.maximum(held.taste_variance, 1e-12)))
    any_dissent = 1.0 - for_left**raters - (1.0 - for_left) ** raters
    high = np.minimum(for_left, 1.0 - for_left) >= 0.3
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


def _part(model: dict[str, Any], name: str) -> dict[str, Any]:
    """The `any` or `high` share of a vote model in the usual form."""
    found = model[name] or {"value": None, "low": None, "high": None}
    return found | {key: model[key] for key in ("n", "unit", "method", "reason")}


def _spread(counts: np.ndarray) -> dict[str, float]:
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


def _notes(dataset: PreferenceDataset, rows: Comparisons, probed: Comparisons) -> list[str]:
    """What a reader should know before believing the numbers."""
    notes = list(dataset.notes)
    if len(probed) < len(rows):
        people = int((probed.counts() > 0).sum())
        notes.append(
            f"models were fitted to {len(probed):,} of {len(rows):,} rows ({people:,} of {dataset.n_users:,} people, "
            "drawn at random)"
        )
    itself = int((rows.left == rows.right).sum())
    if itself:
        notes.append(f"{itself:,} rows compare an item with itself and say nothing")
    if rows.items.dim == 0:
        notes.append("no features were given: items are known by identity alone, and nothing is said about new texts")
    return notes
