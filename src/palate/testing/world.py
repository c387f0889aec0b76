"""A world whose right answer is known: people with true rewards, what they chose, and what they would choose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate.rng import derive
from palate.types import Comparisons, Items

__all__ = ["World", "make_world"]


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
