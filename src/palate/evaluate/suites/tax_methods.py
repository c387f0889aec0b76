"""What the suite `tax` computes: the base reward, every method as new people see the pairs, the guard's frontier, other guards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import expit, logit

from palate.errors import PalateError
from palate.evaluate.contenders import Contender
from palate.evaluate.suites.pref_world import Answered, Size, build_world
from palate.evaluate.suites.tax_world import TaxWorld, build_tax_world
from palate.models.base import Method
from palate.models.guard import GuardedConfig, hold, population_spread
from palate.rng import derive
from palate.types import Comparisons, Items, UserStates

__all__ = ["SPREADS", "WAYS", "Place", "base", "decode", "fitted", "frontier", "learning", "measured", "other_guards"]

SPREADS = (1e9, 2.0, 1.7, 1.5, 1.4, 1.3, 1.2, 1.1, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.25, 0.0)
"""Of the guard's frontier; the first is the pooled ranking, the last no guard."""

_MARKS = {"0": 0.0, "h": 0.5, "1": 1.0}
_ALMOST = 1e-9
_PROTECTED = 80
"""Directions of the features that personal rewards may not use, in the guard that projects them away."""

Rule = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
"""(shared logit, personal logit, strength) -> guarded logit."""

WAYS: Mapping[str, tuple[Rule, tuple[float, ...]]] = {
    "window": (lambda a, m, c: a + np.maximum(0.0, 1.0 - np.abs(a) / c) * (m - a), (0.5, 1.0, 2.0, 4.0, 8.0)),
    "clipped": (lambda a, m, c: a + np.clip(m - a, -c, c), (0.125, 0.25, 0.5, 1.0, 1.5)),
    "dead zone": (
        lambda a, m, c: a + np.sign(m - a) * np.maximum(np.abs(m - a) - c, 0.0),
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8),
    ),
    "heavier shared reward": (lambda a, m, c: c * a + (m - a), (1.25, 1.5, 2.0, 3.0, 4.0)),
}
"""Guards by name: the rule (shared logit a, personal logit m, strength c), and the strengths tried."""


@dataclass(frozen=True)
class Place:
    """Where something is measured.

    Args:
        size, features, seed, half, start, file, inside: as in `build_tax_world`.
        answers: that new people gave.
    """

    size: Size
    features: str
    seed: int
    half: str
    start: str
    answers: int
    file: str | None = None
    inside: bool = False

    def world(self) -> TaxWorld:
        """The world, built once for cells in a row."""
        return build_tax_world(self.size, self.features, self.seed, self.half, self.start, self.file, self.inside)


def base(place: Place) -> dict[str, Any]:
    """The base reward alone: which pairs it gets right, who the new people are, and how near the majority they are."""
    world, people = place.world(), build_world(place.size, place.features, place.seed)
    truth, asked = people.truth, world.test
    own = truth.probability(asked.left.ravel(), asked.right.ravel(), np.repeat(people.new, asked.left.shape[1]))
    consensus = truth.consensus(asked.left.ravel(), asked.right.ravel())
    agree = ((own > 0.5) == (consensus > 0.5)).reshape(asked.left.shape).mean(axis=1)
    margins = world.scores[asked.left] - world.scores[asked.right]
    return {
        "pairs": [pair.id for pair in world.pairs],
        "category": [pair.category for pair in world.pairs],
        "prompt": world.prompt.tolist(),
        "right": _encode(expit(world.base))[0],
        "accuracy": _accuracy(expit(margins), asked).round(4).tolist(),
        "people": [" and ".join(truth.traits[number]) for number in people.new] if truth.traits else [],
        "agreement": agree.round(4).tolist(),
        "ceiling": np.maximum(own, 1.0 - own).reshape(asked.left.shape).mean(axis=1).round(4).tolist(),
        **world.chosen,
    }


def measured(place: Place, name: str) -> dict[str, Any]:
    """Each new person's verdict on each pair, and their accuracy on other prompts; or why the method cannot run."""
    world = place.world()
    try:
        method = fitted(place, name)
        states = method.adapt(world.history.first(place.answers, world.items))
        return _exam(world, method, states) | {"base_scale": round(method.base_scale_, 4)}
    except PalateError as error:
        # Some learn from known items and find out only here that they cannot score texts nobody has judged.
        return {"skipped": str(error)}


def frontier(place: Place, name: str) -> dict[str, Any]:
    """The same under the guard, for every spread."""
    world = place.world()
    method = fitted(place, name)
    shared, personal = _logits(world, method, place.answers)
    differ = _differ(world, method, len(world.test.left))
    found = {}
    for spread in SPREADS:
        config = GuardedConfig(method=name, spread=spread)
        told = [expit(hold(a, m, s, config)) for a, m, s in zip(shared, personal, differ, strict=True)]
        found[str(spread)] = _marked(world, *told)
    return {
        "spreads": found,
        "category": world.category.tolist(),
        "pairs": [pair.id for pair in world.pairs],
        "prompt": world.prompt.tolist(),
        "base": _encode(expit(world.base))[0],
    }


def other_guards(place: Place, name: str) -> dict[str, Any]:
    """The same under other guards than Palate's, strength by strength; the last one keeps directions from personal rewards."""
    world = place.world()
    found: dict[str, Any] = {}
    shared, personal = _logits(world, fitted(place, name), place.answers)
    for label, (rule, strengths) in WAYS.items():
        for strength in strengths:
            told = [expit(rule(a, m, strength)) for a, m in zip(shared, personal, strict=True)]
            found[f"{label} {strength:g}"] = _marked(world, *told)
    protected = _without_directions(world)
    _, projected = _logits(protected, _fit(protected, name, place.seed), place.answers)
    found[f"protected directions {_PROTECTED}"] = _marked(world, *map(expit, projected))
    return {"ways": found}


def learning(place: Place, name: str, ks: Sequence[int]) -> dict[str, Any]:
    """Each new person's accuracy on other prompts after these numbers of answers."""
    world = place.world()
    method = fitted(place, name)
    found = {}
    for k in ks:
        states = method.adapt(world.history.first(k, world.items))
        found[str(k)] = _accuracy(_told(world, method, states), world.test).round(4).tolist()
    return {"accuracy": found}


def decode(right: Sequence[str]) -> np.ndarray:
    """(people, pairs) 1 right, ½ undecided, 0 wrong, from the texts that cells keep."""
    return np.array([[_MARKS[mark] for mark in line] for line in right])


@lru_cache(maxsize=2)
def fitted(place: Place, name: str) -> Method:
    """Fitted once for cells in a row."""
    return _fit(place.world(), name, place.seed)


def _fit(world: TaxWorld, name: str, seed: int) -> Method:
    return Contender.parse(name).make().fit(world.training, rng=derive(seed, "tax fit"))


def _exam(world: TaxWorld, method: Method, states: UserStates) -> dict[str, Any]:
    return _marked(world, _pairs_told(world, method, states), _told(world, method, states))


def _marked(world: TaxWorld, on_pairs: np.ndarray, on_others: np.ndarray) -> dict[str, Any]:
    return {"right": _encode(on_pairs), "accuracy": _accuracy(on_others, world.test).round(4).tolist()}


def _pairs_told(world: TaxWorld, method: Method, states: UserStates) -> np.ndarray:
    """(people, pairs) probability that each person prefers the better reply."""
    people, width = len(states), len(world.pairs)
    user = np.repeat(np.arange(people), width)
    better, worse = np.tile(world.better, people), np.tile(world.worse, people)
    told = method.prefer(world.items.take(better), world.items.take(worse), states, user)
    return told.reshape(people, width)


def _told(world: TaxWorld, method: Method, states: UserStates) -> np.ndarray:
    """(people, tests) probability that each person prefers left."""
    rows = world.test.first(world.test.left.shape[1], world.items)
    told = method.prefer(world.items.take(rows.left), world.items.take(rows.right), states, rows.user)
    return told.reshape(world.test.left.shape)


def _logits(world: TaxWorld, method: Method, answers: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Shared and personal logits, each on the pairs and on the tests."""
    states = method.adapt(world.history.first(answers, world.items))
    nobody = method.prior_.repeat(len(states))
    sides = []
    for who in (nobody, states):
        told = (_pairs_told(world, method, who), _told(world, method, who))
        sides.append([logit(np.clip(one, 1e-12, 1.0 - 1e-12)) for one in told])
    return sides[0], sides[1]


def _differ(world: TaxWorld, method: Method, people: int) -> tuple[np.ndarray, np.ndarray]:
    """How much the population differs about the pairs (people, pairs), the same in every row, and about the tests."""
    items, rows = world.items, world.test.first(world.test.left.shape[1], world.items)
    on_pairs = population_spread(method, items.take(world.better), items.take(world.worse))
    on_tests = population_spread(method, items.take(rows.left), items.take(rows.right))
    return np.tile(on_pairs, (people, 1)), on_tests.reshape(world.test.left.shape)


def _without_directions(world: TaxWorld) -> TaxWorld:
    """The world with features from which the main directions of the learned pairs' differences were taken."""
    features = world.items.features
    known = world.learned
    difference = features[known[0]] - features[known[1]]
    _, _, directions = np.linalg.svd(difference.astype(np.float64), full_matrices=False)
    kept = directions[:_PROTECTED]
    items = Items.of(
        features - (features @ kept.T) @ kept,
        keys=world.items.keys,
        prompt=world.items.prompt,
        base_reward=world.items.base_reward,
    )
    return replace(world, items=items, training=_over(world.training, items))


def _over(rows: Comparisons, items: Items) -> Comparisons:
    return replace(rows, items=items)


def _encode(told: np.ndarray) -> list[str]:
    """A text for each person: 1 right, h undecided, 0 wrong."""
    marks = np.where(np.abs(told - 0.5) < _ALMOST, "h", np.where(told > 0.5, "1", "0"))
    return ["".join(line) for line in np.atleast_2d(marks)]


def _accuracy(told: np.ndarray, asked: Answered) -> np.ndarray:
    """(people,) share of the tests that are told right; undecided ones count half."""
    right = np.where(np.abs(told - 0.5) < _ALMOST, 0.5, (told > 0.5) == (asked.label > 0.5))
    return right.mean(axis=1)
