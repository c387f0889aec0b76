"""From the cells of the suite `p-rlhf` to rows beside the paper's values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from palate.evaluate.suites.p_rlhf_published import PUBLISHED, PUBLISHED_LENGTHS, PUBLISHED_PERSONAS
from palate.evaluate.suites.p_rlhf_tables import all_tables
from palate.evaluate.suites.p_rlhf_words import all_words
from palate.evaluate.suites.result import Finding, Row, estimate_row
from palate.evaluate.winrate import win_rate
from palate.statistics import Estimate, mean_over_users

__all__ = ["summarise"]

Cells = Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]

_KINDS: Mapping[str, str] = {"clear": "", "all": ", all pairs"}
"""Pairs -> what is added to the name of a figure."""

MEASURED = ("conflicting", "ablations", "forty", "convarg")

TITLES: Mapping[str, str] = {
    "replies": "One prompt, six people: what the same model answers each of them",
    "conflicting": "70 % prefer the longer reply, 30 % the shorter: accuracy on held-out prompts, beside Table 4",
    "lengths": "Words of the replies that each person gets, on held-out prompts, beside Figure 3",
    "new": "New people of either camp, placed by a few answers (accuracy on held-out prompts)",
    "curves": "Accuracy on pairs before they are learned from, by share of the training, beside Figure 5",
    "personas": "Six one-sided profiles: accuracy on held-out prompts",
    "wins": "Six one-sided profiles: how often their replies win, beside Table 1",
    "ablations": "The user model's parts, beside Table 5",
    "forty": "40 people, 14 of whom prefer the shorter reply, beside Table 6",
    "convarg": "The same ten people over arguments of debates",
    "runs": "What was trained",
}

PREFACE = (
    "People are rules: each always prefers the longer reply, or the shorter one, or what their profile likes, counted in the texts. "
    "Nobody errs, as in the paper's synthetic data. Everybody learns from clear pairs of their own (rewards half a standard deviation "
    "apart) of short texts, and the test is on clear pairs of prompts that nobody learned from, of any length. All pairs are counted "
    "beside: among them are many near ties, replies that differ by a word or two. Other prompts are kept for choosing settings.",
    "Accuracy is that of the implicit reward, log π(reply) − log π_ref(reply). Seen people: with their own soft tokens (Accuracy-top). "
    "Unseen people: with nobody's, for people of the same tastes in the same proportions (Accuracy-generic). Majority and minority: mean "
    "and standard error over people. Intervals are over prompts; with ten people nothing is said of people in general.",
    "The paper trains a model of 6 B parameters on 23,299 comparisons of summaries; this is one of 135 M on a few hundred. So levels "
    "are not comparable; what is above what is.",
)


def summarise(cells: Cells) -> Finding:
    """Rows, tables and words."""
    rows = [*_accuracy(cells), *_lengths(cells), *_new(cells), *_curves(cells), *_personas(cells), *_runs(cells)]
    return Finding(rows, all_words(cells, rows), TITLES, PREFACE, all_tables(cells, rows))


def _of(cells: Cells, *figures: str) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    return ((identity, values) for identity, values in cells if identity["figure"] in figures)


def _shares(people: Sequence[Mapping[str, Sequence[float | None]]], kind: str) -> np.ndarray:
    """(people, prompts) accuracies; NaN where a prompt has no such pair."""
    return np.array([[np.nan if share is None else share for share in person[kind]] for person in people], float)


def _over_prompts(shares: np.ndarray) -> Estimate:
    """Mean of people by prompt, with an interval over prompts."""
    known = ~np.isnan(shares)
    by_prompt = np.where(known, shares, 0.0).sum(0) / np.maximum(known.sum(0), 1)
    return mean_over_users(np.where(known.any(0), by_prompt, np.nan), rng=0, unit="prompts")


def _error(values: np.ndarray) -> float | None:
    """Standard error of a mean."""
    return None if len(values) < 2 else round(float(values.std(ddof=1) / np.sqrt(len(values))), 4)


def _accuracy(cells: Cells) -> Iterator[Row]:
    for identity, values in _of(cells, *MEASURED):
        figure, name = identity["figure"], identity["setting"]
        told = PUBLISHED.get("conflicting" if figure == "ablations" else figure, {}).get(name, (None,) * 4)
        minority = np.isin(np.arange(len(values["own"])), values["minority"])
        for kind, suffix in _KINDS.items():
            own, generic = _shares(values["own"], kind), _shares(values["generic"], kind)
            beside = told if kind == "clear" else (None,) * 4
            for metric, shares, theirs in zip(
                ("seen people", "unseen people"), (own, generic), beside[:2], strict=True
            ):
                yield estimate_row(figure, name, metric + suffix, _over_prompts(shares), published=theirs)
            for metric, chosen, theirs in zip(("majority", "minority"), (~minority, minority), beside[2:], strict=True):
                error = _error(np.nanmean(own[chosen], axis=1))
                estimate = _over_prompts(own[chosen])
                yield estimate_row(figure, name, metric + suffix, estimate, published=theirs, deviation=error)


def _lengths(cells: Cells) -> Iterator[Row]:
    for identity, values in _of(cells, "lengths"):
        words = np.array([[reply["words"] for reply in own] for own in values["replies"]], float)
        cut = np.array([[reply["cut"] for reply in own] for own in values["replies"]], float).mean(1)
        for who, own, share in zip(values["who"], words, cut, strict=True):
            note = f"{share:.0%} cut at {values['max_tokens']} tokens" if share else None
            yield estimate_row(
                "lengths",
                identity["setting"],
                who,
                own.mean(),
                deviation=_error(own),
                note=note,
                cut=round(float(share), 4),
            )
        minority = values.get("minority", [])
        if len(values["who"]) > 1:
            camp = np.isin(np.arange(len(words)), minority)
            people = np.arange(len(words)) < len(words) - 1
            few, many = words[people & camp].mean(), words[people & ~camp].mean()
            yield estimate_row("lengths", identity["setting"], "majority", many)
            yield estimate_row("lengths", identity["setting"], "minority", few, published=PUBLISHED_LENGTHS["minority"])
            yield estimate_row("lengths", identity["setting"], "minority over majority", few / many if many else np.nan)


def _new(cells: Cells) -> Iterator[Row]:
    for identity, values in _of(cells, "new"):
        for camp in ("majority", "minority"):
            people = [person for person in values["people"] if person["camp"] == camp]
            for when, answers in (("before", 0), ("after", values["answers"])):
                about = {"answers": answers, "people": len(people)}
                for kind, suffix in _KINDS.items():
                    found = _over_prompts(_shares([person[when] for person in people], kind))
                    yield estimate_row("new", identity["setting"], camp + suffix, found, **about)


def _curves(cells: Cells) -> Iterator[Row]:
    for identity, values in _of(cells, "curves"):
        for point in values["curve"]:
            for metric, name in (("seen people", "user_accuracy"), ("unseen people", "generic_accuracy")):
                if name in point:
                    setting = (
                        identity["setting"]
                        if identity["of"] in ("conflicting", "ablations", "personas")
                        else f"{identity['setting']}, {identity['of']}"
                    )
                    yield estimate_row(
                        "curves", setting, metric, point[name], step=point["step"], steps=values["steps"]
                    )


def _personas(cells: Cells) -> Iterator[Row]:
    for identity, values in _of(cells, "personas"):
        if identity["setting"] == "accuracy":
            for name, own, generic in zip(values["people"], values["own"], values["generic"], strict=True):
                for metric, of in (("accuracy", own), ("accuracy as nobody", generic)):
                    for kind, suffix in _KINDS.items():
                        yield estimate_row("personas", name, metric + suffix, _over_prompts(_shares([of], kind)))
            continue
        for opponent, verdicts in values["verdicts"].items():
            told = PUBLISHED_PERSONAS.get("vanilla DPO" if opponent == "generic" else opponent, (None,) * 7)
            for number, (name, verdict) in enumerate(verdicts.items()):
                rate = win_rate(np.array(verdict), [name] * len(verdict))
                note = f"{rate.ties} of {rate.samples} are ties" if rate.ties else None
                yield estimate_row(
                    "wins", name, f"wins over {opponent}", rate.per_sample, published=told[number], note=note
                )
            every = np.concatenate([np.asarray(verdict) for verdict in verdicts.values()])
            who = [name for name, verdict in verdicts.items() for _ in verdict]
            yield estimate_row(
                "wins", "all six", f"wins over {opponent}", win_rate(every, who).per_sample, published=told[6]
            )


def _runs(cells: Cells) -> Iterator[Row]:
    for identity, values in _of(cells, "curves"):
        setting = f"{identity['of']}: {identity['setting']}"
        yield estimate_row(
            "runs",
            setting,
            "comparisons",
            values["rows"],
            steps=values["steps"],
            note=f"{values['device']}, {values['dtype']}",
        )
