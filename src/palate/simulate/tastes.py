"""What the simulated readers of the shipped replies care about, world by world.

    reward_u(reply) = scale · (tastes_u · axes(reply) + shared taste + quality of the reply)

`axes` says what a reply shows, `tastes_u` how much the person cares. The first three worlds are what a linear reward can
tell; in `topic` and `hidden` it is misspecified on purpose, as it is for people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from palate.data.corpus import Reply
from palate.rng import derive, hash_fraction
from palate.simulate.truth import stream

__all__ = [
    "ATTRIBUTES",
    "HIDDEN",
    "NEW_PAIRS",
    "TOPICS",
    "TRAIT_PAIRS",
    "WORLDS",
    "Tastes",
    "World",
    "shows",
    "topic_of",
]

ATTRIBUTES = {
    "length": ("verbose", "concise"),
    "formality": ("formal", "informal"),
    "humour": ("humorous", "serious"),
    "elicitation": ("engaging", "unengaging"),
    "politeness": ("polite", "rude"),
    "enthusiasm": ("enthusiastic", "demure"),
    "confidence": ("confident", "uncertain"),
}
"""Attribute -> its two poles, as the corpus names them."""

TOPICS = (
    *("household", "work and study", "science", "travel and leisure", "other people", "health and home"),
    *("money and devices", "culture and ideas"),
)
"""The corpus was written topic by topic, eight prompts each: prompts p00 to p07 are the first topic, and so on."""

HIDDEN = "humour"
"""The attribute that the world `hidden` replaces by one that no text tells."""

_NEW_PAIRS = 17
_CARED_FOR = 2 / 7
"""Share of the attributes that a person of the world `sparse` cares about, as many as in `pairs`."""


@dataclass(frozen=True)
class Tastes:
    """Who cares about what.

    Args:
        axes: (n_items, r) what each reply shows.
        names: r names of the axes.
        people: (n_users, r) how much each person cares.
        traits: each person's traits in words, or None where weights say it.
    """

    axes: np.ndarray
    names: tuple[str, ...]
    people: np.ndarray
    traits: tuple[tuple[str, ...], ...] | None = None


@dataclass(frozen=True)
class World:
    """A kind of people.

    Args:
        what: in a sentence.
        scale: logits per unit of taste; frozen such that who knows the truth is right in 85 % of the answers.
        tastes: (replies, numbers of known and of new people, seed) -> tastes, the new people last.
    """

    what: str
    scale: float
    tastes: Callable[[tuple[Reply, ...], tuple[int, int], int], Tastes]


def _trait_pairs() -> tuple[tuple[str, str], ...]:
    return tuple(
        (first, second)
        for a, b in combinations(ATTRIBUTES, 2)
        for first, second in product(ATTRIBUTES[a], ATTRIBUTES[b])
    )


TRAIT_PAIRS = _trait_pairs()
"""The 84 pairs of poles of different attributes."""


def _new_pairs() -> frozenset[tuple[str, str]]:
    """17 pairs in an order that is fixed for good, no attribute pair more than once, so that no pole becomes rare."""
    order = derive(0, "new trait pairs").permutation(len(TRAIT_PAIRS))
    pole_of = {pole: attribute for attribute, poles in ATTRIBUTES.items() for pole in poles}
    chosen: dict[frozenset[str], tuple[str, str]] = {}
    for number in order:
        pair = TRAIT_PAIRS[number]
        chosen.setdefault(frozenset(pole_of[pole] for pole in pair), pair)
    return frozenset(list(chosen.values())[:_NEW_PAIRS])


NEW_PAIRS = _new_pairs()
"""The 17 pairs that only new people have."""


def shows(replies: tuple[Reply, ...]) -> np.ndarray:
    """(n_items, 7) 1 where a reply shows an attribute's first pole, -1 where its second, 0 where it is neutral."""
    return np.array([[_sign(reply.traits.get(name), name) for name in ATTRIBUTES] for reply in replies], float)


def topic_of(reply: Reply) -> int:
    """Number of the reply's topic in `TOPICS`."""
    return int(reply.prompt_id.removeprefix("p")) // 8


def _sign(pole: str | None, attribute: str) -> int:
    first, second = ATTRIBUTES[attribute]
    return int(pole == first) - int(pole == second)


def _pairs(replies: tuple[Reply, ...], counts: tuple[int, int], seed: int) -> Tastes:
    """Two traits each, dealt evenly."""
    traits: list[tuple[str, str]] = []
    for part, count in zip(("seen", "new"), counts, strict=True):
        pairs = [pair for pair in TRAIT_PAIRS if (pair in NEW_PAIRS) == (part == "new")]
        order = stream(seed, "traits", part).permutation(len(pairs))
        traits += [pairs[order[number % len(pairs)]] for number in range(count)]
    people = [[sum(_sign(pole, name) for pole in pair) for name in ATTRIBUTES] for pair in traits]
    return Tastes(shows(replies), tuple(ATTRIBUTES), np.array(people, float), tuple(traits))


def _continuous(replies: tuple[Reply, ...], counts: tuple[int, int], seed: int) -> Tastes:
    people = stream(seed, "weights").standard_normal((sum(counts), len(ATTRIBUTES)))
    return Tastes(shows(replies), tuple(ATTRIBUTES), people)


def _sparse(replies: tuple[Reply, ...], counts: tuple[int, int], seed: int) -> Tastes:
    """Normal weights where the person cares at all; everybody cares about at least one attribute."""
    rng = stream(seed, "weights")
    people = rng.standard_normal((sum(counts), len(ATTRIBUTES)))
    draw = rng.random(people.shape)
    cares = (draw < _CARED_FOR) | (draw == draw.min(axis=1, keepdims=True))
    return Tastes(shows(replies), tuple(ATTRIBUTES), np.where(cares, people, 0.0))


def _topic(replies: tuple[Reply, ...], counts: tuple[int, int], seed: int) -> Tastes:
    """As `_pairs`, but one of the two traits, drawn, matters only on four topics of the person's own."""
    plain, rng = _pairs(replies, counts, seed), stream(seed, "topics")
    n, width = len(plain.people), len(TOPICS)
    on = np.argsort(rng.random((n, width)), axis=1) < width // 2
    choosy = np.argmax(np.where(plain.people != 0, rng.random(plain.people.shape), -1.0), axis=1)
    matters = np.ones((n, len(ATTRIBUTES), width))
    matters[np.arange(n), choosy] = on
    here = np.eye(width)[[topic_of(reply) for reply in replies]]
    return Tastes(
        axes=(plain.axes[:, :, None] * here[:, None, :]).reshape(len(replies), -1),
        names=tuple(f"{name}, {topic}" for name in ATTRIBUTES for topic in TOPICS),
        people=(plain.people[:, :, None] * matters).reshape(n, -1),
        traits=plain.traits,
    )


def _hidden(replies: tuple[Reply, ...], counts: tuple[int, int], seed: int) -> Tastes:
    """As `_pairs`, but what a reply shows of `HIDDEN` is dealt anew among the replies to its prompt, by hash."""
    plain = _pairs(replies, counts, seed)
    place = list(ATTRIBUTES).index(HIDDEN)
    axes = plain.axes.copy()
    prompts = np.array([reply.prompt_id for reply in replies])
    for prompt in np.unique(prompts):
        own = np.flatnonzero(prompts == prompt)
        # Sorted by id first, so that the order in which replies come plays no part.
        own = own[np.argsort([replies[item].id for item in own])]
        dealt = np.argsort([hash_fraction(replies[item].id, "hidden attribute") for item in own])
        axes[own, place] = plain.axes[own[dealt], place]
    poles = dict(zip(ATTRIBUTES[HIDDEN], ("hidden +", "hidden −"), strict=True))
    traits = tuple(tuple(poles.get(pole, pole) for pole in pair) for pair in plain.traits or ())
    names = tuple("hidden" if name == HIDDEN else name for name in plain.names)
    return Tastes(axes, names, plain.people, traits)


WORLDS: Mapping[str, World] = {
    "pairs": World("two traits each, 84 pairs (PReF's Attributes)", 2.75, _pairs),
    "continuous": World("a normal weight on each of seven attributes", 1.66, _continuous),
    "sparse": World("normal weights on few of seven attributes", 3.45, _sparse),
    "topic": World("two traits each, one of them only on some topics (misspecified)", 3.18, _topic),
    "hidden": World("two traits each, one attribute that no text tells (misspecified)", 2.75, _hidden),
}
"""Kinds of simulated readers of the shipped replies, by name."""
