"""Is anything better than ours? A bound on the best of all others, with the picking of the best accounted for.

Who compares ours with the best of fourteen others, for seen people, minorities, and new people after 0, 1, 3 … answers,
finds somebody ahead by chance somewhere. The bounds here hold for all others and all these cells of a data set at once: with
95 % probability no other method's true lead over ours is above its upper bound, anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from palate.evaluate.metrics import correct, log_loss
from palate.evaluate.results import CEILINGS, SEEN, Results, k_name, k_number
from palate.evaluate.standing import Standing
from palate.evaluate.summary import Asked, Sitting, asked_alike, asked_at, seconds_of
from palate.rng import derive
from palate.statistics import MINIMUM_PEOPLE, Studentized, bounds, studentized

__all__ = ["MARGIN", "OURS", "fronts", "leads", "pareto_front", "sittings_of"]

OURS = "hierarchical"
"""The method that the others are held against."""

MARGIN = 0.01
"""A lead in accuracy that is not to be ruled out above this is listed as a violation."""


def leads(
    sittings: Mapping[str, Sequence[Sitting]], *, by_prompt: bool, ours: str = OURS, seed: int = 0
) -> list[dict[str, Any]]:
    """How far the best other method may be ahead of ours, in every cell of one data set and protocol.

    Args:
        sittings: label of a method -> its cells, as for `palate.evaluate.summary.summarise`. Judged are the methods that
            were asked the same rows as ours; what knows the truth is not judged.
        by_prompt: resample people × prompts; else people × items.
        ours: whose rivals; "hierarchical" also stands for its first variant where it takes part with settings only.
        seed: of the resamples.

    Returns:
        Dicts with `data protocol method k people metric others value best upper by ahead open n_users claim`, one per level,
        people ("all" or "minority") and metric ("accuracy", "log_loss"). `value` is the lead of the most accurate other,
        `best`, over ours on the same rows (positive: it is ahead); `upper` a bound on the lead of whoever is truly best,
        attained by the interval of `by`; `ahead` are those surely better (their lower bound is above 0). `open` are those whose
        lead of more than `MARGIN` cannot be ruled out; for log-loss, in nats, more than 0. All bounds of one metric hold at
        once with 95 % probability. Empty where ours did not take part.
    """
    found = _field(sittings, ours)
    if found is None:
        return []
    label, rivals = found
    labels = [label, *(name for name in rivals if name != label)]
    field = {name: rivals[name] for name in labels}
    tables = _tables(field, by_prompt)
    rows: list[dict[str, Any]] = []
    for metric in ("accuracy", "log_loss"):
        families = [_family(table, metric, seed) for table in tables]
        for table, family, (low, high) in zip(tables, families, bounds(families), strict=True):
            if metric == "accuracy":
                low, high = np.maximum(low, -1.0), np.minimum(high, 1.0)
            rows += _rows(table, family, low, high, metric, labels)
    cell = rivals[label][0].cell
    place = {"data": cell["data"], "protocol": cell["protocol"], "method": label}
    order = {"all": 0, "minority": 1}
    rows.sort(key=lambda row: (row["metric"], order[row["people"]], row["k"]))
    return [place | row | {"k": k_name(row["k"]), "others": len(labels) - 1} for row in rows]


def _field(sittings: Mapping[str, Sequence[Sitting]], ours: str) -> tuple[str, dict[str, Sequence[Sitting]]] | None:
    """Our label, and the methods that were asked the same rows."""
    for group, emitted in asked_alike(sittings):
        rivals = {label: own for label, own in group.items() if label not in CEILINGS}
        mine = [label for label in emitted if label == ours] + [
            label for label in emitted if label.startswith(f"{ours}:")
        ]
        if mine and len(rivals) > 1:
            return mine[0], rivals
    return None


@dataclass(frozen=True)
class _Judged:
    """Rows of some people, with all methods' probabilities at one or several levels side by side.

    Args:
        people: "all" or "minority".
        ks: the levels.
        asked: the rows, at each of these levels.
        kept: (m,) which rows count.
    """

    people: str
    ks: tuple[int, ...]
    asked: tuple[Asked, ...]
    kept: np.ndarray


def _tables(field: Mapping[str, Sequence[Sitting]], by_prompt: bool) -> list[_Judged]:
    """Seen people, and new ones, who answer the same rows at every level; all of them, and the minority."""
    first = next(iter(field.values()))
    ks = sorted({int(k) for one in first for k in one.predictions["k"].unique()})
    found = []
    for levels in ([k for k in ks if k == SEEN], [k for k in ks if k != SEEN]):
        if not levels:
            continue
        asked = tuple(asked_at(field, k, by_prompt) for k in levels)
        minority = asked[0].minority
        found.append(_Judged("all", tuple(levels), asked, np.ones(len(minority), bool)))
        if len(np.unique(asked[0].user[minority])) > 1:
            found.append(_Judged("minority", tuple(levels), asked, minority))
    return found


def _family(table: _Judged, metric: str, seed: int) -> Studentized:
    """Leads of the others over ours, level by level; positive where the other is better."""
    columns = []
    for asked in table.asked:
        label, probability = asked.label[table.kept, None], asked.probability[table.kept]
        score = correct(label, probability) if metric == "accuracy" else -log_loss(label, probability)
        columns.append(score[:, 1:] - score[:, :1])
    values = np.concatenate(columns, axis=1)
    one = table.asked[0]
    return studentized(
        values,
        one.user[table.kept],
        one.group[table.kept],
        weight=one.weight[table.kept],
        rng=derive(seed, "rivals", table.people, *map(int, table.ks)),
        draws=_DRAWS,
    )


_DRAWS = 500
"""Of each family; all need as many, and the quantile of a maximum over so many needs no more."""


def _rows(
    table: _Judged, family: Studentized, low: np.ndarray, high: np.ndarray, metric: str, labels: Sequence[str]
) -> list[dict[str, Any]]:
    others = labels[1:]
    margin = MARGIN if metric == "accuracy" else 0.0
    rows = []
    for number, k in enumerate(table.ks):
        part = slice(number * len(others), (number + 1) * len(others))
        value, lower, upper = family.value[part], low[part], high[part]
        best = int(np.argmax(value))
        told = bool(np.isfinite(upper).all())
        by = int(np.argmax(upper)) if told else best
        claim = told and family.n_users >= MINIMUM_PEOPLE
        rows.append(
            {
                "k": k,
                "people": table.people,
                "metric": metric,
                "value": float(value[best]),
                "best": others[best],
                "upper": float(upper[by]) if told else None,
                "by": others[by] if told else None,
                "ahead": [name for name, bound in zip(others, lower, strict=True) if claim and bound > 0],
                "open": [name for name, bound in zip(others, upper, strict=True) if told and bound > margin],
                "n_users": family.n_users,
                "claim": claim,
            }
        )
    return rows


# -- accuracy against seconds ------------------------------------------------------------------------------------------


def pareto_front(found: Mapping[str, tuple[float, float]]) -> list[str]:
    """Methods, from quick to slow, each better than all that are quicker: (seconds, accuracy) per method."""
    best: list[str] = []
    for method in sorted(found, key=lambda m: (found[m][0], -found[m][1])):
        if not best or found[method][1] > found[best[-1]][1]:
            best.append(method)
    return best


def fronts(
    sittings: Mapping[str, Sequence[Sitting]], rows: Sequence[Mapping[str, Any]], led: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """Who is on the front of accuracy and seconds, level by level.

    Seconds are of the processor, to fit, to adapt the cohort at this level and to predict, mean over cells; by the clock
    where a method waits for somebody else's machine. Tuning is left out.

    Args:
        sittings: label of a method -> its cells.
        rows: the result rows of the same data set and protocol.
        led: what `leads` found there.

    Returns:
        Dicts `data protocol k method seconds accuracy on_front beaten_by surely_beaten_by`: `beaten_by` are the methods that are
        as quick and at least as accurate, by the estimates; `surely_beaten_by`, for ours, those of them whose lead is
        surely above 0.
    """
    found: dict[Any, dict[str, tuple[float, float]]] = {}
    for row in rows:
        if row["metric"] == "accuracy" and row["value"] is not None and row["method"] not in CEILINGS:
            cells = [one.cell for one in sittings[row["method"]]]
            seconds = float(np.mean([seconds_of(cell, k_number(row["k"]), "cpu_seconds") for cell in cells]))
            found.setdefault(row["k"], {})[row["method"]] = (seconds, row["value"])
    surely = {(row["k"], row["method"]): row["ahead"] for row in led if _plain(row)}
    out = []
    for k, methods in found.items():
        front = pareto_front(methods)
        for method, (seconds, accuracy) in methods.items():
            beaten = [
                other for other, (theirs, value) in methods.items()
                if other != method and theirs <= seconds and value >= accuracy and (theirs, -value) != (seconds, -accuracy)
            ]  # fmt: skip
            place = {"data": rows[0]["data"], "protocol": rows[0]["protocol"], "k": k, "method": method}
            out.append(
                place
                | {"seconds": round(seconds, 4), "accuracy": accuracy, "on_front": method in front, "beaten_by": beaten}
                | {"surely_beaten_by": [name for name in beaten if name in surely.get((k, method), ())]}
            )
    return out


def _plain(row: Mapping[str, Any]) -> bool:
    return row["metric"] == "accuracy" and row["people"] == "all"


# -- from a folder -----------------------------------------------------------------------------------------------------


def sittings_of(results: Results, data: str, protocol: str) -> dict[str, list[Sitting]]:
    """The cells of a results folder as `leads` takes them, whichever version of Palate computed them."""
    people = results.per_user.filter(data=data, protocol=protocol)
    found: dict[str, list[Sitting]] = {}
    for label in dict.fromkeys(cell["method"] for cell in results.done(data=data, protocol=protocol)):
        found[label] = [
            Sitting(
                cell,
                results.frame_of(cell),
                _standing(people.filter(method=label, seed=cell["seed"], fold=cell["fold"])),
            )
            for cell in results.done(data=data, protocol=protocol, method=label)
        ]
    full = max(map(len, found.values()), default=0)
    return {label: own for label, own in found.items() if len(own) == full}


def _standing(people: pl.DataFrame) -> Standing:
    """Of the people who were asked in one cell; of the others nothing is known."""
    people = people.unique("user", keep="first", maintain_order=True)
    user, count = people["user"].to_numpy(), int(people["user"].max() or 0) + 1

    def spread(name: str, empty: Any) -> np.ndarray:
        values = np.full(count, empty)
        values[user] = people[name].fill_null(empty).to_numpy()
        return values

    flags = {name: spread(name, False) for name in ("minority", "noisy", "worst_tenth")}
    return Standing(agreement=spread("agreement", np.nan), n_train=spread("n_train", 0), **flags)
