"""Publishers' files row by row, so that a file larger than the memory can still be converted."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from palate.data.readers import MAX_LINE_BYTES, RawTable, csv_rows, json_array, json_lines
from palate.errors import DataError

__all__ = ["Rows", "open_rows", "open_zip"]

_BATCH = 1024
"""Rows of a Parquet file that are Python objects at one time."""


@dataclass
class Rows:
    """Rows that can be walked through once, each with its place.

    Args:
        name: of the file, for messages.
        rows: (place, row) from 1 on.
        unit: "line" or "row", what the place counts.
        problems: what could not be read at all; complete once the rows were walked through.
    """

    name: str
    rows: Iterable[tuple[int, Mapping[str, Any]]]
    unit: str = "line"
    problems: list[tuple[int, str]] = field(default_factory=list)

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]], name: str = "the rows") -> Rows:
        """Rows that are in memory already."""
        return cls(name, enumerate(rows, 1), "row")


def open_rows(path: Path, name: str = "") -> Rows:
    """The rows of a .jsonl, .json, .csv, .tsv, .xml (each also .gz) or .parquet file.

    Args:
        path: of the file.
        name: for messages; the file's own by default.

    Raises:
        DataError: while the rows are walked through: the file is cut short, damaged, or of another kind.
    """
    name = name or path.name
    if path.suffix.lower() == ".parquet":
        return Rows(name, _guarded(name, lambda: _parquet_rows(path)), "row")
    if path.suffix.lower() == ".gz":
        return _of_bytes(name, path.with_suffix("").suffix.lower(), lambda: gzip.open(path, "rb"))
    return _of_bytes(name, path.suffix.lower(), lambda: path.open("rb", buffering=0))


def open_zip(path: Path, pattern: str) -> dict[str, Rows]:
    """The rows of those members of a .zip file whose path matches, by the members' own names without folders.

    Nothing is unpacked to the disk. A folder that all members share (an archive of a repository) is not part of the path.

    Raises:
        DataError: the archive is damaged, or no member matches.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path}: cut short or damaged ({error}); delete it and fetch it again") from None
    found = [name for name in names if fnmatch(name, pattern) or fnmatch(name.partition("/")[2], pattern)]
    if not found:
        raise DataError(f"{path} holds nothing like {pattern}; it is another archive, or its publisher changed it")
    return {_base(name): _member(path, name) for name in sorted(found)}


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _member(path: Path, name: str) -> Rows:
    def opened() -> IO[bytes]:
        # The member keeps its archive open, and closes it with itself.
        return zipfile.ZipFile(path).open(name)

    return _of_bytes(f"{path.name}/{_base(name)}", Path(name).suffix.lower(), opened)


def _of_bytes(name: str, kind: str, opened: Callable[[], Any]) -> Rows:
    if kind not in _WALKERS:
        raise DataError(f"{name}: unknown kind of file {kind!r}; use .parquet, {', '.join(sorted(_WALKERS))}")
    unit, walk = _WALKERS[kind]
    table = RawTable(name, {}, np.empty(0), unit)

    def rows() -> Iterator[tuple[int, Mapping[str, Any]]]:
        with io.BufferedReader(opened()) as file:
            yield from walk(file, table)

    return Rows(name, _guarded(name, rows), unit, table.problems)


def _guarded(name: str, rows: Callable[[], Iterator[tuple[int, Any]]]) -> Iterator[tuple[int, Any]]:
    """The same rows; what is wrong with the file as a whole becomes one line."""
    try:
        yield from rows()
    except (EOFError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, pa.ArrowException) as error:
        first = (str(error).splitlines() or ["it ends too soon"])[0][:120]
        raise DataError(f"{name}: cut short or damaged ({first}); delete it and fetch it again") from None
    except FileNotFoundError:
        raise DataError(f"{name}: no such file; fetch it, or put it there") from None


def _parquet_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    place = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_BATCH):
            batch.validate(full=True)
            for row in batch.to_pylist():
                place += 1
                yield place, row


def _csv(file: io.BufferedReader, table: RawTable) -> Iterator[tuple[int, Any]]:
    return csv_rows(file, table, MAX_LINE_BYTES)


def _json_lines(file: io.BufferedReader, table: RawTable) -> Iterator[tuple[int, Any]]:
    return json_lines(file, table, MAX_LINE_BYTES)


def _json(file: io.BufferedReader, table: RawTable) -> Iterator[tuple[int, Any]]:
    """An array of objects, or JSON lines under another name."""
    if file.peek(256)[:256].lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"[":
        yield from json_lines(file, table, MAX_LINE_BYTES)
    else:
        yield from enumerate(json_array(file.read(), table.name), 1)


def _xml(file: io.BufferedReader, table: RawTable) -> Iterator[tuple[int, Any]]:
    """The children of the root element, as nested dictionaries."""
    place = depth = 0
    try:
        for event, element in ElementTree.iterparse(file, ("start", "end")):
            depth += 1 if event == "start" else -1
            if event == "end" and depth == 1:
                place += 1
                yield place, _as_object(element)
                element.clear()
    except ElementTree.ParseError as error:
        raise DataError(f"{table.name}: no XML ({error}); delete it and fetch it again") from None


def _as_object(element: ElementTree.Element) -> Any:
    """Text of a leaf; else a dictionary of its children, a list where a tag comes more than once."""
    if not len(element):
        return element.text
    found: dict[str, Any] = {}
    for child in element:
        value = _as_object(child)
        if child.tag not in found:
            found[child.tag] = value
        elif isinstance(found[child.tag], list):
            found[child.tag].append(value)
        else:
            found[child.tag] = [found[child.tag], value]
    return found


_WALKERS: dict[str, tuple[str, Callable[[io.BufferedReader, RawTable], Iterator[tuple[int, Any]]]]] = {
    ".jsonl": ("line", _json_lines),
    ".ndjson": ("line", _json_lines),
    ".json": ("row", _json),
    ".csv": ("line", _csv),
    ".tsv": ("line", _csv),
    ".xml": ("row", _xml),
}
