"""What converters of foreign rows share: walking through files, missing columns, and the pairs that scores imply."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import numpy as np

from palate.data.readers import RawTable, from_rows
from palate.data.streams import Rows
from palate.errors import DataError

__all__ = ["Part", "gather", "hashed", "iso_time", "listed", "score_pairs", "short", "whole"]

Row: TypeAlias = Mapping[str, Any]

Part: TypeAlias = tuple[Rows, Callable[[Row], Iterable[Row]]]
"""Rows of a file, and what makes comparisons of one of them; it raises ValueError where the row makes no sense."""


def gather(name: str, parts: Iterable[Part], *, needs: Sequence[str] = ()) -> RawTable:
    """The comparisons of all rows as one table of our columns, each with the place that it came from.

    Args:
        name: of the data set, for messages.
        parts: in order.
        needs: columns that the first row of every part must have.

    Raises:
        DataError: a file lacks a column, has no row, or is damaged.
    """
    parts = list(parts)
    table = RawTable(name, {}, np.empty(0), parts[0][0].unit if parts else "row")
    origin: list[int] = []
    from_rows(_comparisons(parts, needs, table, origin), table)
    if len(parts) > 1:
        table.files = tuple(rows.name for rows, _ in parts)
        table.file = np.array(origin, np.int32)
    for rows, _ in parts:
        said = f" ({rows.name})" if len(parts) > 1 else ""
        table.problems.extend((place, message + said) for place, message in rows.problems)
    return table


def _comparisons(
    parts: Sequence[Part], needs: Sequence[str], table: RawTable, origin: list[int]
) -> Iterator[tuple[int, Row]]:
    for number, (rows, convert) in enumerate(parts):
        said = f" ({rows.name})" if len(parts) > 1 else ""
        empty = True
        for place, row in rows.rows:
            if not isinstance(row, Mapping):
                table.problems.append((place, f"is a {type(row).__name__}; each must be an object{said}"))
                continue
            if empty:
                _need(rows, row, needs)
                empty = False
            try:
                # A list first: a row that fails half-way leaves nothing behind.
                made = list(convert(row))
            except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
                table.problems.append((place, f"{_reason(error)}{said}"))
                continue
            for comparison in made:
                origin.append(number)
                yield place, comparison
        if empty:
            raise DataError(f"{rows.name} has no rows; delete it and fetch it again")


def _need(rows: Rows, row: Row, needs: Sequence[str]) -> None:
    missing = [name for name in needs if name not in row]
    if missing:
        there = ", ".join(str(name) for name in list(row)[:20])
        raise DataError(
            f"{rows.name} has no column {', no '.join(missing)}; it has: {there}; its publisher changed its shape, or it is "
            "another file: docs/data.md says which one is read"
        )


def _reason(error: Exception) -> str:
    """What is wrong with a row; the program's own words for what Python found."""
    if type(error) is ValueError:
        return str(error)
    if type(error) is KeyError:
        return f"has no {short(str(error.args[0]))}"
    return f"has not the shape that its publisher states ({type(error).__name__}: {short(str(error))})"


def short(value: Any) -> str:
    """A value for a message of one line."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def score_pairs(
    texts: Sequence[str | None], scores: Sequence[Any], *, pairs: Iterable[tuple[int, int]] | None = None
) -> Iterator[tuple[int, int, float]]:
    """The comparisons that scores of several replies imply: left, right, and 1, 0 or 0.5 as left has more, less, the same.

    Replies without a text or a finite score, and pairs of the same text, imply nothing.

    Args:
        texts: of the replies.
        scores: of the same length; higher is better.
        pairs: which replies are compared; all of them by default.
    """
    known = [
        text is not None and text.strip() != "" and _finite(score) for text, score in zip(texts, scores, strict=True)
    ]
    every = ((i, j) for i in range(len(texts)) for j in range(i + 1, len(texts)))
    for i, j in every if pairs is None else pairs:
        if known[i] and known[j] and texts[i].strip() != texts[j].strip():
            difference = float(scores[i]) - float(scores[j])
            yield i, j, 0.5 if difference == 0 else float(difference > 0)


def _finite(score: Any) -> bool:
    return isinstance(score, (int, float)) and not isinstance(score, bool) and math.isfinite(score)


def whole(value: Any) -> int | None:
    """A whole number, also where it is written as a text or a float; None where it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return int(number) if number.is_integer() else None


def listed(value: Any) -> list[Any]:
    """A list, also where it is written as JSON; [] where there is none.

    Raises:
        ValueError: it is something else.
    """
    if value is None:
        return []
    if isinstance(value, str):
        value = json.loads(value) if value.strip() else []
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{short(value)} is no list")
    return list(value)


def iso_time(value: Any) -> str | None:
    """A time that our reader understands; None where a publisher wrote it in some other way."""
    if isinstance(value, datetime):
        return value.isoformat()
    try:
        return datetime.fromisoformat(str(value).strip()).isoformat()
    except ValueError:
        return None


def hashed(name: str, identity: Any) -> str:
    """A person's id as twelve hexadecimal digits, for sets whose publisher's ids lead back to an account."""
    return hashlib.sha256(f"{name}:{identity}".encode()).hexdigest()[:12]
