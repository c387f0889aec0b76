"""Worlds without language: people and items drawn from normal distributions, with short generated texts.

Disagreement, noise and rank can be set one by one, which no real data set allows. They show whether a method, or an
audit, sees what is there.
"""

from __future__ import annotations

import numpy as np

from palate.errors import InputError
from palate.simulate.truth import ItemTable, Simulation, Truth, simulate, stream

__all__ = ["synthetic_world"]

_WORDS = (
    *("amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "harbour", "inlet", "juniper", "kestrel"),
    *("lagoon", "meadow", "north", "orchard", "pebble", "quarry", "river", "summit", "tundra", "willow", "zephyr"),
)


def synthetic_world(
    n_users: int = 400,
    n_items: int = 512,
    rows_per_user: int = 60,
    *,
    rank: int = 2,
    disagreement: float = 1.0,
    shared: float = 1.0,
    noise: float = 1.0,
    replies_per_prompt: int = 8,
    features: int = 0,
    told: float = 1.0,
    repeats: float = 0.0,
    seed: int = 0,
) -> Simulation:
    """People and items from normal distributions.

        logit = (shared · s(pair) + disagreement · t_u(pair)) / noise

    where s and t_u have variance 1 over random pairs, and t_u over people too.

    Args:
        n_users: people.
        n_items: replies in all; the last prompt may have fewer than the others.
        rows_per_user: answers of each person.
        rank: dimensions of taste.
        disagreement: standard deviation of taste over people, in logits at noise 1; 0 makes everybody alike.
        shared: standard deviation of what everybody likes.
        noise: divides all logits; large values make answers random.
        replies_per_prompt: at least 2.
        features: columns of features that come with the items; 0 for none.
        told: share of the variance of rewards that the features tell (the rest is known by identity only).
        repeats: share of second answers to an earlier pair.
        seed: fixes everything.

    Raises:
        InputError: a setting is out of its range.
    """
    _check(n_users, n_items, rank, disagreement, shared, noise, replies_per_prompt, features, told)
    prompt = [f"Question {number // replies_per_prompt:06d}" for number in range(n_items)]
    lengths = stream(seed, "texts").integers(2, 12, size=n_items)
    reply = [
        f"Reply {number:07d}: " + " ".join(_WORDS[(number * 7 + place * 3) % len(_WORDS)] for place in range(length))
        for number, length in enumerate(lengths)
    ]
    table = ItemTable.of(prompt, reply)
    rng = stream(seed, "items")
    tastes = rng.standard_normal((n_items, 1 + rank))
    columns = None
    if features:
        columns = rng.standard_normal((n_items, features))
        mixing = stream(seed, "mixing").standard_normal((features, 1 + rank)) / np.sqrt(features)
        tastes = np.sqrt(told) * columns @ mixing + np.sqrt(1.0 - told) * tastes
    scale = np.sqrt(0.5) / noise  # a difference of two items has twice the variance of one
    truth = Truth(
        shared=shared * scale * tastes[:, 0],
        loadings=disagreement * scale / np.sqrt(rank) * tastes[:, 1:],
        people=stream(seed, "people").standard_normal((n_users, rank)),
        new=np.zeros(n_users, bool),
    )
    name = f"synthetic world {seed}"
    return simulate(
        table,
        truth,
        rows_per_user,
        rng=stream(seed, "answers"),
        name=name,
        repeats=repeats,
        features=None if columns is None else columns.astype(np.float32),
    )


def _check(
    n_users: int,
    n_items: int,
    rank: int,
    disagreement: float,
    shared: float,
    noise: float,
    replies_per_prompt: int,
    features: int,
    told: float,
) -> None:
    least = {"n_users": (n_users, 1), "n_items": (n_items, 2), "rank": (rank, 1), "features": (features, 0)}
    least |= {"disagreement": (disagreement, 0), "shared": (shared, 0), "replies_per_prompt": (replies_per_prompt, 2)}
    for name, (value, smallest) in least.items():
        if not value >= smallest:
            raise InputError(f"{name}={value}: use at least {smallest}")
    if not noise > 0:
        raise InputError(f"noise={noise}: it divides the logits; use more than 0")
    if not 0.0 <= told <= 1.0:
        raise InputError(f"told={told}: a share lies between 0 and 1")
