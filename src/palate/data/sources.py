"""Real people's choices by name: where they come from, under which licence, and how to get them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl

from palate.data.dataset import PreferenceDataset
from palate.data.formats import read
from palate.data.readers import open_table
from palate.errors import ConfigError, DataError

__all__ = ["SOURCES", "Source", "Votes", "available", "get_source", "load", "load_votes", "locate"]

DATA_FOLDER_VARIABLE = "PALATE_DATA"


@dataclass(frozen=True)
class Source:
    """A data set that Palate knows by name.

    Args:
        name: what `load` takes.
        title: one line on what it is.
        file: its name in the data folder.
        licence: of the data.
        attribution: the line to keep beside results.
        citation: of the paper or project.
        home: where it is published.
        kind: "comparisons" (`load`) or "votes" (`load_votes`).
        options: how `palate.data.read` must read it.
    """

    name: str
    title: str
    file: str
    licence: str
    attribution: str
    citation: str
    home: str
    kind: str = "comparisons"
    options: Mapping[str, Any] = field(default_factory=dict)


_POLIS = {
    "licence": "CC BY 4.0",
    "attribution": "pol.is open data, American Assembly Bowling Green, The Computational Democracy Project, CC BY 4.0",
    "citation": "Small et al. (2021). Polis: scaling deliberation by mapping high dimensional opinion spaces.",
    "home": "https://github.com/compdemocracy/openData",
}

SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        source.name: source
        for source in (
            Source(
                name="convarg",
                title="which of two debate arguments convinces more: 84,370 choices of 3,815 crowd workers",
                file="convarg.parquet",
                licence="CC BY 4.0",
                attribution="UKPConvArg1, Habernal and Gurevych (ACL 2016), CC BY 4.0; worker ids replaced by hashes",
                citation="Habernal and Gurevych (2016). Which argument is more convincing? ACL 2016.",
                home="https://github.com/UKPLab/acl2016-convincing-arguments",
                # 75 published rows show one argument twice: nothing can be learned from them.
                options={"on_error": "skip"},
            ),
            Source(
                name="polis_bowling_green",
                title="a statement agreed with against one disagreed with: 57,244 pairs from the votes of 961 people",
                file="polis_bowling_green.parquet",
                **_POLIS,
            ),
            Source(
                name="polis_bowling_green_votes",
                title="the votes behind them: 225,040 of 2,010 people on 607 statements about a town",
                file="polis_bowling_green_votes.parquet",
                kind="votes",
                **_POLIS,
            ),
        )
    }
)
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


def available() -> list[str]:
    """Names of the data sets whose files are in the data folder; none where the folder is not set."""
    folder = os.environ.get(DATA_FOLDER_VARIABLE)
    return [name for name, source in SOURCES.items() if folder and (Path(folder) / source.file).is_file()]


def get_source(name: str) -> Source:
    """What is known about a data set.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in SOURCES:
        raise ConfigError(f"unknown data set {name!r}; there are: {', '.join(SOURCES)}; or pass a file")
    return SOURCES[name]


def locate(name: str) -> Path:
    """The file of a data set in the folder that `$PALATE_DATA` names.

    Raises:
        ConfigError: there is no data set of that name.
        DataError: the variable is not set, or the folder lacks the file; the message says where to get it.
    """
    source = get_source(name)
    folder = os.environ.get(DATA_FOLDER_VARIABLE)
    if not folder:
        raise DataError(
            f"{name}: ${DATA_FOLDER_VARIABLE} is not set; set it to the folder with {source.file} (home: {source.home})"
        )
    path = Path(folder) / source.file
    if not path.is_file():
        raise DataError(
            f"{name}: {source.file} is not in ${DATA_FOLDER_VARIABLE} ({folder}); put it there (home: {source.home})"
        )
    return path


def load(name: str) -> PreferenceDataset:
    """Comparisons by name, with their licence.

    Args:
        name: one of `SOURCES` of the kind "comparisons".

    Raises:
        ConfigError: there is none of that name, or it holds votes.
        DataError: the file is not there (see `locate`).
    """
    source = get_source(name)
    if source.kind != "comparisons":
        raise ConfigError(f"{name} holds {source.kind}, not comparisons; use palate.data.load_votes({name!r})")
    return read(locate(name), name=name, licence=source.licence, **source.options)


def load_votes(name: str = "polis_bowling_green_votes") -> Votes:
    """Votes by name.

    Args:
        name: one of `SOURCES` of the kind "votes".

    Raises:
        ConfigError: there is none of that name, or it holds comparisons.
        DataError: the file is not there, or a column of it is missing.
    """
    source = get_source(name)
    if source.kind != "votes":
        raise ConfigError(f"{name} holds {source.kind}, not votes; use palate.data.load({name!r})")
    columns = open_table(locate(name)).columns
    missing = {"user", "statement", "vote"} - columns.keys()
    if missing:
        raise DataError(f"{name}: {source.file} has no column {', '.join(sorted(missing))}; get it again")
    users, user = _numbered(columns["user"])
    statements, statement = _numbered(columns["statement"])
    return Votes(users, statements, user, statement, columns["vote"].cast(pl.Int8).to_numpy(), source)


def _numbered(column: pl.Series) -> tuple[tuple[str, ...], np.ndarray]:
    distinct, numbers = np.unique(column.to_numpy().astype(str), return_inverse=True)
    return tuple(distinct.tolist()), numbers.astype(np.int32)
