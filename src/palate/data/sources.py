"""Data sets by name: what is known of them, where they are, and how they come here.

A data set is looked for in the folder that `$PALATE_DATA` names, as `<name>.parquet` in our columns or as a folder with the
publisher's files; then in Palate's cache, where `get` puts what it fetched.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl

from palate.data.checksums import check
from palate.data.dataset import PreferenceDataset
from palate.data.formats import read
from palate.data.public import PUBLIC
from palate.data.readers import RawTable, open_table
from palate.data.source import RemoteFile, Source
from palate.data.streams import Rows, open_rows, open_zip
from palate.data.write import write
from palate.errors import ConfigError, DataError, DownloadError
from palate.files import cache_directory
from palate.progress import Progress, silent

__all__ = ["SOURCES", "Votes", "available", "catalogue", "get", "get_source", "load", "load_votes", "locate", "state"]

DATA_FOLDER_VARIABLE = "PALATE_DATA"

CONVERSION = 1
"""Part of the name of converted files in the cache: raise it when a converter changes what it makes."""

MOST_BAD = 0.05
"""Share of bad rows above which a publisher's files are taken to have another shape than the one that is known."""

SOURCES: Mapping[str, Source] = MappingProxyType({source.name: source for source in PUBLIC})
"""All data sets known by name."""


@dataclass(frozen=True, eq=False)
class Votes:
    """Votes of people on statements, from which pairs can be made.

    Args:
        users: ids, sorted.
        statements: texts, sorted.
        user: (m,) int32 into `users`.
        statement: (m,) int32 into `statements`.
        vote: (m,) int8, 1 agree, -1 disagree, 0 pass.
        source: where they come from.
    """

    users: tuple[str, ...]
    statements: tuple[str, ...]
    user: np.ndarray
    statement: np.ndarray
    vote: np.ndarray
    source: Source

    def __len__(self) -> int:
        return len(self.vote)


# -- what there is --------------------------------------------------------------------------------------------------


def get_source(name: str) -> Source:
    """What is known about a data set.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in SOURCES:
        raise ConfigError(f"unknown data set {name!r}; there are: {', '.join(SOURCES)}; or pass a file")
    return SOURCES[name]


def available() -> list[str]:
    """Names of the data sets that are here: in the data folder, or fetched."""
    return [name for name, source in SOURCES.items() if _find(source) is not None]


def state(name: str) -> str:
    """Whether a data set is "here", "can be fetched", or "gated" (its publisher asks for consent and a token).

    Raises:
        ConfigError: there is none of that name.
    """
    source = get_source(name)
    if _find(source) is not None:
        return "here"
    return "gated" if source.gated else "can be fetched"


def catalogue() -> list[dict[str, Any]]:
    """All data sets known by name: `name what licence home state here kind noncommercial gated megabytes`."""
    found = []
    for name, source in SOURCES.items():
        now = state(name)
        about = {"name": name, "what": source.title, "licence": source.licence, "home": source.home}
        about |= {"state": now, "here": now == "here", "kind": source.kind, "noncommercial": source.noncommercial}
        found.append({**about, "gated": source.gated, "megabytes": source.megabytes})
    return found


def locate(name: str) -> Path:
    """Where a data set is: its Parquet file in our columns, or the folder with the publisher's files.

    Raises:
        ConfigError: there is no data set of that name.
        DataError: it is not here; the message says how to get it.
    """
    source = get_source(name)
    found = _find(source)
    if found is not None:
        return found
    folder = os.environ.get(DATA_FOLDER_VARIABLE)
    missing = (
        f"{source.file} is not in ${DATA_FOLDER_VARIABLE} ({folder})"
        if folder
        else f"${DATA_FOLDER_VARIABLE} is not set"
    )
    raise DataError(f"{name} is not here: {missing}; fetch it with palate data get {name} (home: {source.home})")


def _find(source: Source) -> Path | None:
    """The first place that has it: the data folder before the cache, our columns before the publisher's."""
    folder = os.environ.get(DATA_FOLDER_VARIABLE)
    places = [(Path(folder) / source.file, Path(folder) / source.folder)] if folder else []
    for ours, theirs in (*places, (_made(source), _cache(source))):
        if ours.is_file():
            return ours
        if source.convert is not None and all(_there(theirs, file) for file in source.files if not file.optional):
            return theirs
    return None


def _cache(source: Source) -> Path:
    return cache_directory() / "data" / source.folder


def _made(source: Source) -> Path:
    """The comparisons that `get` made of what it fetched."""
    return _cache(source) / f"{source.name}.{CONVERSION}.parquet"


def _there(folder: Path, file: RemoteFile) -> bool:
    if (folder / file.name).is_file():
        return True
    return bool(file.members) and folder.is_dir() and any(_unpacked(folder, file))


def _unpacked(folder: Path, file: RemoteFile) -> list[Path]:
    """Members of an archive that lie in the folder, in whatever folder below it."""
    pattern = file.members.rpartition("/")[2]
    return sorted(path for path in folder.rglob(pattern) if path.is_file())


# -- reading --------------------------------------------------------------------------------------------------------


def load(name: str) -> PreferenceDataset:
    """Comparisons by name, with their licence; nothing is fetched.

    Args:
        name: one of `SOURCES` of the kind "comparisons".

    Raises:
        ConfigError: there is none of that name, or it holds votes.
        DataError: it is not here (see `locate`), or its files have not the shape that is known.
    """
    source = get_source(name)
    if source.kind != "comparisons":
        raise ConfigError(f"{name} holds {source.kind}, not comparisons; use palate.data.load_votes({name!r})")
    path = locate(name)
    dataset = read(_table(source, path), name=name, licence=source.licence, **source.options)
    bad = len(dataset.left_out)
    if path.is_dir() and bad > MOST_BAD * (bad + len(dataset)):
        raise DataError(
            f"{name}: {bad:,} of {bad + len(dataset):,} rows are bad: {' | '.join(dataset.left_out[:3])}; its publisher "
            "changed its shape, or these are other files: docs/data.md says which are read",
            dataset.left_out,
        )
    return replace(dataset, notes=(*_cautions(source, path), *dataset.notes))


def load_votes(name: str = "polis_bowling_green_votes") -> Votes:
    """Votes by name; nothing is fetched.

    Args:
        name: one of `SOURCES` of the kind "votes".

    Raises:
        ConfigError: there is none of that name, or it holds comparisons.
        DataError: it is not here, or a column of it is missing.
    """
    source = get_source(name)
    if source.kind != "votes":
        raise ConfigError(f"{name} holds {source.kind}, not votes; use palate.data.load({name!r})")
    columns = open_table(_table(source, locate(name))).columns
    missing = {"user", "statement", "vote"} - columns.keys()
    if missing:
        raise DataError(f"{name}: {source.file} has no column {', '.join(sorted(missing))}; get it again")
    users, user = _numbered(columns["user"])
    statements, statement = _numbered(columns["statement"])
    return Votes(users, statements, user, statement, pl.Series(columns["vote"]).cast(pl.Int8).to_numpy(), source)


def _numbered(column: Any) -> tuple[tuple[str, ...], np.ndarray]:
    distinct, numbers = np.unique(pl.Series(column).to_numpy().astype(str), return_inverse=True)
    return tuple(distinct.tolist()), numbers.astype(np.int32)


def _table(source: Source, path: Path) -> Path | RawTable:
    """A file in our columns as it is; a publisher's folder through its converter."""
    if path.is_file():
        return path
    files: dict[str, Rows] = {}
    for file in source.files:
        archive = path / file.name
        if file.members and archive.is_file():
            files.update(open_zip(archive, file.members))
        elif file.members:
            files.update((member.name, open_rows(member)) for member in _unpacked(path, file))
        elif archive.is_file():
            files[file.name] = open_rows(archive)
    return source.convert(files)


def _cautions(source: Source, path: Path) -> tuple[str, ...]:
    """What a reader should know of data that come from the publisher's files."""
    made_here = path.is_dir() or path.parent == _cache(source)
    return (f"{source.name}: not verified: {source.unverified}",) if made_here and source.unverified else ()


# -- fetching -------------------------------------------------------------------------------------------------------


def get(name: str, *, progress: Progress = silent) -> PreferenceDataset | Votes:
    """A data set by name, fetched from its publisher where it is not here.

    What was fetched stays in Palate's cache with its digests, which are checked every time; the comparisons made of it are
    kept beside it, so that the next `load` is quick.

    Args:
        name: one of `SOURCES`.
        progress: called with the bytes so far.

    Returns:
        Comparisons, or `Votes` where it holds votes.

    Raises:
        ConfigError: there is no data set of that name.
        DownloadError: a file could not be fetched; the message says how to put it there by hand.
        DataError: a file is not the one that was used first, or has not the shape that is known.
        StorageError: the disk is full or the cache cannot be written.
    """
    source = get_source(name)
    reader = load_votes if source.kind == "votes" else load
    found = _find(source)
    folder = _cache(source)
    if found is not None and not found.is_relative_to(folder):
        return reader(name)
    if not source.files:
        locate(name)
    changed, notes = _fetch_all(source, folder, progress)
    made = _made(source)
    if changed:
        made.unlink(missing_ok=True)
    dataset = reader(name)
    if isinstance(dataset, Votes):
        return dataset
    if not made.exists():
        write(dataset, made)
    return replace(dataset, notes=(*notes, *dataset.notes)) if notes else dataset


def _fetch_all(source: Source, folder: Path, progress: Progress) -> tuple[bool, list[str]]:
    """Fetch what is missing and check what is there; whether anything was fetched, and what could be done without."""
    from palate.data.fetch import fetch

    changed, notes = False, []
    for file in source.files:
        target = folder / file.name
        about: dict[str, Any] = {}
        if not target.is_file():
            by_hand = f"put the file into ${DATA_FOLDER_VARIABLE}/{source.folder}/ as {file.name} by hand"
            try:
                about = fetch(file.url, target, by_hand=by_hand, home=source.home, progress=progress)
            except DownloadError as error:
                if not file.optional:
                    raise
                notes.append(f"{source.name} goes without {file.name}: {error}")
                continue
            changed = True
        check(target, expected=file.sha256, about=about or None)
    return changed, notes
