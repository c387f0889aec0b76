"""Training, validation and test on both axes, people and items, with a proof that nothing leaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Literal

import numpy as np

from palate.data.cells import known_items_cells, new_items_cells, temporal_cells
from palate.data.dataset import PreferenceDataset
from palate.data.people import FINAL_SHARE, PeopleParts, part_people
from palate.data.proof import prove
from palate.errors import ConfigError, SplitError

__all__ = ["CELLS", "PROTOCOLS", "Split", "split"]

Protocol = Literal["new-items", "known-items", "temporal"]

PROTOCOLS: tuple[Protocol, ...] = ("new-items", "known-items", "temporal")
"""What is held out: whole prompts or items, rows among known items, or each person's later rows."""

CELLS = (
    "train",
    "seen_validation",
    "seen_test",
    "validation_history",
    "validation_test",
    "new_history",
    "new_test",
    "final_history",
    "final_test",
)
"""The row sets of a split."""

_FIX = {
    "train": "more rows, or smaller test and validation shares",
    "seen_validation": "a larger validation_share, or more rows per person",
    "seen_test": "a larger test_share, or more rows per person",
    "validation_history": "more people, or a larger validation_people",
    "validation_test": "more people, or a larger validation_people or validation_share",
    "new_history": "more people, or a larger test_people",
    "new_test": "more people, or a larger test_people or test_share",
    "final_history": "more people",
    "final_test": "more people",
}


@dataclass(frozen=True, eq=False)
class Split:
    """Rows and people of a data set in cells that share nothing they must not share.

    Row cells are sorted int64 row indices, people sorted int64 user indices. Methods are fitted on `train`; settings
    are chosen on `seen_validation` (the training people) and on `validation_test` after adapting to
    `validation_history` (people unseen so far); results are measured on `seen_test`, and on `new_test` after adapting
    to answers from `new_history`. `final_*` are for the last run only.

    Args:
        protocol: "new-items", "known-items" or "temporal".
        seed: of the draw.
        fold: (i, n) of a cross-validation, or None.
        data_fingerprint: of the data set that was split.
        train: rows of the training people.
        seen_validation: their rows for choosing settings.
        seen_test: their rows for testing.
        validation_history, validation_test: rows of the validation people.
        new_history, new_test: rows of the new people.
        final_history, final_test: rows of the people set aside; empty unless asked for.
        train_full: rows of the training people for a last fit once the settings are chosen: `train`,
            `seen_validation` and what was dropped between them; still apart from `seen_test`.
        train_users, validation_users, new_users, final_users: the people; together all of them.
        group: what the groups of new-items are, "prompt" or "item"; "" in other protocols.
        dropped: rows in no cell, by reason.
        proof: by name, how much two cells share that must share nothing; every value is 0.
        notes: what a reader should know.
    """

    protocol: str
    seed: int
    fold: tuple[int, int] | None
    data_fingerprint: str
    train: np.ndarray
    seen_validation: np.ndarray
    seen_test: np.ndarray
    validation_history: np.ndarray
    validation_test: np.ndarray
    new_history: np.ndarray
    new_test: np.ndarray
    final_history: np.ndarray
    final_test: np.ndarray
    train_full: np.ndarray
    train_users: np.ndarray
    validation_users: np.ndarray
    new_users: np.ndarray
    final_users: np.ndarray
    group: str = ""
    dropped: Mapping[str, int] = field(default_factory=dict)
    proof: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, np.ndarray):
                value.setflags(write=False)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {size:,}" for name, size in self.sizes().items() if size)
        return f"Split({self.protocol}, seed {self.seed}, fold {self.fold}: {sizes})"

    def sizes(self) -> dict[str, int]:
        """Rows per cell."""
        return {name: len(getattr(self, name)) for name in CELLS}


def split(
    dataset: PreferenceDataset,
    protocol: Protocol = "new-items",
    *,
    seed: int,
    fold: tuple[int, int] | None = None,
    test_people: float = 0.2,
    validation_people: float = 0.15,
    test_share: float | None = None,
    validation_share: float | None = None,
    part: str | None = "auto",
    final: bool | float = False,
    required: Sequence[str] | None = None,
) -> Split:
    """Split people and rows for training, choosing settings, and testing.

    Every draw is by hash of the seed and of the person's id or the item's text: the order of rows plays no part, and
    people who join move nobody else (save that a part which nobody falls in takes the person who came nearest).

    *new-items*: groups (prompts; items where there are fewer than 20 prompts) are split as people are, and a row whose
    two items lie in different parts is dropped. *known-items*: all items stay, each person's rows are split so that a
    held-out row shares no item with that person's other rows (see `palate.data.holdout`). *temporal*: each person's
    later rows are held out.

    Args:
        dataset: what to split. An extra column `new_person` of true and false, as simulated people have it, says who the
            new people are: the same in every fold.
        protocol: one of `PROTOCOLS`.
        seed: of the draw.
        fold: (i, n), the i-th of n folds, 0 ≤ i < n: every person is new in exactly one fold, and every prompt is tested
            in exactly one (items, of which a row needs two, are tested in a window that may overlap the next fold's).
        test_people: fraction of people who are new; with `fold` it is 1/n.
        validation_people: fraction of the others on whom settings are chosen.
        test_share: fraction of groups, or of each person's rows, for testing; by default 0.2 of prompts, 0.3 of items,
            0.2 of rows. With `fold` and prompts it is 1/n.
        validation_share: the same for validation, by default 0.15 of prompts, 0.2 of items, 0.1 of rows.
        part: the column of `extra` that says "history" or "heldout" for known-items; "auto" uses one named `part`
            where it is there, None splits anew.
        final: fraction of people to set aside, the same ones for every seed; their rows are `final_history` and
            `final_test`. True is 30 %.
        required: cells that must not be empty; by default all but the final ones, and those too with `final`.

    Raises:
        SplitError: a required cell is empty, the parts overlap, or the data lacks what the protocol needs.
        ConfigError: a setting is unknown or out of range.
    """
    _check_settings(protocol, fold, test_people, validation_people, test_share, validation_share, required)
    aside = FINAL_SHARE if final is True else float(final)
    if not 0 <= aside < 1:
        raise ConfigError(f"final={final!r}; the share of people set aside must be 0 or more and below 1")
    people = part_people(dataset, seed, fold, test_people, validation_people, aside)
    shares = (test_share, validation_share)
    if protocol == "new-items":
        cells = new_items_cells(dataset, people, seed, fold, *shares)
    elif protocol == "known-items":
        cells = known_items_cells(dataset, people, seed, *shares, part)
    else:
        cells = temporal_cells(dataset, people, *shares)
    result = Split(
        protocol=protocol,
        seed=seed,
        fold=fold,
        data_fingerprint=dataset.fingerprint,
        **{name: np.flatnonzero(mask) for name, mask in cells.masks.items()},
        **{f"{name}_users": np.flatnonzero(people.number == i) for i, name in enumerate(PeopleParts.NAMES)},
        group=cells.group,
        dropped=cells.dropped,
        proof=prove(dataset, protocol, cells),
        notes=tuple(cells.notes),
    )
    _check_cells(result, CELLS[: None if final else -2] if required is None else required)
    return result


def _check_settings(
    protocol: str,
    fold: tuple[int, int] | None,
    test_people: float,
    validation_people: float,
    test_share: float | None,
    validation_share: float | None,
    required: Sequence[str] | None,
) -> None:
    if protocol not in PROTOCOLS:
        raise ConfigError(f"unknown protocol {protocol!r}; use one of: {', '.join(PROTOCOLS)}")
    if fold is not None and not (len(fold) == 2 and fold[1] >= 2 and 0 <= fold[0] < fold[1]):
        raise ConfigError(f"fold={fold!r}; use (i, n) with n ≥ 2 and 0 ≤ i < n")
    named = {
        "test_people": test_people,
        "validation_people": validation_people,
        "test_share": test_share,
        "validation_share": validation_share,
    }
    for name, value in named.items():
        if value is not None and not 0 < value < 1:
            raise ConfigError(f"{name}={value!r}; it must lie between 0 and 1")
    if (test_share or 0) + (validation_share or 0) >= 1:
        raise ConfigError(f"test_share={test_share} and validation_share={validation_share} leave nothing to train on")
    unknown = [name for name in required or () if name not in CELLS]
    if unknown:
        raise ConfigError(f"required names no cell {unknown[0]!r}; there are: {', '.join(CELLS)}")


def _check_cells(result: Split, required: Sequence[str]) -> None:
    overlaps = [f"{name}: {shared:,}" for name, shared in result.proof.items() if shared]
    if overlaps:
        raise SplitError(f"the {result.protocol} split leaks ({'; '.join(overlaps)}); mend the parts or split anew")
    empty = [name for name in required if len(getattr(result, name)) == 0]
    if empty:
        dropped = f" ({', '.join(f'{n:,} rows dropped: {why}' for why, n in result.dropped.items() if n)})"
        raise SplitError(
            f"the {result.protocol} split leaves {', '.join(empty)} empty{dropped if dropped != ' ()' else ''}; "
            f"it needs {_FIX[empty[0]]}{', or fewer people set aside' if len(result.final_users) else ''}; or another seed"
        )
