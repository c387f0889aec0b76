"""Who is for training, for choosing settings, new, or set aside: by hash of the id, so that nobody moves another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from palate.data.dataset import NEW_PERSON, PreferenceDataset
from palate.errors import SplitError
from palate.rng import hash_fraction

__all__ = ["FINAL_SHARE", "PeopleParts", "named_new", "part_people"]

FINAL_SHARE = 0.3
"""Fraction of people set aside for the last run."""

_FINAL_SALT = "palate final people 1"


@dataclass(frozen=True)
class PeopleParts:
    """The part of each person.

    Args:
        number: (n_users,) int8 into `NAMES`.
    """

    NAMES: ClassVar[tuple[str, ...]] = ("train", "validation", "new", "final")

    number: np.ndarray

    def rows(self, user: np.ndarray, name: str) -> np.ndarray:
        """Mask of the rows (m,) whose person is in a part."""
        return (self.number == self.NAMES.index(name))[user]


def part_people(
    dataset: PreferenceDataset,
    seed: int,
    fold: tuple[int, int] | None,
    test_people: float,
    validation_people: float,
    final: float,
) -> PeopleParts:
    """Draw the parts.

    Args:
        dataset: whose people; where a column `new_person` of true and false says who is new, it does, in every fold.
        seed: of the draw; the people set aside do not depend on it.
        fold: (i, n) or None.
        test_people: fraction of new people among those not set aside; without a fold.
        validation_people: fraction of validation people among the rest.
        final: fraction of people to set aside; 0 for nobody. A larger fraction adds people and swaps nobody.

    Raises:
        SplitError: there are too few people for all parts.
    """
    needed = 4 if final else 3
    if dataset.n_users < needed:
        people = "one person" if dataset.n_users == 1 else f"{dataset.n_users} people"
        raise SplitError(
            f"{dataset.name} has {people}; a split needs at least {needed}: collect answers of more people"
        )
    number = np.zeros(dataset.n_users, np.int8)
    if final:
        _take(number, _draws(dataset, _FINAL_SALT), final, PeopleParts.NAMES.index("final"))
    known_new = named_new(dataset)
    if known_new is None:
        draw = _draws(dataset, f"palate people {seed}")
        low, high = (0.0, test_people) if fold is None else (fold[0] / fold[1], (fold[0] + 1) / fold[1])
        # Turned so that the wanted fold begins at 0: then the smallest draws are always the new people.
        turned = np.where((draw >= low) & (draw < high), draw - low, 1.0 + draw)
        _take(number, turned, high - low, PeopleParts.NAMES.index("new"), steal=fold is None)
    else:
        number[known_new & (number == 0)] = PeopleParts.NAMES.index("new")
    validation_draw = _draws(dataset, f"palate validation people {seed} {fold}")
    _take(number, validation_draw, validation_people, PeopleParts.NAMES.index("validation"))
    return PeopleParts(number)


def named_new(dataset: PreferenceDataset) -> np.ndarray | None:
    """(n_users,) who is new by the data's own column `new_person`; None where there is no such column of true and false.

    Raises:
        SplitError: a person is new in some rows only, or everybody is new.
    """
    column = dataset.extra.get(NEW_PERSON)
    if column is None or column.dtype != bool:
        return None
    rows = np.bincount(dataset.user, minlength=dataset.n_users)
    new = np.bincount(dataset.user, column, dataset.n_users)
    mixed = np.flatnonzero((new > 0) & (new < rows))
    if len(mixed):
        raise SplitError(
            f"{NEW_PERSON} is true in some rows of {dataset.users[mixed[0]]!r} only; it must be one value a person"
        )
    if new.all():
        raise SplitError(f"{NEW_PERSON} is true for everybody; somebody must be left to learn from")
    return new > 0 if new.any() else None


def _draws(dataset: PreferenceDataset, salt: str) -> np.ndarray:
    return np.array([hash_fraction(user, salt) for user in dataset.users])


def _take(number: np.ndarray, draw: np.ndarray, share: float, part: int, *, steal: bool = True) -> None:
    """Move the people whose draw is below `share` from part 0 to `part`; the lowest one where it would be nobody."""
    free = np.flatnonzero(number == 0)
    taken = free[draw[free] < share]
    if not len(taken) and steal and len(free):
        taken = free[[np.argmin(draw[free])]]
    number[taken] = part
