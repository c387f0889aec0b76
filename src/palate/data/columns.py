"""Which column of a source means what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from palate.data.readers import RawTable
from palate.errors import ConfigError, DataError

__all__ = ["OUR_COLUMNS", "USER_COLUMNS", "Shape", "recognise"]

OUR_COLUMNS = ("user", "prompt", "left", "right", "label", "weight", "time", "user_text")
"""The columns that a data set is written with."""

USER_COLUMNS = ("user", "user_id", "worker", "worker_id", "annotator", "annotator_id", "rater")
"""Columns that may name the person, in order of preference."""


@dataclass(frozen=True)
class Shape:
    """The source's name of each column that means something; None where it has none.

    Args:
        user: who chose.
        first: left, or chosen.
        second: right, or rejected.
        prompt: None where chosen and rejected begin with it.
        label: None for chosen and rejected.
        weight, time, user_text: optional.
        extra: all other columns, by the name to keep them under: their own, or `original_label` and the like where
            that would clash with one of ours.
        notes: what a reader should know of the choice of columns.
    """

    user: str
    first: str
    second: str
    prompt: str | None
    label: str | None
    weight: str | None
    time: str | None
    user_text: str | None
    extra: Mapping[str, str]
    notes: tuple[str, ...]


def recognise(table: RawTable, wanted: Mapping[str, str]) -> Shape:
    """Find the columns by their names, in any case.

    Args:
        table: whose columns.
        wanted: our name to the source's, where the caller knows better.

    Raises:
        ConfigError: `wanted` has a name that is none of ours.
        DataError: a column that is needed or wanted is not there; the message lists those that are.
    """
    there = {name.strip().lower(): name for name in table.columns}
    for ours, theirs in wanted.items():
        if ours not in (*OUR_COLUMNS, "chosen", "rejected"):
            raise ConfigError(f"columns= has {ours!r}; our names are: {', '.join(OUR_COLUMNS)}, chosen, rejected")
        if theirs not in table.columns:
            raise DataError(f"{table.name} has no column {theirs!r} (for {ours}); {_listed(table)}")
        there[ours] = theirs
    named = [column for column in USER_COLUMNS if column in there]
    if not named:
        raise DataError(
            f"{table.name} does not say who chose: no column {', '.join(USER_COLUMNS)}; {_listed(table)}; "
            "name the right one with user_column= (--user-column)"
        )
    user = there["user"] if "user" in wanted else there[named[0]]
    if {"left", "right"} <= there.keys():
        _need(table, there, ("prompt", "label"))
        first, second, label = there["left"], there["right"], there["label"]
    elif {"chosen", "rejected"} <= there.keys():
        first, second, label = there["chosen"], there["rejected"], None
    else:
        raise DataError(
            f"{table.name} has neither prompt, left, right, label nor chosen, rejected; {_listed(table)}; "
            "rename them or pass columns="
        )
    known = {ours: there.get(ours) for ours in ("prompt", "weight", "time", "user_text")}
    used = {user, first, second, label, *known.values()}
    others = [column for column in named if there[column] not in used]
    notes = [f"people are named by {user!r}; {', '.join(map(repr, others))} was not used for that"] if others else []
    return Shape(
        user=user,
        first=first,
        second=second,
        label=label,
        **known,
        extra={f"original_{name}" if name in OUR_COLUMNS else name: name for name in table.columns if name not in used},
        notes=tuple(notes),
    )


def _need(table: RawTable, there: Mapping[str, str], names: tuple[str, ...]) -> None:
    missing = [name for name in names if name not in there]
    if missing:
        raise DataError(
            f"{table.name} has left and right but no column {' and no '.join(missing)}; {_listed(table)}; "
            "add it, or name it with columns="
        )


def _listed(table: RawTable) -> str:
    """The columns for a message of one line, whatever their names hold."""
    names = [name if name.isprintable() else ascii(name) for name in table.columns]
    short = [name if len(name) <= 40 else name[:37] + "..." for name in names[:20]]
    return f"it has: {', '.join(short)}{', …' if len(names) > 20 else ''}"
