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
from palate.evaluate.audit_baselines import baselines
from palate.evaluate.audit_consistency import Answers, Consistency, consistency
from palate.evaluate.audit_decision import Decision, Design, decide
from palate.evaluate.audit_findings import People, room_findings, spread, taste_divergence, vote_findings
from palate.evaluate.audit_pairs import Votes, divergence, vote_model
from palate.evaluate.audit_room import HeldOut, cross_fit, sample_people
from palate.evaluate.audit_text import readable
from palate.progress import Progress, silent
from palate.rng import RNGLike, normalise
from palate.statistics import Estimate
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
    apart = np.flatnonzero(dataset.left != dataset.right)  # an item against itself says nothing
    rows = dataset.comparisons(items, apart)
    # one stream per part: asking for more in one part changes no number of another
    streams = normalise(rng).spawn(6)

    progress(0, 4, "reading answers")
    steady = consistency(Answers.of(rows.left, rows.right, rows.user, rows.label, rows.time), rng=streams[0])
    votes = Votes.of(rows.left, rows.right, rows.user, rows.label, len(items))
    progress(1, 4, "fitting the probe")
    probed = rows.take(sample_people(rows, max_probe_rows, streams[1]))
    held = cross_fit(probed, rank=_RANK, rounds=_ROUNDS, rng=streams[2])
    progress(2, 4, "comparing people with the majority")
    people = People.of(rows, probed, votes, held, steady, min_raters=min_raters, rounds=_ROUNDS, rng=streams[3])
    length = np.array([len(text) for text in dataset.responses], np.int64)[dataset.item_response]
    prompt = items.prompt[rows.left]
    simple = baselines(rows.left, rows.right, rows.user, rows.label, prompt, length, rng=streams[4])
    progress(3, 4, "deciding")
    room = room_findings(probed, held, people.majority, simple, steady, streams[5])
    decision = _decide(rows, probed, held, room, worthwhile)
    progress(4, 4, "deciding")

    any_dissent, high_dissent = _divergence(votes, held, steady, room, min_raters)
    settings = {"min_raters": min_raters, "worthwhile": worthwhile, "max_probe_rows": max_probe_rows}
    settings |= {"features": items.dim, "base_reward": items.base_reward is not None}
    findings = _about(dataset, rows, votes) | {
        "settings": settings,
        "divergence": any_dissent,
        "high_divergence": high_dissent,
        "minority_share": people.minority_share,
        "noisy_share": people.noisy_share,
        "mv_acc": people.mv_acc,
        "consistency": steady.to_dict(),
        "baselines": simple,
        "room": room,
        "decision": decision.to_dict(),
        "notes": _notes(dataset, rows, probed, simple),
    }
    return Audit(
        findings,
        tuple(dataset.users[i] for i in np.flatnonzero(people.minority)),
        tuple(dataset.users[i] for i in np.flatnonzero(people.noisy)),
    )


def _about(dataset: PreferenceDataset, rows: Comparisons, votes: Votes) -> dict[str, Any]:
    """Sizes and identity of the data."""
    return {
        "data": {"name": dataset.name, "fingerprint": dataset.fingerprint, "licence": dataset.licence},
        "n_comparisons": len(dataset),
        "n_users": dataset.n_users,
        "n_items": dataset.n_items,
        "n_prompts": dataset.n_prompts,
        "n_pairs": votes.n_pairs,
        "rows_per_user": spread(rows.counts()),
        "raters_per_pair": spread(votes.raters),
        "tie_share": float((np.abs(dataset.label - 0.5) < 1e-9).mean()),
    }


def _divergence(
    votes: Votes, held: HeldOut, steady: Consistency, room: dict[str, Any], min_raters: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Any and high dissent: counted, and by the two models."""
    ceiling = steady.ceiling()
    found = divergence(votes, min_raters, None if ceiling is None else 1.0 - ceiling["value"])
    model = vote_model(votes, min_raters)
    for name, result, taste in zip(("any", "high"), found, taste_divergence(held, min_raters, room), strict=True):
        result["votes_model"] = vote_findings(model, name)
        result["taste_model"] = taste
    return found


def _check(dataset: PreferenceDataset, min_raters: int, worthwhile: float, max_probe_rows: int) -> None:
    if len(dataset) == 0:
        raise DataError(f"{dataset.name}: no comparison to audit; pass at least one row")
    if min_raters < 2:
        raise InputError(f"min_raters={min_raters}: one rater cannot disagree; use at least 2")
    if not 0 < worthwhile < 0.5:
        raise InputError(f"worthwhile={worthwhile}: a gain in accuracy lies between 0 and 0.5; use 0.01, say")
    if max_probe_rows < 1:
        raise InputError(f"max_probe_rows={max_probe_rows}: the probe needs rows; use at least 1")


def _decide(rows: Comparisons, probed: Comparisons, held: HeldOut, room: dict[str, Any], worthwhile: float) -> Decision:
    gain = None
    if room["achievable"] is not None:
        found = room["achievable"]
        ends = (math.nan if found[name] is None else found[name] for name in ("low", "high"))
        gain = Estimate(found["value"], *ends, found["n"], found["unit"])
    used = len(np.unique(np.concatenate([probed.left, probed.right])))
    loadings = min(used, 32) if probed.items.dim else used
    tau2 = None if room["taste_sd"] is None else room["taste_sd"] ** 2
    answers = probed.counts()
    design = Design(held.shared_logit[:5000], answers[answers > 0], loadings, tau2 or None, len(rows) - len(probed))
    # an upper bound from a handful of people bounds nothing
    sure = room["upper"] is not None and room["best_non_personal"]["claim"]
    most = room["upper"]["high"] if sure else None
    return decide(gain, most, design, worthwhile=worthwhile, obstacle=room["reason"])


def _notes(dataset: PreferenceDataset, rows: Comparisons, probed: Comparisons, simple: dict[str, Any]) -> list[str]:
    """What a reader should know before believing the numbers."""
    notes = list(dataset.notes)
    if len(probed) < len(rows):
        people = int((probed.counts() > 0).sum())
        notes.append(
            f"models were fitted to {len(probed):,} of {len(rows):,} rows ({people:,} of {dataset.n_users:,} people, "
            "drawn at random)"
        )
    itself = len(dataset) - len(rows)
    if itself:
        notes.append(f"{itself:,} rows compare an item with itself, say nothing, and were left out")
    position = simple["position"]
    if position["low"] is not None and (position["low"] > 0.55 or position["high"] < 0.45):
        notes.append(
            f"left was preferred in {position['value']:.0%} of the answers: people look at one side first, or the "
            "better reply was always put on one side; mix the sides"
        )
    if rows.items.dim == 0:
        notes.append("no features were given: items are known by identity alone, and nothing is said about new texts")
    return notes
