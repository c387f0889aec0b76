"""Damped Newton for many small penalised logistic regressions at once.

One Cholesky factorisation per person and step, in float64. A bound on the curvature tells when the full step is safe,
which is nearly always; the others are searched. The objective never rises, so the solver converges from anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate.errors import InputError

__all__ = ["Rows", "inverse", "newton"]

_MAX_STEPS = 200
"""Newton converges in 4 to 8 steps; a separable history under an almost flat prior needs some dozens."""


@dataclass(frozen=True)
class Rows:
    """The comparisons of b people, padded to n each with rows of weight 0: v (b, n, r), the others (b, n)."""

    v: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    offset: np.ndarray

    def take(self, people: np.ndarray) -> Rows:
        """The rows of some of these people."""
        return Rows(self.v[people], self.label[people], self.weight[people], self.offset[people])


def newton(rows: Rows, mean: np.ndarray, precision: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Damped Newton for b people at once, from the prior mean; who has converged leaves the batch.

    Args:
        rows: of b people.
        mean: (b, r).
        precision: (b, r, r), or (1, r, r) for all.
        tolerance: on the Newton decrement, which is the step's length in posterior standard deviations.

    Returns:
        mode (b, r), covariance (b, r, r).
    """
    b, r = mean.shape
    mode = np.array(mean)
    covariance = np.empty((b, r, r))
    active = np.arange(b)
    deviation = np.zeros((b, r))
    eta = rows.offset + np.matmul(rows.v, mean[:, :, None])[:, :, 0]
    for step in range(_MAX_STEPS):
        # tanh is fast and cannot overflow; its error is absolute 1e-16, which is enough for a gradient.
        probability = 0.5 + 0.5 * np.tanh(0.5 * eta)
        residual = rows.weight * (probability - rows.label)
        curvature = rows.weight * probability * (1.0 - probability)
        transposed = rows.v.transpose(0, 2, 1)
        pull = np.matmul(precision, deviation[:, :, None])[:, :, 0]
        slope = np.matmul(transposed, residual[:, :, None])[:, :, 0] + pull
        bend = np.matmul(transposed, curvature[:, :, None] * rows.v) + precision
        factor = _cholesky(bend)
        direction = -_cholesky_solve(factor, slope)
        decrement = -np.einsum("br,br->b", slope, direction)
        change = np.matmul(rows.v, direction[:, :, None])[:, :, 0]
        length = _step_length(rows, eta, change, pull, direction, precision, decrement)[:, None]
        deviation = deviation + length * direction
        done = decrement <= tolerance**2
        if done.any() or step == _MAX_STEPS - 1:
            leaving = done if step < _MAX_STEPS - 1 else np.ones_like(done)
            people = active[leaving]
            mode[people] = mean[people] + deviation[leaving]
            covariance[people] = inverse(bend[leaving])
            if leaving.all():
                break
            staying = np.flatnonzero(~leaving)
            active, rows, deviation = active[staying], rows.take(staying), deviation[staying]
            eta, change, length = eta[staying], change[staying], length[staying]
            precision = precision if len(precision) == 1 else precision[staying]
        eta = eta + length * change
    return mode, covariance


def _step_length(
    rows: Rows,
    eta: np.ndarray,
    change: np.ndarray,
    pull: np.ndarray,
    direction: np.ndarray,
    precision: np.ndarray,
    decrement: np.ndarray,
) -> np.ndarray:
    """(b,) how much of each Newton step to take, such that the objective φ(t) along it surely falls.

    Along the step the curvature φ″ starts at λ² (the squared decrement), grows at most by e^{td} with
    d = max_i |change in logit i|, and never exceeds L = Σ c_i change_i² / 4 + pᵀPp. So the full step lowers the objective
    by at least λ²/4 when d ≤ 1 or L ≤ 1.5 λ², and near the mode all steps are full. The few others are searched.

    Source: Bach 2010, prop. 1 (the bound with d).
    """
    length = np.ones(len(change))
    far = np.flatnonzero(np.max(np.abs(change) * (rows.weight > 0), axis=1, initial=0.0) > 1.0)
    if len(far) == 0:
        return length
    weight, change, direction, decrement = rows.weight[far], change[far], direction[far], decrement[far]
    prior = precision if len(precision) == 1 else precision[far]
    prior_bend = np.einsum("br,br->b", np.matmul(direction[:, None, :], prior)[:, 0], direction)
    ceiling = 0.25 * np.einsum("bn,bn,bn->b", weight, change, change) + prior_bend
    some = np.flatnonzero(ceiling > 1.5 * decrement)
    if len(some):
        people = far[some]
        prior_slope = np.einsum("br,br->b", pull[people], direction[some])
        data = (rows.label[people], weight[some], eta[people], change[some])
        length[people] = _search(*data, prior_slope, prior_bend[some], decrement[some])
    return length


def _search(
    label: np.ndarray,
    weight: np.ndarray,
    eta: np.ndarray,
    change: np.ndarray,
    prior_slope: np.ndarray,
    prior_bend: np.ndarray,
    decrement: np.ndarray,
) -> np.ndarray:
    """(b,) a t in (0, 1] by bisection with −λ²/2 ≤ φ′(t) ≤ 0, or 1: convex φ falls as long as its slope is negative."""

    def slope(t: np.ndarray) -> np.ndarray:
        probability = 0.5 + 0.5 * np.tanh(0.5 * (eta + t[:, None] * change))
        data = np.einsum("bn,bn,bn->b", weight, probability - label, change)
        return data + prior_slope + t * prior_bend

    low, high = np.zeros(len(change)), np.ones(len(change))
    open_ = slope(high) > 0
    low[~open_] = 1.0
    for _ in range(100):
        if not open_.any():
            break
        middle = 0.5 * (low + high)
        at = slope(middle)
        low = np.where(open_ & (at <= 0), middle, low)
        high = np.where(open_ & (at > 0), middle, high)
        open_ &= (at > 0) | (at < -0.5 * decrement)
    return low


def _cholesky(matrices: np.ndarray) -> np.ndarray:
    try:
        factor = np.linalg.cholesky(matrices)
    except np.linalg.LinAlgError:
        factor = np.full_like(matrices, np.nan)
    # Some LAPACKs pass NaN through instead of failing; it then reaches the diagonal.
    if not np.isfinite(np.einsum("brr->", factor)):
        raise InputError(
            "prior precision plus curvature is not positive definite; use a positive definite precision and finite features"
        )
    return factor


def _cholesky_solve(factor: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve L Lᵀ x = right for a stack, (b, r, r) and (b, r): loops over r, vectorised over the stack."""
    x = np.array(right.T)
    r = len(x)
    lower = np.ascontiguousarray(factor.transpose(1, 2, 0))
    for i in range(r):
        if i:
            x[i] -= np.einsum("jb,jb->b", lower[i, :i], x[:i])
        x[i] /= lower[i, i]
    for i in reversed(range(r)):
        if i < r - 1:
            x[i] -= np.einsum("jb,jb->b", lower[i + 1 :, i], x[i + 1 :])
        x[i] /= lower[i, i]
    return x.T


def inverse(matrices: np.ndarray) -> np.ndarray:
    """Inverse of symmetric positive definite matrices, symmetric to the last bit."""
    try:
        inverse = np.linalg.inv(matrices)
    except np.linalg.LinAlgError:
        raise InputError("prior precision is singular; use a positive definite precision") from None
    return 0.5 * (inverse + np.swapaxes(inverse, -1, -2))
