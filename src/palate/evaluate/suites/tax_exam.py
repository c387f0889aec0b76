"""The verdicts of the suite `tax` side by side: people × pairs, over both halves and all seeds, and estimates from them.

A tax is a *change* of accuracy in points: negative where personalizing loses. Every category counts the same in a mean.
Intervals resample people and prompts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from palate.evaluate.suites.result import Row
from palate.evaluate.suites.tax_methods import decode
from palate.statistics import Estimate, two_way_many

__all__ = ["Cells", "Exam", "Part", "Table", "gather", "interval", "tax_of"]

Cells = Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]
Table = tuple[list[str], list[list[Any]]]


@dataclass
class Part:
    """What one figure adds to a finding: rows, tables and pictures by figure."""

    rows: list[Row] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)
    pictures: dict[str, str] = field(default_factory=dict)


@dataclass
class Exam:
    """All verdicts of one start: both halves and all seeds side by side.

    Args:
        user: (rows,) person of each verdict, numbered over seeds.
        pair: (rows,) number of the pair.
        prompt: (rows,) number of its prompt.
        category: (rows,) of the pair.
        right: name -> (rows,) 1, ½ or 0; "base" is the base reward.
        accuracy: name -> (people,) on other prompts, mean over halves.
        names: (people,) what each person is called.
        skipped: name -> why it did not run.
    """

    user: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    pair: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    prompt: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    category: np.ndarray = field(default_factory=lambda: np.zeros(0, str))
    right: dict[str, np.ndarray] = field(default_factory=dict)
    accuracy: dict[str, np.ndarray] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def categories(self) -> list[str]:
        """In the order of the pairs."""
        return list(dict.fromkeys(self.category.tolist()))

    def once(self, values: np.ndarray, category: str) -> np.ndarray:
        """(pairs,) of a category, from rows that are the same for everybody of a seed; mean over seeds."""
        own = np.flatnonzero(self.category == category)
        _, pair = np.unique(self.pair[own], return_inverse=True)
        return np.bincount(pair, values[own]) / np.bincount(pair)

    def weight(self, categories: Iterable[str]) -> np.ndarray:
        """(rows,) such that each of these categories counts the same, and others nothing."""
        weight = np.zeros(len(self.category))
        for name in categories:
            own = self.category == name
            weight[own] = 1.0 / len(np.unique(self.pair[own]))
        return weight

    def per_person(self, values: np.ndarray, categories: Iterable[str]) -> np.ndarray:
        """(people,) weighted means of rows."""
        weight = self.weight(categories)
        return np.bincount(self.user, weight * values) / np.bincount(self.user, weight)


def gather(cells: Cells, start: str) -> Exam:
    """The verdicts of a start."""
    exam, blocks = Exam(), _blocks(cells)
    if not blocks:
        return exam
    people = {seed: len(base["people"]) or _people(cells, seed) for (seed, _), base in blocks.items()}
    first = dict(zip(people, np.cumsum([0, *people.values()]), strict=False))
    numbers: dict[str, int] = {}
    user, pair, prompt, category, base = [], [], [], [], []
    for (seed, _), block in blocks.items():
        own = np.array([numbers.setdefault(name, len(numbers)) for name in block["pairs"]])
        user.append(np.repeat(first[seed] + np.arange(people[seed]), len(own)))
        pair.append(np.tile(own, people[seed]))
        prompt.append(np.tile(block["prompt"], people[seed]))
        category.append(np.tile(block["category"], people[seed]))
        base.append(np.tile(decode([block["right"]])[0], people[seed]))
    exam.user, exam.pair, exam.prompt, exam.category = map(np.concatenate, (user, pair, prompt, category))
    exam.right["base"] = np.concatenate(base)
    exam.names = [name for seed in people for name in _named(blocks, seed, people[seed])]
    exam.accuracy["base"] = _means([blocks[key]["accuracy"] for key in blocks], list(blocks))
    of_start = [(i, v) for i, v in cells if i["figure"] == "tax" and i["start"] == start]
    for name in dict.fromkeys(identity["setting"] for identity, _ in of_start):
        found = {(i["seed"], i["half"]): v for i, v in of_start if i["setting"] == name}
        if reasons := [value["skipped"] for value in found.values() if "skipped" in value]:
            exam.skipped[name] = reasons[0]
            continue
        exam.right[name] = np.concatenate([decode(found[key]["right"]).ravel() for key in blocks])
        exam.accuracy[name] = _means([found[key]["accuracy"] for key in blocks], list(blocks))
    return exam


def tax_of(
    exam: Exam, names: Sequence[str], against: str, categories: Sequence[str], *, rng: int = 0
) -> dict[str, Estimate]:
    """Change of accuracy in points, name - `against`, mean over categories, with people and prompts resampled."""
    weight = exam.weight(categories)
    kept = weight > 0
    values = np.stack([100.0 * (exam.right[name] - exam.right[against])[kept] for name in names], axis=1)
    found = two_way_many(values, exam.user[kept], exam.prompt[kept], weight=weight[kept], rng=rng)
    return dict(zip(names, found, strict=True))


def interval(told: Mapping[str, Any]) -> str:
    """The ends of a row's interval as text."""
    return "" if told["low"] is None else f"{told['low']:+.1f} to {told['high']:+.1f}"


def _blocks(cells: Cells) -> dict[tuple[int, str], Mapping[str, Any]]:
    """(seed, half) -> the base reward's cell."""
    return {(i["seed"], i["half"]): values for i, values in cells if i["figure"] == "base"}


def _people(cells: Cells, seed: int) -> int:
    return next(len(v["right"]) for i, v in cells if i["figure"] == "tax" and i["seed"] == seed and "right" in v)


def _named(blocks: Mapping[tuple[int, str], Mapping[str, Any]], seed: int, count: int) -> list[str]:
    """Number and taste of each person; the numbers go on over seeds."""
    tastes = next(block["people"] for (of, _), block in blocks.items() if of == seed) or [""] * count
    return [
        f"person {number}" + (f" of seed {seed}" if seed else "") + (f" ({taste})" if taste else "")
        for number, taste in enumerate(tastes)
    ]


def _means(accuracy: Sequence[Sequence[float]], keys: Sequence[tuple[int, str]]) -> np.ndarray:
    """(people,) means over the halves of each seed, the seeds one after another."""
    seeds = dict.fromkeys(seed for seed, _ in keys)
    return np.concatenate(
        [np.mean([own for own, (of, _) in zip(accuracy, keys, strict=True) if of == seed], axis=0) for seed in seeds]
    )
