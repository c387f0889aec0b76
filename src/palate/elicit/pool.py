"""Questions that may be asked, and the same pool prepared for one fitted method so that scoring it is a few products."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias, cast

import numpy as np

from palate.errors import FingerprintError, InputError
from palate.models.base import Method
from palate.models.linear import LinearMethod
from palate.types import Items, UserState

__all__ = ["Margins", "Pool", "PreparedPool", "Questions", "margins", "prepare"]


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


@dataclass(frozen=True)
class PreparedPool:
    """What one fitted linear method sees of a pool: everything that does not depend on the person.

    Made by `prepare`; every strategy takes it in place of a `Pool`. One precision throughout: float32 halves the time.
    Matrices lie column by column (Fortran order).

    Args:
        method: name of the method.
        fingerprint: of the fitted method.
        v: (n, r) basis of left minus basis of right.
        offset: (n,) fixed part of the logit, base reward included.
        noise: (n,) variance of the logit that no answer of the person removes.
        middle: (n, r) mean of both sides' bases.
        middle_offset: (n,) mean of both sides' fixed rewards.
        prompt: (n,) prompt of each question.
    """

    method: str
    fingerprint: str
    v: np.ndarray
    offset: np.ndarray
    noise: np.ndarray
    middle: np.ndarray
    middle_offset: np.ndarray
    prompt: np.ndarray
    _last: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.v)

    def take(self, index: np.ndarray) -> PreparedPool:
        """The questions at `index` (k,), in that order."""
        columns = ("v", "offset", "noise", "middle", "middle_offset", "prompt")
        return PreparedPool(self.method, self.fingerprint, *(getattr(self, name)[index] for name in columns))


Questions: TypeAlias = Pool | PreparedPool
"""A pool in either form."""


@dataclass(frozen=True)
class Margins:
    """How far apart the two sides of n questions are for one person, in logits as they are predicted (tempered).

    Args:
        mean: (n,) expected logit.
        variance: (n,) of it that answers of the person can remove.
        noise: (n,) of it that they cannot.
        v: (n, r) what the person's weights multiply, tempered.
        spread: (n, r) v times the person's covariance.
    """

    mean: np.ndarray
    variance: np.ndarray
    noise: np.ndarray
    v: np.ndarray
    spread: np.ndarray

    @cached_property
    def probability(self) -> np.ndarray:
        """(n,) that left is preferred, σ(κ mean) with κ = (1 + π variance / 8)^−½ (MacKay 1992)."""
        return 0.5 + 0.5 * np.tanh(0.5 * np.sqrt(self._shrink) * self.mean)

    @cached_property
    def sensitivity(self) -> np.ndarray:
        """(n,) κ² p (1 − p): squared slope of an answer's probability in the logit, over the answer's variance.

        The slope of p = σ(κ mean) is κ p (1 − p), and p (1 − p) is the variance.
        """
        return self._shrink * self.probability * (1.0 - self.probability)

    @cached_property
    def _shrink(self) -> np.ndarray:
        """(n,) κ²."""
        return 1.0 / (1.0 + np.pi / 8.0 * (self.variance + self.noise))


def prepare(pool: Questions, method: Method, *, dtype: type[np.floating] = np.float64) -> PreparedPool:
    """The pool as `method` sees it; a pool that is prepared already is returned as it is.

    Args:
        pool: n questions.
        method: fitted, with a linear reward and a Gaussian posterior (`traits.linear`).
        dtype: of the arrays; float32 is faster and exact to about six digits.

    Raises:
        InputError: the method has no Gaussian posterior over a person's weights.
        FingerprintError: the pool was prepared for another fit.
    """
    if not method.traits.linear:
        raise InputError(f"{method.name} has no Gaussian posterior over a person's weights; ask with strategy='random'")
    linear = cast(LinearMethod, method)
    if isinstance(pool, PreparedPool):
        if pool.fingerprint != linear.fingerprint_:
            raise FingerprintError(
                f"pool prepared for {pool.method} {pool.fingerprint[:12]}, not for {linear.name} "
                f"{linear.fingerprint_[:12]}; prepare it again"
            )
        return pool
    left, right = linear.basis(pool.left), linear.basis(pool.right)
    fixed_left, fixed_right = _fixed(linear, pool.left), _fixed(linear, pool.right)
    return PreparedPool(
        linear.name,
        linear.fingerprint_,
        v=np.asfortranarray(left - right, dtype),
        offset=(fixed_left - fixed_right).astype(dtype),
        noise=(linear.noise(pool.left) + linear.noise(pool.right)).astype(dtype),
        middle=np.asfortranarray(0.5 * (left + right), dtype),
        middle_offset=(0.5 * (fixed_left + fixed_right)).astype(dtype),
        prompt=pool.left.prompt,
    )


def _fixed(method: LinearMethod, items: Items) -> np.ndarray:
    """(n,) what everybody shares of each item's reward, the base reward included."""
    shared = method.offset(items)
    return shared + method.base_scale_ * items.base_reward if method.has_base_ else shared


def margins(state: UserState, pool: PreparedPool, method: LinearMethod, *, tempered: bool = True) -> Margins:
    """What separates the two sides of every question for this person.

    Args:
        state: of one person, from `method`.
        pool: n questions, prepared for `method`.
        method: fitted.
        tempered: as preferences are predicted; otherwise as a person is adapted.

    Raises:
        FingerprintError: the state belongs to another fit.
    """
    temper = float(method.temper_) if tempered else 1.0
    # The stopping rule and the strategy look at the same person one after the other.
    if pool._last and pool._last[0] is state and pool._last[1] == temper:
        return pool._last[2]
    state.batch.require(method.name, method.fingerprint_)
    found = _margins(state, pool, temper)
    pool._last[:] = [state, temper, found]
    return found


def _margins(state: UserState, pool: PreparedPool, temper: float) -> Margins:
    mean, covariance = (state.batch.arrays[name][0].astype(pool.v.dtype) for name in ("mean", "covariance"))
    centre = pool.v @ mean
    centre += pool.offset
    # Column by column, sums over the few columns are three times as fast as over short rows.
    spread = (covariance @ pool.v.T).T
    variance = np.einsum("rn,rn->n", spread.T, pool.v.T)
    np.maximum(variance, 0.0, out=variance)
    if temper == 1.0:
        return Margins(centre, variance, pool.noise, pool.v, spread)
    square = temper * temper
    return Margins(temper * centre, square * variance, square * pool.noise, temper * pool.v, temper * spread)
