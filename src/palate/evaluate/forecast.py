"""How long a benchmark will take, before it is begun: from earlier cells where there are any, else from typical rates."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from palate.evaluate.cells import read_cell
from palate.evaluate.planning import PlannedCell, Setup, plan
from palate.evaluate.sizes import parse_sizes, sizes_of
from palate.evaluate.texts import TextContender
from palate.files import read_json
from palate.progress import Progress, silent

if TYPE_CHECKING:
    from palate.data import PreferenceDataset

__all__ = ["ExpectedCell", "Forecast", "forecast"]

_COSTS = {
    "pooled": (0.32, 1.5),
    "pretrained": (0.0, 0.013),
    "sklearn": (0.071, 5.4),
    "individual": (0.0, 2.1),
    "similar_user": (0.0, 2.9),
    "finetune": (0.3, 2.5),
    "retrieval": (0.0, 10.0),
    "conditional": (3.5, 7.0),
    "factor": (0.0, 5.2),
    "gpo": (7.6, 4.0),
    "prm": (0.44, 4.4),
    "vpl": (7.9, 1.9),
    "pal": (5.9, 3.4),
    "copl": (9.4, 3.8),
    "hierarchical": (6.0, 9.0),
}
"""Seconds whatever the data, and seconds per 10,000 training comparisons, to fit, adapt and predict with 384 features: one
core of 2026, from `benchmarks/results/cost.json` (1,000 and 10,000 comparisons; new people as many as 3 in 50 comparisons,
which is a curve over answers for a quarter of the people). At 100,000 that is from half to 3.7 times what was measured; networks
are overrated there. A hierarchical fit of up to 40 people takes twice what is said here."""

_UNKNOWN = (2.0, 5.0)
_NO_FEATURES = 0.4
"""Without features a cell takes about this share."""

_TUNED = 1.3
"""A setting tried in tuning against a fit: fewer rows, but validation people too."""

_SECONDS_PER_QUESTION = 1.0
"""Of a model on texts, which answers one comparison at a time."""


@dataclass(frozen=True)
class ExpectedCell:
    """One cell and what it will take.

    Args:
        data, protocol, method, seed, fold: which cell; of a learning curve in training data, `method` names the size.
        done: whether it is finished already.
        seconds: expected, 0 where it is done.
        basis: "done", "measured" (earlier cells of this method on these data), "scaled" (its cells on other data, or other
            methods' cells here) or "typical".
    """

    data: str
    protocol: str
    method: str
    seed: int
    fold: int
    done: bool
    seconds: float
    basis: str


@dataclass(frozen=True)
class Forecast:
    """What a benchmark will do.

    Args:
        cells: all of its cells, in the order they are computed.
        texts: how many texts have to be embedded first; their time is not in `seconds`.
    """

    cells: tuple[ExpectedCell, ...]
    texts: int = 0

    @property
    def seconds(self) -> float:
        """Expected, on one worker."""
        return sum(cell.seconds for cell in self.cells)

    @property
    def basis(self) -> str:
        """The weakest basis of the cells that are left: "measured", "scaled", "typical", or "done"."""
        order = ("done", "measured", "scaled", "typical")
        return order[max((order.index(cell.basis) for cell in self.cells), default=0)]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        cells = [vars(cell) for cell in self.cells]
        return {"seconds": self.seconds, "basis": self.basis, "texts_to_embed": self.texts, "cells": cells}


def forecast(
    data: PreferenceDataset | Mapping[str, PreferenceDataset],
    *,
    out: str | Path | None = None,
    texts: int = 0,
    progress: Progress = silent,
    **settings: Any,
) -> Forecast:
    """The cells that `palate.evaluate.benchmark.benchmark` with these arguments has, and what they will take.

    Args:
        data: a data set, or several by name.
        out: results folder; finished cells in it cost nothing, and the seconds of all its cells, also those of other
            settings or of an older version, tell how quick this machine is.
        texts: how many texts have to be embedded first, for the record.
        progress: of featurizing.
        settings: of `palate.evaluate.planning.Setup`.
    """
    planned = plan(data, progress=progress, **settings)
    folder = None if out is None else Path(out) / "cells"
    clock = _Clock(_earlier(folder))
    sizes = parse_sizes(Setup(**settings).sizes)
    cells = [_expected(cell, folder, clock) for cell in planned]
    for cell in planned:
        cells += _expected_sizes(cell, sizes, clock)
    return Forecast(tuple(cells), texts)


def _earlier(folder: Path | None) -> list[dict[str, Any]]:
    """The finished cells of a folder, whatever made them; broken ones are left out."""
    found = []
    for path in sorted(folder.glob("*.json")) if folder is not None else []:
        try:
            cell = read_json(path)
            if cell["status"] == "done" and cell["trained_on"]["comparisons"] > 0:
                found.append({**cell, "total": _total(cell), "tried": _tried(cell)})
        except (OSError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
            continue
    return found


def _total(cell: Mapping[str, Any]) -> float:
    """Seconds without tuning."""
    seconds = cell["seconds"]
    return float(seconds["fit"] + sum(seconds["adapt"].values()) + sum(seconds["predict"].values()))


def _tried(cell: Mapping[str, Any]) -> list[float]:
    return [float(one["seconds"]) for one in (cell.get("tuning") or {}).get("tried", ())]


class _Clock:
    """Seconds of a cell, from the cells that were measured.

    Args:
        earlier: finished cells with their `total` seconds and those of each setting `tried`.
    """

    def __init__(self, earlier: Sequence[Mapping[str, Any]]) -> None:
        self._earlier = earlier
        ratios = [cell["total"] / _typical(cell["method"], cell["trained_on"]["comparisons"], 384) for cell in earlier]
        self._speed = float(np.median(ratios)) if ratios else None

    def seconds(self, cell: PlannedCell, rows: int, configurations: int) -> tuple[float, str]:
        """Expected seconds, and on what they rest."""
        label = cell.contender.label
        own = [one for one in self._earlier if one["method"] == label]
        here = [one for one in own if one["data"] == cell.course.name and one["protocol"] == cell.course.protocol]
        for found, basis in ((here, "measured"), (own, "scaled")):
            if found:
                once = float(np.median([one["total"] / one["trained_on"]["comparisons"] for one in found])) * rows
                tried = [seconds for one in found for seconds in one["tried"]]
                each = float(np.mean(tried)) if tried and basis == "measured" else _TUNED * once
                return once + (each * configurations if configurations > 1 else 0.0), basis
        once = _typical(cell.contender.method, rows, cell.course.items.dim)
        once *= self._speed if self._speed is not None else 1.0
        tuned = _TUNED * once * configurations if configurations > 1 else 0.0
        return once + tuned, "typical" if self._speed is None else "scaled"


def _typical(method: str, rows: int, dim: int) -> float:
    fixed, each = _COSTS.get(method.partition(":")[0], _UNKNOWN)
    return (fixed + each * rows / 10_000) * (1.0 if dim else _NO_FEATURES)


def _expected(cell: PlannedCell, folder: Path | None, clock: _Clock) -> ExpectedCell:
    place = (cell.course.name, cell.course.protocol, cell.contender.label, cell.sample.seed, cell.sample.fold)
    if folder is not None and read_cell(folder, cell.key)[0] is not None:
        return ExpectedCell(*place, True, 0.0, "done")
    if isinstance(cell.contender, TextContender):
        questions = cell.contender.expected_questions(cell.course.exam(cell.sample))
        return ExpectedCell(*place, False, questions * _SECONDS_PER_QUESTION, "typical")
    rows = len(cell.course.splits[cell.sample].train_full)
    return ExpectedCell(*place, False, *clock.seconds(cell, rows, cell.configurations))


def _expected_sizes(cell: PlannedCell, wanted: Mapping[str, Sequence[int]], clock: _Clock) -> list[ExpectedCell]:
    """Cells of learning curves in training data; whether they are done shows only when their settings are known."""
    if not wanted or isinstance(cell.contender, TextContender):
        return []
    split = cell.course.splits[cell.sample]
    whole = {"users": len(split.train_users), "comparisons": len(split.train_full)}
    found = []
    for size in sizes_of(whole, wanted):
        rows = round(whole["comparisons"] * size.n / whole[size.axis])
        seconds, basis = clock.seconds(cell, rows, 1)
        label = f"{cell.contender.label}, {size.n} {size.axis}"
        place = (cell.course.name, cell.course.protocol, label, cell.sample.seed, cell.sample.fold)
        found.append(ExpectedCell(*place, False, seconds, basis))
    return found
