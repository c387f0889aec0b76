"""Comparisons of many people as normalised columns: each person, prompt and reply once, the rest numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from palate.data.text import mix, pair_keys, text_keys
from palate.errors import DataError, FingerprintError, InputError
from palate.files import atomic_path
from palate.types import Comparisons, Items

__all__ = ["CONSENSUS_PROBABILITY", "NEW_PERSON", "TRUE_PROBABILITY", "PreferenceDataset"]

NEW_PERSON = "new_person"
"""Extra column, true or false and the same in all rows of a person: whether splits keep the person for testing on new people."""

TRUE_PROBABILITY, CONSENSUS_PROBABILITY = "true_probability", "consensus_probability"
"""Extra columns of simulated people: the probability that left is preferred, and the best one that knows nobody."""


@dataclass(frozen=True, eq=False)
class PreferenceDataset:
    """Who preferred what: m comparisons of `n_users` people over `n_items` items.

    Made by `palate.data.read`, `palate.data.load` or `from_rows`, which check every row. People, prompts, replies
    and items are numbered in sorted order, so the order of the rows changes no number. Arrays are read-only.

    Args:
        users: ids, sorted.
        prompts: distinct prompt texts, sorted.
        responses: distinct reply texts, sorted.
        item_prompt: (n_items,) int32 into `prompts`.
        item_response: (n_items,) int32 into `responses`.
        left: (m,) int32 item on the left.
        right: (m,) int32 item on the right.
        user: (m,) int32 into `users`.
        label: (m,) float64 in [0, 1], the probability that the person prefers left.
        weight: (m,) float64 ≥ 0.
        time: (m,) float64 seconds since 1970 (UTC), NaN where a row has none; None where no row has one.
        user_text: what is known about each person in words, "" where nothing; None where nobody has any.
        name: how reports call the data.
        licence: under which licence it may be used.
        extra: further row columns by name, (m,) each; `part` is read by the known-items split.
        notes: what a reader should know: duplicates, contradictions, rows left out.
        left_out: the bad rows that `on_error="skip"` left out, each with its line.
    """

    users: tuple[str, ...]
    prompts: tuple[str, ...]
    responses: tuple[str, ...]
    item_prompt: np.ndarray
    item_response: np.ndarray
    left: np.ndarray
    right: np.ndarray
    user: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    time: np.ndarray | None = None
    user_text: tuple[str, ...] | None = None
    name: str = "data"
    licence: str = ""
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rows = ("left", "right", "user", "label", "weight", "time")
        for name in (*rows, "item_prompt", "item_response"):
            column = getattr(self, name)
            if column is not None:
                column.setflags(write=False)
        m = len(self.left)
        for name, column in [*((name, getattr(self, name)) for name in rows), *self.extra.items()]:
            if column is not None and column.shape != (m,):
                raise InputError(f"{name} has shape {column.shape}; with {m} comparisons it must be ({m},)")

    # -- making one ---------------------------------------------------------------------------------------------------

    @classmethod
    def from_rows(cls, rows: Any, **options: Any) -> PreferenceDataset:
        """A data set from dictionaries, one a row; the options are those of `palate.data.read`.

        Raises:
            DataError: some rows are bad; the error carries all of them with their numbers.
        """
        from palate.data.formats import read

        return read(rows, **options)

    @classmethod
    def from_columns(
        cls,
        *,
        user: pl.Series | Sequence[str],
        prompt: pl.Series | Sequence[str],
        left: pl.Series | Sequence[str],
        right: pl.Series | Sequence[str],
        label: np.ndarray,
        weight: np.ndarray | None = None,
        time: np.ndarray | None = None,
        user_text: pl.Series | Sequence[str] | None = None,
        extra: Mapping[str, np.ndarray] | None = None,
        hashed_sides: bool = False,
        **about: Any,
    ) -> PreferenceDataset:
        """A data set from columns that are known to be good (the readers check them row by row).

        Args:
            user, prompt, left, right: m texts each.
            label: (m,) probability that left is preferred.
            weight: (m,), all 1 by default.
            time: (m,) seconds, or None.
            user_text: m texts about the person of the row ("" or null for none), or None.
            extra: further columns.
            hashed_sides: the sides have no meaning yet (chosen and rejected): draw them by a hash of the person
                and the two texts, so that neither the order nor what was chosen decides who is left.
            about: `name`, `licence`, `notes`, `left_out`.
        """
        users, user_number = _factorise([_texts(user)])
        prompts, prompt_number = _factorise([_texts(prompt)])
        responses, response_number = _factorise([_texts(left), _texts(right)])
        m = len(user_number)
        item_of = np.tile(prompt_number.astype(np.int64), 2) * max(1, len(responses)) + response_number
        items, item_number = np.unique(item_of, return_inverse=True)
        item_number = item_number.astype(np.int32)
        dataset = cls(
            users=users,
            prompts=prompts,
            responses=responses,
            item_prompt=(items // max(1, len(responses))).astype(np.int32),
            item_response=(items % max(1, len(responses))).astype(np.int32),
            left=item_number[:m].copy(),
            right=item_number[m:].copy(),
            user=user_number,
            label=np.array(label, np.float64),
            weight=np.ones(m) if weight is None else np.array(weight, np.float64),
            time=None if time is None else np.array(time, np.float64),
            user_text=None if user_text is None else _one_text_each(user_number, _texts(user_text), len(users)),
            extra={name: _typed(name, column) for name, column in (extra or {}).items()},
            **about,
        )
        return dataset._with_hashed_sides() if hashed_sides else dataset

    def _with_hashed_sides(self) -> PreferenceDataset:
        """Swap the rows whose unordered pair hashes so for this person; repeats of a pair keep their sides."""
        person = mix(self.user_keys, "side")[self.user]
        left, right = (
            mix(person ^ self._item_keys[side].astype(np.uint64), "side") for side in (self.left, self.right)
        )
        swap = left > right
        told = {
            name: self.extra[name]
            for name in (TRUE_PROBABILITY, CONSENSUS_PROBABILITY)
            if name in self.extra and np.issubdtype(self.extra[name].dtype, np.floating)
        }
        return replace(
            self,
            left=np.where(swap, self.right, self.left),
            right=np.where(swap, self.left, self.right),
            label=np.where(swap, 1.0 - self.label, self.label),
            extra={**self.extra, **{name: np.where(swap, 1.0 - column, column) for name, column in told.items()}},
        )

    # -- sizes and identity -------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.left)

    def __repr__(self) -> str:
        return (
            f"PreferenceDataset({self.name!r}: {len(self):,} comparisons, {self.n_users:,} users, "
            f"{self.n_items:,} items, {self.n_prompts:,} prompts)"
        )

    @property
    def n_users(self) -> int:
        """How many people."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """How many items (distinct prompt and reply)."""
        return len(self.item_prompt)

    @property
    def n_prompts(self) -> int:
        """How many distinct prompts."""
        return len(self.prompts)

    @cached_property
    def user_keys(self) -> np.ndarray:
        """(n_users,) int64 ≥ 0, a stable hash of each id."""
        return text_keys(self.users)

    @cached_property
    def _item_keys(self) -> np.ndarray:
        return pair_keys(text_keys(self.prompts)[self.item_prompt], text_keys(self.responses)[self.item_response])

    def item_keys(self) -> np.ndarray:
        """(n_items,) int64 ≥ 0, a stable hash of each item's two texts: the `keys` of `Items`."""
        return self._item_keys.copy()

    @cached_property
    def fingerprint(self) -> str:
        """32 hex digits fixed by the rows in their order, whatever file or column type they came from.

        Covers users, prompts, replies, labels, weights, times, user texts and `part`; not the name, the licence
        or other extra columns.
        """
        digest = hashlib.blake2b(b"palate comparisons 1", digest_size=16)
        for column in (self.user_keys[self.user], self._item_keys[self.left], self._item_keys[self.right]):
            digest.update(np.ascontiguousarray(column, "<i8").tobytes())
        for column in (self.label, self.weight):
            # Six decimals: a float32 column and its float64 copy are the same data.
            digest.update((np.round(column, 6) + 0.0).astype("<f8").tobytes())
        if self.time is not None:
            digest.update(b"time" + np.round(self.time, 3).astype("<f8").tobytes())
        if self.user_text is not None:
            digest.update(b"user text" + text_keys(self.user_text).astype("<i8").tobytes())
        if "part" in self.extra:
            digest.update(b"part" + "\x1f".join(map(str, self.extra["part"].tolist())).encode())
        return digest.hexdigest()

    def counts(self) -> np.ndarray:
        """(n_users,) comparisons per person."""
        return np.bincount(self.user, minlength=self.n_users)

    # -- views --------------------------------------------------------------------------------------------------------

    def item_texts(self) -> list[tuple[str, str]]:
        """Prompt and reply of every item, in order."""
        return [
            (self.prompts[p], self.responses[r])
            for p, r in zip(self.item_prompt.tolist(), self.item_response.tolist(), strict=True)
        ]

    def comparisons(self, items: Items, rows: np.ndarray | None = None) -> Comparisons:
        """The comparisons as arrays over a table of items.

        Args:
            items: `n_items` items in the order of `item_texts` (as `palate.features.featurize` makes them).
            rows: indices or mask of the rows wanted, all by default.

        Returns:
            Comparisons of all `n_users` people, whichever rows are taken.

        Raises:
            InputError: the table has another length.
            FingerprintError: its keys say that it holds the items of other data.
        """
        if len(items) != self.n_items:
            raise InputError(f"{len(items)} items for data with {self.n_items}; featurize this data set")
        known = items.keys >= 0
        if not np.array_equal(items.keys[known], self._item_keys[known]):
            raise FingerprintError(f"the items do not belong to {self.name!r}; featurize this data set")
        rows = np.arange(len(self)) if rows is None else np.asarray(rows)
        return Comparisons(
            items=items,
            left=self.left[rows],
            right=self.right[rows],
            user=self.user[rows],
            n_users=self.n_users,
            label=self.label[rows],
            weight=self.weight[rows],
            time=None if self.time is None else self.time[rows],
        )

    def subset(self, rows: np.ndarray) -> PreferenceDataset:
        """A data set of some rows (indices or mask), in that order, with only the people and texts they use."""
        rows = np.asarray(rows)
        user, users = _renumber(self.user[rows])
        item, items = _renumber(np.concatenate([self.left[rows], self.right[rows]]))
        item_prompt, prompts = _renumber(self.item_prompt[items])
        item_response, responses = _renumber(self.item_response[items])
        return replace(
            self,
            users=tuple(self.users[i] for i in users),
            prompts=tuple(self.prompts[i] for i in prompts),
            responses=tuple(self.responses[i] for i in responses),
            item_prompt=item_prompt,
            item_response=item_response,
            left=item[: len(user)].copy(),
            right=item[len(user) :].copy(),
            user=user,
            label=self.label[rows],
            weight=self.weight[rows],
            time=None if self.time is None else self.time[rows],
            user_text=None if self.user_text is None else tuple(self.user_text[i] for i in users),
            extra={name: column[rows] for name, column in self.extra.items()},
        )

    def to_frame(self) -> pl.DataFrame:
        """The rows as a frame: user, prompt, left, right, label, and what else there is."""
        responses = pl.Series(self.responses, dtype=pl.String)
        columns: dict[str, Any] = {
            "user": pl.Series(self.users, dtype=pl.String).gather(self.user),
            "prompt": pl.Series(self.prompts, dtype=pl.String).gather(self.item_prompt[self.left]),
            "left": responses.gather(self.item_response[self.left]),
            "right": responses.gather(self.item_response[self.right]),
            "label": self.label,
        }
        if np.any(self.weight != 1.0):
            columns["weight"] = self.weight
        if self.time is not None:
            columns["time"] = pl.Series(self.time).fill_nan(None)
        if self.user_text is not None:
            columns["user_text"] = pl.Series(self.user_text, dtype=pl.String).gather(self.user)
        return pl.DataFrame({**columns, **self.extra})

    def write_parquet(self, path: str | Path) -> None:
        """Write `to_frame` as Parquet, atomically; `palate.data.read` gives the same data set back.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        with atomic_path(path) as temporary:
            self.to_frame().write_parquet(temporary)


def _texts(column: pl.Series | Sequence[str]) -> pl.Series:
    return column.cast(pl.String) if isinstance(column, pl.Series) else pl.Series(column, dtype=pl.String)


def _typed(name: str, column: np.ndarray) -> np.ndarray:
    """The columns of simulated people as numbers and truth values, where a text file made words of them."""
    if column.dtype != object:
        return column
    if name == NEW_PERSON and {str(value).lower() for value in column} <= {"true", "false"}:
        return np.array([str(value).lower() == "true" for value in column], bool)
    if name in (TRUE_PROBABILITY, CONSENSUS_PROBABILITY):
        try:
            return column.astype(np.float64)
        except (TypeError, ValueError):
            return column
    return column


def _factorise(columns: Sequence[pl.Series]) -> tuple[tuple[str, ...], np.ndarray]:
    """Distinct texts, sorted, and the number of every value of the columns, laid end to end, (sum,) int32."""
    column = pl.concat([column.rename("text") for column in columns])
    table = column.unique().sort().to_frame().with_row_index("number")
    if table.get_column("text").null_count():
        raise DataError("a text is null; every user, prompt and reply must be a text")
    numbers = column.to_frame().join(table, on="text", how="left", maintain_order="left").get_column("number")
    return tuple(table.get_column("text").to_list()), numbers.to_numpy().astype(np.int32)


def _renumber(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(m,) int32 numbers without gaps, and the old number of each new one."""
    old, new = np.unique(numbers, return_inverse=True)
    return new.astype(np.int32), old


def _one_text_each(user: np.ndarray, texts: pl.Series, n_users: int) -> tuple[str, ...] | None:
    """The first text that is not empty of each person, in row order; None where there is none at all."""
    frame = pl.DataFrame({"user": user, "text": texts}).filter(pl.col("text").str.strip_chars() != "")
    if frame.is_empty():
        return None
    first = frame.unique("user", keep="first", maintain_order=True)
    by_user = [""] * n_users
    for person, text in first.iter_rows():
        by_user[person] = text
    return tuple(by_user)
