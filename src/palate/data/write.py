"""Data sets to files, in our columns or in TRL's."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from palate.data.dataset import CONSENSUS_PROBABILITY, TRUE_PROBABILITY, PreferenceDataset
from palate.data.split import CELLS, Split
from palate.errors import DataError, FingerprintError
from palate.files import atomic_path

__all__ = ["WRITE_FORMATS", "Written", "trl_frame", "write", "write_split", "write_trl"]

WRITE_FORMATS = (".csv", ".jsonl", ".parquet")
"""Extensions that can be written."""


@dataclass(frozen=True)
class Written:
    """What was written.

    Args:
        path: the file.
        rows: how many rows it holds.
        left_out: rows that its shape cannot hold (ties, in TRL's).
    """

    path: Path
    rows: int
    left_out: int = 0


def write(dataset: PreferenceDataset, path: str | os.PathLike[str]) -> Written:
    """Write our columns (`user, prompt, left, right, label`, and what else there is); `read` gives the same data back.

    Args:
        dataset: what to write.
        path: ends in one of `WRITE_FORMATS`.

    Raises:
        DataError: another extension.
        StorageError: the disk is full or the folder cannot be written.
    """
    return write_frame(dataset.to_frame(), path)


def write_trl(dataset: PreferenceDataset, path: str | os.PathLike[str]) -> Written:
    """Write TRL's columns (see `trl_frame`); ties are left out and counted.

    Args:
        dataset: what to write.
        path: ends in one of `WRITE_FORMATS`.

    Raises:
        DataError: another extension, or there are only ties.
        StorageError: the disk is full or the folder cannot be written.
    """
    frame = trl_frame(dataset)
    if frame.is_empty():
        raise DataError(f"all {len(dataset):,} rows of {dataset.name} are ties; TRL's columns cannot hold one")
    return write_frame(frame, path, len(dataset) - frame.height)


def trl_frame(dataset: PreferenceDataset) -> pl.DataFrame:
    """The rows as `prompt, chosen, rejected, user_id`, and weight, time, user text and extra columns where there.

    Chosen is the side whose probability is above one half. TRL's shape has no ties, so those rows are left out; of a
    soft label only its side is kept.
    """
    frame = dataset.to_frame().filter(pl.Series(dataset.label != 0.5))
    left_is_chosen = pl.col("label") > 0.5
    told = [name for name in (TRUE_PROBABILITY, CONSENSUS_PROBABILITY) if name in frame.columns]
    frame = frame.with_columns(
        pl.when(left_is_chosen).then(name).otherwise(1 - pl.col(name)).alias(name) for name in told
    )
    return frame.select(
        "prompt",
        pl.when(left_is_chosen).then("left").otherwise("right").alias("chosen"),
        pl.when(left_is_chosen).then("right").otherwise("left").alias("rejected"),
        pl.col("user").alias("user_id"),
        pl.exclude("user", "prompt", "left", "right", "label"),
    )


def write_split(
    dataset: PreferenceDataset, split: Split, folder: str | os.PathLike[str], extension: str = ".parquet"
) -> list[Written]:
    """Write every cell of a split that has rows as one file, `<cell><extension>`, in our columns.

    Args:
        dataset: what was split.
        split: how.
        folder: where; made if it is not there.
        extension: one of `WRITE_FORMATS`.

    Raises:
        DataError: another extension.
        FingerprintError: the split is of other data.
        StorageError: the disk is full or the folder cannot be written.
    """
    if split.data_fingerprint != dataset.fingerprint:
        raise FingerprintError(f"the split was made from other data than {dataset.name}; split it again")
    frame = dataset.to_frame()
    cells = {name: rows for name in CELLS if len(rows := getattr(split, name))}
    return [write_frame(frame[np.asarray(rows)], Path(folder) / f"{name}{extension}") for name, rows in cells.items()]


def write_frame(frame: pl.DataFrame, path: str | os.PathLike[str], left_out: int = 0) -> Written:
    """Write any frame, atomically; the extension says how (one of `WRITE_FORMATS`)."""
    path = Path(path)
    kind = path.suffix.lower()
    writers = {".csv": frame.write_csv, ".jsonl": frame.write_ndjson, ".parquet": frame.write_parquet}
    if kind not in writers:
        raise DataError(f"{path}: cannot write {kind or 'without an extension'!r}; use {', '.join(WRITE_FORMATS)}")
    with atomic_path(path) as temporary:
        writers[kind](temporary)
    return Written(path, frame.height, left_out)
