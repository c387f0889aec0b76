"""What is known of a published data set: its home, licence and files, how its rows are read, and what nobody checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from palate.data.readers import RawTable
from palate.data.streams import Rows

__all__ = ["Converter", "RemoteFile", "Source", "hub_file", "hub_parquet"]

HUB = "https://huggingface.co"
"""The hub that data sets live on, unless `$HF_ENDPOINT` names a mirror."""

Converter: TypeAlias = Callable[[Mapping[str, Rows]], RawTable]
"""The rows of a data set's files, by the files' names, to our columns. It depends on nothing else."""


@dataclass(frozen=True)
class RemoteFile:
    """A file as its publisher offers it.

    Args:
        name: its name in the folder of the data set.
        url: where it is fetched from; https.
        members: for a .zip file, the pattern of the members that are read (`data/*.json`); they may also lie in the folder
            unpacked, under their own names.
        sha256: its digest, where two sources state the same; else it is recorded when the file is first used.
        optional: the data set can be read without it.
    """

    name: str
    url: str
    members: str = ""
    sha256: str = ""
    optional: bool = False


@dataclass(frozen=True)
class Source:
    """A data set that Palate knows by name.

    Args:
        name: what `load` takes; in the data folder it is `<name>.parquet` in our columns.
        title: one line on what it is.
        licence: of the data, as the publisher states it.
        attribution: the line to keep beside results.
        citation: of the paper or project.
        home: where it is published.
        kind: "comparisons" (`load`) or "votes" (`load_votes`).
        options: how `palate.data.read` must read it.
        files: what is fetched.
        folder: where the publisher's files lie in the data folder, for sets that share theirs; the name by default.
        convert: makes our columns from the files.
        gated: the publisher asks for an account and consent; `$HF_TOKEN` proves both.
        noncommercial: the licence forbids commercial use, of a part at least.
        megabytes: to fetch, about; None where it is not known.
        fields: the publisher's columns that are read.
        rule: how a row becomes comparisons, ties included.
        verified: what of this was checked, and against what.
        unverified: what was not; printed whenever the publisher's files are read. "" where nothing is open.
    """

    name: str
    title: str
    licence: str
    attribution: str
    citation: str
    home: str
    kind: str = "comparisons"
    options: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[RemoteFile, ...] = ()
    folder: str = ""
    convert: Converter | None = None
    gated: bool = False
    noncommercial: bool = False
    megabytes: float | None = None
    fields: tuple[str, ...] = ()
    rule: str = ""
    verified: str = ""
    unverified: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", self.folder or self.name)

    @property
    def file(self) -> str:
        """Its name in the data folder, in our columns."""
        return f"{self.name}.parquet"

    @property
    def licence_line(self) -> str:
        """The licence in words that nobody misreads."""
        return f"{self.licence}; non-commercial use only" if self.noncommercial else self.licence


def hub_file(repository: str, path: str, name: str = "", *, revision: str = "main", **about: Any) -> RemoteFile:
    """A file of a data set on the hub.

    Args:
        repository: "owner/name".
        path: of the file in it.
        name: here; the last part of the path by default.
        revision: branch or commit.
        about: further fields of `RemoteFile`.
    """
    url = f"{HUB}/datasets/{repository}/resolve/{revision}/{path}"
    return RemoteFile(name or path.rpartition("/")[2], url, **about)


def hub_parquet(repository: str, config: str, part: str, **about: Any) -> RemoteFile:
    """The hub's own Parquet conversion of one part of a data set, which exists whatever the publisher uploaded.

    Args:
        repository: "owner/name".
        config: of the data set; "default" where it has one only.
        part: "train" and the like.
        about: further fields of `RemoteFile`.
    """
    return hub_file(
        repository, f"{config}/{part}/0000.parquet", f"{part}.parquet", revision="refs%2Fconvert%2Fparquet", **about
    )
