"""How much an answer to a question would tell about a person: pure functions of state, pool and fitted method.

A higher utility is asked first. No function changes anything, and the order of the pool does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, cast

import numpy as np
from scipy.special import xlogy

from palate.errors import ConfigError, InputError
from palate.models.base import Method
from palate.models.likelihood import predictive
from palate.models.linear import LinearMethod
from palate.rng import RNGLike, normalise
from palate.types import Items, UserState

__all__ = ["STRATEGIES", "Pool", "Strategy", "bald", "best_question", "random", "strategy"]

_NODES = np.linspace(-1.0, 1.0, 161)
"""Of the trapezoid rule, which converges exponentially for the analytic integrands here; below 1e-7 nats everywhere."""

_WIDE = 3.0
"""Standard deviation, in logits, from which on the entropy is a narrow bump under the Gaussian, not the other way."""

_TIE = 1e-12
"""Utilities closer than this are equal, and the draw decides."""


@dataclass(frozen=True)
class Pool:
    """Questions that may be asked: `left[i]` or `right[i]`?

    Args:
        left: n items.
        right: n items.
    """

    left: Items
    right: Items

    def __post_init__(self) -> None:
        if len(self.left) != len(self.right):
            raise InputError(f"{len(self.left)} left and {len(self.right)} right items; a question needs one of each")

    def __len__(self) -> int:
        return len(self.left)

    def take(self, index: np.ndarray) -> Pool:
        """The questions at `index` (k,), in that order."""
        return Pool(self.left.take(index), self.right.take(index))


class Strategy(Protocol):
    """What scores questions."""

    def __call__(self, state: UserState, pool: Pool, method: Method, *, rng: RNGLike = None) -> np.ndarray:
        """(n,) utilities of the pool's questions for this person."""


def random(state: UserState, pool: Pool, method: Method, *, rng: RNGLike = None) -> np.ndarray:
    """Utilities that make every question equally likely to be next.

    Returns:
        (n,) float64 in [0, 1).
    """
    state.batch.require(method.name, method.fingerprint_)
    return normalise(rng).random(len(pool))


def bald(state: UserState, pool: Pool, method: Method, *, rng: RNGLike = None) -> np.ndarray:
    """The mutual information between the answer and the person's weights under the posterior.

        utility = H(E_w p(w)) - E_w H(p(w)),     w ~ N(mean, covariance),

    with H the entropy of a coin and p(w) the probability of "left" for a person with weights w. A pair's margin is
    Gaussian, so the expectation is a one-dimensional integral, done by quadrature.

    Args:
        state: of one person, from `method`.
        pool: n questions.
        method: fitted, with a linear reward and a Gaussian posterior (`traits.linear`).
        rng: not used.

    Returns:
        (n,) float64 in [0, log 2], nats. 0 where the answer is known beforehand or says nothing about the person.

    Raises:
        InputError: the method has no such posterior.
        FingerprintError: the state belongs to another method.

    Source: Houlsby et al. 2011, "Bayesian Active Learning for Classification and Preference Learning", eq. 2.
    """
    if not method.traits.linear:
        raise InputError(f"{method.name} has no Gaussian posterior over a person's weights; ask with strategy='random'")
    linear = cast(LinearMethod, method)
    state.batch.require(linear.name, linear.fingerprint_)
    margin, deviation = _margin(state, pool, linear)
    noise = linear.noise(pool.left) + linear.noise(pool.right)
    temper = float(linear.temper_)
    margin, deviation, noise = temper * margin, temper * deviation, temper**2 * noise
    certain = _entropy(predictive(margin, deviation**2 + noise))
    return np.maximum(certain - _expected_entropy(margin, deviation, noise), 0.0)


def _expected_entropy(mean: np.ndarray, deviation: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """(n,) E H(E σ(t + e)) over t ~ N(mean, deviation²), e ~ N(0, noise): what stays open for a known person."""
    # A narrow Gaussian is integrated over its own width; under a wide one the entropy is integrated over its own.
    wide = deviation > _WIDE
    reach = np.where(wide, 40.0 + 8.0 * np.sqrt(noise), 8.0 * deviation)
    logit = np.where(wide, 0.0, mean)[:, None] + reach[:, None] * _NODES
    entropy = _entropy(predictive(logit.ravel(), np.repeat(noise, len(_NODES)))).reshape(logit.shape)
    z = (logit - mean[:, None]) / np.where(deviation > 0, deviation, 1.0)[:, None]
    density = np.exp(-0.5 * z**2)
    step = reach * (_NODES[1] - _NODES[0])
    mass = np.where(wide, deviation * np.sqrt(2 * np.pi) / np.where(wide, step, 1.0), density.sum(axis=1))
    return np.einsum("nj,nj->n", entropy, density) / mass


def _margin(state: UserState, pool: Pool, method: LinearMethod) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation, (n,) each, of what separates the two items for this person, in logits."""
    v = method.basis(pool.left) - method.basis(pool.right)
    margin = v @ state["mean"] + method.offset(pool.left) - method.offset(pool.right)
    if method.has_base_:
        margin = margin + method.base_scale_ * (pool.left.base_reward - pool.right.base_reward)
    variance = np.einsum("nr,rs,ns->n", v, state["covariance"], v)
    return margin, np.sqrt(np.maximum(variance, 0.0))


def _entropy(p: np.ndarray) -> np.ndarray:
    """Of a coin, in nats; 0 at 0 and 1."""
    return -(xlogy(p, p) + xlogy(1.0 - p, 1.0 - p))


STRATEGIES: Mapping[str, Strategy] = MappingProxyType({"random": random, "bald": bald})
"""Strategies by name."""


def strategy(name: str) -> Strategy:
    """A strategy by name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in STRATEGIES:
        raise ConfigError(f"unknown strategy {name!r}; there are: {', '.join(STRATEGIES)}")
    return STRATEGIES[name]


def best_question(
    state: UserState, pool: Pool, method: Method, *, by: str | Strategy = "bald", rng: RNGLike = None
) -> int:
    """The number of the question to ask next; equals are drawn from, so that no place in the pool is favoured.

    Raises:
        InputError: the pool is empty, or the method lacks what the strategy needs.
    """
    if len(pool) == 0:
        raise InputError("the pool has no question; give at least one (prompt, left, right)")
    generator = normalise(rng)
    scores = (strategy(by) if isinstance(by, str) else by)(state, pool, method, rng=generator)
    best = np.flatnonzero(scores >= scores.max() - _TIE)
    return int(best[0] if len(best) == 1 else generator.choice(best))
