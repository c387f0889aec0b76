"""Which row falls in which cell of a split, for each protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from palate.data.dataset import PreferenceDataset
from palate.data.holdout import Holdout, hold_out_items, hold_out_late
from palate.data.people import PeopleParts
from palate.data.text import fractions, normal_form, pair_keys, text_keys
from palate.errors import SplitError

__all__ = ["MIN_PROMPTS", "Cells", "NormalItems", "known_items_cells", "new_items_cells", "temporal_cells"]

MIN_PROMPTS = 20
"""With fewer prompts than this, the groups of the new-items protocol are items."""

_PARTS = ("history", "heldout")


@dataclass(frozen=True)
class NormalItems:
    """Items numbered by the normal form of their texts, so that spelling variants are one item.

    Args:
        prompt: (n_items,) number of each item's normalised prompt.
        response: (n_items,) number of its normalised reply.
        item: (n_items,) number of the two together.
        prompt_keys: stable key of each normalised prompt.
        item_keys: stable key of each normalised item.
    """

    prompt: np.ndarray
    response: np.ndarray
    item: np.ndarray
    prompt_keys: np.ndarray
    item_keys: np.ndarray

    @classmethod
    def of(cls, dataset: PreferenceDataset) -> NormalItems:
        """Number the items of a data set."""
        prompts, prompt = np.unique(normal_form(dataset.prompts).to_numpy().astype(object), return_inverse=True)
        responses, response = np.unique(normal_form(dataset.responses).to_numpy().astype(object), return_inverse=True)
        prompt, response = prompt[dataset.item_prompt], response[dataset.item_response]
        codes, item = np.unique(prompt.astype(np.int64) * len(responses) + response, return_inverse=True)
        prompt_keys, response_keys = text_keys(prompts), text_keys(responses)
        item_keys = pair_keys(prompt_keys[codes // len(responses)], response_keys[codes % len(responses)])
        return cls(prompt, response, item, prompt_keys, item_keys)


@dataclass(frozen=True)
class Cells:
    """The rows of every cell, and what the proof needs to check them.

    Args:
        masks: (m,) mask of each cell, by name.
        normal: the items the parts were made from.
        dropped: rows in no cell, by reason.
        group: "prompt" or "item" where groups were split.
        notes: what a reader should know.
    """

    masks: Mapping[str, np.ndarray]
    normal: NormalItems
    dropped: Mapping[str, int]
    group: str = ""
    notes: tuple[str, ...] = ()


# -- new items --------------------------------------------------------------------------------------------------------


def new_items_cells(
    dataset: PreferenceDataset,
    people: PeopleParts,
    seed: int,
    fold: tuple[int, int] | None,
    test_share: float | None,
    validation_share: float | None,
) -> Cells:
    """Groups in three parts; a row belongs to the part of both its items, or to none."""
    normal = NormalItems.of(dataset)
    by_prompt = len(normal.prompt_keys) >= MIN_PROMPTS
    test = (0.2 if by_prompt else 0.3) if test_share is None else test_share
    validation = (0.15 if by_prompt else 0.2) if validation_share is None else validation_share
    if fold is not None and by_prompt:
        test = 1.0 / fold[1]
    keys = normal.prompt_keys if by_prompt else normal.item_keys
    group = normal.prompt if by_prompt else normal.item
    part = _group_parts(keys, seed, fold, test, validation / (1.0 - min(test, 0.999)))[group]
    left, right = part[dataset.left], part[dataset.right]
    same = left == right
    on = {name: same & (left == i) for i, name in enumerate(("train", "validation", "test"))}
    masks = _cross(dataset, people, on["train"], on["test"])
    training = people.rows(dataset.user, "train")
    validating = people.rows(dataset.user, "validation")
    masks |= {
        "seen_validation": training & on["validation"],
        "validation_test": validating & on["validation"],
        "train_full": training & (on["train"] | on["validation"]),
    }
    dropped = {"pairs that mix groups": int(np.sum(~same))}
    return _cells(masks, normal, dropped, "prompt" if by_prompt else "item", _shared_replies(dataset, normal, masks))


def _group_parts(
    keys: np.ndarray, seed: int, fold: tuple[int, int] | None, test: float, validation: float
) -> np.ndarray:
    """(n_groups,) 0 train, 1 validation, 2 test; `validation` is a share of the groups that are not for testing."""
    start = 0.0 if fold is None else fold[0] / fold[1]
    draw = (fractions(keys, f"palate groups {seed}") - start) % 1.0
    second = fractions(keys, f"palate validation groups {seed} {fold}")
    return np.where(draw < test, 2, np.where(second < validation, 1, 0))


def _shared_replies(
    dataset: PreferenceDataset, normal: NormalItems, masks: Mapping[str, np.ndarray]
) -> tuple[str, ...]:
    """A note where a reply of the test groups was also given to a training prompt."""
    learned = np.unique(_of_rows(normal.response, dataset, masks["train"]))
    tested = np.unique(_of_rows(normal.response, dataset, masks["seen_test"] | masks["new_test"]))
    shared = len(np.intersect1d(learned, tested))
    return (f"{shared:,} replies to test prompts are also replies to training prompts",) if shared else ()


# -- known items ------------------------------------------------------------------------------------------------------


def known_items_cells(
    dataset: PreferenceDataset,
    people: PeopleParts,
    seed: int,
    test_share: float | None,
    validation_share: float | None,
    part: str | None,
) -> Cells:
    """Rows of each person in history and held-out; the history of training people once more for validation."""
    normal = NormalItems.of(dataset)
    column = "part" if part == "auto" and "part" in dataset.extra else None if part == "auto" else part
    if column is None:
        share = 0.2 if test_share is None else test_share
        outer = _hold_out(dataset, normal, np.arange(len(dataset)), share, f"palate held-out {seed}")
    else:
        outer = _ready_made(dataset, column)
    training = people.rows(dataset.user, "train")
    rows = np.flatnonzero(training & outer.history)
    share = 0.1 if validation_share is None else validation_share
    inner = _hold_out(dataset, normal, rows, share, f"palate validation {seed}")
    masks = _cross(dataset, people, outer.history, outer.heldout)
    masks |= _carved(masks["train"], rows, inner)
    dropped = {
        "pairs of a held-out and another item of the same person": int(np.sum(outer.mixed)),
        "the same between training and validation rows": int(np.sum(inner.mixed)),
    }
    return _cells(masks, normal, dropped)


def _hold_out(dataset: PreferenceDataset, normal: NormalItems, rows: np.ndarray, share: float, salt: str) -> Holdout:
    return hold_out_items(
        dataset.user[rows],
        normal.item[dataset.left[rows]],
        normal.item[dataset.right[rows]],
        user_keys=dataset.user_keys,
        item_keys=normal.item_keys,
        share=share,
        salt=salt,
    )


def _ready_made(dataset: PreferenceDataset, column: str) -> Holdout:
    if column not in dataset.extra:
        raise SplitError(f"{dataset.name} has no column {column!r}; it has: {', '.join(dataset.extra) or 'none'}")
    values = np.array([str(value).strip().lower() for value in dataset.extra[column].tolist()], object)
    unknown = sorted({*values.tolist()} - {*_PARTS})
    if unknown:
        raise SplitError(
            f"{dataset.name}: {column} has the value {unknown[0]!r}; it must be history or heldout, or pass part=None"
        )
    return Holdout(values == "history", values == "heldout")


# -- time -------------------------------------------------------------------------------------------------------------


def temporal_cells(
    dataset: PreferenceDataset, people: PeopleParts, test_share: float | None, validation_share: float | None
) -> Cells:
    """Each person's later rows are held out, less those that only repeat an earlier pair."""
    if dataset.time is None or np.isnan(dataset.time).any():
        missing = "no times" if dataset.time is None else f"{np.isnan(dataset.time).sum():,} rows without a time"
        raise SplitError(f"{dataset.name} has {missing}; a temporal split needs the column time in every row")
    normal = NormalItems.of(dataset)
    pairs = _pairs(dataset, normal)
    outer = _hold_out_late(dataset, pairs, np.arange(len(dataset)), 0.2 if test_share is None else test_share)
    rows = np.flatnonzero(people.rows(dataset.user, "train") & outer.history)
    inner = _hold_out_late(dataset, pairs, rows, 0.1 if validation_share is None else validation_share)
    masks = _cross(dataset, people, outer.history, outer.heldout)
    masks |= _carved(masks["train"], rows, inner)
    dropped = {"later rows that repeat an earlier pair of the person": int(np.sum(outer.mixed) + np.sum(inner.mixed))}
    return _cells(masks, normal, dropped)


def _hold_out_late(dataset: PreferenceDataset, pairs: np.ndarray, rows: np.ndarray, share: float) -> Holdout:
    late = hold_out_late(dataset.user[rows], dataset.time[rows], dataset.n_users, share)
    repeated = np.isin(pairs[rows], pairs[rows][late.history])
    return Holdout(late.history, late.heldout & ~repeated)


def _pairs(dataset: PreferenceDataset, normal: NormalItems) -> np.ndarray:
    """(m,) equal where person and unordered pair of normalised items are."""
    left, right = normal.item[dataset.left], normal.item[dataset.right]
    n = len(normal.item_keys)
    pair = np.unique(np.minimum(left, right) * n + np.maximum(left, right), return_inverse=True)[1]
    return dataset.user.astype(np.int64) * (int(pair.max(initial=0)) + 1) + pair


# -- what they share --------------------------------------------------------------------------------------------------


def _cross(
    dataset: PreferenceDataset, people: PeopleParts, history: np.ndarray, test: np.ndarray
) -> dict[str, np.ndarray]:
    """The cells of people × {history, test} that are alike in all protocols."""
    part = {name: people.rows(dataset.user, name) for name in PeopleParts.NAMES}
    return {
        "train": part["train"] & history,
        "seen_test": part["train"] & test,
        "validation_history": part["validation"] & history,
        "validation_test": part["validation"] & test,
        "new_history": part["new"] & history,
        "new_test": part["new"] & test,
        "final_history": part["final"] & history,
        "final_test": part["final"] & test,
    }


def _carved(full: np.ndarray, rows: np.ndarray, inner: Holdout) -> dict[str, np.ndarray]:
    """Training and validation cells carved out of the training rows `full` (mask) at `rows` (indices)."""
    train, validation = np.zeros_like(full), np.zeros_like(full)
    train[rows[inner.history]] = True
    validation[rows[inner.heldout]] = True
    return {"train": train, "seen_validation": validation, "train_full": full}


def _cells(
    masks: dict[str, np.ndarray],
    normal: NormalItems,
    dropped: dict[str, int],
    group: str = "",
    notes: tuple[str, ...] = (),
) -> Cells:
    used = np.any([mask for name, mask in masks.items() if name != "train_full"], axis=0)
    dropped["all rows in no cell"] = int(np.sum(~used))
    return Cells(masks, normal, dropped, group, notes)


def _of_rows(of_item: np.ndarray, dataset: PreferenceDataset, mask: np.ndarray) -> np.ndarray:
    return of_item[np.concatenate([dataset.left[mask], dataset.right[mask]])]
