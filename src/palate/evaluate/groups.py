"""Gain by group of people: does it work in every country, age or language, or only for those who are many?

A person's gain is their accuracy minus that of `pooled` on the same rows, mean over seeds and folds; a group's is the mean
over its people, with an interval that resamples people. A group of fewer than 20 people carries no claim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from palate.errors import InputError
from palate.evaluate.contenders import REFERENCE
from palate.evaluate.results import Results, k_name
from palate.features.people import attributes_of
from palate.rng import derive
from palate.statistics import mean_over_users_many

if TYPE_CHECKING:
    from palate.data import PreferenceDataset

__all__ = ["GROUP_KEYS", "gain_by_group", "group_values"]

GROUP_KEYS = (
    "data", "protocol", "method", "k", "column", "group", "n_users", "pooled_accuracy", "gain", "low", "high", "claim",
)  # fmt: skip
"""Keys of a row: `group` is a value of the attribute `column`; `gain` in accuracy over `pooled`, with its 95 % interval;
`claim` whether the group has the 20 people that a claim needs."""

_KEYS = ("data", "protocol", "seed", "fold", "k", "user")


def gain_by_group(results: Results, attributes: Mapping[str, Mapping[str, Sequence[str]]]) -> list[dict[str, Any]]:
    """One row for each method, number of answers and group.

    Args:
        results: of a benchmark, with its table of people.
        attributes: data name -> column -> the value of each person in the order of the data set's `users`; people with the
            value "" are in no group.

    Returns:
        Dicts with `GROUP_KEYS`; groups in the order of their size, the largest first.

    Raises:
        InputError: values for another number of people than the results have.
    """
    base = results.per_user.filter(pl.col("method") == REFERENCE).select(*_KEYS, pl.col("accuracy").alias("base"))
    paired = (
        results.per_user.filter(pl.col("method") != REFERENCE)
        .join(base, on=_KEYS)
        .with_columns((pl.col("accuracy") - pl.col("base")).alias("gain"))
        .group_by("data", "protocol", "method", "k", "user")
        .agg(pl.col("gain").mean(), pl.col("base").mean())
        .sort("data", "protocol", "method", "k", "user")
    )
    rows = []
    for place, people in paired.group_by("data", "protocol", "method", "k", maintain_order=True):
        for column, values in attributes.get(str(place[0]), {}).items():
            user = people["user"].to_numpy()
            if len(user) and user.max() >= len(values):
                raise InputError(f"{column!r} has values for {len(values)} people, the results have {user.max() + 1}")
            table = people.select("base", "gain").to_numpy()
            rows += _rows(place, column, np.asarray(values, object)[user], table)
    return rows


def group_values(
    datasets: Mapping[str, PreferenceDataset], columns: Sequence[str]
) -> dict[str, dict[str, tuple[str, ...]]]:
    """The attributes of people by data set and column, for `gain_by_group`; a data set may lack some of the columns.

    Raises:
        InputError: a column that no data set has.
    """
    there = sorted({name for dataset in datasets.values() for name in dataset.extra})
    for column in columns:
        if column not in there:
            raise InputError(
                f"group column {column!r} is not there; the extra columns are: {', '.join(there) or 'none'}"
            )
    return {
        name: {column: attributes_of(dataset, column) for column in columns if column in dataset.extra}
        for name, dataset in datasets.items()
    }


def _rows(place: tuple[Any, ...], column: str, group: np.ndarray, table: np.ndarray) -> list[dict[str, Any]]:
    data, protocol, method, k = place
    names, counts = np.unique(group[group != ""].astype(str), return_counts=True)
    found = []
    for name in names[np.argsort(-counts, kind="stable")].tolist():
        # The same resamples for all methods, so that their rows can be compared.
        rng = derive(0, "groups", str(data), str(protocol), int(k), column, name)
        base, gain = mean_over_users_many(table[group == name], rng=rng)
        numbers = gain.to_dict()
        found.append(
            {"data": data, "protocol": protocol, "method": method, "k": k_name(k), "column": column, "group": name}
            | {"n_users": numbers["n"], "pooled_accuracy": base.to_dict()["value"], "gain": numbers["value"]}
            | {"low": numbers["low"], "high": numbers["high"], "claim": numbers["claim"]}
        )
    return found
