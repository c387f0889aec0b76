"""People with known tastes who read the shipped replies: two traits each, a taste they share, and Bradley-Terry noise.

    reward = SCALE · (± 1 for each of the person's two traits + shared taste + quality of the reply)

A reply counts +1 for a trait when it shows that pole, -1 when it shows the opposite one, 0 when it is neutral. The two
traits are poles of different attributes (84 pairs, as in PReF's Attributes data; Shenfeld et al. 2025, §5.1); 17 of the
pairs are held by new people only. All settings are frozen: they were chosen once, by the oracle's accuracy alone.
"""

from __future__ import annotations

from itertools import combinations, product

import numpy as np

from palate.data import corpus
from palate.errors import InputError
from palate.rng import derive, hash_fraction
from palate.simulate.truth import ItemTable, Simulation, Truth, simulate, stream

__all__ = ["ATTRIBUTES", "NEW_PAIRS", "TRAIT_PAIRS", "corpus_people"]

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

SCALE = 2.75
"""Logits per trait: the oracle is right in 85 % of the answers."""

SHARED = {"politeness": 0.4, "confidence": 0.3, "elicitation": 0.2, "formality": 0.1}
"""What everybody likes a little, towards the first pole, in units of a trait."""

QUALITY = 0.3
"""Standard deviation of how good a reply is to everybody, whatever its style."""

_NEW_PAIRS = 17


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


def corpus_people(
    n_users: int = 400, comparisons: int = 60, *, new_share: float = 0.25, repeats: float = 0.0, seed: int = 0
) -> Simulation:
    """People who choose between the shipped replies.

    Args:
        n_users: people; the last of them are new.
        comparisons: answers of each person.
        new_share: share of people whose trait pair is one of the 17 that nobody else has.
        repeats: share of the answers that are second answers to an earlier pair.
        seed: fixes everything.

    Returns:
        The answers (with the extra column `new`) and the truth, whose `traits` name each person's two poles.

    Raises:
        InputError: a setting is out of its range.
    """
    if n_users < 1:
        raise InputError(f"n_users={n_users}: use at least 1")
    if not 0.0 <= new_share <= 1.0:
        raise InputError(f"new_share={new_share}: a share lies between 0 and 1")
    rows = corpus.replies()
    table = ItemTable.of([row.prompt for row in rows], [row.text for row in rows])
    ordered = [rows[place] for place in table.order]
    shows = np.array([[_shown(row.traits.get(attribute), attribute) for attribute in ATTRIBUTES] for row in ordered])
    shared = shows @ np.array([SHARED.get(attribute, 0.0) for attribute in ATTRIBUTES])
    quality = np.array([QUALITY * _normal(row.id) for row in ordered])
    traits, new = _people(n_users, new_share, seed)
    cares = np.array([[sum(_shown(pole, attribute) for pole in pair) for attribute in ATTRIBUTES] for pair in traits])
    truth = Truth(
        shared=SCALE * (shared + quality), loadings=SCALE * shows, people=cares.astype(float), new=new, traits=traits
    )
    return simulate(table, truth, comparisons, rng=stream(seed, "answers"), name="simulated people", repeats=repeats)


def _people(n_users: int, new_share: float, seed: int) -> tuple[tuple[tuple[str, str], ...], np.ndarray]:
    """Each person's two poles, dealt evenly, and who is new."""
    n_new = int(round(new_share * n_users))
    known = [pair for pair in TRAIT_PAIRS if pair not in NEW_PAIRS]
    unknown = [pair for pair in TRAIT_PAIRS if pair in NEW_PAIRS]
    traits = []
    for part, pairs, count in (("seen", known, n_users - n_new), ("new", unknown, n_new)):
        order = stream(seed, "traits", part).permutation(len(pairs))
        traits += [pairs[order[number % len(pairs)]] for number in range(count)]
    return tuple(traits), np.arange(n_users) >= n_users - n_new


def _shown(pole: str | None, attribute: str) -> int:
    """1 for the attribute's first pole, -1 for its second, 0 for a pole of another attribute or none."""
    first, second = ATTRIBUTES[attribute]
    return int(pole == first) - int(pole == second)


def _normal(text: str) -> float:
    """A standard normal number fixed by a text."""
    from scipy.special import ndtri

    return float(ndtri(np.clip(hash_fraction(text, "quality"), 1e-6, 1 - 1e-6)))
