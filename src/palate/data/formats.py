"""Rows of any accepted shape to a `PreferenceDataset`: which columns mean what, and whether every row is good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from palate.data.columns import USER_COLUMNS, Shape, recognise
from palate.data.conversations import (
    as_messages,
    flatten,
    is_conversation,
    shared_messages,
    shared_text,
    without_prompt,
)
from palate.data.dataset import PreferenceDataset
from palate.data.readers import MAX_LINE_BYTES, RawTable, open_table
from palate.data.repeats import repeat_notes
from palate.data.values import RawColumn, RowProblems, as_extra, labels, numbers, objects, texts, times
from palate.errors import ConfigError, DataError

__all__ = ["USER_COLUMNS", "read"]

_SHOWN = 3
"""How many bad rows an error message spells out; the error carries all of them."""


def read(
    source: Any,
    *,
    user_column: str | None = None,
    columns: Mapping[str, str] | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    name: str | None = None,
    licence: str = "",
    max_line_bytes: int = MAX_LINE_BYTES,
) -> PreferenceDataset:
    """Comparisons from a file, a frame or rows, every row checked.

    Two shapes are read. Ours: `prompt, left, right, label`, where the label is the probability that the person prefers
    left: 1, 0, 0.5 for a tie, anything between, or a word of `LABEL_WORDS`. TRL's: `chosen, rejected` with a `prompt`
    or, without that column, with the prompt as their common beginning; each a text or a list of messages. Both need a
    column that names the person (`USER_COLUMNS`); `weight`, `time` and `user_text` are used when there; any other
    column is kept in `extra`.

    Args:
        source: path of a .jsonl, .json, .csv, .tsv or .parquet file; a pandas or polars frame; a mapping of columns;
            a `datasets.Dataset`; dictionaries, one a row; what the import functions of `palate.integrations` return; or
            a `PreferenceDataset`, which is returned.
        user_column: the column that names the person, where it has another name.
        columns: further renamings, our name to theirs: `{"left": "answer_a"}`.
        on_error: "skip" leaves bad rows out and lists them in `left_out`; "raise" refuses the data.
        name: how reports call the data; the file's name by default.
        licence: under which licence the data may be used.
        max_line_bytes: a longer line of a text file is a bad row.

    Returns:
        The data set; its `notes` count duplicates, contradictions and rows left out.

    Raises:
        DataError: columns are missing, rows are bad (all are in `problems`, with their lines), or none is left.
    """
    if isinstance(source, PreferenceDataset):
        return source
    if on_error not in ("raise", "skip"):
        raise ConfigError(f"on_error={on_error!r}; use 'raise' or 'skip'")
    table = open_table(source, max_line_bytes=max_line_bytes)
    if not len(table.place) and not table.problems:
        raise DataError(f"{table.name} has no rows; it needs at least one comparison")
    problems = RowProblems(len(table.place))
    checked = None
    if len(table.place):
        wanted = {**(columns or {}), **({"user": user_column} if user_column else {})}
        checked = _check(table, recognise(table, wanted), problems)
    left_out = _report(table, problems, on_error)
    if checked is None or problems.bad.all():
        raise DataError(f"{table.name}: no good row is left; the first problem: {left_out[0]}", left_out)
    default_name = Path(source).stem if isinstance(source, (str, Path)) else "data"
    dataset = _build(checked, ~problems.bad, left_out, name=name or default_name, licence=licence)
    return replace(dataset, notes=(*table.notes, *dataset.notes)) if table.notes else dataset


# -- is every row good ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Checked:
    """Columns of texts and numbers, m long; bad rows hold anything."""

    user: pl.Series
    prompt: pl.Series
    first: pl.Series
    second: pl.Series
    label: np.ndarray
    weight: np.ndarray | None
    time: np.ndarray | None
    user_text: pl.Series | None
    extra: dict[str, np.ndarray]
    hashed_sides: bool
    notes: tuple[str, ...]


def _check(table: RawTable, shape: Shape, problems: RowProblems) -> _Checked:
    columns, m = table.columns, len(table.place)
    user = texts(columns[shape.user], "user", problems)
    prompt, first, second = _three_texts(columns, shape, problems)
    same = (first.str.strip_chars() == second.str.strip_chars()).fill_null(False).to_numpy() & ~problems.bad
    names = "chosen and rejected" if shape.label is None else "left and right"
    problems.add_where(same, f"{names} are the same text; a comparison needs two different ones")
    label = np.ones(m) if shape.label is None else labels(columns[shape.label], problems)
    weight = None if shape.weight is None else numbers(columns[shape.weight], "weight", problems)
    notes = list(shape.notes)
    user_text = (
        None if shape.user_text is None else texts(columns[shape.user_text], "user_text", problems, optional=True)
    )
    extra = {name: as_extra(columns[theirs]) for name, theirs in shape.extra.items()}
    nested = [name for name, column in extra.items() if column is None]
    if nested:
        notes.append(f"not kept, because empty or nested: {', '.join(nested)}")
    return _Checked(
        user=user,
        prompt=prompt,
        first=first,
        second=second,
        label=label,
        weight=weight,
        time=None if shape.time is None else times(columns[shape.time], problems),
        user_text=user_text,
        extra={name: column for name, column in extra.items() if column is not None},
        hashed_sides=shape.label is None,
        notes=tuple(notes),
    )


def _three_texts(
    columns: Mapping[str, RawColumn], shape: Shape, problems: RowProblems
) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Prompt and the two replies as texts; bad ones are reported and null."""
    names = ("chosen", "rejected") if shape.label is None else ("left", "right")
    first, second = columns[shape.first], columns[shape.second]
    conversational = any(_holds_conversations(column) for column in (first, second))
    if shape.prompt is not None:
        prompt = texts(columns[shape.prompt], "prompt", problems)
        if conversational and shape.label is None:
            rows = zip(prompt.to_list(), objects(first), objects(second), strict=True)
            first, second = _row_by_row(rows, problems, _replies_of, 2)
        return prompt, texts(first, names[0], problems), texts(second, names[1], problems)
    rows = zip(objects(first), objects(second), strict=True)
    prompt, first, second = _row_by_row(rows, problems, _implicit, 3)
    texts(first, names[0], problems)
    texts(second, names[1], problems)
    return prompt, first, second


def _holds_conversations(column: RawColumn) -> bool:
    if isinstance(column, pl.Series):
        return column.dtype.is_nested() or column.dtype == pl.Object
    return any(is_conversation(value) for value in column)


def _row_by_row(rows: Any, problems: RowProblems, convert: Any, width: int) -> list[pl.Series]:
    """`width` text columns from `convert(*row)`; null where it refuses the row or a value is missing."""
    found: list[tuple[str | None, ...]] = []
    for number, row in enumerate(rows):
        try:
            found.append((None,) * width if any(value is None for value in row) else convert(*row))
        except ValueError as error:
            problems.add(number, f"a text {error}")
            found.append((None,) * width)
    return [pl.Series(column, dtype=pl.String) for column in zip(*found, strict=True)]


def _replies_of(prompt: str, chosen: Any, rejected: Any) -> tuple[str, str]:
    if is_conversation(chosen) and is_conversation(rejected):
        return without_prompt(prompt, as_messages(chosen), as_messages(rejected))
    first, second = (flatten(as_messages(value)) if is_conversation(value) else value for value in (chosen, rejected))
    return first, second


def _implicit(chosen: Any, rejected: Any) -> tuple[str, str, str]:
    if is_conversation(chosen) and is_conversation(rejected):
        return shared_messages(as_messages(chosen), as_messages(rejected))
    if isinstance(chosen, str) and isinstance(rejected, str):
        return shared_text(chosen, rejected)
    raise ValueError("differs in kind from the other; chosen and rejected must both be texts or both messages")


# -- what comes out ---------------------------------------------------------------------------------------------------


def _report(table: RawTable, problems: RowProblems, on_error: str) -> tuple[str, ...]:
    """Every problem in the order of the source.

    Raises:
        DataError: there is one, and `on_error` is "raise".
    """
    found = [(place, f"{table.unit} {place}: {message}") for place, message in table.problems]
    found += [(int(table.place[row]), f"{table.at(row)}: {message}") for row, message in problems.by_row()]
    lines = tuple(line for _, line in sorted(found))
    if lines and on_error == "raise":
        total = len(table.place) + len(table.problems)
        more = f"; and {len(lines) - _SHOWN:,} more" if len(lines) > _SHOWN else ""
        raise DataError(
            f"{table.name}: {len(lines):,} of {total:,} rows {'is' if len(lines) == 1 else 'are'} bad: "
            f"{' | '.join(lines[:_SHOWN])}{more}; mend them, or leave them out with on_error='skip'",
            lines,
        )
    return lines


def _build(
    checked: _Checked, good: np.ndarray, left_out: tuple[str, ...], *, name: str, licence: str
) -> PreferenceDataset:
    keep = pl.Series(good)
    time, notes = _known_times(checked.time, good)
    dataset = PreferenceDataset.from_columns(
        user=checked.user.filter(keep),
        prompt=checked.prompt.filter(keep),
        left=checked.first.filter(keep),
        right=checked.second.filter(keep),
        label=checked.label[good],
        weight=None if checked.weight is None else checked.weight[good],
        time=time,
        user_text=None if checked.user_text is None else checked.user_text.filter(keep),
        extra={name: column[good] for name, column in checked.extra.items()},
        hashed_sides=checked.hashed_sides,
        name=name,
        licence=licence,
    )
    if left_out:
        were = "row was" if len(left_out) == 1 else "rows were"
        notes.append(f"{len(left_out):,} bad {were} left out: {' | '.join(left_out[:_SHOWN])}")
    if checked.user_text is not None:
        notes.extend(_text_conflicts(checked.user.filter(keep), checked.user_text.filter(keep)))
    return replace(dataset, notes=(*checked.notes, *notes, *repeat_notes(dataset)), left_out=left_out)


def _known_times(time: np.ndarray | None, good: np.ndarray) -> tuple[np.ndarray | None, list[str]]:
    """Times of the good rows, None where not one is known, and a note where some are not."""
    if time is None or np.isnan(time[good]).all():
        return None, []
    unknown = int(np.isnan(time[good]).sum())
    return time[good], (
        [f"{unknown:,} of {good.sum():,} rows have no time; a temporal split needs all of them"] if unknown else []
    )


def _text_conflicts(user: pl.Series, user_text: pl.Series) -> list[str]:
    rows = pl.DataFrame({"user": user, "text": user_text.str.strip_chars()}).filter(pl.col("text") != "").unique()
    several = rows.group_by("user").len().filter(pl.col("len") > 1).height
    return [f"{several:,} people have several user texts; the first one is used"] if several else []
