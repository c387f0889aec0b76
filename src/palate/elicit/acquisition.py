"""How much an answer to a question would tell about a person: pure functions of state, pool and fitted method.

A higher utility is asked first. No function changes anything, and the order of the pool does not matter. Each takes a
`Pool` or, much faster when asked again and again, a `PreparedPool`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol, cast

import numpy as np
from scipy.special import expit, ndtr

from palate.elicit.information import answer_information, joint_information
from palate.elicit.pool import Margins, PreparedPool, Questions, margins, prepare
from palate.errors import ConfigError, InputError
from palate.models.base import Method
from palate.models.linear import LinearMethod
from palate.rng import RNGLike, normalise
from palate.types import UserState

__all__ = [
    "STRATEGIES",
    "Strategy",
    "bald",
    "best_question",
    "d_optimal",
    "draw_best",
    "epig",
    "eubo",
    "pref",
    "pref_program",
    "random",
    "strategy",
    "thompson",
    "v_optimal",
]

_TIE = 1e-12
"""Utilities closer than this are equal, and the draw decides."""


class Strategy(Protocol):
    """What scores questions."""

    def __call__(self, state: UserState, pool: Questions, method: Method, *, rng: RNGLike = None) -> np.ndarray:
        """(n,) utilities of the pool's questions for this person."""


def random(state: UserState, pool: Questions, method: Method, *, rng: RNGLike = None) -> np.ndarray:
    """Utilities that make every question equally likely to be next.

    Returns:
        (n,) float64 in [0, 1).
    """
    state.batch.require(method.name, method.fingerprint_)
    return normalise(rng).random(len(pool))


def pref(state: UserState, pool: Questions, method: Method, *, rng: RNGLike = None) -> np.ndarray:
    """PReF's uncertainty: the norm of the pair's difference under the inverse Hessian.

        utility = ‖v‖_{H⁻¹},      H = Σ σ′(λ̂·v_i) v_i v_iᵀ + prior precision

    over the questions answered so far; H⁻¹ is the covariance of the state. It is the standard deviation of the logit,
    however sure the answer is.

    Args:
        state: of one person, from `method`.
        pool: n questions.
        method: fitted, with a linear reward and a Gaussian posterior (`traits.linear`).
        rng: not used.

    Returns:
        (n,) ≥ 0, in logits.

    Raises:
        InputError: the method has no such posterior.
        FingerprintError: the state belongs to another method.

    Source: Shenfeld et al. 2025 (PReF), lemma 4.3 and eq. 9.
    """
    return np.sqrt(_margins(state, pool, method, tempered=False).variance)


def pref_program(state: UserState, pool: Questions, method: Method, *, rng: RNGLike = None) -> np.ndarray:
    """PReF's score of a pool as its published program computes it: [σ′(λ̂·v)]² vᵀH⁻¹v.

    It is the variance of the *probability*, to first order, so that pairs with a sure answer count little. Arguments as
    in `pref`. In the program H carries 0.001 · I in the place of a prior; here it carries the method's prior.

    Returns:
        (n,) ≥ 0; at most a sixteenth of the logit's variance.
    """
    seen = _margins(state, pool, method, tempered=False)
    return _slope(seen.mean) ** 2 * seen.variance


def d_optimal(state: UserState, pool: Questions, method: Method, *, rng: RNGLike = None) -> np.ndarray:
    """How much the answer shrinks the posterior's volume: log det(H + σ′(λ̂·v) vvᵀ) − log det H, halved.

    Arguments as in `pref`.

    Returns:
        (n,) ≥ 0, nats.

    Source: Chaloner and Verdinelli 1995, "Bayesian Experimental Design: A Review"; locally D-optimal for a logit.
    """
    seen = _margins(state, pool, method, tempered=False)
    return 0.5 * np.log1p(_slope(seen.mean) * seen.variance)


def bald(state: UserState, pool: Questions, method: Method, *, rng: RNGLike = None) -> np.ndarray:
    """The mutual information between the answer and the person's weights under the posterior.

        utility = H(E_w p(w)) - E_w H(p(w)),     w ~ N(mean, covariance),

    with H the entropy of a coin and p(w) the probability of "left" for a person with weights w. A pair's margin is
    Gaussian, so the expectation is a one-dimensional integral, done by quadrature. Arguments as in `pref`.

    Returns:
        (n,) float64 in [0, log 2], nats. 0 where the answer is known beforehand or says nothing about the person.

    Source: Houlsby et al. 2011, "Bayesian Active Learning for Classification and Preference Learning", eq. 2.
    """
    seen = _margins(state, pool, method)
    return answer_information(seen.mean, seen.variance, seen.noise)


def eubo(state: UserState, pool: Questions, method: Method, *, rng: RNGLike = None) -> np.ndarray:
    """The expected utility of the better of the two replies, above what the pool offers on average for the prompt.

        utility = E max(r(left), r(right)) − mean reward of the prompt's questions

    It asks about replies that the person may like best, not about those that tell most. Rewards of different prompts have
    no common zero, hence the subtraction. Arguments as in `pref`.

    Returns:
        (n,) in logits.

    Source: Lin et al. 2022, "Preference Exploration for Efficient Bayesian Optimization with Multiple Outcomes", eq. 2.
    """
    linear, prepared = _prepared(pool, method)
    seen = margins(state, prepared, linear, tempered=False)
    middle = prepared.middle @ state["mean"].astype(prepared.v.dtype) + prepared.middle_offset
    _, prompt = np.unique(prepared.prompt, return_inverse=True)
    usual = np.bincount(prompt, middle) / np.bincount(prompt)
    deviation = np.sqrt(seen.variance)
    z = seen.mean / np.where(deviation > 0, deviation, 1.0)
    # E|t| of a Gaussian; half of it is what choosing the better one adds to the mean of both.
    apart = seen.mean * (2.0 * ndtr(z) - 1.0) + deviation * np.sqrt(2.0 / np.pi) * np.exp(-0.5 * z * z)
    return middle - usual[prompt] + 0.5 * np.where(deviation > 0, apart, np.abs(seen.mean))


def thompson(state: UserState, pool: Questions, method: Method, *, rng: RNGLike = None) -> np.ndarray:
    """How differently two people drawn from the posterior would answer: |σ(w₁·v + o) − σ(w₂·v + o)|.

    Args:
        state: of one person, from `method`.
        pool: n questions.
        method: fitted, with a linear reward and a Gaussian posterior (`traits.linear`).
        rng: draws the two people.

    Returns:
        (n,) in [0, 1].

    Source: after double Thompson sampling for duels, Wu and Liu 2016; two draws in place of an argmax of one.
    """
    linear, prepared = _prepared(pool, method)
    first, second = linear.sample(state.batch, 2, rng=rng)[:, 0].astype(prepared.v.dtype)
    temper = float(linear.temper_)
    one, other = (expit(temper * (prepared.v @ weights + prepared.offset)) for weights in (first, second))
    return np.abs(one - other)


def v_optimal(state: UserState, pool: Questions, method: Method, *, rng: RNGLike = None) -> np.ndarray:
    """How much the answer would tell about the answers to all the other questions of the pool, to second order.

        utility_i = ½ mean_j ρ_ij²,      ρ_ij² = κ_i² p_i (1 − p_i) · (v_iᵀ S v_j)² · κ_j² p_j (1 − p_j)

    ρ is the correlation of two answers under the posterior with covariance S, linearised; ½ρ² is their mutual information
    while it is small. So it is `epig` for n² pairs at the cost of a few (n, r) products, and the expected fall of the
    variance of the pool's preferences. p = σ(κ mean), κ = (1 + π variance / 8)^−½. Arguments as in `pref`.

    Returns:
        (n,) ≥ 0, nats per question.
    """
    seen = _margins(state, pool, method)
    weight = seen.sensitivity
    of_pool = (seen.v.T * weight) @ seen.v / max(1, len(seen.v))
    reach = np.einsum("rn,rn->n", of_pool @ seen.spread.T, seen.spread.T)
    return 0.5 * weight * reach


def epig(
    state: UserState,
    pool: Questions,
    method: Method,
    *,
    targets: Questions | None = None,
    n_targets: int = 128,
    rng: RNGLike = None,
) -> np.ndarray:
    """The expected predictive information gain: the mutual information of the answer and a target question's answer.

        utility_i = mean_j I(y_i; y_j)

    It asks for what helps to predict the questions that matter, not for what pins down weights that matter to nobody.

    Args:
        state: of one person, from `method`.
        pool: n questions.
        method: fitted, with a linear reward and a Gaussian posterior (`traits.linear`).
        targets: questions whose answers are to be predicted; the pool's own by default.
        n_targets: most targets; more are drawn from. Time is n times as much.
        rng: draws targets where there are too many.

    Returns:
        (n,) ≥ 0, nats per target.

    Raises:
        InputError: the method has no such posterior, or there is no target.
        FingerprintError: the state belongs to another method.

    Source: Bickford Smith et al. 2023, "Prediction-Oriented Bayesian Active Learning", eq. 5; here by quadrature.
    """
    linear, prepared = _prepared(pool, method)
    aims = prepared if targets is None else prepare(targets, method)
    if len(aims) == 0:
        raise InputError("no target question; pass at least one, or none at all for the pool's own")
    if len(aims) > n_targets:
        aims = aims.take(normalise(rng).choice(len(aims), n_targets, replace=False))
    seen, aimed = margins(state, prepared, linear), margins(state, aims, linear)
    return joint_information(
        (seen.mean, seen.variance, seen.noise), (aimed.mean, aimed.variance, aimed.noise), seen.spread @ aimed.v.T
    )


# -- what they share --------------------------------------------------------------------------------------------------


def _prepared(pool: Questions, method: Method) -> tuple[LinearMethod, PreparedPool]:
    prepared = prepare(pool, method)
    return cast(LinearMethod, method), prepared


def _margins(state: UserState, pool: Questions, method: Method, *, tempered: bool = True) -> Margins:
    linear, prepared = _prepared(pool, method)
    return margins(state, prepared, linear, tempered=tempered)


def _slope(logit: np.ndarray) -> np.ndarray:
    """σ′, without overflow."""
    p = 0.5 + 0.5 * np.tanh(0.5 * logit)
    return p * (1.0 - p)


STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {
        "random": random,
        "pref": pref,
        "pref_program": pref_program,
        "d_optimal": d_optimal,
        "bald": bald,
        "eubo": eubo,
        "thompson": thompson,
        "epig": epig,
        "v_optimal": v_optimal,
    }
)
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
    state: UserState, pool: Questions, method: Method, *, by: str | Strategy = "v_optimal", rng: RNGLike = None
) -> int:
    """The number of the question to ask next; equals are drawn from, so that no place in the pool is favoured.

    Raises:
        InputError: the pool is empty, or the method lacks what the strategy needs.
    """
    if len(pool) == 0:
        raise InputError("the pool has no question; give at least one (prompt, left, right)")
    generator = normalise(rng)
    scores = (strategy(by) if isinstance(by, str) else by)(state, pool, method, rng=generator)
    return draw_best(scores, generator)


def draw_best(scores: np.ndarray, rng: np.random.Generator, allowed: np.ndarray | None = None) -> int:
    """Place of the highest score, among the `allowed` (n,) where given; equals are drawn from."""
    places = None if allowed is None else np.flatnonzero(allowed)
    own = scores if places is None else scores[places]
    best = np.flatnonzero(own >= own.max() - _TIE)
    if places is not None:
        best = places[best]
    return int(best[0] if len(best) == 1 else rng.choice(best))
