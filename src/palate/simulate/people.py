"""People with known tastes who read the shipped replies: their own taste, one they share, and Bradley-Terry noise.

    reward = scale · (own taste + shared taste + quality of the reply)

What people care about depends on the world (`palate.simulate.tastes`). In `pairs`, the first one, a person holds two
traits, poles of different attributes (84 pairs, as in PReF's Attributes data; Shenfeld et al. 2025, §5.1); 17 of the
pairs are held by new people only. All settings are frozen: they were chosen once, by the oracle's accuracy alone.
"""

from __future__ import annotations

import numpy as np

from palate.data import corpus
from palate.errors import ConfigError, InputError
from palate.rng import hash_fraction
from palate.simulate.tastes import ATTRIBUTES, WORLDS, shows
from palate.simulate.truth import ItemTable, Simulation, Truth, simulate, stream

__all__ = ["corpus_people"]

SHARED = {"politeness": 0.4, "confidence": 0.3, "elicitation": 0.2, "formality": 0.1}
"""What everybody likes a little, towards the first pole, in units of a trait."""

QUALITY = 0.3
"""Standard deviation of how good a reply is to everybody, whatever its style."""


def corpus_people(
    n_users: int = 400,
    comparisons: int = 60,
    *,
    world: str = "pairs",
    new_share: float = 0.25,
    new_comparisons: int | None = None,
    repeats: float = 0.0,
    seed: int = 0,
) -> Simulation:
    """People who choose between the shipped replies.

    Args:
        n_users: people; the last of them are new.
        comparisons: answers of each person.
        world: what people care about, one of `palate.simulate.WORLDS`.
        new_share: share of people who are for testing on new people (column `new_person`). In the worlds of trait pairs
            theirs are the 17 pairs that nobody else has; in the others they are like everybody.
        new_comparisons: answers of each new person; as of the others by default.
        repeats: share of the answers that are second answers to an earlier pair.
        seed: fixes everything.

    Returns:
        The answers and the truth. The data set carries the truth in columns that no method sees (`new_person`,
        `true_probability`, `consensus_probability`), so that a benchmark can show what is reachable.

    Raises:
        InputError: a setting is out of its range.
        ConfigError: there is no such world.
    """
    if n_users < 1:
        raise InputError(f"n_users={n_users}: use at least 1")
    if not 0.0 <= new_share <= 1.0:
        raise InputError(f"new_share={new_share}: a share lies between 0 and 1")
    if world not in WORLDS:
        raise ConfigError(f"world={world!r}: there are {', '.join(WORLDS)}")
    rows = corpus.replies()
    table = ItemTable.of([row.prompt for row in rows], [row.text for row in rows])
    ordered = tuple(rows[place] for place in table.order)
    n_new = int(round(new_share * n_users))
    kind = WORLDS[world]
    tastes = kind.tastes(ordered, (n_users - n_new, n_new), seed)
    shared = shows(ordered) @ np.array([SHARED.get(attribute, 0.0) for attribute in ATTRIBUTES])
    quality = np.array([QUALITY * _normal(row.id) for row in ordered])
    new = np.arange(n_users) >= n_users - n_new
    truth = Truth(
        shared=kind.scale * (shared + quality),
        loadings=kind.scale * tastes.axes,
        people=tastes.people,
        new=new,
        traits=tastes.traits,
        axes=tastes.names,
    )
    each = np.where(new, comparisons if new_comparisons is None else new_comparisons, comparisons)
    name = "simulated people" if world == "pairs" else f"simulated people, {world}"
    return simulate(table, truth, each, rng=stream(seed, "answers"), name=name, repeats=repeats, told=True)


def _normal(text: str) -> float:
    """A standard normal number fixed by a text."""
    from scipy.special import ndtri

    return float(ndtri(np.clip(hash_fraction(text, "quality"), 1e-6, 1 - 1e-6)))
