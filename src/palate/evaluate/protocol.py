"""The exam every method sits: what it learns from, and what it is asked. The same for all methods, by construction.

seen people   fit on their training rows, asked about their held-out rows
new people    one fixed cohort; adapted to the first k of their history rows, nested, in one drawn order; asked about
              the same held-out rows at every k
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from palate.rng import derive
from palate.statistics import MINIMUM_PEOPLE
from palate.types import Comparisons

if TYPE_CHECKING:
    from palate.data import Split

__all__ = ["KS", "Exam", "Part", "answers_in_order", "largest_k", "make_exam", "part_of"]

KS = (0, 1, 3, 5, 10, 20, 40)
"""Numbers of answers after which new people are scored."""


@dataclass(frozen=True)
class Part:
    """The rows and people of a split that one exam uses.

    Args:
        seen: rows asked about training people; may be empty.
        people: the new people, as numbers of the data set.
        history: rows they may be adapted to.
        test: rows they are asked about.
    """

    seen: np.ndarray
    people: np.ndarray
    history: np.ndarray
    test: np.ndarray


def part_of(split: Split, name: str) -> Part:
    """The part named "test", "validation" (the only one tuning sees) or "final" (people set aside; nobody seen)."""
    if name == "validation":
        return Part(split.seen_validation, split.validation_users, split.validation_history, split.validation_test)
    if name == "final":
        return Part(split.seen_test[:0], split.final_users, split.final_history, split.final_test)
    return Part(split.seen_test, split.new_users, split.new_history, split.new_test)


@dataclass(frozen=True)
class Exam:
    """One exam.

    Args:
        train: rows to fit on; its people are numbered 0 … in the order of `train_users`.
        train_rows: where these rows are in the data set.
        train_users: (n,) those people as numbers of the data set.
        seen: held-out rows of training people, numbered as in `train`.
        seen_rows: where these rows are in the data set.
        cohort: (c,) the new people, as numbers of the data set.
        prefixes: k -> the first k history rows of everybody in the cohort; people numbered as in `cohort`.
        prefix_rows: k -> where these rows are in the data set.
        new: held-out rows of the cohort, people numbered as in `cohort`.
        new_rows: where these rows are in the data set.
    """

    train: Comparisons
    train_rows: np.ndarray
    train_users: np.ndarray
    seen: Comparisons
    seen_rows: np.ndarray
    cohort: np.ndarray
    prefixes: Mapping[int, Comparisons]
    prefix_rows: Mapping[int, np.ndarray]
    new: Comparisons
    new_rows: np.ndarray


def make_exam(
    everything: Comparisons,
    train: np.ndarray,
    train_users: np.ndarray,
    part: Part,
    ks: Sequence[int],
    *,
    seed: int,
    by_time: bool = False,
) -> Exam:
    """The exam on one part of a split.

    Args:
        everything: all rows of the data set, in its order and with its numbers of people.
        train: training rows.
        train_users: training people.
        part: what is asked.
        ks: numbers of answers; the cohort is who has the largest one and at least one held-out row.
        seed: of the order in which history rows count as answers.
        by_time: take history rows in the order of `everything.time` instead of a random one.
    """
    rows, rank = answers_in_order(everything, part.history, seed=seed, by_time=by_time)
    cohort = _cohort(everything, part, max(ks))
    member, trained = np.isin(everything.user, cohort), np.isin(everything.user, train_users)
    train, seen = train[trained[train]], part.seen[trained[part.seen]]
    new = part.test[member[part.test]]
    prefix_rows = {k: rows[(rank < k) & member[rows]] for k in ks}
    return Exam(
        train=everything.take(train).for_users(train_users),
        train_rows=train,
        train_users=train_users,
        seen=everything.take(seen).for_users(train_users),
        seen_rows=seen,
        cohort=cohort,
        prefixes={k: everything.take(prefix).for_users(cohort) for k, prefix in prefix_rows.items()},
        prefix_rows=prefix_rows,
        new=everything.take(new).for_users(cohort),
        new_rows=new,
    )


def answers_in_order(
    everything: Comparisons, history: np.ndarray, *, seed: int, by_time: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """History rows in the order they count as answers, and each row's place (0 is the first) among its person's."""
    if by_time and everything.time is not None:
        place = everything.time[history]
    else:
        place = derive(seed, "answers").random(len(everything))[history]
    user = everything.user[history]
    order = np.lexsort((place, user))
    ordered = user[order]
    start = np.searchsorted(ordered, ordered, side="left")
    return history[order], np.arange(len(order)) - start


def largest_k(
    everything: Comparisons, parts: Iterable[Part], ks: Sequence[int], *, least: int = MINIMUM_PEOPLE, enough: int = 50
) -> tuple[int, int]:
    """The largest k for which the cohort, over all parts, keeps enough people, and how many that are.

    Enough are half of those with any held-out rows, but no more than `enough` of them and no fewer than `least` (all where
    there are fewer): the few who answered most would speak for everybody else, in intervals too wide to say anything.
    """
    parts = list(parts)
    sizes = {k: len(np.unique(np.concatenate([_cohort(everything, part, k) for part in parts]))) for k in sorted(ks)}
    most = max(sizes.values())
    needed = max(min(least, most), min(enough, most // 2))
    best = max(k for k, size in sizes.items() if size >= needed)
    return best, sizes[best]


def _cohort(everything: Comparisons, part: Part, k: int) -> np.ndarray:
    answers = np.bincount(everything.user[part.history], minlength=everything.n_users)
    asked = np.bincount(everything.user[part.test], minlength=everything.n_users)
    people = np.asarray(part.people)
    return people[(answers[people] >= k) & (asked[people] > 0)]
