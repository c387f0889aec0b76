"""Worlds whose right answer is known: people with true rewards, what they chose, and what they would choose.

Each world is the assumption of some method: where it holds that method should win, and a method that claims less
should not. Every world is a pure function of its `seed`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from palate.rng import derive
from palate.types import Comparisons, Items

__all__ = [
    "WORLDS",
    "World",
    "conditional_world",
    "identity_town",
    "in_context_world",
    "lone_people",
    "make_world",
    "mirror_town",
    "scattered_town",
]


@dataclass(frozen=True)
class World:
    """People with known rewards over one table of items.

    Args:
        name: what kind of world.
        train: rows of the seen people.
        heldout: other pairs of the same people.
        history: rows of new people, to adapt to.
        test: other pairs of the new people.
        rewards: (n_users, n) true rewards of the seen people, in logits: a person prefers left with probability
            σ(reward[left] - reward[right]).
        new_rewards: (n_new, n) the same for the new people.
        minority: (n_users,) seen people whose taste runs against the majority's.
        new_minority: (n_new,) the same for the new people.
    """

    name: str
    train: Comparisons
    heldout: Comparisons
    history: Comparisons
    test: Comparisons
    rewards: np.ndarray
    new_rewards: np.ndarray
    minority: np.ndarray
    new_minority: np.ndarray

    @property
    def items(self) -> Items:
        """The table all comparisons share."""
        return self.train.items

    def margins(self, part: str) -> np.ndarray:
        """(m,) true logit of every row of "train", "heldout", "history" or "test"."""
        rows: Comparisons = getattr(self, part)
        rewards = self.rewards if part in ("train", "heldout") else self.new_rewards
        return rewards[rows.user, rows.left] - rewards[rows.user, rows.right]

    def decided(self, part: str, probability: np.ndarray, people: np.ndarray | None = None) -> float:
        """Share of a part's noise-free decisions that `probability` (m,) gets right, mean over people.

        Args:
            part: "heldout" or "test" (or the other two).
            probability: (m,) predicted probability that left is preferred; exactly ½ counts half.
            people: mask or indices of the people to average over; all by default.
        """
        return float(np.nanmean(self.decided_by_person(part, probability)[slice(None) if people is None else people]))

    def decided_by_person(self, part: str, probability: np.ndarray) -> np.ndarray:
        """(people,) the share of `decided` of each person; NaN for who has no row."""
        rows: Comparisons = getattr(self, part)
        side = np.sign(np.asarray(probability) - 0.5)
        right = 0.5 * (1.0 + side * np.sign(self.margins(part)))
        total = np.bincount(rows.user, weights=right, minlength=rows.n_users)
        count = rows.counts()
        return np.divide(total, count, out=np.full(rows.n_users, np.nan), where=count > 0)


def make_world(
    name: str,
    items: Items,
    rewards: np.ndarray,
    *,
    n_users: int,
    rows_per_user: int,
    heldout_per_user: int,
    history_per_user: int,
    minority: np.ndarray | None = None,
    seed: int,
) -> World:
    """A world from true rewards.

    Each person gets distinct random pairs of items whose true margin is not zero, split into rows to learn from and
    rows to be tested on; labels are drawn from the Bradley–Terry model.

    Args:
        name: what kind of world.
        items: n items.
        rewards: (n_people, n) in logits; the first `n_users` people are seen, the others new.
        n_users: how many people are seen.
        rows_per_user: training rows of each seen person.
        heldout_per_user: rows to be tested on, of each seen and each new person.
        history_per_user: rows to adapt to, of each new person.
        minority: (n_people,) mask; nobody by default.
        seed: the world is a function of it; person i keeps the same draws whatever the number of people.
    """
    people = len(rewards)
    minority = np.zeros(people, bool) if minority is None else minority
    learn: dict[bool, list[np.ndarray]] = {True: [], False: []}
    tested: dict[bool, list[np.ndarray]] = {True: [], False: []}
    for person in range(people):
        seen = person < n_users
        count = rows_per_user if seen else history_per_user
        rows = _choices(rewards[person], count + heldout_per_user, derive(seed, name, "choices", person))
        user = np.full((len(rows), 1), person if seen else person - n_users)
        rows = np.hstack([rows, user])
        learn[seen].append(rows[:count])
        tested[seen].append(rows[count:])
    parts = [
        _comparisons(items, np.vstack(rows[seen]), n_users if seen else people - n_users)
        for seen in (True, False)
        for rows in (learn, tested)
    ]
    return World(
        name,
        *parts,
        rewards=rewards[:n_users],
        new_rewards=rewards[n_users:],
        minority=minority[:n_users],
        new_minority=minority[n_users:],
    )


def _choices(reward: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 3) left, right and label of distinct pairs with a margin."""
    left, right = np.triu_indices(len(reward), k=1)
    distinct = np.flatnonzero(np.abs(reward[left] - reward[right]) > 1e-9)
    pair = rng.choice(distinct, count, replace=False)
    swap = rng.random(count) < 0.5
    left, right = np.where(swap, right[pair], left[pair]), np.where(swap, left[pair], right[pair])
    label = rng.random(count) < 1.0 / (1.0 + np.exp(reward[right] - reward[left]))
    return np.column_stack([left, right, label])


def _comparisons(items: Items, rows: np.ndarray, n_users: int) -> Comparisons:
    return Comparisons.of(items, rows[:, 0], rows[:, 1], rows[:, 3], rows[:, 2].astype(float), n_users=n_users)


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
    for world in (mirror_town, scattered_town, lone_people, conditional_world, in_context_world, identity_town)
}
"""Every world by name."""


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
