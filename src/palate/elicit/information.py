"""Mutual information of answers whose logits are Gaussian: one answer and the person, and two answers."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from scipy.special import xlogy

from palate.models.likelihood import predictive

__all__ = ["answer_information", "joint_information"]

Logits: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Mean, variance that the person explains, and noise, of some logits."""

_NODES = np.linspace(-1.0, 1.0, 45)
"""Of the trapezoid rule, which converges exponentially for the analytic integrands here; below 1e-6 nats everywhere."""

_WIDE = 3.0
"""Standard deviation, in logits, from which on the entropy is a narrow bump under the Gaussian, not the other way."""

_JOINT_NODES, _JOINT_WEIGHTS = np.polynomial.hermite_e.hermegauss(12)
_JOINT_WEIGHTS = _JOINT_WEIGHTS / _JOINT_WEIGHTS.sum()

_BLOCK_CELLS = 1 << 20
"""Pairs of answers scored at once; bounds memory to some tens of MiB."""


def answer_information(mean: np.ndarray, variance: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """What an answer tells about the person's logit t: H(E σ(t + e)) − E H(E_e σ(t + e)), H the entropy of a coin.

    Args:
        mean, variance: (n,) of t.
        noise: (n,) variance of e, which is not the person's.

    Returns:
        (n,) float64 in [0, log 2], nats.
    """
    mean, deviation = np.asarray(mean, np.float64), np.sqrt(np.asarray(variance, np.float64))
    noise = np.asarray(noise, np.float64)
    certain = _entropy(predictive(mean, deviation**2 + noise))
    return np.maximum(certain - _expected_entropy(mean, deviation, noise), 0.0)


def _expected_entropy(mean: np.ndarray, deviation: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """(n,) E H(E σ(t + e)) over t ~ N(mean, deviation²), e ~ N(0, noise): what stays open for a known person."""
    # A narrow Gaussian is integrated over its own width; under a wide one the entropy is integrated over its own.
    wide = deviation > _WIDE
    reach = np.where(wide, 22.0 + 8.0 * np.sqrt(noise), 8.0 * deviation)
    logit = np.where(wide, 0.0, mean)[:, None] + reach[:, None] * _NODES
    if noise.any():
        entropy = _entropy(predictive(logit.ravel(), np.repeat(noise, len(_NODES)))).reshape(logit.shape)
    else:
        entropy = _entropy_of_logit(logit)
    z = (logit - mean[:, None]) / np.where(deviation > 0, deviation, 1.0)[:, None]
    density = np.exp(-0.5 * z**2)
    step = reach * (_NODES[1] - _NODES[0])
    mass = np.where(wide, deviation * np.sqrt(2 * np.pi) / np.where(wide, step, 1.0), density.sum(axis=1))
    return np.einsum("nj,nj->n", entropy, density) / mass


def joint_information(asked: Logits, target: Logits, covariance: np.ndarray) -> np.ndarray:
    """(n,) mean over t targets of the mutual information of an asked answer and a target's, nats.

    Given the asked logit the target's is Gaussian again, so one integral is done by quadrature and the inner one by
    MacKay's (1992) κ; the result is within some hundredths of itself.

    Args:
        asked: (n,) each.
        target: (t,) each.
        covariance: (n, t) of the logits.
    """
    n, t = covariance.shape
    result = np.empty(n)
    rows = max(1, _BLOCK_CELLS // (t * len(_JOINT_NODES)))
    for start in range(0, n, rows):
        part = slice(start, start + rows)
        block = _joint((asked[0][part], asked[1][part], asked[2][part]), target, covariance[part])
        result[part] = block.mean(axis=1)
    return np.maximum(result, 0.0)


def _joint(asked: Logits, target: Logits, covariance: np.ndarray) -> np.ndarray:
    """(n, t) mutual information of each pair of answers."""
    mean, variance, noise = (np.asarray(column, np.float64)[:, None] for column in asked)
    deviation = np.sqrt(variance)
    slope = np.divide(covariance, deviation, out=np.zeros(covariance.shape), where=deviation > 0)
    rest = np.maximum(target[1] + target[2] - slope**2, 0.0)
    shrink = 1.0 / np.sqrt(1.0 + np.pi / 8.0 * rest)
    both, first, second = np.zeros(covariance.shape), np.zeros_like(mean), np.zeros(covariance.shape)
    own = 1.0 / np.sqrt(1.0 + np.pi / 8.0 * noise)
    for node, share in zip(_JOINT_NODES, _JOINT_WEIGHTS, strict=True):
        here = _sigmoid(own * (mean + deviation * node))
        there = _sigmoid(shrink * (target[0] + slope * node))
        first += share * here
        second += share * there
        both += share * here * there
    # Each cell of the two by two table against its product of margins.
    cells = ((both, first * second), (first - both, first * (1.0 - second)))
    cells += ((second - both, (1.0 - first) * second), (1.0 - first - second + both, (1.0 - first) * (1.0 - second)))
    return sum(_relative(cell, alone) for cell, alone in cells)


def _relative(cell: np.ndarray, alone: np.ndarray) -> np.ndarray:
    """cell · log(cell / alone), 0 where either vanishes."""
    known = (cell > 0) & (alone > 0)
    return xlogy(np.where(known, cell, 0.0), np.where(known, cell, 1.0) / np.where(known, alone, 1.0))


def _sigmoid(logit: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * logit)


def _entropy_of_logit(logit: np.ndarray) -> np.ndarray:
    """`_entropy` of σ(logit), several times faster."""
    size = np.abs(logit)
    odds = np.exp(-size)
    return np.log1p(odds) + size * odds / (1.0 + odds)


def _entropy(p: np.ndarray) -> np.ndarray:
    """Of a coin, in nats; 0 at 0 and 1."""
    return -(xlogy(p, p) + xlogy(1.0 - p, 1.0 - p))
