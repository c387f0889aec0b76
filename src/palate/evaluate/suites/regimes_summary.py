"""From the cells of the suite `regimes` to rows beside the papers' values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from palate.evaluate.suites.regimes_published import (
    PUBLISHED,
    PUBLISHED_DATA,
    PUBLISHED_NEW,
    PUBLISHED_OWN,
    PUBLISHED_PEOPLE,
    PUBLISHED_SHORT,
    at_size,
)
from palate.evaluate.suites.regimes_tables import all_tables
from palate.evaluate.suites.regimes_words import all_words
from palate.evaluate.suites.regimes_world import NEW_KS, REGIMES
from palate.evaluate.suites.result import Finding, Row, estimate_row
from palate.statistics import Estimate, mean_over_users

__all__ = ["summarise"]

Cells = Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]

TITLES: Mapping[str, str] = {
    "data": "The data: how much people disagree, and what room the audit finds",
    **{name: f"{regime.title}, beside {regime.like} (accuracy by rows of training data)" for name, regime in REGIMES.items()},
    "people": "Reward ensembles, person by person (accuracy with all rows; users of the paper are other scorers)",
    "new": "New people: mixtures of the ensemble, by number of their answers (accuracy)",
    "room": "What personalizing gains, beside the room",
    "features": "70 % longer, 30 % shorter, with other features (accuracy with all rows)",
    "tuning": "What tuning chose",
}  # fmt: skip

PREFACE = (
    "People are scorers: each always prefers the reply of the higher reward, a sum of what can be counted in a text (and, for the "
    "shipped replies, of the hand-written label of politeness). Nobody errs, as in the papers' synthetic data; in the "
    "paper's TL;DR people do err. All methods see the same frozen features, which do not hold the scores. The papers fine-tune "
    "models of 7 B parameters. So levels are not comparable; orderings are.",
    "Everybody answers the same pairs. Prompts of the test are nobody's training prompts, and settings are tuned on prompts that no "
    "seed tests on. ± is half a 95 % interval over test prompts of all seeds; with 5 to 10 people there is none over people, so "
    "nothing is said of people in general. Trained by gradient, a method takes equally many steps at every size.",
)


def summarise(cells: Cells) -> Finding:
    """Rows, tables and words."""
    rows = _data(cells) + _seen(cells) + _people(cells) + _new(cells)
    rows += _room(rows)
    return Finding(rows, all_words(rows), TITLES, PREFACE, all_tables(cells, rows))


# -- rows ---------------------------------------------------------------------------------------------------------------


def _over_prompts(values: Sequence[Any]) -> Estimate:
    """Mean and interval over prompts of several seeds; (prompts,) each."""
    return mean_over_users(np.concatenate([np.asarray(part, float) for part in values]), rng=0, unit="prompts")


def _grouped(cells: Cells, figures: Sequence[str]) -> dict[tuple[str, str, int, str], list[Mapping[str, Any]]]:
    """(figure, method, size, features) -> the numbers of all seeds, in the order of the plan."""
    found: dict[tuple[str, str, int, str], list[Mapping[str, Any]]] = {}
    for identity, values in cells:
        if identity["figure"] in figures:
            key = (identity["figure"], identity["setting"], identity["size"], identity["features"])
            found.setdefault(key, []).append(values)
    return found


def _data(cells: Cells) -> list[Row]:
    rows = []
    for identity, values in cells:
        if identity["figure"] != "data":
            continue
        name = identity["setting"]
        told = PUBLISHED_DATA.get(name, {})
        low, high = told.get("mv_acc", (None, None))
        best, rate = values["best_non_personal"]
        figures = (
            ("contested", values["contested"], told.get("contested")),
            ("highly contested", values["highly"], told.get("highly")),
            ("lowest MV-ACC", min(values["mv_acc"]), low),
            ("highest MV-ACC", max(values["mv_acc"]), high),
            ("minority", sum(accuracy < 0.5 for accuracy in values["mv_acc"]), None),
            ("best non-personal", rate, None),
            ("room", values["room"], None),
        )
        for metric, value, published in figures:
            note = best if metric == "best non-personal" else None
            rows.append(estimate_row("data", name, metric, value, published=published, note=note))
    return rows


def _seen(cells: Cells) -> list[Row]:
    rows = []
    for (figure, name, size, features), found in _grouped(cells, (*REGIMES, "features")).items():
        regime = "long-short" if figure == "features" else figure
        if name == "judge":
            rows.append(_judged(figure, regime, size, found))
            continue
        about = {"rows": int(np.mean([values["rows"] for values in found])), "size": size, "features": features}
        tables = [np.array(values["accuracy"]) for values in found]
        told = {"accuracy": at_size(regime, name, size), **_camps_published(regime, name)}
        for metric, people in {"accuracy": slice(None), **_camps(regime)}.items():
            estimate = _over_prompts([table[people].mean(0) for table in tables])
            rows.append(estimate_row(figure, name, metric, estimate, published=told.get(metric), **about))
        if name == "prm":
            generic = [np.array(values["generic"]).mean(0) for values in found]
            rows.append(estimate_row(figure, name, "generic user", _over_prompts(generic), **about))
    return rows


def _judged(figure: str, regime: str, size: int, found: Sequence[Mapping[str, Any]]) -> Row:
    """The language model asked as a judge."""
    accuracy = float(np.mean([values["accuracy"] for values in found]))
    note = f"{found[0]['n']} questions, {found[0]['undecided']:.0%} undecided"
    published = at_size(regime, "judge", size)
    return estimate_row(figure, "judge", "accuracy", accuracy, published=published, rows=size, size=size, note=note)


def _camps(regime: str) -> dict[str, list[int]]:
    """Numbers of the majority's and the minority's people; nothing where there is no minority."""
    people, few = REGIMES[regime].people, REGIMES[regime].minority
    if not few:
        return {}
    numbers = dict(zip(people, range(len(people)), strict=True))
    minority = [numbers[name] for name in few]
    return {"majority": [number for number in numbers.values() if number not in minority], "minority": minority}


def _camps_published(regime: str, name: str) -> dict[str, float]:
    if regime == "long-short" and name in PUBLISHED_SHORT:
        _, majority, minority = PUBLISHED_SHORT[name]
        return {"majority": majority, "minority": minority}
    if regime == "ensembles" and name in PUBLISHED_PEOPLE:
        *others, minority = PUBLISHED_PEOPLE[name]
        return {"majority": round(float(np.mean(others)), 2), "minority": minority}
    return {}


def _people(cells: Cells) -> list[Row]:
    groups = {key: found for key, found in _grouped(cells, ("ensembles",)).items() if key[1] != "judge"}
    most = max((key[2] for key in groups), default=0)
    rows = []
    for (_, name, size, _), found in groups.items():
        if size != most:
            continue
        tables = [np.array(values["accuracy"]) for values in found]
        for number, person in enumerate(REGIMES["ensembles"].people):
            estimate = _over_prompts([table[number] for table in tables])
            rows.append(estimate_row("people", name, "accuracy", estimate, person=person))
    return rows


def _new(cells: Cells) -> list[Row]:
    rows = []
    for (_, name, size, _), found in _grouped(cells, ("new",)).items():
        for place, k in enumerate((*map(str, NEW_KS), "all")):
            if k not in found[0]:
                continue
            told = PUBLISHED_OWN if k == "all" else (PUBLISHED_NEW.get(name) or (None,) * 3)[place]
            by_prompt = _over_prompts([values[k]["by_prompt"] for values in found])
            answers = found[0]["most"] if k == "all" else int(k)
            people = len(found[0][k]["by_person"])
            about = {"answers": answers, "rows": size, "people": people, "whole": k == "all"}
            rows.append(estimate_row("new", name, "accuracy", by_prompt, published=told, **about))
    return rows


def _room(rows: Sequence[Row]) -> list[Row]:
    """What personalizing gains over vanilla with all rows, beside the room."""
    room = {row["setting"]: row["value"] for row in rows if row["figure"] == "data" and row["metric"] == "room"}
    found = []
    for regime in REGIMES:
        seen = [
            row for row in rows if row["figure"] == regime and row["metric"] == "accuracy" and row["setting"] != "judge"
        ]
        if not seen:
            continue
        most = max(row["size"] for row in seen)
        at = {row["setting"]: row["value"] for row in seen if row["size"] == most}
        for name in [name for name in ("individual", "prm") if {name, "pooled"} <= set(at)]:
            told = PUBLISHED.get(regime)
            gain = None if told is None else round(told[name][-1] - told["pooled"][-1], 2)
            if regime == "long-short" and name == "prm":
                gain = round(PUBLISHED_SHORT["prm"][0] - PUBLISHED_SHORT["pooled"][0], 2)
            gained = at[name] - at["pooled"]
            found.append(estimate_row("room", regime, name, gained, published=gain, room=room.get(regime)))
    return found
