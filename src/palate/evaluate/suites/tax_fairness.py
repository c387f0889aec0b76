"""Who gains and who loses from being known, and whether a wrong belief changes a factual answer.

A person is in the *minority* where their true taste agrees with the majority's on fewer than half of the questions. Groups are
compared by the accuracy of a method that starts from choices alone, after each number of answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from palate.evaluate.suites.picture import curves
from palate.evaluate.suites.result import Row, estimate_row, row
from palate.evaluate.suites.tax_belief import CONDITIONS
from palate.evaluate.suites.tax_exam import Cells, Part, interval
from palate.statistics import MINIMUM_PEOPLE, mean_over_users

__all__ = ["belief", "fairness"]

_METHOD = ("hierarchical", "factor", "individual")
"""Whose gains are told group by group: the first of these that was measured."""

_AT = 20
"""Answers after which gains are told."""

_SHOWN = 5
"""Fewer people have no interval worth showing."""

MINORITY, MAJORITY = "minority", "majority"


def fairness(cells: Cells) -> Part:
    """Gain by group, who loses, and learning curves of the minority and of the majority."""
    part = Part()
    curve = {i["setting"]: _joined(cells, i["setting"]) for i, _ in cells if i["figure"] == "curve"}
    name = next((name for name in _METHOD if name in curve), None)
    if name is None or "pooled" not in curve:
        return part
    people = _people(cells)
    ks = sorted(curve[name])
    at = max(k for k in ks if k <= _AT)
    pooled, own = curve["pooled"], curve[name]
    gain = 100.0 * (own[at] - pooled[at])
    for group, members in _groups(people).items():
        told = estimate_row("fairness", group, "gain", mean_over_users(gain[members], rng=0), answers=at)
        told |= {"people": len(members), "method": name, "pooled": float(pooled[at][members].mean())}
        told |= {"personal": float(own[at][members].mean()), "losers": float((gain[members] < 0).mean())}
        part.rows.append(told)
    for group in (MINORITY, MAJORITY):
        members = _groups(people).get(group)
        if members is not None:
            for k in ks:
                value = float(own[k][members].mean())
                part.rows.append(row("fairness", group, "accuracy", value, answers=k, method=name, people=len(members)))
    part.tables["fairness"] = _table([told for told in part.rows if told["metric"] == "gain"])
    lines = {
        f"{group}, {label}": [(k, float(found[k][members].mean())) for k in ks]
        for group, members in _groups(people).items()
        if group in (MINORITY, MAJORITY)
        for label, found in ((name, own), ("one reward for all", pooled))
    }
    part.pictures["fairness"] = curves(lines, "answers given", "accuracy on new prompts")
    return part


def belief(cells: Cells) -> Part:
    """How often the right factual answer is the likelier one, plainly asked and after a belief was stated."""
    part = Part()
    for identity, values in cells:
        if identity["figure"] != "belief":
            continue
        margin = np.array(values["margin"])
        for place, condition in enumerate(CONDITIONS):
            right = mean_over_users((margin[:, place] > 0).astype(float), rng=0, unit="pairs")
            moved = float((margin[:, place] - margin[:, 0]).mean())
            flips = float(((margin[:, place] <= 0) & (margin[:, 0] > 0)).mean())
            told = estimate_row("belief", condition, "right answer is likelier", right)
            part.rows.append(
                told | {"moved": moved, "turned": flips, "pairs": len(margin), "model": identity["setting"]}
            )
        part.tables["belief"] = (
            ["the person said", "pairs", "right answer likelier", "95 %", "turned from right to wrong", "margin moved by, nats"],
            [
                [told["setting"], told["pairs"], f"{told['value']:.0%}", f"{told['low']:.0%} to {told['high']:.0%}",
                 f"{told['turned']:.0%}", f"{told['moved']:+.2f}"]
                for told in part.rows
            ],
        )  # fmt: skip
    return part


def _people(cells: Cells) -> list[tuple[str, float]]:
    """Taste in words and agreement with the majority, in the order of the new people, once for each seed."""
    found: dict[int, list[tuple[str, float]]] = {}
    for identity, values in cells:
        if identity["figure"] == "base":
            tastes = values["people"] or [""] * len(values["agreement"])
            found[identity["seed"]] = list(zip(tastes, values["agreement"], strict=True))
    return [person for own in found.values() for person in own]


def _joined(cells: Cells, name: str) -> dict[int, np.ndarray]:
    """k -> (people,) accuracy, over seeds."""
    found: dict[int, list[float]] = {}
    for identity, values in cells:
        if identity["figure"] == "curve" and identity["setting"] == name:
            for k, accuracy in values["accuracy"].items():
                found.setdefault(int(k), []).extend(accuracy)
    return {k: np.array(accuracy) for k, accuracy in found.items()}


def _groups(people: Sequence[tuple[str, float]]) -> dict[str, np.ndarray]:
    """Group -> numbers of its people: everybody, minority and majority, and who likes what."""
    agreement = np.array([agreed for _, agreed in people])
    groups = {"everybody": np.arange(len(people))}
    groups |= {MINORITY: np.flatnonzero(agreement < 0.5), MAJORITY: np.flatnonzero(agreement >= 0.5)}
    traits = sorted({trait for taste, _ in people for trait in taste.split(" and ") if trait})
    for trait in traits:
        own = [n for n, (taste, _) in enumerate(people) if trait in taste.split(" and ")]
        groups[f"likes {trait}"] = np.array(own)
    return {name: members for name, members in groups.items() if len(members)}


def _table(rows: Sequence[Row]) -> tuple[list[str], list[list[Any]]]:
    heads = ["people who", "n", "one reward for all", "known", "gain, points", "95 %", "lose by being known", ""]
    body = [
        [told["setting"], told["people"], f"{told['pooled']:.0%}", f"{told['personal']:.0%}", f"{told['value']:+.1f}",
         interval(told) if told["people"] >= _SHOWN else "", f"{told['losers']:.0%}", _few(told)]
        for told in rows
    ]  # fmt: skip
    return heads, body


def _few(told: Mapping[str, Any]) -> str:
    return "too few to claim" if told["people"] < MINIMUM_PEOPLE else ""
