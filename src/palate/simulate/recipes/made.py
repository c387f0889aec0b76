"""What a recipe makes: the choices, everybody's full truth, licences, costs and consistency; and its folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from palate.data import PreferenceDataset, write
from palate.files import write_json, write_text
from palate.simulate.recipes.consistency import Consistency
from palate.simulate.recipes.pool import ReplyPool

__all__ = ["Made", "dataset_of"]


@dataclass(frozen=True)
class Made:
    """Simulated people who answered.

    Args:
        recipe: its name.
        dataset: the choices; where the truth is a number, with `true_probability` and `consensus_probability`, which no
            method sees.
        people: everybody's full truth, by name (`user`): weights or traits, or what the model was told.
        record: settings, seed, the pool's fingerprint, licences, scorers' constants, costs.
        answers: what a model said to every question in both orders; empty where scores decided.
        consistency: of each person with themselves, where a model answered.
    """

    recipe: str
    dataset: PreferenceDataset
    people: Sequence[Mapping[str, Any]]
    record: Mapping[str, Any]
    answers: Sequence[Mapping[str, Any]] = field(default=())
    consistency: Consistency | None = None

    def to_dict(self) -> dict[str, Any]:
        """The record, sizes and the consistency of all together; JSON-able."""
        data = self.dataset
        return {
            "recipe": self.recipe,
            "n_users": data.n_users,
            "n_comparisons": len(data),
            "n_items": data.n_items,
            "n_prompts": data.n_prompts,
            "tie_share": round(float((data.label == 0.5).mean()), 4),
            "fingerprint": data.fingerprint,
            **self.record,
            "consistency": None if self.consistency is None else self.consistency.total(),
        }

    def write(self, folder: str | os.PathLike[str]) -> dict[str, Path]:
        """Write `choices.parquet`, `people.jsonl`, `recipe.json` and, where a model answered, `answers.jsonl` and
        `consistency.csv`.

        Returns:
            Name -> path. `recipe.json` is written last: where it is, the rest is whole.

        Raises:
            StorageError: the folder cannot be written.
        """
        folder = Path(folder)
        files = {"choices": write(self.dataset, folder / "choices.parquet").path}
        files["people"] = _lines(folder / "people.jsonl", self.people)
        if self.consistency is not None:
            files["answers"] = _lines(folder / "answers.jsonl", self.answers)
            files["consistency"] = folder / "consistency.csv"
            write_text(files["consistency"], pl.DataFrame(self.consistency.rows()).write_csv())
        files["recipe"] = folder / "recipe.json"
        write_json(files["recipe"], self.to_dict())
        return files


def _lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def dataset_of(
    pool: ReplyPool,
    name: str,
    users: Sequence[str],
    left: np.ndarray,
    right: np.ndarray,
    user: np.ndarray,
    label: np.ndarray,
    *,
    extra: Mapping[str, np.ndarray] | None = None,
    user_text: Sequence[str] | None = None,
    replies: Mapping[int, str] | None = None,
) -> PreferenceDataset:
    """The choices as a data set.

    Args:
        pool: of the replies; its licence is the data set's.
        name: of the data set.
        users: ids by number.
        left, right: (m,) items of the pool.
        user, label: (m,).
        extra: further row columns.
        user_text: what is known of each person, by number.
        replies: texts of items beyond the pool's (revised replies), by number; they answer the other side's prompt.
    """
    replies = replies or {}

    def text(item: int) -> str:
        return replies[item] if item in replies else pool.reply(item)

    def prompt(first: int, second: int) -> str:
        return pool.prompt(second if first in replies else first)

    sides = list(zip(left.tolist(), right.tolist(), strict=True))
    return PreferenceDataset.from_columns(
        user=[users[number] for number in user],
        prompt=[prompt(first, second) for first, second in sides],
        left=[text(first) for first, _ in sides],
        right=[text(second) for _, second in sides],
        label=label,
        user_text=None if user_text is None else [user_text[number] for number in user],
        extra=extra,
        name=name,
        licence=pool.licence,
    )
