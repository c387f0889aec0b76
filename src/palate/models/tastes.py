"""The reward space of `hierarchical`: where items lie, and where people lie in it.

    r_u(i) = f(i) + λ_u·c(i),      λ_u ~ N(0, I)
    f(i)   = β·x_i + b_k,          c(i) = Wᵀx_i + δ_k

with rotated features x (q,) and, for a known item, its own effect b and loading δ. See `palate.models.hierarchical_fit`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from palate.models.likelihood import adapt_users
from palate.models.shared import locate
from palate.types import Comparisons, Items

__all__ = ["Tastes", "design_weights", "merge", "people", "settle"]


@dataclass(frozen=True)
class Tastes:
    """What `learn_tastes` learned, as plain arrays.

    Args:
        center, rotation: (d,), (d, q); x_i = (features − center) @ rotation.
        beta: (q,) shared weights.
        content: (q, r) W.
        keys: (k,) sorted known items; a single -1 stands for none.
        effects: (k,) b.
        loadings: (k, r) δ.
        doubt: (q,) posterior variance of a reward's weights β + W λ per feature, people being N(0, I).
        own_doubt: (k + 1,) posterior variance of what each known item has of its own, b + δ·λ; last, the prior variance,
            which is that of an item that nobody has judged.
    """

    center: np.ndarray
    rotation: np.ndarray
    beta: np.ndarray
    content: np.ndarray
    keys: np.ndarray
    effects: np.ndarray
    loadings: np.ndarray
    doubt: np.ndarray
    own_doubt: np.ndarray

    def offset(self, items: Items) -> np.ndarray:
        """(n,) f(i), what an average person feels about each item."""
        known, place = self.known(items)
        return self.rotated(items) @ self.beta + known * self.effects[place]

    def basis(self, items: Items) -> np.ndarray:
        """(n, r) c(i), how each item loads on the axes of taste."""
        known, place = self.known(items)
        return self.rotated(items) @ self.content + known[:, None] * self.loadings[place]

    def rotated(self, items: Items) -> np.ndarray:
        """(n, q) features in rotated coordinates."""
        return (items.features - self.center) @ self.rotation

    def known(self, items: Items) -> tuple[np.ndarray, np.ndarray]:
        """(n,) 1.0 for a known item, else 0.0; and (n,) its place among `keys`, 0 for the others."""
        if len(self.keys) == 1 and self.keys[0] < 0:
            return np.zeros(len(items)), np.zeros(len(items), np.int64)
        place = locate(self.keys, items.keys)
        return (place >= 0).astype(np.float64), np.maximum(place, 0)

    def doubt_between(self, left: Items, right: Items) -> np.ndarray:
        """(m,) variance of the reward differences because the items' places are learned from few comparisons."""
        content = np.square(self.rotated(left) - self.rotated(right)) @ self.doubt
        for items in (left, right):
            known, place = self.known(items)
            content = content + np.where(known > 0, self.own_doubt[place], self.own_doubt[-1])
        return content

    def moved(self, mean: np.ndarray, factor: np.ndarray) -> Tastes:
        """The same rewards when people are λ = mean + factor @ η: f gains c·mean, c becomes c @ factor."""
        return replace(
            self,
            beta=self.beta + self.content @ mean,
            effects=self.effects + self.loadings @ mean,
            content=self.content @ factor,
            loadings=self.loadings @ factor,
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays under the names of the fields."""
        return {name: np.asarray(value) for name, value in vars(self).items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """The inverse of `to_arrays`."""
        return cls(**{name: np.asarray(value) for name, value in arrays.items()})


def design_weights(comparisons: Comparisons, correlation: float) -> np.ndarray:
    """(m,) what each row is worth when one person's rows about the same item are not independent.

    A person who dislikes one text for a reason no axis captures says so in every row with that text. By Kish's design
    effect c rows about it are worth c / (1 + (c − 1)ρ); a row has the mean worth of its two sides. c counts weights, so
    that a row of weight 2 is two rows.

    Args:
        comparisons: rows of some people.
        correlation: ρ in [0, 1]; 0 leaves the weights as they are.
    """
    if correlation == 0.0 or len(comparisons) == 0:
        return comparisons.weight
    n = len(comparisons.items)
    person = comparisons.user.astype(np.int64) * n
    sides = np.concatenate([person + comparisons.left, person + comparisons.right])
    _, index = np.unique(sides, return_inverse=True)
    count = np.bincount(index, weights=np.tile(comparisons.weight, 2))[index]
    worth = 1.0 / (1.0 + np.maximum(count - 1.0, 0.0) * correlation)
    m = len(comparisons)
    return comparisons.weight * 0.5 * (worth[:m] + worth[m:])


def settle(tastes: Tastes, comparisons: Comparisons, offset: np.ndarray, weight: np.ndarray, rounds: int) -> Tastes:
    """A few EM rounds on the people alone, so that their prior is N(0, I) at the final loadings."""
    for _ in range(rounds):
        mode, covariance = people(tastes, comparisons, offset, weight)
        tastes = tastes.moved(*_population(mode, covariance))
    return tastes


def people(
    tastes: Tastes, comparisons: Comparisons, offset: np.ndarray, weight: np.ndarray, tolerance: float = 1e-5
) -> tuple[np.ndarray, np.ndarray]:
    """Laplace posteriors (n_users, r) and (n_users, r, r) of λ given rows and the prior N(0, I)."""
    basis, shared = tastes.basis(comparisons.items), tastes.offset(comparisons.items)
    left, right = comparisons.left, comparisons.right
    rank = basis.shape[1]
    return adapt_users(
        basis[left] - basis[right],
        comparisons.label,
        weight,
        comparisons.user,
        comparisons.n_users,
        mean=np.zeros(rank),
        precision=np.eye(rank),
        offset=offset + shared[left] - shared[right],
        tolerance=tolerance,
    )


def _population(mode: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and Cholesky factor of the population's covariance, by the M step for N(μ, Σ)."""
    mean = mode.mean(0)
    spread = covariance.mean(0) + (mode - mean).T @ (mode - mean) / len(mode)
    return mean, np.linalg.cholesky(spread)


def merge(parts: Sequence[Tastes], items: Items, rank: int) -> Tastes:
    """The average of several spaces over the same keys and features, on its `rank` strongest axes.

    Rewards of an average person are averaged (their doubt falls as that of a mean of independent fits), and so is the
    covariance between items that people's tastes cause:
    c(i)·c(j) summed over the parts, halved for two. Its strongest axes over `items` are kept; these should be the items
    of the training rows, or else what is fitted would depend on texts that nobody has judged yet.
    """
    first, share = parts[0], 1.0 / np.sqrt(len(parts))
    wide = replace(
        first,
        beta=np.mean([part.beta for part in parts], 0),
        effects=np.mean([part.effects for part in parts], 0),
        content=share * np.concatenate([part.content for part in parts], 1),
        loadings=share * np.concatenate([part.loadings for part in parts], 1),
        doubt=share**2 * np.mean([part.doubt for part in parts], 0),
        own_doubt=np.mean([part.own_doubt for part in parts], 0)
        * np.append(np.full(len(first.effects), share**2), 1.0),
    )
    basis = wide.basis(items)
    basis = basis - basis.mean(0)
    _, vectors = np.linalg.eigh(basis.T @ basis)
    axes = vectors[:, ::-1][:, :rank]
    return replace(wide, content=wide.content @ axes, loadings=wide.loadings @ axes)
