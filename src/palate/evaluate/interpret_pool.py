"""The replies over which a reward space is read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from palate.data import PreferenceDataset, corpus, read
from palate.errors import InputError

__all__ = ["pool_texts"]

_REPLY = ("reply", "response", "text")
_SIDES = frozenset({"left", "right", "chosen", "rejected"})


def pool_texts(pool: Any = None) -> tuple[str, list[tuple[str, str]]]:
    """The pool's name and its distinct (prompt, reply) pairs.

    Args:
        pool: None for the 512 shipped replies; a .jsonl, .csv or .parquet file with the columns prompt and reply (or
            response, or text), or of choices, whose replies are taken; a `PreferenceDataset`; or a list of pairs.

    Raises:
        InputError: an empty pool, or entries that are no pairs of texts.
        DataError: a file of choices with bad rows.
    """
    if pool is None:
        return "the shipped replies", [(row.prompt, row.text) for row in corpus.replies()]
    if isinstance(pool, PreferenceDataset):
        return pool.name, pool.item_texts()
    if isinstance(pool, (str, os.PathLike)):
        texts = _read_replies(Path(pool))
        if texts is None:
            dataset = read(str(pool))
            return dataset.name, dataset.item_texts()
        return Path(pool).stem, _checked(texts, str(pool))
    if isinstance(pool, Sequence) and all(isinstance(entry, (tuple, list)) for entry in pool):
        return "your replies", _checked(pool, "pool")
    dataset = read(pool)
    return dataset.name, dataset.item_texts()


def _read_replies(path: Path) -> list[tuple[Any, Any]] | None:
    """The rows of a file of single replies; None for a file of choices, which `palate.data.read` explains better."""
    import polars as pl

    readers = {".jsonl": pl.read_ndjson, ".csv": pl.read_csv, ".parquet": pl.read_parquet}
    if path.suffix not in readers or not path.is_file() or path.stat().st_size == 0:
        return None
    try:
        frame = readers[path.suffix](path)
    except (pl.exceptions.PolarsError, UnicodeDecodeError):
        return None
    column = next((name for name in _REPLY if name in frame.columns), None)
    if column is None or _SIDES & set(frame.columns):
        return None
    prompts = frame["prompt"].to_list() if "prompt" in frame.columns else [""] * len(frame)
    return list(zip(prompts, frame[column].to_list(), strict=True))


def _checked(rows: Sequence[Sequence[Any]], where: str) -> list[tuple[str, str]]:
    for number, row in enumerate(rows, 1):
        if len(row) != 2 or not all(isinstance(text, str) for text in row) or not row[1].strip():
            raise InputError(f"{where}: entry {number} is {row!r:.60}; give a prompt and a reply that is not empty")
    if not rows:
        raise InputError(f"{where}: no replies in it; give at least two replies to a prompt")
    return list(dict.fromkeys((row[0], row[1]) for row in rows))
