"""Worlds whose right answer is known: people with true rewards, what they chose, and what they would choose.

Each world is the assumption of some method: where it holds that method should win, and a method that claims less
should not. Every world is a pure function of its `seed`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from palate.rng import derive
from palate.testing.world import World, make_world
from palate.types import Items

__all__ = [
    "WORLDS",
    "World",
    "conditional_world",
    "identity_town",
    "in_context_world",
    "lone_people",
    "make_world",
    "mirror_town",
    "mixed_town",
    "prototype_town",
    "scattered_town",
    "twin_town",
]


def mirror_town(
    *,
    n_users: int = 60,
    rows_per_user: int = 40,
    n_new: int = 60,
    history_per_user: int = 20,
    heldout_per_user: int = 40,
    n_items: int = 64,
    dim: int = 4,
    minority: float = 0.2,
    seed: int = 0,
) -> World:
    """Two camps with opposite taste on one axis and the same taste on another.

    reward(x, u) = ± 2 x₀ + x₁ with x₀, x₁ ∈ {-1, 1}; the minority has the minus sign. Features beyond these two
    are noise. A pooled reward learns the majority's sign and is wrong on most of what the minority decides.

    Args:
        n_users: seen people.
        rows_per_user: training rows of each.
        n_new: new people.
        history_per_user: rows to adapt to, of each new person.
        heldout_per_user: test rows of everyone.
        n_items: size of the table.
        dim: features, at least 2.
        minority: share of people in the smaller camp, the same among seen and new people.
        seed: the world is a function of it.
    """
    rng = derive(seed, "mirror_town")
    features = rng.normal(size=(n_items, dim))
    features[:, :2] = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])[rng.permutation(n_items) % 4]
    in_minority = np.concatenate([_camp(n_users, minority, rng), _camp(n_new, minority, rng)])
    rewards = np.where(in_minority, -2.0, 2.0)[:, None] * features[:, 0] + features[:, 1]
    return make_world(
        "mirror_town",
        Items.of(features, keys=np.arange(n_items)),
        rewards,
        n_users=n_users,
        rows_per_user=rows_per_user,
        heldout_per_user=heldout_per_user,
        history_per_user=history_per_user,
        minority=in_minority,
        seed=seed,
    )


def _camp(people: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """(people,) mask with exactly the rounded share set, at random places."""
    return rng.permutation(people) < round(share * people)


def scattered_town(
    *,
    n_users: int = 100,
    rows_per_user: int = 30,
    n_new: int = 60,
    history_per_user: int = 30,
    heldout_per_user: int = 40,
    n_items: int = 200,
    dim: int = 8,
    rank: int = 2,
    spread: float = 1.5,
    seed: int = 0,
) -> World:
    """Tastes scattered continuously in a low-rank space: the assumption of `factor` and `hierarchical`.

    reward(x, u) = x·w + x·B z_u with z_u ~ N(0, I) of `rank` dimensions; `spread` is the standard deviation of the
    personal part of one item's reward, the shared part has 0.5.
    """
    rng = derive(seed, "scattered_town")
    features = rng.normal(size=(n_items, dim))
    shared = 0.5 * _unit(rng.normal(size=dim))
    basis = np.linalg.qr(rng.normal(size=(dim, rank)))[0] * (spread / np.sqrt(rank))
    taste = shared + rng.normal(size=(n_users + n_new, rank)) @ basis.T
    return make_world(
        "scattered_town",
        Items.of(features, keys=np.arange(n_items)),
        taste @ features.T,
        n_users=n_users,
        rows_per_user=rows_per_user,
        heldout_per_user=heldout_per_user,
        history_per_user=history_per_user,
        seed=seed,
    )


def lone_people(
    *,
    n_users: int = 20,
    rows_per_user: int = 300,
    n_new: int = 20,
    history_per_user: int = 100,
    heldout_per_user: int = 60,
    n_items: int = 150,
    dim: int = 6,
    seed: int = 0,
) -> World:
    """Everyone has a taste of their own in all directions, and many rows: the assumption of `individual`.

    reward(x, u) = x·w_u with w_u ~ N(0, I). Other people teach nothing.
    """
    rng = derive(seed, "lone_people")
    features = rng.normal(size=(n_items, dim))
    taste = rng.normal(size=(n_users + n_new, dim))
    return make_world(
        "lone_people",
        Items.of(features, keys=np.arange(n_items)),
        taste @ features.T,
        n_users=n_users,
        rows_per_user=rows_per_user,
        heldout_per_user=heldout_per_user,
        history_per_user=history_per_user,
        seed=seed,
    )


def twin_town(
    *,
    n_users: int = 16,
    rows_per_user: int = 150,
    n_new: int = 48,
    history_per_user: int = 15,
    heldout_per_user: int = 40,
    n_items: int = 150,
    dim: int = 12,
    seed: int = 0,
) -> World:
    """Every new person has a twin among the seen people: the assumption of `similar_user`.

    reward(x, u) = x·w_u with w_u ~ N(0, I) for seen people; new people's w is that of a seen one. With fewer answers than
    features a new person's own reward is hopeless, but a dozen answers tell whose twin it is.
    """
    rng = derive(seed, "twin_town")
    features = rng.normal(size=(n_items, dim))
    taste = rng.normal(size=(n_users, dim))
    taste = np.vstack([taste, taste[rng.integers(n_users, size=n_new)]])
    return make_world(
        "twin_town",
        Items.of(features, keys=np.arange(n_items)),
        taste @ features.T,
        n_users=n_users,
        rows_per_user=rows_per_user,
        heldout_per_user=heldout_per_user,
        history_per_user=history_per_user,
        seed=seed,
    )


def mixed_town(
    *,
    n_users: int = 80,
    rows_per_user: int = 20,
    n_new: int = 60,
    history_per_user: int = 15,
    heldout_per_user: int = 40,
    n_items: int = 150,
    dim: int = 10,
    rewards: int = 4,
    concentration: float = 0.2,
    seed: int = 0,
) -> World:
    """Everyone's reward is a mean of the same few, in shares of their own: the assumption of LoRe and PersonalLLM.

    reward(x, u) = Σ_k p_uk 2 x·v_k with p_u ~ Dirichlet(`concentration`) and v_k ~ N(0, I): with little concentration
    nearly everybody has one of the rewards.
    """
    rng = derive(seed, "mixed_town")
    features = rng.normal(size=(n_items, dim))
    few = 2.0 * rng.normal(size=(rewards, dim)) @ features.T
    shares = rng.dirichlet(np.full(rewards, concentration), size=n_users + n_new)
    return make_world(
        "mixed_town",
        Items.of(features, keys=np.arange(n_items)),
        shares @ few,
        n_users=n_users,
        rows_per_user=rows_per_user,
        heldout_per_user=heldout_per_user,
        history_per_user=history_per_user,
        seed=seed,
    )


def conditional_world(
    *,
    n_users: int = 40,
    rows_per_user: int = 100,
    n_new: int = 40,
    history_per_user: int = 40,
    heldout_per_user: int = 40,
    n_items: int = 200,
    dim: int = 3,
    seed: int = 0,
) -> World:
    """Everyone has an ideal amount of the first feature: the assumption of `conditional`.

    reward(x, u) = -2 |x₀ - c_u| + ½ x₁ with c_u ~ U(-1.5, 1.5): more is better only up to a point that differs from
    person to person. No reward linear in x says that, for anybody.
    """
    rng = derive(seed, "conditional_world")
    features = rng.normal(size=(n_items, dim))
    ideal = rng.uniform(-1.5, 1.5, size=(n_users + n_new, 1))
    rewards = -2.0 * np.abs(features[:, 0] - ideal) + 0.5 * features[:, 1]
    return make_world(
        "conditional_world",
        Items.of(features, keys=np.arange(n_items)),
        rewards,
        n_users=n_users,
        rows_per_user=rows_per_user,
        heldout_per_user=heldout_per_user,
        history_per_user=history_per_user,
        seed=seed,
    )


def in_context_world(
    *,
    n_users: int = 300,
    rows_per_user: int = 16,
    n_new: int = 60,
    history_per_user: int = 16,
    heldout_per_user: int = 20,
    n_items: int = 120,
    camps: int = 4,
    seed: int = 0,
) -> World:
    """Many people, few rows each, a handful of tastes that no line separates: the assumption of `gpo`.

    Each camp likes the neighbourhood of its own point: reward(x, u) = 6 exp(-½ ‖x - c_g‖² / 0.8²). A few answers tell
    the camp, and the camp tells the whole (nonlinear) reward: learned in context, not by fitting weights.
    """
    rng = derive(seed, "in_context_world")
    features = rng.uniform(-2, 2, size=(n_items, 2))
    angle = 2 * np.pi * np.arange(camps) / camps
    centres = 1.2 * np.column_stack([np.cos(angle), np.sin(angle)])
    distance = ((features[None, :, :] - centres[:, None, :]) ** 2).sum(-1)
    by_camp = 6.0 * np.exp(-0.5 * distance / 0.8**2)
    camp = rng.integers(camps, size=n_users + n_new)
    return make_world(
        "in_context_world",
        Items.of(features, keys=np.arange(n_items)),
        by_camp[camp],
        n_users=n_users,
        rows_per_user=rows_per_user,
        heldout_per_user=heldout_per_user,
        history_per_user=history_per_user,
        seed=seed,
    )


def prototype_town(
    *,
    n_users: int = 60,
    rows_per_user: int = 40,
    n_new: int = 40,
    history_per_user: int = 20,
    heldout_per_user: int = 40,
    n_items: int = 150,
    dim: int = 3,
    prototypes: int = 3,
    seed: int = 0,
) -> World:
    """Everyone's ideal lies between a few prototypes: the assumption of `pal`.

    reward(x, u) = -3 ‖x - P s_u‖ with `prototypes` columns in P and s_u ~ Dirichlet(0.3): an item is liked for being
    near a person's own point, whose place a few numbers tell.
    """
    rng = derive(seed, "prototype_town")
    features = rng.normal(size=(n_items, dim))
    points = 1.5 * rng.normal(size=(prototypes, dim))
    ideals = rng.dirichlet(np.full(prototypes, 0.3), size=n_users + n_new) @ points
    rewards = -3.0 * np.linalg.norm(features[None] - ideals[:, None], axis=-1)
    return make_world(
        "prototype_town",
        Items.of(features, keys=np.arange(n_items)),
        rewards,
        n_users=n_users,
        rows_per_user=rows_per_user,
        heldout_per_user=heldout_per_user,
        history_per_user=history_per_user,
        seed=seed,
    )


def identity_town(
    *,
    n_users: int = 80,
    rows_per_user: int = 30,
    n_new: int = 40,
    history_per_user: int = 20,
    heldout_per_user: int = 30,
    n_items: int = 30,
    minority: float = 0.2,
    seed: int = 0,
) -> World:
    """Items that have a key and no features at all (d = 0); quality is shared, and one contested axis is hidden.

    reward(i, u) = q_i ± c_i with q, c ~ N(0, 1): only a method that learns about known items can say anything.
    """
    rng = derive(seed, "identity_town")
    quality, contested = rng.normal(size=(2, n_items))
    in_minority = np.concatenate([_camp(n_users, minority, rng), _camp(n_new, minority, rng)])
    rewards = quality + np.where(in_minority, -1.0, 1.0)[:, None] * contested
    return make_world(
        "identity_town",
        Items.of(np.zeros((n_items, 0)), keys=np.arange(n_items)),
        rewards,
        n_users=n_users,
        rows_per_user=rows_per_user,
        heldout_per_user=heldout_per_user,
        history_per_user=history_per_user,
        minority=in_minority,
        seed=seed,
    )


WORLDS: dict[str, Callable[..., World]] = {
    world.__name__: world
    for world in (
        mirror_town,
        scattered_town,
        lone_people,
        twin_town,
        mixed_town,
        conditional_world,
        in_context_world,
        prototype_town,
        identity_town,
    )
}
"""Every world by name."""


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
