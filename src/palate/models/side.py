"""What is known about a person before the first answer: a text, a country, an age group.

    w_u ~ N(m + Γ z_u, S),      vec(S^-½ Γ) ~ N(0, τ² I)

z_u are centred side features of person u, and N(m, S) is the prior without them. Γ is a ridge regression of people's
tastes on z, in which every person counts as much as their own answers tell; its scale τ is learned (MacKay's fixed point),
so side information that says nothing gets Γ = 0 (it must gain two nats of evidence), which is the model without it, number for number.

Source: hierarchical prior means as in Gelman and Hill 2007, ch. 13 (group-level predictors); the evidence fixed point is
MacKay 1992, eq. 2.19.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import linalg

from palate.errors import InputError
from palate.types import UserStates

__all__ = ["SideInformation", "learn_side"]

_MOST_COMPONENTS = 32
_MAX_ROUNDS = 200
_NEGLIGIBLE = 1e-4
"""Share of the prior's variance below which side information explains nothing."""

_WORTH_NATS = 2.0
"""Log-evidence that Γ must gain over Γ = 0; noise gains so much in about one of fifty populations."""


@dataclass(frozen=True)
class SideInformation:
    """How side features move the mean of a person's prior; plain arrays.

    Args:
        center: (q_in,) subtracted from the features; what is missing (NaN) is taken to be average.
        rotation: (q_in, q) to at most 32 uncorrelated components of unit variance.
        gamma: (r, q) Γ in these components; all zero where the features say nothing.
        explained: share of the prior's variance that Γ z explains, 0 to 1, in the mean over axes.
    """

    center: np.ndarray
    rotation: np.ndarray
    gamma: np.ndarray
    explained: float

    def shift(self, user_features: np.ndarray) -> np.ndarray:
        """(n, r) what is added to the prior mean of people with these features (n, q_in).

        Raises:
            InputError: another number of features than was learned on.
        """
        if user_features.ndim != 2 or user_features.shape[1] != len(self.center):
            raise InputError(
                f"user features have shape {user_features.shape}; the model learned on (n, {len(self.center)})"
            )
        return self._components(user_features) @ self.gamma.T

    def _components(self, user_features: np.ndarray) -> np.ndarray:
        centred = np.asarray(user_features, np.float64) - self.center
        return np.where(np.isnan(centred), 0.0, centred) @ self.rotation

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays under the names of the fields."""
        return {name: np.asarray(value) for name, value in vars(self).items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """The inverse of `to_arrays`."""
        return cls(**{name: float(value) if name == "explained" else value for name, value in arrays.items()})


def learn_side(
    states: UserStates, mean: np.ndarray, precision: np.ndarray, user_features: np.ndarray
) -> SideInformation:
    """Γ from the training people's posteriors.

    Args:
        states: with `mean` (n, r) and `covariance` (n, r, r), adapted under the prior N(mean, precision⁻¹).
        mean: (r,) of that prior.
        precision: (r, r) of that prior.
        user_features: (n, q) side features of the same people; NaN where something is not known.

    Returns:
        Side information; Γ = 0 where it explains nothing, or where there are fewer than three people.

    Raises:
        InputError: features of another number of people, or infinite ones.
    """
    features = np.asarray(user_features, np.float64)
    if features.ndim != 2 or len(features) != len(states):
        raise InputError(f"user features have shape {features.shape}; with {len(states)} people it must be (n, q)")
    if np.isinf(features).any():
        raise InputError("user features have infinite values; use NaN for what is not known")
    center, rotation = _whitened(features)
    start = SideInformation(center, rotation, np.zeros((len(mean), rotation.shape[1])), 0.0)
    if not start.gamma.size or len(states) < 3:
        return start
    z = start._components(features)
    root = linalg.cholesky(precision, lower=True)
    evidence, pull = _messages(states, mean, root)
    scaled, explained = _ridge(z, evidence, pull)
    return SideInformation(center, rotation, linalg.solve_triangular(root.T, scaled), explained)


def _whitened(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of what is known, and the rotation to the leading components with unit variance."""
    known = ~np.isnan(features)
    center = np.where(known, features, 0.0).sum(0) / np.maximum(known.sum(0), 1)
    centred = np.where(known, features - center, 0.0)
    _, values, vectors = np.linalg.svd(centred / max(len(features), 1) ** 0.5, full_matrices=False)
    kept = values > 1e-6 * max(values.max(initial=0.0), 1e-12)
    kept[_MOST_COMPONENTS:] = False
    # More components than a third of the people could not be told from noise.
    kept[max(1, len(features) // 3) :] = False
    return center, vectors[kept].T / values[kept]


def _messages(states: UserStates, mean: np.ndarray, root: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What each person's answers say about the mean of their prior: precisions (n, r, r) and pulls (n, r).

    In coordinates where the prior is N(0, I). A posterior N(μ, C) came from a likelihood of precision Λ = C⁻¹ − I; with the
    person's own deviation integrated out it speaks about the prior mean with precision I − C and pull μ.
    """
    covariance = root.T @ states.arrays["covariance"] @ root
    return np.eye(len(mean)) - covariance, (states.arrays["mean"] - mean) @ root


def _ridge(z: np.ndarray, evidence: np.ndarray, pull: np.ndarray) -> tuple[np.ndarray, float]:
    """Γ (r, q) in prior units and the share of variance that it explains, with the ridge learned."""
    r, q = pull.shape[1], z.shape[1]
    hessian = np.einsum("uij,ua,ub->aibj", evidence, z, z, optimize=True).reshape(q * r, q * r)
    target = np.einsum("ui,ua->ai", pull, z).reshape(q * r)
    values, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T))
    values = np.maximum(values, 0.0)
    along = vectors.T @ target
    variance = 0.1 / q
    for _ in range(_MAX_ROUNDS):
        weights = along / (values + 1.0 / variance)
        determined = float(np.sum(values / (values + 1.0 / variance)))
        updated = float(weights @ weights) / max(determined, 1e-12)
        done = abs(np.log(max(updated, 1e-300) / variance)) < 1e-3
        variance = max(updated, 1e-12)
        if done or variance * q < _NEGLIGIBLE:
            break
    gained = 0.5 * float(along @ (along / (values + 1.0 / variance)) - np.log1p(variance * values).sum())
    if variance * q < _NEGLIGIBLE or gained < _WORTH_NATS:
        return np.zeros((r, q)), 0.0
    gamma = (vectors @ (along / (values + 1.0 / variance))).reshape(q, r).T
    return gamma, float(min(1.0, np.square(z @ gamma.T).mean()))
