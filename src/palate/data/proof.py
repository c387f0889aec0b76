"""Evidence that a split does not leak: everything that must not be shared, counted on normalised texts."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from palate.data.cells import Cells
from palate.data.dataset import PreferenceDataset

__all__ = ["prove"]

_HISTORIES = ("train", "validation_history", "new_history", "final_history")
_TESTS = ("seen_test", "new_test", "final_test")
_VALIDATIONS = ("seen_validation", "validation_test")
_OF_PEOPLE = {
    "training": ("train", "train_full", "seen_validation", "seen_test"),
    "validation": ("validation_history", "validation_test"),
    "new": ("new_history", "new_test"),
    "final": ("final_history", "final_test"),
}
_SAME_PERSON = (
    ("train", "seen_validation"),
    ("train", "seen_test"),
    ("train_full", "seen_test"),
    ("validation_history", "validation_test"),
    ("new_history", "new_test"),
    ("final_history", "final_test"),
)


def prove(dataset: PreferenceDataset, protocol: str, cells: Cells) -> dict[str, int]:
    """Count what cells share that must share nothing.

    People and rows are checked in every protocol; prompts or items where groups were split; the items of one and the
    same person for known items; and the order of time for the temporal split. The counts come from the finished cells
    and the texts, not from the draw that made them.

    Returns:
        Name of each check to what is shared; a sound split has only zeros.
    """
    proof = _people(dataset, cells) | _rows(cells)
    by_protocol = {"new-items": _groups, "known-items": _items_of_a_person, "temporal": _time}
    return proof | by_protocol[protocol](dataset, cells)


def _people(dataset: PreferenceDataset, cells: Cells) -> dict[str, int]:
    met = {
        name: np.unique(dataset.user[np.any([cells.masks[cell] for cell in names], axis=0)])
        for name, names in _OF_PEOPLE.items()
    }
    names = list(met)
    return {f"{a} people ∩ {b} people": _shared(met[a], met[b]) for i, a in enumerate(names) for b in names[i + 1 :]}


def _rows(cells: Cells) -> dict[str, int]:
    times_used = np.sum([mask for name, mask in cells.masks.items() if name != "train_full"], axis=0)
    return {
        "rows in two cells": int(np.sum(times_used > 1)),
        "rows of train_full ∩ seen_test": int(np.sum(cells.masks["train_full"] & cells.masks["seen_test"])),
    }


def _groups(dataset: PreferenceDataset, cells: Cells) -> dict[str, int]:
    of_item = cells.normal.prompt if cells.group == "prompt" else cells.normal.item

    def met(names: Iterable[str]) -> np.ndarray:
        mask = np.any([cells.masks[name] for name in names], axis=0)
        return np.unique(of_item[np.concatenate([dataset.left[mask], dataset.right[mask]])])

    learned, chosen, tested = met(_HISTORIES), met(_VALIDATIONS), met(_TESTS)
    kind = f"{cells.group} texts"
    return {
        f"learned {kind} ∩ test {kind}": _shared(learned, tested),
        f"learned {kind} ∩ validation {kind}": _shared(learned, chosen),
        f"validation {kind} ∩ test {kind}": _shared(chosen, tested),
        f"train_full {kind} ∩ test {kind}": _shared(met(["train_full"]), tested),
    }


def _items_of_a_person(dataset: PreferenceDataset, cells: Cells) -> dict[str, int]:
    n = len(cells.normal.item_keys)

    def met(name: str) -> np.ndarray:
        mask = cells.masks[name]
        items = cells.normal.item[np.concatenate([dataset.left[mask], dataset.right[mask]])]
        return np.unique(np.tile(dataset.user[mask].astype(np.int64), 2) * n + items)

    return {f"(person, item text) of {a} ∩ {b}": _shared(met(a), met(b)) for a, b in _SAME_PERSON}


def _time(dataset: PreferenceDataset, cells: Cells) -> dict[str, int]:
    """People with a held-out row that is not later than all of their history."""

    def extreme(mask: np.ndarray, function: np.ufunc, start: float) -> np.ndarray:
        found = np.full(dataset.n_users, start)
        function.at(found, dataset.user[mask], dataset.time[mask])
        return found

    proof = {}
    for early, late in _SAME_PERSON:
        last = extreme(cells.masks[early], np.maximum, -np.inf)
        first = extreme(cells.masks[late], np.minimum, np.inf)
        proof[f"people with {late} not after {early}"] = int(np.sum(last >= first))
    return proof


def _shared(a: np.ndarray, b: np.ndarray) -> int:
    return len(np.intersect1d(a, b, assume_unique=True))
