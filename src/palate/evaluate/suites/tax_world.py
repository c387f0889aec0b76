"""Where the personalization tax is measured: people with tastes, and pairs of which one reply is better for everybody.

    base reward   r_0(x) = w · φ(x), by Bradley-Terry on half of the pairs (better preferred, weight c) and on what the
                  training people chose (weight 1); l2 and c by five-fold log-loss on that half
    method        fitted to the training people's choices alone, on top of r_0 or from nothing
    measured      the other half of the pairs, as new people see them after a few answers; then the halves change places

People, prompts and answers are those of the suite `pref`: new people hold pairs of traits that nobody else holds, and are
tested on prompts that nobody was asked about.

Source: Dong et al. 2025, § 3.3 and 4.4 (the tax: RewardBench before and after personalizing); the pairs are Palate's own.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from palate.data import corpus
from palate.data.corpus import TaxPair
from palate.data.tax_files import read_tax
from palate.errors import DataError
from palate.evaluate.suites.pref_world import Answered, PrefWorld, Size, build_world
from palate.features import embed_items, make
from palate.models.likelihood import fit_weights
from palate.rng import derive
from palate.types import Comparisons, Items

__all__ = ["HALVES", "STARTS", "TaxWorld", "build_tax_world", "check_pairs", "open_pairs"]

HALVES = ("measure", "train")
"""The half that is measured; the base reward is trained on the other."""

STARTS = ("base", "none")
"""What a method starts from: a competent base reward, or nothing."""

_L2 = (100.0, 300.0, 1000.0)
_WEIGHTS = (10.0, 30.0)
_FOLDS = 5


@dataclass(frozen=True)
class TaxWorld:
    """One half of the pairs to be measured, and people.

    Args:
        items: the shipped replies, then the better replies of all pairs, then the worse ones; with the base reward where
            the start is one.
        training: choices of the training people.
        history: answers that new people can give.
        test: what they are asked on other prompts.
        pairs: those that are measured.
        better, worse: (p,) their items.
        learned: items of the better and of the worse replies that the base reward learned from.
        base: (p,) margins of the base reward, better - worse.
        scores: (n_items,) of the base reward.
        weights: (d,) of the base reward, so that other texts can be scored.
        chosen: l2 and weight of the base reward.
    """

    items: Items
    training: Comparisons
    history: Answered
    test: Answered
    pairs: tuple[TaxPair, ...]
    better: np.ndarray
    worse: np.ndarray
    learned: tuple[np.ndarray, np.ndarray]
    base: np.ndarray
    scores: np.ndarray
    weights: np.ndarray
    chosen: dict[str, float]

    @property
    def category(self) -> np.ndarray:
        """(p,) of each pair."""
        return np.array([pair.category for pair in self.pairs])

    @property
    def prompt(self) -> np.ndarray:
        """(p,) number of the prompt of each pair; pairs of one prompt are no two witnesses."""
        return self.items.prompt[self.better]


def open_pairs(file: str | None) -> tuple[TaxPair, ...]:
    """The shipped pairs, or those of a file of RewardBench, RewardBench 2, XSTest or our own form."""
    return corpus.tax() if file is None else read_tax(file)


@lru_cache(maxsize=4)
def build_tax_world(
    size: Size, features: str, seed: int, half: str, start: str, file: str | None = None, inside: bool = False
) -> TaxWorld:
    """People of a seed and the pairs of a half.

    Args:
        size: how many people, answers and tests.
        features: as `palate.features.make` takes it.
        seed: of people and answers.
        half: that is measured, of `HALVES`.
        start: of `STARTS`.
        file: of other pairs.
        inside: a validation world: it lies inside the half that is *not* measured, which is halved once more. What is chosen
            there has seen neither the people nor the pairs of the measurement (give it another seed).
    """
    if start == "none":
        world = build_tax_world(size, features, seed, half, "base", file, inside)
        items = replace(world.items, base_reward=None)
        return replace(world, items=items, training=replace(world.training, items=items))
    people = build_world(size, features, seed)
    pairs = open_pairs(file)
    known, asked = _parts(pairs, half, inside)
    vectors = embed_items(make(features), [(pair.prompt, text) for pair in pairs for text in (pair.better, pair.worse)])
    table = np.concatenate([people.items.features, vectors[::2], vectors[1::2]])
    first = len(people.items)
    better, worse = first + np.arange(len(pairs)), first + len(pairs) + np.arange(len(pairs))
    asks = _prompts(pairs)
    weights, chosen = _base_reward(table, people, better[known], worse[known], asks[known], seed)
    scores = table.astype(np.float64) @ weights
    prompt = people.items.prompt.max() + 1 + np.tile(asks, 2)
    items = Items.of(
        table,
        keys=np.concatenate([people.items.keys, np.full(2 * len(pairs), -1)]),
        prompt=np.concatenate([people.items.prompt, prompt]).astype(np.int32),
        base_reward=scores,
    )
    rows = people.training
    return TaxWorld(
        items=items,
        training=Comparisons.of(items, rows.left, rows.right, rows.user, rows.label, n_users=rows.n_users),
        history=people.history,
        test=people.test,
        pairs=tuple(pairs[number] for number in asked),
        better=better[asked],
        worse=worse[asked],
        learned=(better[known], worse[known]),
        base=scores[better[asked]] - scores[worse[asked]],
        scores=scores,
        weights=weights,
        chosen=chosen,
    )


def _parts(pairs: Sequence[TaxPair], half: str, inside: bool) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the pairs that the base reward learns from, and of those that are measured."""
    own = np.array([pair.half for pair in pairs]) == half
    if not inside:
        return np.flatnonzero(~own), np.flatnonzero(own)
    learned, asks = np.zeros(len(pairs), bool), _prompts(pairs)
    for kind in sorted({(pair.category, pair.subcategory) for pair in pairs}):
        members = [n for n, pair in enumerate(pairs) if (pair.category, pair.subcategory) == kind and not own[n]]
        learned |= np.isin(asks, list(dict.fromkeys(asks[members].tolist()))[::2])
    learned &= ~own
    return np.flatnonzero(learned), np.flatnonzero(~own & ~learned)


def _prompts(pairs: Sequence[TaxPair]) -> np.ndarray:
    """(p,) number of each pair's prompt, in order of appearance."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(pair.prompt, len(numbers)) for pair in pairs])


def check_pairs(pairs: Sequence[TaxPair]) -> None:
    """Whether there are enough pairs in every part.

    Raises:
        DataError: a half, or the half of one, has fewer than `_FOLDS` prompts to learn from or no pair to measure.
    """
    asks = _prompts(pairs)
    for half, inside in itertools.product(HALVES, (False, True)):
        learned, asked = _parts(pairs, half, inside)
        if len(np.unique(asks[learned])) < _FOLDS or not len(asked):
            where = "half of the other half" if inside else "other half"
            raise DataError(
                f"too few pairs: to measure the half {half!r}, {len(np.unique(asks[learned]))} prompts of the {where} are left to "
                f"learn from and {len(asked)} pairs to measure; at least {_FOLDS} and 1 are needed"
            )


def _base_reward(
    table: np.ndarray, people: PrefWorld, better: np.ndarray, worse: np.ndarray, prompt: np.ndarray, seed: int
) -> tuple[np.ndarray, dict[str, float]]:
    """Weights of the features, and the chosen settings.

    That the training people's choices take part keeps the reward indifferent where tastes differ: a reward of 180 pairs alone
    has an opinion on every style.
    """
    competence = (table[better] - table[worse]).astype(np.float64)
    left, right, share, count = _votes(people.training)
    taste = (table[left] - table[right]).astype(np.float64)
    unit = np.sqrt((np.concatenate([competence, taste]) ** 2).mean(axis=0))
    unit[unit == 0.0] = 1.0
    competence, taste = competence / unit, taste / unit

    def weights(rows: np.ndarray, l2: float, weight: float) -> np.ndarray:
        return fit_weights(
            np.concatenate([competence[rows], taste]),
            np.concatenate([np.ones(len(rows)), share]),
            np.concatenate([np.full(len(rows), weight), count]),
            l2=l2,
        )

    _, place = np.unique(prompt, return_inverse=True)
    fold = (derive(seed, "tax folds").permutation(place.max() + 1) % _FOLDS)[place]
    losses = {}
    for l2, weight in itertools.product(_L2, _WEIGHTS):
        margins = np.empty(len(better))
        for part in range(_FOLDS):
            margins[fold == part] = competence[fold == part] @ weights(np.flatnonzero(fold != part), l2, weight)
        losses[l2, weight] = float(np.logaddexp(0.0, -margins).mean())
    l2, weight = min(losses, key=losses.__getitem__)
    return weights(np.arange(len(better)), l2, weight) / unit, {"l2": l2, "weight": weight}


def _votes(rows: Comparisons) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Each pair of items once: left, right, the share of people who prefer left, and how many said so."""
    low, high = np.minimum(rows.left, rows.right), np.maximum(rows.left, rows.right)
    label = np.where(rows.left == low, rows.label, 1.0 - rows.label)
    spots, place = np.unique(low.astype(np.int64) * len(rows.items) + high, return_inverse=True)
    count = np.bincount(place).astype(np.float64)
    return spots // len(rows.items), spots % len(rows.items), np.bincount(place, label) / count, count
