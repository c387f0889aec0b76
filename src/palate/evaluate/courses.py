"""A course: one data set under one protocol, with its splits and the exams made from them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from palate.errors import ConfigError
from palate.evaluate.protocol import Exam, largest_k, make_exam, part_of
from palate.evaluate.standing import Standing, standing
from palate.evaluate.tuning import TUNING_KS
from palate.progress import Progress, silent
from palate.types import Comparisons, Items, array_digest

if TYPE_CHECKING:
    from palate.data import PreferenceDataset, Split

__all__ = ["FEWEST_PROMPTS", "Course", "Sample", "make_items", "open_courses"]

FEWEST_PROMPTS = 20
"""With fewer prompts, items are what is resampled."""


@dataclass(frozen=True)
class Sample:
    """Which random split: a seed, and a fold of people (-1 without folds)."""

    seed: int
    fold: int = -1


@dataclass(frozen=True)
class Course:
    """One data set under one protocol.

    Args:
        name: of the data set in tables.
        dataset: its texts and rows.
        items: its item table.
        items_fingerprint: of that table.
        protocol: of the splits.
        splits: by sample.
        part: "test", or "final" for the people set aside.
        wanted_ks: numbers of answers asked for.
        set_aside: share of people kept for the final run.
    """

    name: str
    dataset: PreferenceDataset
    items: Items
    items_fingerprint: str
    protocol: str
    splits: Mapping[Sample, Split]
    part: str
    wanted_ks: tuple[int, ...]
    set_aside: float = 0.0

    @cached_property
    def everything(self) -> Comparisons:
        """All rows as arrays."""
        return self.dataset.comparisons(self.items)

    @cached_property
    def _cohort(self) -> tuple[int, int]:
        parts = [part_of(split, self.part) for split in self.splits.values()]
        return largest_k(self.everything, parts, self.wanted_ks)

    @property
    def ks(self) -> tuple[int, ...]:
        """The numbers of answers that the fixed cohort has."""
        return tuple(k for k in self.wanted_ks if k <= self._cohort[0])

    @property
    def cohort(self) -> dict[str, Any]:
        """For the manifest: how many new people, and which numbers of answers were dropped to keep 20 of them."""
        dropped = [k for k in self.wanted_ks if k > self._cohort[0]]
        return {"people": self._cohort[1], "largest_k": self._cohort[0], "dropped_ks": dropped}

    @property
    def by_prompt(self) -> bool:
        """Whether intervals resample prompts; else items."""
        return self.dataset.n_prompts >= FEWEST_PROMPTS

    @cached_property
    def group(self) -> np.ndarray:
        """(m,) prompt of every row."""
        return self.dataset.item_prompt[self.dataset.left]

    def exam(self, sample: Sample) -> Exam:
        """What methods are measured on; they learn from the validation rows of training people too."""
        return self._exam(sample, self.part, self.splits[sample].train_full, self.ks)

    def validation(self, sample: Sample) -> Exam:
        """What tuning sees: validation people and validation prompts or items."""
        part = part_of(self.splits[sample], "validation")
        wanted = tuple(k for k in TUNING_KS if k <= max(self.ks))
        largest = largest_k(self.everything, [part], wanted)[0] if len(part.people) else 0
        return self._exam(sample, "validation", self.splits[sample].train, tuple(k for k in wanted if k <= largest))

    def standing(self, sample: Sample) -> Standing:
        """Where people stand, by this sample's training and history rows."""
        split = self.splits[sample]
        history = part_of(split, self.part).history
        return standing(self.everything, split.train_full, history, seed=sample.seed)

    def split_digest(self, sample: Sample) -> str:
        """Fingerprint of the rows and people that the sample's exams are made of."""
        split = self.splits[sample]
        digest = hashlib.blake2b(digest_size=16)
        for name, cell in sorted(vars(split).items()):
            if isinstance(cell, np.ndarray):
                digest.update(name.encode() + np.ascontiguousarray(cell, np.int64).tobytes())
        return digest.hexdigest()

    def _exam(self, sample: Sample, part: str, train: np.ndarray, ks: Sequence[int]) -> Exam:
        split = self.splits[sample]
        return make_exam(
            self.everything,
            train,
            split.train_users,
            part_of(split, part),
            ks,
            seed=sample.seed,
            by_time=self.protocol == "temporal",
        )


def open_courses(
    datasets: Mapping[str, PreferenceDataset],
    features: Any,
    protocols: Mapping[str, Sequence[str]],
    samples: Sequence[Sample],
    *,
    folds: int | None,
    part: str,
    set_aside: float | bool | None,
    ks: Sequence[int],
    progress: Progress = silent,
) -> list[Course]:
    """Every data set under each of its protocols.

    Args:
        datasets: by name.
        features: for `make_items`, or a dict of them by name of the data set.
        protocols: names of protocols, by name of the data set.
        samples: seeds and folds.
        folds: how many folds of people, or None.
        part: "test" or "final".
        set_aside: share of people kept for the final run; None is 30 % of public data sets and nobody of others.
        ks: numbers of answers.
        progress: of featurizing.

    Raises:
        ConfigError: the final run has nobody to score.
    """
    from palate.data import split

    courses = []
    shares = {name: share_aside(dataset, set_aside, part) for name, dataset in datasets.items()}
    for name, dataset in datasets.items():
        wanted = features[name] if isinstance(features, Mapping) else features
        items = make_items(dataset, wanted, progress=progress)
        arrays = {key: column for key, column in vars(items).items() if column is not None}
        fingerprint = array_digest(arrays)
        for protocol in protocols[name]:
            splits = {
                sample: split(
                    dataset,
                    protocol,
                    seed=sample.seed,
                    fold=None if sample.fold < 0 else (sample.fold, folds),
                    final=shares[name],
                )
                for sample in samples
            }
            about = (name, dataset, items, fingerprint, protocol, splits, part)
            courses.append(Course(*about, tuple(sorted(set(ks))), shares[name]))
    return courses


def share_aside(dataset: PreferenceDataset, wanted: float | bool | None, part: str) -> float:
    """The share of people kept for the final run: what is wanted, else 30 % of public data sets and nobody of others.

    Raises:
        ConfigError: `part` is "final" and nobody is kept, so that there would be nobody to score.
    """
    from palate.data import SOURCES
    from palate.data.people import FINAL_SHARE

    if wanted is None:
        wanted = dataset.name in SOURCES
    share = FINAL_SHARE if wanted is True else float(wanted)
    if part == "final" and share == 0.0:
        raise ConfigError(
            f"final=True scores people set aside, and of {dataset.name!r} nobody is; give set_aside={FINAL_SHARE} to the "
            "ordinary runs and to this one"
        )
    return share


def make_items(dataset: PreferenceDataset, features: Any, *, progress: Progress = silent) -> Items:
    """The item table of a data set.

    Args:
        dataset: whose items.
        features: None or "none" (identity only), anything `palate.features.make` takes (a name, a featurizer, an
            (n_items, d) array), or the finished `Items`.
        progress: of embedding.
    """
    from palate.features import featurize

    if isinstance(features, Items):
        return features
    return featurize(dataset, None if isinstance(features, str) and features == "none" else features, progress=progress)
