"""Files and frames as raw columns, with the line of every row, and every line that cannot be read reported."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from palate.data.values import RawColumn
from palate.errors import DataError

__all__ = ["MAX_LINE_BYTES", "RawTable", "csv_rows", "from_rows", "json_array", "json_lines", "open_table"]

MAX_LINE_BYTES = 10_000_000
"""Longest line of a text file that is read, unless the caller allows more."""

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BOM = b"\xef\xbb\xbf"


@dataclass
class RawTable:
    """Columns as they came, before anybody asks what they mean.

    Args:
        name: what messages call the source.
        columns: by name, all of the same length.
        place: (m,) line of each row in a text file, else its number; both from 1.
        unit: "line" or "row", what `place` counts.
        problems: what could not be read at all, each with its place.
        files: where rows come from several files, their names.
        file: (m,) into `files`; None where there is one only.
        notes: what a reader of the data should know.
    """

    name: str
    columns: dict[str, RawColumn]
    place: np.ndarray
    unit: str = "row"
    problems: list[tuple[int, str]] = field(default_factory=list)
    files: tuple[str, ...] = ()
    file: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)

    def at(self, row: int) -> str:
        """Where a row stands, in words."""
        place = f"{self.unit} {self.place[row]}"
        return place if self.file is None else f"{place} of {self.files[self.file[row]]}"


def open_table(source: Any, *, max_line_bytes: int = MAX_LINE_BYTES) -> RawTable:
    """Whatever holds rows, as raw columns.

    Args:
        source: a path, a pandas or polars frame, a mapping of columns, a `datasets.Dataset`, dictionaries; or a raw
            table, which is returned.
        max_line_bytes: a longer line of a text file is a problem.

    Raises:
        DataError: there is no such file, its kind is unknown, or it cannot be read at all.
    """
    if isinstance(source, RawTable):
        return source
    if isinstance(source, (str, os.PathLike)):
        return _open_file(Path(source), max_line_bytes)
    if isinstance(source, pl.LazyFrame):
        source = source.collect()
    if isinstance(source, pl.DataFrame):
        return _from_frame(source, "the frame")
    home = type(source).__module__.partition(".")[0]
    if home == "pandas":
        return _from_pandas(source)
    if home == "datasets":
        return _from_hub(source)
    if isinstance(source, Mapping):
        return _from_mapping(source)
    if isinstance(source, Iterable):
        return from_rows(enumerate(source, 1), RawTable("the rows", {}, np.empty(0)))
    raise DataError(
        f"cannot read a {type(source).__name__}; pass a path, a pandas or polars frame, or a list of dictionaries"
    )


# -- frames and rows ----------------------------------------------------------------------------------------------


def _from_frame(frame: pl.DataFrame, name: str) -> RawTable:
    return RawTable(name, {column.name: column for column in frame}, np.arange(1, frame.height + 1))


def _from_pandas(frame: Any) -> RawTable:
    """Column by column, so that one odd column does not spoil the others."""
    columns: dict[str, RawColumn] = {}
    for position, name in enumerate(frame.columns):
        column = frame.iloc[:, position]
        if column.dtype.kind in "biufM" and getattr(column.dtype, "tz", None) is None:
            columns[str(name)] = pl.Series(column.to_numpy())
        else:
            missing = column.isna().to_numpy()
            columns[str(name)] = [
                None if gone is True or gone is np.True_ else value
                for value, gone in zip(column.tolist(), missing, strict=True)
            ]
    return RawTable("the frame", columns, np.arange(1, len(frame) + 1))


def _from_hub(dataset: Any) -> RawTable:
    if isinstance(dataset, Mapping):
        raise DataError(f"a DatasetDict has several parts; pass one of them: {', '.join(map(repr, dataset))}")
    if not hasattr(dataset, "with_format") or not hasattr(dataset, "__len__"):
        raise DataError(f"cannot read a streamed {type(dataset).__name__}; load it without streaming=True")
    return _from_frame(pl.from_arrow(dataset.with_format("arrow")[:]), "the dataset")


def _from_mapping(source: Mapping[str, Any]) -> RawTable:
    columns = {str(name): column if isinstance(column, pl.Series) else list(column) for name, column in source.items()}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"columns of different lengths: {lengths}; each needs one value per row")
    return RawTable("the columns", columns, np.arange(1, 1 + next(iter(lengths.values()), 0)))


def from_rows(rows: Iterable[tuple[int, Any]], table: RawTable) -> RawTable:
    """Fill a table: numbered dictionaries as columns; equal texts are kept once, since comparisons repeat theirs."""
    columns: dict[str, list[Any]] = {}
    once: dict[str, str] = {}
    places: list[int] = []
    for place, row in rows:
        if not isinstance(row, Mapping):
            table.problems.append((place, f"is a {type(row).__name__}; each must be an object with named columns"))
            continue
        for name, value in row.items():
            column = columns.get(name)
            if column is None:
                column = columns[name] = []
            if len(column) < len(places):
                column.extend([None] * (len(places) - len(column)))
            column.append(once.setdefault(value, value) if type(value) is str else value)
        places.append(place)
    for column in columns.values():
        column.extend([None] * (len(places) - len(column)))
    table.columns = {str(name): column for name, column in columns.items()}
    table.place = np.array(places, np.int64)
    return table


# -- files --------------------------------------------------------------------------------------------------------


def _open_file(path: Path, max_line_bytes: int) -> RawTable:
    if path.is_dir():
        raise DataError(f"{path}: a folder; give one of the files in it")
    kind = path.suffix.lower()
    if kind not in _FILE_READERS:
        raise DataError(
            f"{path}: unknown kind of file {kind or 'without extension'!r}; use {', '.join(sorted(_FILE_READERS))}"
        )
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise DataError(f"{path} is a folder; name a file in it")
        if size == 0:
            raise DataError(f"{path} is empty; it needs at least one row")
        return _FILE_READERS[kind](path, max_line_bytes)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the name") from None
    except PermissionError:
        raise DataError(f"{path}: may not be read; check its permissions") from None


def _read_parquet(path: Path, max_line_bytes: int) -> RawTable:
    """Through Arrow and with its full validation: a damaged file may bring Polars' own reader down with the process."""
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names  # fails here, in Python, where a name is broken UTF-8
            parts = [file.schema_arrow.empty_table()] if file.num_row_groups == 0 else []
            parts = parts or map(file.read_row_group, range(file.num_row_groups))
            frames = []
            for part in parts:
                part.validate(full=True)
                # The schema's notes to pandas and others are of no use here, and are not validated.
                frames.append(pl.from_arrow(part.replace_schema_metadata(None), rechunk=False))
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError, ValueError) as error:
        if isinstance(error, PermissionError):
            raise
        first_line = (str(error).splitlines() or ["damaged"])[0][:120]
        raise DataError(f"{path}: no readable Parquet file ({first_line}); write it again") from None
    if len(set(names)) < len(names):
        raise DataError(f"{path}: two columns have the same name; give each its own")
    return _from_frame(pl.concat(frames, rechunk=False), str(path))


def _read_jsonl(path: Path, max_line_bytes: int) -> RawTable:
    table = RawTable(str(path), {}, np.empty(0), "line")
    with path.open("rb") as file:
        return from_rows(json_lines(file, table, max_line_bytes), table)


def json_lines(file: io.BufferedReader, table: RawTable, max_line_bytes: int) -> Iterator[tuple[int, Any]]:
    """The value of each line with its number; what is no JSON becomes one of the table's problems."""
    broken: set[int] = set()
    for number, line in _lines(file, table, max_line_bytes, broken):
        if number in broken or not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            where = f" ({error.msg} at column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
            table.problems.append((number, f"is no JSON object{where}; each line must be one"))


def _read_json(path: Path, max_line_bytes: int) -> RawTable:
    """One array of objects; a file of JSON lines under this name is read as such."""
    with path.open("rb") as file:
        if file.read(256).removeprefix(_BOM).lstrip()[:1] != b"[":
            return _read_jsonl(path, max_line_bytes)
    rows = json_array(path.read_bytes(), str(path))
    return from_rows(enumerate(rows, 1), RawTable(str(path), {}, np.empty(0)))


def json_array(content: bytes, name: str) -> list[Any]:
    """The values of one JSON array.

    Raises:
        DataError: it is no UTF-8 or no JSON.
    """
    try:
        return json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: broken UTF-8 at byte {error.start}; write the file again as UTF-8") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{name}: no JSON ({str(error)[:80]}); write it again, or one object a line") from None


def _read_csv(path: Path, max_line_bytes: int) -> RawTable:
    table = RawTable(str(path), {}, np.empty(0), "line")
    with path.open("rb") as file:
        return from_rows(csv_rows(file, table, max_line_bytes), table)


def csv_rows(file: io.BufferedReader, table: RawTable, max_line_bytes: int) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file by the line where each begins; what is no row becomes one of the table's problems."""
    broken: set[int] = set()
    allowed = csv.field_size_limit(max_line_bytes)
    try:
        lines = (text for _, text in _lines(file, table, max_line_bytes, broken))
        yield from _csv_rows(lines, table, broken)
    finally:
        csv.field_size_limit(allowed)


def _csv_rows(lines: Iterator[str], table: RawTable, broken: set[int]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV text by the line where each begins; the delimiter is what the header has most of: , ; or tab."""
    first = next(lines, "")
    if 1 in broken:
        raise DataError(f"{table.name}: line 1: {table.problems[0][1]}")
    reader = csv.reader(_chain(first, lines), delimiter=max(",;\t", key=first.count), strict=True)
    header: list[str] | None = None
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            table.problems.append((start, f"is no CSV row ({error}); quote its texts and double the quotes in them"))
            continue
        if not cells or any(line in broken for line in range(start, reader.line_num + 1)):
            continue
        if header is None:
            header = _csv_header(cells, table.name)
        elif len(cells) != len(header):
            table.problems.append((start, f"has {len(cells)} cells; the header names {len(header)}"))
        else:
            yield start, dict(zip(header, cells, strict=True))


def _csv_header(cells: list[str], name: str) -> list[str]:
    header = [cell.strip() for cell in cells]
    twice = sorted({cell for cell in header if header.count(cell) > 1})
    if twice:
        raise DataError(f"{name}: the header names {twice[0]!r} twice; give each column its own name")
    return header


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _lines(
    file: io.BufferedReader, table: RawTable, max_line_bytes: int, broken: set[int]
) -> Iterator[tuple[int, str]]:
    """Numbered lines of a UTF-8 file; those that cannot be read are reported, marked as broken, and yielded blank."""
    number = 0
    while raw := file.readline(max_line_bytes + 1):
        number += 1
        if number == 1:
            if raw[:2] in _UTF16:
                raise DataError(f"{table.name} is UTF-16; save it as UTF-8")
            raw = raw.removeprefix(_BOM)
        if len(raw) > max_line_bytes and not raw.endswith(b"\n"):
            while (rest := file.readline(1 << 20)) and not rest.endswith(b"\n"):
                pass
            broken.add(number)
            table.problems.append((number, f"is longer than {max_line_bytes:,} bytes; cut it or raise max_line_bytes"))
            yield number, "\n"
            continue
        try:
            yield number, raw.decode()
        except UnicodeDecodeError as error:
            broken.add(number)
            table.problems.append((number, f"is broken UTF-8 at byte {error.start + 1}; write the file again as UTF-8"))
            yield number, "\n"


_FILE_READERS = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
}
