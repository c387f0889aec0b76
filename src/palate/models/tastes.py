"""The reward space of `hierarchical`: where items lie, what is not known of them, and where people lie in it.

    r_u(i) = f(i) + λ_u·c(i),      λ_u ~ N(0, I)
    f(i)   = β·x_i + b_k,          c(i) = Wᵀx_i + δ_k

with rotated features x (q,) and, for a known item, its own effect b and loading δ. See `palate.models.hierarchical_fit`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from palate.models.likelihood import adapt_users
from palate.models.shared import locate
from palate.types import Comparisons, Items

__all__ = ["Tastes", "design_weights", "people", "settle"]


@dataclass(frozen=True)
class Tastes:
    """What `learn_tastes` learned, as plain arrays.

    Args:
        center, rotation: (d,), (d, q); x_i = (features − center) @ rotation.
        beta, beta_variance: (q,) shared weights and their posterior variance.
        content, content_variance: (q, r) W and its posterior variance.
        keys: (k,) sorted known items; a single -1 stands for none.
        effects, effects_variance: (k,) b.
        loadings, loadings_variance: (k, r) δ.
        new_effect_variance, new_loading_variance: τ_b² and τ_δ², what is unknown of an unknown item.
    """

    center: np.ndarray
    rotation: np.ndarray
    beta: np.ndarray
    beta_variance: np.ndarray
    content: np.ndarray
    content_variance: np.ndarray
    keys: np.ndarray
    effects: np.ndarray
    effects_variance: np.ndarray
    loadings: np.ndarray
    loadings_variance: np.ndarray
    new_effect_variance: float
    new_loading_variance: float

    def offset(self, items: Items) -> np.ndarray:
        """(n,) f(i), what an average person feels about each item."""
        known, place = self._known(items)
        return self._rotated(items) @ self.beta + known * self.effects[place]

    def basis(self, items: Items) -> np.ndarray:
        """(n, r) c(i), how each item loads on the axes of taste."""
        known, place = self._known(items)
        return self._rotated(items) @ self.content + known[:, None] * self.loadings[place]

    def noise(self, items: Items) -> np.ndarray:
        """(n,) variance of an item's reward for a random person that comes from not knowing the item well."""
        known, place = self._known(items)
        squares = np.square(self._rotated(items))
        content = squares @ (self.beta_variance + self.content_variance.sum(1))
        own = self.effects_variance[place] + self.loadings_variance[place].sum(1)
        rank = self.content.shape[1]
        return content + np.where(known > 0, own, self.new_effect_variance + rank * self.new_loading_variance)

    def _rotated(self, items: Items) -> np.ndarray:
        return (items.features - self.center) @ self.rotation

    def _known(self, items: Items) -> tuple[np.ndarray, np.ndarray]:
        if len(self.keys) == 1 and self.keys[0] < 0:
            return np.zeros(len(items)), np.zeros(len(items), np.int64)
        place = locate(self.keys, items.keys)
        return (place >= 0).astype(np.float64), np.maximum(place, 0)

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
        scalars = ("new_effect_variance", "new_loading_variance")
        return cls(**{name: float(value) if name in scalars else np.asarray(value) for name, value in arrays.items()})


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
