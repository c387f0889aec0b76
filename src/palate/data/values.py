"""Raw columns to texts, labels, numbers and times, with every value that cannot be one reported by its row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from numbers import Number
from typing import Any, TypeAlias

import numpy as np
import polars as pl

from palate.data.conversations import as_messages, flatten, is_conversation

__all__ = ["LABEL_WORDS", "RawColumn", "RowProblems", "as_extra", "labels", "numbers", "objects", "texts", "times"]

RawColumn: TypeAlias = "pl.Series | list[Any]"

LABEL_WORDS: Mapping[str, float] = {
    **dict.fromkeys(("left", "a", "first", "true", "yes"), 1.0),
    **dict.fromkeys(("right", "b", "second", "false", "no"), 0.0),
    **dict.fromkeys(("tie", "equal", "both", "same", "neither", "draw"), 0.5),
}
"""Words that may stand for a label, in any case: the side that is preferred, or a tie."""

_LABEL_RULE = "use the probability that left is preferred (1, 0, 0.5 or in between), or left, right, a, b, tie"
_NO_VALUE = frozenset(("", "nan", "none", "null", "na", "n/a", "<na>", "nat"))


class RowProblems:
    """What is wrong with which row, gathered over all columns.

    Args:
        n_rows: how many rows there are.
    """

    def __init__(self, n_rows: int) -> None:
        self.bad = np.zeros(n_rows, bool)
        self._messages: dict[int, list[str]] = {}

    def add(self, row: int, message: str) -> None:
        """One more thing wrong with `row`."""
        self.bad[row] = True
        self._messages.setdefault(row, []).append(message)

    def add_where(self, mask: np.ndarray, message: str) -> None:
        """The same thing wrong with all rows of a mask (n_rows,)."""
        for row in np.flatnonzero(mask).tolist():
            self.add(row, message)

    def by_row(self) -> list[tuple[int, str]]:
        """Rows in order, each with all that is wrong with it."""
        return [(row, "; ".join(self._messages[row])) for row in sorted(self._messages)]


def texts(column: RawColumn, name: str, problems: RowProblems, *, optional: bool = False) -> pl.Series:
    """A column of texts; null where a row has none.

    Whole numbers become their digits (ids are often numbers), messages become text. Unless `optional`, missing and
    empty values are problems.
    """
    series = _plain_texts(column)
    if series is None:
        series = _texts_one_by_one(objects(column), name, problems)
    if not optional:
        null = series.is_null().to_numpy()
        problems.add_where(null & ~problems.bad, f"{name} is missing; every row needs one")
        empty = (series.str.strip_chars().str.len_bytes() == 0).fill_null(False).to_numpy()
        problems.add_where(empty, f"{name} is empty; it needs at least one visible character")
    return series


def _plain_texts(column: RawColumn) -> pl.Series | None:
    """The column as strings without looking at single values; None where that cannot be done."""
    if isinstance(column, list):
        if not {type(value) for value in column} <= {str, type(None)}:
            return None
        try:
            return pl.Series(column, dtype=pl.String)
        except UnicodeEncodeError:
            return None
    if column.dtype.is_float():
        column = column.fill_nan(None)
        whole = column.cast(pl.Int64, strict=False)
        column = whole if (whole == column).all() else column
    if column.dtype.is_nested() or column.dtype in (pl.Object, pl.Binary):
        return None
    return column.cast(pl.String)


def _texts_one_by_one(values: Sequence[Any], name: str, problems: RowProblems) -> pl.Series:
    found: list[str | None] = []
    for row, value in enumerate(values):
        try:
            found.append(_text(value))
        except ValueError as error:
            problems.add(row, f"{name} {error}")
            found.append(None)
    return pl.Series(found, dtype=pl.String)


def _text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if is_conversation(value):
        value = flatten(as_messages(value))
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, (str, Number, date, np.generic)):
        raise ValueError(f"is of type {type(value).__name__}; it must be a text or a list of messages")
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("is broken Unicode (half of a surrogate pair); write the file again as UTF-8") from None
    return text


def objects(column: RawColumn) -> list[Any]:
    """The values of a column as Python objects."""
    return column if isinstance(column, list) else column.to_list()


def labels(column: RawColumn, problems: RowProblems) -> np.ndarray:
    """(m,) probabilities that left is preferred; what is none is a problem, and NaN."""
    values, raw = _parsed(column, _label)
    outside = np.isnan(values) | (values < 0) | (values > 1)
    for row in np.flatnonzero(outside).tolist():
        what = "is missing" if _is_missing(raw[row]) else f"{_quoted(raw[row])} is unknown"
        problems.add(row, f"label {what}; {_LABEL_RULE}")
    return np.where(outside, np.nan, values)


def _label(text: str) -> float:
    word = LABEL_WORDS.get(text.strip().lower())
    return float(text) if word is None else word


def numbers(column: RawColumn, name: str, problems: RowProblems) -> np.ndarray:
    """(m,) finite numbers ≥ 0; what is none is a problem, and NaN."""
    values, raw = _parsed(column, float)
    wrong = ~(np.isfinite(values) & (values >= 0))
    for row in np.flatnonzero(wrong).tolist():
        what = "is missing" if _is_missing(raw[row]) else f"{_quoted(raw[row])} is no weight"
        problems.add(row, f"{name} {what}; it must be a finite number that is not negative")
    return np.where(wrong, np.nan, values)


def times(column: RawColumn, problems: RowProblems) -> np.ndarray:
    """(m,) seconds since 1970 in UTC; NaN where a row has none; what cannot be read is a problem.

    Reads numbers (seconds), ISO 8601 texts (UTC where they name no zone), dates and datetimes.
    """
    if isinstance(column, pl.Series) and column.dtype.is_temporal() and column.dtype in (pl.Date, pl.Datetime):
        seconds = column.cast(pl.Datetime("us", getattr(column.dtype, "time_zone", None))).dt.epoch("us")
        return seconds.cast(pl.Float64).fill_null(math.nan).to_numpy() / 1e6
    values, raw = _parsed(column, _seconds)
    given = np.array([not _is_missing(value) for value in raw], bool)
    for row in np.flatnonzero(given & ~np.isfinite(values)).tolist():
        problems.add(row, f"time {_quoted(raw[row])} is no time; use seconds or ISO 8601 (2024-05-17T09:30:00)")
    return np.where(np.isfinite(values), values, np.nan)


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        moment = datetime.fromisoformat(text.strip())
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _is_missing(value: Any) -> bool:
    return value is None or str(value).strip().lower() in _NO_VALUE


def _parsed(column: RawColumn, parse: Callable[[str], float]) -> tuple[np.ndarray, Sequence[Any]]:
    """Numbers as they are, everything else through `parse`, each distinct text once; NaN where that fails.

    Returns:
        (m,) float64, and the raw values for messages.
    """
    if isinstance(column, list) and {type(value) for value in column} <= {int, float, bool, type(None)}:
        return np.array([math.nan if value is None else value for value in column], np.float64), column
    if isinstance(column, pl.Series) and (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        return column.cast(pl.Float64).fill_null(math.nan).to_numpy(), column
    raw = objects(column)
    known: dict[str, float] = {}
    values = np.full(len(raw), math.nan)
    for row, value in enumerate(raw):
        text = "" if value is None else str(value)
        if text not in known:
            known[text] = _number_or_nan(text, parse)
        values[row] = known[text]
    return values, raw


def _number_or_nan(text: str, parse: Callable[[str], float]) -> float:
    try:
        return parse(text)
    except (ValueError, OverflowError):
        return math.nan


def as_extra(column: RawColumn) -> np.ndarray | None:
    """A further column as an array, of objects where it holds texts; None where it is empty or nested."""
    if isinstance(column, list):
        types = {type(value) for value in column} - {type(None)}
        if types & {list, dict, tuple, np.ndarray}:
            return None
        if len(types) > 1 or types == {str}:
            column = pl.Series([_lossless(value) for value in column], dtype=pl.String)
        else:
            column = pl.Series(column)
    if column.dtype.is_nested() or column.dtype in (pl.Object, pl.Null, pl.Binary):
        return None
    if column.dtype in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    return column.to_numpy()


def _lossless(value: Any) -> str | None:
    return None if value is None else str(value).encode("utf-8", "replace").decode()


def _quoted(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
