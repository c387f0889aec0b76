"""One person's posterior after one more answer: warm-started Newton, a few small products."""

from __future__ import annotations

import numpy as np

from palate.models.likelihood import adapt_users, objective
from palate.models.newton import inverse

__all__ = ["one_person"]

_MOST_STEPS = 30
_SHORTEST = 1e-6
_TOLERANCE = 1e-5
"""On the Newton decrement, in posterior standard deviations; see `adapt_users`."""


def one_person(
    v: np.ndarray,
    label: np.ndarray,
    weight: np.ndarray,
    offset: np.ndarray,
    *,
    mean: np.ndarray,
    precision: np.ndarray,
    start: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The Laplace posterior of one person; the same optimum as `palate.models.likelihood.adapt_users`, from a near start.

    Args:
        v: (m, r) feature differences.
        label, weight, offset: (m,).
        mean, precision: (r,), (r, r) of the prior.
        start: (r,) where to begin, the mode before the last answer, say.

    Returns:
        mode (r,), covariance (r, r).
    """
    mode = np.array(start, np.float64)
    for _ in range(_MOST_STEPS):
        probability = 0.5 + 0.5 * np.tanh(0.5 * (offset + v @ mode))
        slope = (weight * (probability - label)) @ v + precision @ (mode - mean)
        bend = v.T @ ((weight * probability * (1.0 - probability))[:, None] * v) + precision
        step = np.linalg.solve(bend, slope)
        decrement, length = float(slope @ step), 1.0
        # A step that moves no logit by more than 1 surely lowers the objective (Bach 2010, prop. 1); others are halved.
        if len(v) and np.abs(v @ step).max() > 1.0:
            here = objective(mode, v, label, weight, offset, precision=precision, mean=mean)
            while length > _SHORTEST:
                there = objective(mode - length * step, v, label, weight, offset, precision=precision, mean=mean)
                if there <= here - 0.1 * length * decrement:
                    break
                length *= 0.5
        mode -= length * step
        if decrement <= _TOLERANCE**2:
            return mode, inverse(bend)
    user = np.zeros(len(v), np.int64)
    far, covariance = adapt_users(v, label, weight, user, 1, mean=mean, precision=precision, offset=offset)
    return far[0], covariance[0]
