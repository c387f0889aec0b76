"""From predictions to the rows of the tables: per person first, then over people, paired with the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from scipy.linalg import block_diag

from palate.errors import InputError
from palate.evaluate.contenders import REFERENCE
from palate.evaluate.metrics import (
    auc_by_user,
    calibration_error_by_user,
    calibration_slope_by_user,
    correct,
    log_loss,
    mean_by_user,
)
from palate.evaluate.results import PER_USER, result_row
from palate.evaluate.standing import Standing
from palate.rng import derive
from palate.statistics import Estimate, mean_over_users_many, two_way_many

__all__ = ["DRAWS", "Asked", "Sitting", "asked_alike", "asked_at", "draws_for", "seconds_of", "summarise"]

DRAWS = 1000
"""Resamples of people and of prompts or items behind every interval; fewer where there are millions of rows."""

_FEWEST_DRAWS, _WORK = 200, 1e9


@dataclass(frozen=True)
class Sitting:
    """One finished cell of one method.

    Args:
        cell: its JSON.
        predictions: its frame.
        standing: of the people in its split.
    """

    cell: Mapping[str, Any]
    predictions: pl.DataFrame
    standing: Standing


@dataclass(frozen=True)
class Asked:
    """All rows asked at one k, over cells; the same for all methods.

    Args:
        sitting: (m,) number of the cell × person.
        user: (m,) person.
        group: (m,) prompt or (m, 2) items.
        label, weight: (m,).
        probability: (m, methods).
        owner, cell: (sittings,) person and cell of each cell × person.
        minority, worst: (m,) bool.
    """

    sitting: np.ndarray
    user: np.ndarray
    group: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    probability: np.ndarray
    owner: np.ndarray
    cell: np.ndarray
    minority: np.ndarray
    worst: np.ndarray


def summarise(
    sittings: Mapping[str, Sequence[Sitting]], *, by_prompt: bool, seed: int = 0, brief: bool = False
) -> tuple[list[dict[str, Any]], pl.DataFrame]:
    """Result rows and the table of people of one data set and protocol.

    Args:
        sittings: label of a method -> its cells; every method has the same cells, in the same order. Who was asked other
            rows than the reference (a capped contender) is compared with the reference on those rows.
        by_prompt: resample prompts; else the two items of each row.
        seed: of the resamples.
        brief: accuracy, log-loss and their gains only, and no table of people.

    Returns:
        Rows with the keys of `palate.evaluate.results.ROW_KEYS`, and a frame with the columns `PER_USER`.
    """
    rows: list[dict[str, Any]] = []
    people: list[pl.DataFrame] = []
    for group, emitted in asked_alike(sittings):
        ks = sorted({int(k) for one in group[emitted[0]] for k in one.predictions["k"].unique()})
        for k in ks:
            table = asked_at(group, k, by_prompt)
            for metric, label, estimate in _estimates(table, list(group), seed, brief):
                if label not in emitted:
                    continue
                cells = [one.cell for one in group[label]]
                seconds = float(np.mean([seconds_of(cell, k) for cell in cells]))
                data, protocol = cells[0]["data"], cells[0]["protocol"]
                rows.append(result_row(data, label, protocol, k, metric, estimate, seconds))
            if not brief:
                people += [_people(table, j, group[label], k) for j, label in enumerate(group) if label in emitted]
    order = {label: i for i, label in enumerate(sittings)}
    rows.sort(key=lambda row: (order[row["method"]], -1 if row["k"] == "seen" else row["k"]))
    return rows, pl.concat(people) if people else pl.DataFrame(schema=PER_USER)


def asked_alike(
    sittings: Mapping[str, Sequence[Sitting]],
) -> list[tuple[dict[str, Sequence[Sitting]], list[str]]]:
    """Methods that were asked the same rows, and which of them to report; each group has the reference."""
    by_rows: dict[tuple[bytes, ...], list[str]] = {}
    for label, own in sittings.items():
        asked = tuple(one.predictions.select("k", "row").to_numpy().tobytes() for one in own)
        by_rows.setdefault(asked, []).append(label)
    groups = []
    for labels in by_rows.values():
        group: dict[str, Sequence[Sitting]] = {label: sittings[label] for label in labels}
        if REFERENCE in sittings and REFERENCE not in labels:
            same = zip(sittings[REFERENCE], sittings[labels[0]], strict=True)
            group[REFERENCE] = [
                replace(one, predictions=one.predictions.join(other.predictions, on=["k", "row"], how="semi"))
                for one, other in same
            ]
        groups.append((group, labels))
    return groups


def seconds_of(cell: Mapping[str, Any], k: int, clock: str = "seconds") -> float:
    """Fitting, adapting at this k and predicting; `clock` may be "cpu_seconds", where the cell has them."""
    seconds = cell.get(clock) or cell["seconds"]
    return seconds["fit"] + seconds["adapt"].get(str(k), 0.0) + seconds["predict"].get(str(k), 0.0)


def draws_for(numbers: int) -> int:
    """How many resamples for so many numbers.

    The width of an interval comes from an analytic error, the draws only give its shape: 200 are enough where more cost
    minutes.
    """
    return int(np.clip(_WORK // max(1, numbers), _FEWEST_DRAWS, DRAWS))


def asked_at(sittings: Mapping[str, Sequence[Sitting]], k: int, by_prompt: bool) -> Asked:
    """The rows asked at `k`, over cells, with the probabilities of all methods side by side."""
    labels = list(sittings)
    frames = [one.predictions.filter(pl.col("k") == k) for one in sittings[labels[0]]]
    stacked = pl.concat(frames)
    probability = []
    for label in labels:
        other = pl.concat([one.predictions.filter(pl.col("k") == k) for one in sittings[label]])
        if not other["row"].equals(stacked["row"]):
            raise InputError(f"{label} was asked other rows than {labels[0]} at k={k}; delete its cells and run again")
        probability.append(other["probability"].to_numpy())
    cell = np.repeat(np.arange(len(frames)), [len(frame) for frame in frames])
    user = stacked["user"].to_numpy().astype(np.int64)
    stride = int(user.max(initial=0)) + 1
    sittings_found, sitting = np.unique(cell * stride + user, return_inverse=True)
    standings = [one.standing for one in sittings[labels[0]]]

    def flagged(name: str) -> np.ndarray:
        return np.concatenate(
            [getattr(one, name)[frame["user"].to_numpy()] for one, frame in zip(standings, frames, strict=True)]
        )

    return Asked(
        sitting=sitting,
        user=user,
        group=stacked["group"].to_numpy() if by_prompt else stacked.select("left", "right").to_numpy(),
        label=stacked["label"].to_numpy(),
        weight=stacked["weight"].to_numpy(),
        probability=np.column_stack(probability),
        owner=sittings_found % stride,
        cell=sittings_found // stride,
        minority=flagged("minority"),
        worst=flagged("worst_tenth"),
    )


_SHARES = ("accuracy", "auc", "calibration_error", "minority_accuracy", "worst_tenth_accuracy")
_ANY = (-np.inf, np.inf)
_RANGES = dict.fromkeys(_SHARES, (0.0, 1.0)) | {"accuracy_gain": (-1.0, 1.0)}


def _estimates(table: Asked, labels: Sequence[str], seed: int, brief: bool) -> list[tuple[str, str, Estimate]]:
    """(metric, method, estimate) for all metrics and gains."""
    hits = correct(table.label[:, None], table.probability)
    losses = log_loss(table.label[:, None], table.probability)
    reference = labels.index(REFERENCE) if REFERENCE in labels else None
    choices = _crossed(table, {"accuracy": hits, "log_loss": losses}, labels, seed, reference=reference)
    if not brief:
        choices += [
            *_per_person(table, labels, seed),
            *_crossed(table, {"minority_accuracy": hits}, labels, seed, among=table.minority),
            *_crossed(table, {"worst_tenth_accuracy": hits}, labels, seed, among=table.worst),
        ]
    return [(metric, label, estimate.within(*_RANGES.get(metric, _ANY))) for metric, label, estimate in choices]


def _crossed(
    table: Asked,
    columns: Mapping[str, np.ndarray],
    labels: Sequence[str],
    seed: int,
    *,
    among: np.ndarray | None = None,
    reference: int | None = None,
) -> list[tuple[str, str, Estimate]]:
    """Means over people with two-way intervals, for the rows in `among`; the same resamples for all columns.

    With `reference`, the number of a method, the gains over it follow; a lower log-loss is a gain.
    """
    kept = slice(None) if among is None else among
    names = [(metric, label) for metric in columns for label in labels]
    contrasts = None
    if reference is not None:
        minus = np.eye(len(labels))
        minus[reference] -= 1.0
        contrasts = block_diag(*(-minus if metric == "log_loss" else minus for metric in columns))
        names += [(f"{metric}_gain", label) for metric in columns for label in labels]
    values = np.concatenate([column[kept] for column in columns.values()], axis=1)
    estimates = two_way_many(
        values,
        table.user[kept],
        table.group[kept],
        weight=table.weight[kept],
        rng=derive(seed, "intervals"),
        draws=draws_for(values.size),
        contrasts=contrasts,
    )
    return [(metric, label, estimate) for (metric, label), estimate in zip(names, estimates, strict=True)]


def _per_person(table: Asked, labels: Sequence[str], seed: int) -> list[tuple[str, str, Estimate]]:
    """AUC and calibration: one value per person, resampling people."""
    people, user = np.unique(table.user, return_inverse=True)
    owner = np.searchsorted(people, table.owner)
    names, columns = [], []
    for j, label in enumerate(labels):
        p = table.probability[:, j]
        auc = auc_by_user(table.label, p, table.sitting, len(table.owner), table.weight)
        known = ~np.isnan(auc)
        arguments = (table.label, p, user, len(people), table.weight)
        names += [("auc", label), ("calibration_error", label), ("calibration_slope", label)]
        columns += [
            mean_by_user(auc[known], owner[known], len(people)),
            calibration_error_by_user(*arguments),
            calibration_slope_by_user(*arguments),
        ]
    estimates = mean_over_users_many(np.column_stack(columns), rng=derive(seed, "intervals"), draws=DRAWS)
    return [(metric, label, estimate) for (metric, label), estimate in zip(names, estimates, strict=True)]


def _people(table: Asked, column: int, sittings: Sequence[Sitting], k: int) -> pl.DataFrame:
    """One line per cell and person."""
    p, n = table.probability[:, column], len(table.owner)
    cells = [sittings[i].cell for i in table.cell]
    standings = [sittings[i].standing for i in table.cell]

    def mean(values: np.ndarray) -> np.ndarray:
        return mean_by_user(values, table.sitting, n, table.weight)

    def standing(name: str) -> list[Any]:
        return [getattr(one, name)[person] for one, person in zip(standings, table.owner, strict=True)]

    frame = pl.DataFrame(
        {
            **{name: [cell[name] for cell in cells] for name in ("data", "protocol", "method", "seed", "fold")},
            "k": [k] * n,
            "user": table.owner,
            "n": np.bincount(table.sitting, minlength=n),
            "accuracy": mean(correct(table.label, p)),
            "log_loss": mean(log_loss(table.label, p)),
            "auc": auc_by_user(table.label, p, table.sitting, n, table.weight),
            "minority": standing("minority"),
            "noisy": standing("noisy"),
            "worst_tenth": standing("worst_tenth"),
            "agreement": standing("agreement"),
            "n_train": standing("n_train"),
        }
    )
    return frame.cast(PER_USER).with_columns(pl.col(pl.Float64).fill_nan(None))
