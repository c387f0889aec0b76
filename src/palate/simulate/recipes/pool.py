"""The replies that simulated people choose between, and scores of them: given, counted in the text, or labelled."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from palate.data import PreferenceDataset, corpus, read
from palate.errors import DataError, InputError
from palate.features.style import StyleFeatures
from palate.simulate.tastes import ATTRIBUTES, shows
from palate.simulate.truth import ItemTable, draw_pairs
from palate.types import array_digest

__all__ = ["ReplyPool", "reply_pool"]

_REPLY = ("reply", "response", "text")
_SIDES = frozenset({"left", "right", "chosen", "rejected"})
_DRAWS = 3
"""Draws for each pair wanted, so that enough are different."""

LENGTH = "characters"
"""A statistic beside those of `StyleFeatures`: how long a reply is."""


@dataclass(frozen=True)
class ReplyPool:
    """Replies to prompts, with what is known of them.

    Args:
        name: of the pool.
        licence: of its texts; "" where nobody said.
        table: the texts, numbered as a `PreferenceDataset` numbers them.
        given: name -> (n_items,) scores that came with the pool.
        controversial: (n_prompts,) whether people differ about a prompt, or None where the pool does not say.
    """

    name: str
    licence: str
    table: ItemTable
    given: Mapping[str, np.ndarray]
    controversial: np.ndarray | None = None

    @property
    def n_items(self) -> int:
        """How many replies."""
        return len(self.table.item_prompt)

    def prompt(self, item: int) -> str:
        """The prompt that a reply answers."""
        return self.table.prompts[self.table.item_prompt[item]]

    def reply(self, item: int) -> str:
        """A reply's text."""
        return self.table.responses[self.table.item_response[item]]

    @cached_property
    def fingerprint(self) -> str:
        """32 hex digits fixed by the texts."""
        return array_digest(
            {"prompt": self.table.item_prompt, "reply": self.table.item_response},
            *self.table.prompts,
            "",
            *self.table.responses,
        )

    @cached_property
    def _counted(self) -> dict[str, np.ndarray]:
        style = StyleFeatures()
        texts = [("", self.reply(item)) for item in range(self.n_items)]
        columns = dict(zip(style.columns, style.embed(texts).astype(np.float64).T, strict=True))
        return columns | {LENGTH: np.array([float(len(text)) for _, text in texts])}

    def names(self) -> list[str]:
        """Names of all scores: those given first, then statistics of the text."""
        return [*self.given, *(name for name in self._counted if name not in self.given)]

    def score(self, name: str) -> np.ndarray:
        """(n_items,) a score as it is.

        Raises:
            InputError: there is none of that name.
        """
        if name in self.given:
            return self.given[name]
        if name not in self._counted:
            raise InputError(
                f"scorer {name!r} is neither a column of the pool nor a statistic; there are: {', '.join(self.names())}"
            )
        return self._counted[name]

    def draw(self, m: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Up to `m` different pairs of replies to one prompt: random prompts, then two of its replies."""
        left, right, _ = self.draw_each(np.array([m]), rng)
        return left, right

    def draw_each(self, counts: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same for several people, `counts` (n,) each: (m,) left, right and person, grouped by person."""
        person = np.repeat(np.arange(len(counts)), _DRAWS * counts)
        left, right = draw_pairs(self.table.item_prompt, len(person), rng)
        pair = np.minimum(left, right).astype(np.int64) * self.n_items + np.maximum(left, right)
        _, first = np.unique(np.stack([person, pair]), axis=1, return_index=True)
        kept = np.sort(first)
        start = np.searchsorted(person[kept], np.arange(len(counts)))
        kept = kept[np.arange(len(kept)) - start[person[kept]] < counts[person[kept]]]
        return left[kept], right[kept], person[kept]


def reply_pool(source: Any = None, *, licence: str | None = None, name: str | None = None) -> ReplyPool:
    """A pool from whatever there is.

    Args:
        source: None for the 512 shipped replies (with the attribute labels they were written to); a .jsonl, .csv or .parquet
            file with the columns prompt and reply (or response, or text), whose further numeric columns are scores and whose
            column `controversial` (true or false) or `conversation_type` (PRISM's) marks prompts; a file of choices or a
            `PreferenceDataset`, whose replies are taken; or a list of (prompt, reply).
        licence: of the texts, where the source does not say.
        name: of the pool, where the source has none.

    Raises:
        DataError: the file cannot be read, or entries are no texts.
    """
    if isinstance(source, ReplyPool):
        return source
    if source is None:
        return _shipped()
    if isinstance(source, PreferenceDataset):
        return _of_dataset(source, licence)
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        frame = _frame(path)
        if frame is None:
            return _of_dataset(read(str(path)), licence)
        return _of_frame(frame, path, licence or "", name or path.stem)
    rows = list(source)
    if not all(isinstance(row, (tuple, list)) and len(row) == 2 for row in rows):
        raise DataError("pool: not a list of (prompt, reply); give a file, a data set or such a list")
    return _of_texts(rows, {}, None, licence or "", name or "your replies", "pool")


def _shipped() -> ReplyPool:
    rows = corpus.replies()
    signs = shows(rows)
    given = {attribute: signs[:, place] for place, attribute in enumerate(ATTRIBUTES)}
    texts = [(row.prompt, row.text) for row in rows]
    return _of_texts(texts, given, None, "CC0-1.0", "the shipped replies", "corpus")


def _of_dataset(dataset: PreferenceDataset, licence: str | None) -> ReplyPool:
    return _of_texts(dataset.item_texts(), {}, None, licence or dataset.licence, dataset.name, dataset.name)


def _frame(path: Path) -> Any:
    """The table in a file of single replies; None where it holds choices (`palate.data.read` then says what is wrong)."""
    import polars as pl

    readers = {".jsonl": pl.read_ndjson, ".csv": pl.read_csv, ".parquet": pl.read_parquet}
    if path.suffix not in readers or not path.is_file() or path.stat().st_size == 0:
        return None
    try:
        frame = readers[path.suffix](path)
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({str(error).splitlines()[0][:100]})") from None
    has_reply = any(name in frame.columns for name in _REPLY)
    return frame if has_reply and not _SIDES & set(frame.columns) else None


def _of_frame(frame: Any, path: Path, licence: str, name: str) -> ReplyPool:
    column = next(name for name in _REPLY if name in frame.columns)
    prompts = frame["prompt"].to_list() if "prompt" in frame.columns else [""] * len(frame)
    marks: list[bool] | None = None
    if "controversial" in frame.columns:
        marks = [str(value).lower() in ("true", "1", "yes") for value in frame["controversial"].to_list()]
    elif "conversation_type" in frame.columns:
        marks = ["controvers" in str(value).lower() for value in frame["conversation_type"].to_list()]
    numeric = [name for name in frame.columns if frame[name].dtype.is_numeric() and name != "controversial"]
    given = {name: frame[name].cast(float).to_numpy() for name in numeric}
    for name_, values in given.items():
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise DataError(
                f"{path}: row {bad[0] + 1} has no finite {name_}; give every reply a score, or drop the column"
            )
    return _of_texts(list(zip(prompts, frame[column].to_list(), strict=True)), given, marks, licence, name, str(path))


def _of_texts(
    rows: Sequence[Sequence[Any]],
    given: Mapping[str, np.ndarray],
    marks: Sequence[bool] | None,
    licence: str,
    name: str,
    where: str,
) -> ReplyPool:
    for number, row in enumerate(rows, 1):
        if not all(isinstance(text, str) for text in row) or not row[1].strip():
            raise DataError(f"{where}: entry {number} is {row!r:.60}; give a prompt and a reply that is not empty")
    first: dict[tuple[str, str], int] = {}
    for number, row in enumerate(rows):
        first.setdefault((row[0], row[1]), number)
    if len(first) < 2:
        raise DataError(f"{where}: fewer than two different replies; give at least two to a prompt")
    kept = np.fromiter(first.values(), int)
    table = ItemTable.of([prompt for prompt, _ in first], [reply for _, reply in first])
    order = kept[table.order]
    marked = None
    if marks is not None:
        marked = np.zeros(len(table.prompts), bool)
        np.logical_or.at(marked, table.item_prompt, np.asarray(marks)[order])
    return ReplyPool(name, licence, table, {key: np.asarray(values)[order] for key, values in given.items()}, marked)
