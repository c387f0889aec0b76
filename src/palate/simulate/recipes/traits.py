"""Recipes with named tastes: PReF's Attributes (two traits a person) and P-SOUPS' six one-sided people.

Both take their labels from scores of the text, or from a chat model that plays the people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from palate.errors import InputError
from palate.rng import derive
from palate.simulate.recipes.made import Made
from palate.simulate.recipes.pool import LENGTH, ReplyPool, reply_pool
from palate.simulate.recipes.roles import Role, RolePlay, crossed
from palate.simulate.recipes.scored import answer, scorers_of
from palate.simulate.tastes import ATTRIBUTES, TRAIT_PAIRS

__all__ = ["ONE_SIDED", "attributes", "attributes_played", "opposing", "opposing_played"]

TELLS: Mapping[str, tuple[str, int]] = {
    "length": (LENGTH, 1),
    "formality": ("contractions", -1),
    "elicitation": ("questions", 1),
    "politeness": ("politeness", 1),
    "enthusiasm": ("exclamations", 1),
    "confidence": ("hedging_minus_certainty", -1),
}
"""Attribute -> the statistic that stands for it where a pool has no column of that name, and its sign for the first pole.
No statistic tells humour; without a column `humour` nobody cares about it."""

ONE_SIDED: Mapping[str, tuple[str, str, int]] = {
    "1A": ("Give replies that a child in elementary school can follow.", "log_word_length", -1),
    "1B": ("Give replies that only somebody with a doctorate in the subject can follow.", "log_word_length", 1),
    "2A": ("Give replies that are short and to the point, with nothing superfluous.", LENGTH, -1),
    "2B": ("Give replies that say a great deal and lack no information.", LENGTH, 1),
    "3A": ("Give replies as a good friend would, warm and with a joke.", "politeness", 1),
    "3B": ("Give replies that are cold and unfriendly.", "politeness", -1),
}
"""P-SOUPS' six preferences: name -> what the person wants, and the statistic and sign that stand for it without a model."""


def attributes(
    pool: Any = None,
    *,
    pairs: int = 100,
    people: int | None = None,
    noise: float = 0.0,
    seed: int = 0,
) -> Made:
    """PReF's Attributes with labels from scores: a person holds two traits, poles of different attributes.

    Args:
        pool: as in `palate.simulate.recipes.reply_pool`. A column named after an attribute (length, formality, humour,
            elicitation, politeness, enthusiasm, confidence) scores its first pole; without one a statistic does.
        pairs: different pairs of replies, all answered by everybody; fewer where the pool has fewer.
        people: how many, drawn from the pairs of traits and then repeated; None takes every pair of traits once (84 with
            all seven attributes).
        noise: 0, or the standard of Bradley-Terry noise in units of reward.
        seed: fixes everything.

    Raises:
        InputError: a setting out of its range, or fewer than two attributes that differ between the replies.

    Source: Shenfeld et al. 2025, § 5 (there the labels come from a model, see `attributes_played`).
    """
    pool = reply_pool(pool)
    told = _told(pool)
    held = _dealt([pair for pair in TRAIT_PAIRS if all(_attribute(pole) in told for pole in pair)], people, seed)
    names = list(told)
    scorers = scorers_of(pool, [told[name][0] for name in names])
    weights = np.zeros((len(held), len(names)))
    for number, pair in enumerate(held):
        for pole in pair:
            place = names.index(_attribute(pole))
            weights[number, place] = told[names[place]][1] * (1 if ATTRIBUTES[names[place]][0] == pole else -1)
    return answer(
        "attributes",
        pool,
        scorers,
        weights,
        [{"traits": list(pair)} for pair in held],
        pairs=_pairs(pool, pairs, seed),
        noise=noise,
        seed=seed,
        settings={"pairs": pairs, "attributes": names, "without": sorted(set(ATTRIBUTES) - set(names))},
    )


def attributes_played(
    pool: Any = None, *, pairs: int = 100, people: int | None = None, repeats: float = 0.05, seed: int = 0
) -> RolePlay:
    """PReF's Attributes as in the paper: a chat model judges for each of the 84 people, in both orders.

    Args:
        pool, pairs, people, seed: as in `attributes`.
        repeats: share of each person's questions asked again in other words, for the consistency report.

    Returns:
        The questions: `cost(calls)` says what they take, `make(calls)` asks them.
    """
    pool = reply_pool(pool)
    held = _dealt(list(TRAIT_PAIRS), people, seed)
    roles = [
        Role(name, f"You are a helpful AI judge. You prefer {a} and {b} responses.", {"traits": [a, b]})
        for name, (a, b) in zip(_names(len(held)), held, strict=True)
    ]
    asked = crossed(len(roles), *_pairs(pool, pairs, seed))
    return RolePlay("attributes", pool, roles, *asked, repeats=repeats, seed=seed, settings={"pairs": pairs})


def opposing(pool: Any = None, *, pairs: int = 500, noise: float = 0.0, seed: int = 0) -> Made:
    """P-SOUPS' six people, each with one wish of three opposite pairs, with labels from statistics of the text.

    Long words stand for expertise, length for information, polite words for friendliness: crude stand-ins for a model's
    judgement (see `opposing_played`), but people who disagree as sharply. Arguments as in `attributes`.

    Source: Jang et al. 2023, "Personalized Soups".
    """
    pool = reply_pool(pool)
    names = list(dict.fromkeys(statistic for _, statistic, _ in ONE_SIDED.values()))
    weights = np.zeros((len(ONE_SIDED), len(names)))
    for number, (_, statistic, sign) in enumerate(ONE_SIDED.values()):
        weights[number, names.index(statistic)] = sign
    return answer(
        "opposing",
        pool,
        scorers_of(pool, names),
        weights,
        [{"preference": name, "wants": wish} for name, (wish, _, _) in ONE_SIDED.items()],
        pairs=_pairs(pool, pairs, seed),
        noise=noise,
        seed=seed,
        settings={"pairs": pairs},
    )


def opposing_played(pool: Any = None, *, pairs: int = 500, repeats: float = 0.05, seed: int = 0) -> RolePlay:
    """P-SOUPS' six people, played by a chat model; arguments as in `attributes_played`."""
    pool = reply_pool(pool)
    roles = [
        Role(name, f"You are a person who reads replies of an assistant. What you want: {wish}", {"preference": key, "wants": wish}, wish)
        for name, (key, (wish, _, _)) in zip(_names(len(ONE_SIDED)), ONE_SIDED.items(), strict=True)
    ]  # fmt: skip
    asked = crossed(len(roles), *_pairs(pool, pairs, seed))
    return RolePlay("opposing", pool, roles, *asked, repeats=repeats, seed=seed, settings={"pairs": pairs})


def _told(pool: ReplyPool) -> dict[str, tuple[str, int]]:
    """Attribute -> scorer and sign, for the attributes in which the pool's replies differ."""
    chosen = {name: (name, 1) if name in pool.given else TELLS.get(name) for name in ATTRIBUTES}
    told = {name: scorer for name, scorer in chosen.items() if scorer and pool.score(scorer[0]).std() > 1e-12}
    if len(told) < 2:
        raise InputError(
            f"{pool.name}: its replies differ in {len(told)} of the attributes that can be scored; give columns named "
            f"{', '.join(ATTRIBUTES)}, or a chat model"
        )
    return told


def _attribute(pole: str) -> str:
    return next(name for name, poles in ATTRIBUTES.items() if pole in poles)


def _dealt(held: Sequence[tuple[str, str]], people: int | None, seed: int) -> list[tuple[str, str]]:
    """Every pair of traits once, or so many people: pairs in a drawn order, from the start again when all are held."""
    if people is None:
        return list(held)
    if people < 1:
        raise InputError(f"people={people}: use at least 1")
    order = derive(seed, "trait pairs").permutation(len(held))
    return [held[order[number % len(held)]] for number in range(people)]


def _pairs(pool: ReplyPool, pairs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    if pairs < 1:
        raise InputError(f"pairs={pairs}: use at least 1")
    return pool.draw(pairs, derive(seed, "pairs", pairs))


def _names(count: int) -> list[str]:
    return [f"person-{number:0{len(str(count - 1))}d}" for number in range(count)]
