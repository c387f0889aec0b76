"""Rows that say again what a person said before, or the opposite."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate.data.dataset import PreferenceDataset

__all__ = ["Repeats", "find_repeats", "pair_codes", "repeat_notes"]


@dataclass(frozen=True)
class Repeats:
    """How often people were asked the same thing twice.

    Args:
        duplicates: rows that equal an earlier row in everything (person, sides, label, weight, time).
        repeated_pairs: (person, unordered pair) met in more than one row.
        contradicted_pairs: those of them where the person preferred one item and, in another row, the other.
    """

    duplicates: int
    repeated_pairs: int
    contradicted_pairs: int


def pair_codes(dataset: PreferenceDataset) -> np.ndarray:
    """(m,) int64, equal for two rows exactly where person and unordered pair are equal."""
    low = np.minimum(dataset.left, dataset.right).astype(np.int64)
    high = np.maximum(dataset.left, dataset.right)
    # Two steps, so that people × items × items need not fit in 64 bits.
    pair = np.unique(low * dataset.n_items + high, return_inverse=True)[1]
    return dataset.user.astype(np.int64) * (int(pair.max(initial=0)) + 1) + pair


def find_repeats(dataset: PreferenceDataset) -> Repeats:
    """Count exact duplicates, repeated pairs and contradictions."""
    pair, counts = np.unique(pair_codes(dataset), return_inverse=True, return_counts=True)[1:]
    # The label as the preference for the lower-numbered item, whichever side it stood on.
    lower = np.where(dataset.left < dataset.right, dataset.label, 1.0 - dataset.label)
    again = np.flatnonzero(counts[pair] > 1)
    up = np.bincount(pair[again][lower[again] > 0.5], minlength=len(counts)) > 0
    down = np.bincount(pair[again][lower[again] < 0.5], minlength=len(counts)) > 0
    side = (dataset.left < dataset.right)[again]
    columns = [pair[again], side, dataset.label[again], dataset.weight[again]]
    if dataset.time is not None:
        columns.append(np.nan_to_num(dataset.time[again], nan=-1.0))
    distinct = len(np.unique(np.column_stack(columns), axis=0)) if len(again) else 0
    return Repeats(
        duplicates=len(again) - distinct,
        repeated_pairs=int(np.sum(counts > 1)),
        contradicted_pairs=int(np.sum(up & down)),
    )


def repeat_notes(dataset: PreferenceDataset) -> list[str]:
    """What a reader should know of repeats, and of there being only one person; empty where all is as usual."""
    repeats = find_repeats(dataset)
    notes = []
    if repeats.duplicates:
        rows = "row repeats" if repeats.duplicates == 1 else "rows repeat"
        notes.append(f"{repeats.duplicates:,} {rows} an earlier one exactly; kept, and counted again")
    if repeats.contradicted_pairs:
        notes.append(
            f"{repeats.contradicted_pairs:,} {'pair was' if repeats.contradicted_pairs == 1 else 'pairs were'} decided "
            "both ways by the same person; kept, as the audit learns from them how consistent people are"
        )
    if dataset.n_users == 1:
        notes.append("there is only one person; whatever compares people needs more")
    return notes
