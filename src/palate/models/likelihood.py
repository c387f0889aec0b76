"""Bradley–Terry likelihood of comparisons under a linear reward, and its penalised Newton solvers.

For a comparison with feature difference `v`, label `y` (the probability that left was preferred; a tie is .5), weight
`c` and fixed logit `o`, the penalised negative log-likelihood of weights `w` is

    f(w) = Σ_i c_i [softplus(η_i) − y_i η_i] + ½ (w − μ)ᵀ P (w − μ),      η_i = o_i + v_i·w,

with Gaussian prior N(μ, P⁻¹). One row of weight 2 is two rows. `adapt_users` solves one such problem per person, all
of them together, and returns the Laplace posterior: the mode and the inverse Hessian there.

Source: Bradley and Terry 1952; step control after Bach 2010 (see `palate.models.newton`).
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.special import expit, ndtr

from palate.errors import InputError
from palate.models.newton import Rows, inverse, newton

__all__ = ["adapt_users", "fit_weights", "gradient", "hessian", "objective", "predictive", "similar_people"]

_CHUNK_CELLS = 256 * 1024
"""Numbers of `v` in one batch of people: 2 MiB, small enough for the cache, large enough to hide the Python calls."""


# -- objective, gradient, Hessian --------------------------------------------------------------------------------------


def objective(
    weights: np.ndarray,
    v: np.ndarray,
    label: np.ndarray,
    weight: np.ndarray,
    offset: np.ndarray | float = 0.0,
    *,
    precision: np.ndarray | float = 0.0,
    mean: np.ndarray | float = 0.0,
) -> float:
    """The penalised negative log-likelihood f(w) in nats.

    Args:
        weights: (r,) where to evaluate.
        v: (m, r) feature differences, left − right.
        label: (m,) in [0, 1].
        weight: (m,) ≥ 0.
        offset: (m,) or a number, added to every logit.
        precision: (r, r) prior precision P, or (r,) its diagonal, or a number times the identity.
        mean: (r,) or a number, the prior mean μ.
    """
    eta = offset + v @ weights
    deviation = weights - mean
    return float(weight @ (np.logaddexp(0.0, eta) - label * eta) + 0.5 * deviation @ _times(precision, deviation))


def gradient(
    weights: np.ndarray,
    v: np.ndarray,
    label: np.ndarray,
    weight: np.ndarray,
    offset: np.ndarray | float = 0.0,
    *,
    precision: np.ndarray | float = 0.0,
    mean: np.ndarray | float = 0.0,
) -> np.ndarray:
    """∇f(w) = Σ c_i (σ(η_i) − y_i) v_i + P (w − μ), (r,); arguments as in `objective`."""
    residual = weight * (expit(offset + v @ weights) - label)
    return residual @ v + _times(precision, weights - mean)


def hessian(
    weights: np.ndarray,
    v: np.ndarray,
    weight: np.ndarray,
    offset: np.ndarray | float = 0.0,
    *,
    precision: np.ndarray | float = 0.0,
) -> np.ndarray:
    """∇²f(w) = Σ c_i σ′(η_i) v_i v_iᵀ + P, (r, r); arguments as in `objective` (labels do not matter)."""
    eta = offset + v @ weights
    curvature = weight * expit(eta) * expit(-eta)
    return v.T @ (curvature[:, None] * v) + _matrix(precision, v.shape[1])


def _times(precision: np.ndarray | float, vector: np.ndarray) -> np.ndarray:
    return precision @ vector if np.ndim(precision) == 2 else precision * vector


def _matrix(precision: np.ndarray | float, r: int) -> np.ndarray:
    if np.ndim(precision) == 2:
        return np.asarray(precision, np.float64)
    return np.diag(np.broadcast_to(np.asarray(precision, np.float64), (r,)))


# -- one problem -------------------------------------------------------------------------------------------------------


def fit_weights(
    v: np.ndarray,
    label: np.ndarray,
    weight: np.ndarray,
    offset: np.ndarray | None = None,
    *,
    l2: float | None = None,
    precision: np.ndarray | float | None = None,
    mean: np.ndarray | None = None,
    tolerance: float = 1e-4,
) -> np.ndarray:
    """The weights that minimise `objective`, from any data: separable rows are fine because of the prior.

    Args:
        v: (m, r) feature differences.
        label, weight: (m,).
        offset: (m,) fixed logits, or None for zero.
        l2: prior precision as one number > 0; give this or `precision`.
        precision: (r, r), (r,) or a number; positive definite.
        mean: (r,) prior mean, or None for zero.
        tolerance: as in `adapt_users`.

    Returns:
        (r,) float64.

    Raises:
        InputError: no prior, or one that is not positive definite.
    """
    if (l2 is None) == (precision is None):
        raise InputError(f"l2={l2!r} and precision={precision!r}; give exactly one of the two")
    v = np.asarray(v, np.float64)
    r = v.shape[1]
    rows = Rows(v[None], _column(label)[None], _column(weight)[None], np.zeros((1, len(v))))
    if offset is not None:
        rows.offset[0] = offset
    prior_mean = np.zeros((1, r)) if mean is None else np.asarray(mean, np.float64)[None]
    mode, _ = newton(rows, prior_mean, _matrix(l2 if precision is None else precision, r)[None], tolerance)
    return mode[0]


# -- many people -------------------------------------------------------------------------------------------------------


def adapt_users(
    v: np.ndarray,
    label: np.ndarray,
    weight: np.ndarray,
    user: np.ndarray,
    n_users: int,
    *,
    mean: np.ndarray,
    precision: np.ndarray,
    offset: np.ndarray | None = None,
    tolerance: float = 1e-4,
) -> tuple[np.ndarray, np.ndarray]:
    """Every person's Laplace posterior: one penalised logistic regression each, solved together.

    Memory beyond the arguments and the result is some MiB; the time is about n·r² operations per person and step, in
    4 to 8 steps. The result does not depend on which other people are in the batch, nor on the number of threads.

    Args:
        v: (m, r) feature differences, float32 or float64.
        label, weight: (m,).
        user: (m,) in [0, n_users), in any order (already sorted saves a pass).
        n_users: how many people; who has no row gets the prior.
        mean: (r,) prior mean of all, or (n_users, r).
        precision: (r, r) prior precision of all, or (n_users, r, r); positive definite.
        offset: (m,) fixed logits, or None for zero.
        tolerance: stop where the Newton step is shorter than this many posterior standard deviations; the step is
            still taken, so the error of the mode is about its square, and that of the covariance relatively its size.

    Returns:
        mode (n_users, r) and covariance (n_users, r, r), float64.

    Raises:
        InputError: a precision that is not positive definite, or features that are not finite.
    """
    user = np.asarray(user)
    r = v.shape[1]
    mean = np.broadcast_to(np.asarray(mean, np.float64), (n_users, r))
    precision = np.asarray(precision, np.float64)
    mode = np.array(mean)
    covariance = np.empty((n_users, r, r))
    counts = np.bincount(user, minlength=n_users)
    order = None if np.all(user[1:] >= user[:-1]) else np.argsort(user, kind="stable")
    starts = np.cumsum(counts) - counts
    silent = np.flatnonzero(counts == 0)
    if len(silent):
        # Without rows the posterior is the prior; a shared one is inverted once.
        covariance[silent] = inverse(precision if precision.ndim == 2 else precision[silent])
    columns = (v, label, weight, offset)

    def solve(people: np.ndarray) -> None:
        rows = _gather(columns, order, starts[people], counts[people])
        prior = precision[None] if precision.ndim == 2 else precision[people]
        mode[people], covariance[people] = newton(rows, mean[people], prior, tolerance)

    chunks = similar_people(counts, r, _CHUNK_CELLS)
    workers = min(_threads(), len(chunks))
    if workers <= 1:
        for people in chunks:
            solve(people)
    else:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(solve, chunks))
    return mode, covariance


def similar_people(counts: np.ndarray, width: int, cells: int) -> list[np.ndarray]:
    """Batches of people with similar numbers of rows, so that padding them to the longest wastes at most a quarter.

    Args:
        counts: (n_users,) rows per person; who has none is in no batch.
        width: numbers per row.
        cells: most numbers in one padded batch, unless it is a single person.

    Returns:
        Arrays of people, by rising count.
    """
    people = np.argsort(counts, kind="stable")[np.count_nonzero(counts == 0) :]
    sizes = counts[people]
    batches, start = [], 0
    while start < len(people):
        similar = int(np.searchsorted(sizes, sizes[start] + sizes[start] // 4, side="right"))
        room = max(1, cells // (int(sizes[similar - 1]) * max(width, 1)))
        end = min(similar, start + room)
        batches.append(people[start:end])
        start = end
    return batches


def _column(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float64)


def _gather(columns: tuple, order: np.ndarray | None, starts: np.ndarray, counts: np.ndarray) -> Rows:
    n = int(counts.max())
    position = np.arange(n)
    own = position < counts[:, None]
    index = starts[:, None] + np.minimum(position, counts[:, None] - 1)
    if order is not None:
        index = order[index]
    v, label, weight, offset = columns
    return Rows(
        np.asarray(v[index], np.float64),
        _column(label[index]),
        weight[index] * own,
        np.zeros(index.shape) if offset is None else _column(offset[index]),
    )


def _threads() -> int:
    """Cores this process may use; `OMP_NUM_THREADS` limits them as it does for BLAS."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cores = os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(limit)) if limit.isdecimal() and int(limit) > 0 else cores


# -- averaging over the posterior --------------------------------------------------------------------------------------

_HERMITE_NODES, _HERMITE_WEIGHTS = np.polynomial.hermite_e.hermegauss(32)
_HERMITE_WEIGHTS = _HERMITE_WEIGHTS / _HERMITE_WEIGHTS.sum()
_LOGISTIC_NODES = np.arange(-22.0, 23.0)
_LOGISTIC_WEIGHTS = expit(_LOGISTIC_NODES) * expit(-_LOGISTIC_NODES)
_LOGISTIC_WEIGHTS = _LOGISTIC_WEIGHTS / _LOGISTIC_WEIGHTS.sum()


def predictive(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """E[σ(z)] for z ~ N(mean, variance): the probability of a choice when the logit itself is uncertain.

    Args:
        mean: (m,) of the logit.
        variance: (m,) ≥ 0 of the logit; where it is 0 the result is σ(mean) exactly.

    Returns:
        (m,) in [0, 1]; absolute error below 3e-7 at any variance.

    Raises:
        InputError: a negative variance.
    """
    mean = np.asarray(mean, np.float64)
    variance = np.broadcast_to(np.asarray(variance, np.float64), mean.shape)
    if np.any(variance < 0):
        raise InputError(f"variance {variance.min():.3g} is negative; it must be 0 or more")
    result = expit(mean)
    narrow = (variance > 0) & (variance <= 3.0)
    wide = variance > 3.0
    result[narrow] = _expected_narrow(mean[narrow], np.sqrt(variance[narrow]))
    result[wide] = _expected_wide(mean[wide], np.sqrt(variance[wide]))
    return result


def _expected_narrow(mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Gauss–Hermite over z; exact enough while σ is smooth at the scale of the Gaussian."""
    total = np.zeros_like(mean)
    for node, share in zip(_HERMITE_NODES, _HERMITE_WEIGHTS, strict=True):
        total += share * expit(mean + node * deviation)
    return total


def _expected_wide(mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """The same integral the other way round: σ is the distribution function of a logistic t, so E σ(z) = E Φ((mean − t)/deviation).

    Here Φ is the smooth one. The trapezoid rule with step 1 has error e^{−2π²} on the logistic density.
    """
    total = np.zeros_like(mean)
    for node, share in zip(_LOGISTIC_NODES, _LOGISTIC_WEIGHTS, strict=True):
        total += share * ndtr((mean - node) / deviation)
    return total
