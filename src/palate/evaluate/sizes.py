"""Learning curves in training data: the same methods, fitted to fewer training people or to fewer comparisons.

The parts are nested: the people (or rows) of a smaller part are in every larger one, drawn once per seed. What is asked
stays the same: the same new people, the same answers of theirs, the same held-out rows, so that the points of a curve
differ in training data alone. Each method keeps the settings that it was given, or that tuning chose, for all of the
training data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from palate.errors import ConfigError
from palate.evaluate.cells import Job, cell_key
from palate.evaluate.contenders import Contender
from palate.evaluate.courses import Course
from palate.evaluate.planning import PlannedCell
from palate.evaluate.protocol import Exam
from palate.evaluate.tuning import Budget
from palate.rng import derive
from palate.types import Comparisons

__all__ = ["AXES", "Size", "levels_asked", "parse_sizes", "part_of_exam", "size_cells", "size_jobs", "sizes_of"]

AXES = ("users", "comparisons")
"""What training data can be counted in."""

_FEWEST = {"users": 2, "comparisons": 20}
_PARTS = (8, 4, 2)
"""Without numbers: an eighth, a quarter and half of the training data."""


@dataclass(frozen=True)
class Size:
    """A part of the training data: so many of its people, or of its comparisons."""

    axis: str
    n: int


def parse_sizes(wanted: str | Sequence[str] | Mapping[str, Sequence[int]] | None) -> dict[str, tuple[int, ...]]:
    """Sizes by axis, rising.

    Args:
        wanted: `"users=50,100,all"`, several of these in a list, or a mapping from axis to numbers. "all", which is
            always measured, may be written. An axis without numbers ("users") means an eighth, a quarter and a half.

    Returns:
        Axis to numbers; an empty tuple stands for the three parts.

    Raises:
        ConfigError: an unknown axis, or something that is not a number of people or comparisons.
    """
    if not wanted:
        return {}
    if isinstance(wanted, Mapping):
        return {axis: _numbers(_axis(axis), [str(n) for n in numbers]) for axis, numbers in wanted.items()}
    found: dict[str, tuple[int, ...]] = {}
    for text in [wanted] if isinstance(wanted, str) else wanted:
        name, _, numbers = text.partition("=")
        axis = _axis(name.strip())
        found[axis] = _numbers(axis, numbers.split(","))
    return found


def _axis(axis: str) -> str:
    if axis not in AXES:
        raise ConfigError(f"sizes of {axis!r} are unknown; write users=50,100,all or comparisons=1000,4000,all")
    return axis


def _numbers(axis: str, texts: Sequence[str]) -> tuple[int, ...]:
    found = set()
    for text in (text.strip() for text in texts):
        if text in ("", "all"):
            continue
        if not text.isdecimal() or int(text) < _FEWEST[axis]:
            raise ConfigError(f"sizes: {axis}={text} is not a number of at least {_FEWEST[axis]}, or all")
        found.add(int(text))
    return tuple(sorted(found))


def sizes_of(whole: Mapping[str, int], wanted: Mapping[str, Sequence[int]]) -> list[Size]:
    """The wanted sizes that are smaller than all of the training data, axis by axis, rising.

    Args:
        whole: how many people and comparisons there are to learn from, by axis.
        wanted: of `parse_sizes`.
    """
    found = []
    for axis, numbers in wanted.items():
        parts = numbers or [whole[axis] // part for part in _PARTS]
        found += [Size(axis, n) for n in parts if _FEWEST[axis] <= n < whole[axis]]
    return found


def _whole(course: Course) -> dict[str, int]:
    """The training data of the sample that has the least, so that every sample has every size."""
    exams = [course.exam(sample) for sample in course.splits]
    return {
        "users": min(len(exam.train_users) for exam in exams),
        "comparisons": min(len(exam.train_rows) for exam in exams),
    }


def levels_asked(ks: Sequence[int]) -> tuple[int, ...]:
    """The numbers of answers at which a smaller model is asked: the fewest, about five, and the most."""
    few = min(ks, key=lambda k: (abs(k - 5), k))
    return tuple(sorted({min(ks), few, max(ks)}))


def part_of_exam(exam: Exam, everything: Comparisons, size: Size, *, seed: int) -> Exam:
    """The exam with a part of its training data; only new people are asked.

    Args:
        exam: with all of the training data.
        everything: all rows of the data set.
        size: how much is kept.
        seed: of the order in which people or rows come; a smaller part is the beginning of a larger one.
    """
    rng = derive(seed, "sizes", size.axis)
    if size.axis == "users":
        kept = rng.permutation(exam.train_users)[: size.n]
        rows = exam.train_rows[np.isin(everything.user[exam.train_rows], kept)]
    else:
        rows = np.sort(rng.permutation(exam.train_rows)[: size.n])
    people = np.unique(everything.user[rows])
    ks = levels_asked(list(exam.prefixes))
    return replace(
        exam,
        train=everything.take(rows).for_users(people),
        train_rows=rows,
        train_users=people,
        seen=everything.take(rows[:0]).for_users(people),
        seen_rows=rows[:0],
        prefixes={k: exam.prefixes[k] for k in ks},
        prefix_rows={k: exam.prefix_rows[k] for k in ks},
    )


def size_cells(
    planned: Sequence[PlannedCell], cells: Mapping[str, Mapping[str, Any]], wanted: Mapping[str, Sequence[int]]
) -> dict[Size, list[PlannedCell]]:
    """The cells of the curves: every finished cell of a method that learns, at every size.

    Args:
        planned: the cells of the benchmark.
        cells: what came of them, by key.
        wanted: sizes by axis, of `parse_sizes`.
    """
    found: dict[Size, list[PlannedCell]] = {}
    if not wanted:
        return found
    courses = {id(cell.course): cell.course for cell in planned}
    sizes = {place: sizes_of(_whole(course), wanted) for place, course in courses.items()}
    for cell in planned:
        settings = cells.get(cell.key, {}).get("settings")
        if not isinstance(cell.contender, Contender) or settings is None:
            continue
        contender = replace(cell.contender, fixed=settings, tunable=False)
        for size in sizes[id(cell.course)]:
            more = {"fixed": settings, "tuned": None, "size": [size.axis, size.n]}
            identity = {**cell.identity, **more, "ks": list(levels_asked(cell.course.ks))}
            key = cell_key(identity)
            part = replace(cell, key=key, identity=identity, contender=contender, configurations=1)
            found.setdefault(size, []).append(part)
    return found


def size_jobs(cells: Sequence[PlannedCell]) -> Iterator[Job]:
    """Jobs of cells made by `size_cells`; a part of the training data is made once for all methods."""
    place, exam = None, None
    for cell in cells:
        size = Size(*cell.identity["size"])
        if place != (id(cell.course), cell.sample, size):
            place = (id(cell.course), cell.sample, size)
            whole = cell.course.exam(cell.sample)
            exam = part_of_exam(whole, cell.course.everything, size, seed=cell.sample.seed)
        yield Job(cell.key, cell.identity, cell.contender, exam, None, Budget(), cell.course.group)
