"""Bradley–Terry likelihood of comparisons under a linear reward, and its penalised Newton solvers.

For a comparison with feature difference `v`, label `y` (the probability that left was preferred; a tie is .5), weight
`c` and fixed logit `o`, the penalised negative log-likelihood of weights `w` is

    f(w) = Σ_i c_i [softplus(η_i) − y_i η_i] + ½ (w − μ)ᵀ P (w − μ),      η_i = o_i + v_i·w,

with Gaussian prior N(μ, P⁻¹). One row of weight 2 is two rows. `adapt_users` solves one such problem per person, all
of them together, and returns the Laplace posterior: the mode and the inverse Hessian there.

Source: Bradley and Terry 1952; step control after Bach 2010 and Sun and Tran-Dinh 2019 (see `_step_length`).
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, ndtr

from palate.errors import InputError

__all__ = ["adapt_users", "fit_weights", "gradient", "hessian", "objective", "predictive", "similar_people"]

_CHUNK_CELLS = 512 * 1024
"""Numbers of `v` in one batch of people: 4 MiB, small enough for the cache, large enough to hide the Python calls."""

_MAX_STEPS = 200
"""Newton converges in 4 to 8 steps; a separable history under an almost flat prior needs some dozens."""


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
    tolerance: float = 1e-5,
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
    rows = _Rows(v[None], _column(label)[None], _column(weight)[None], np.zeros((1, len(v))))
    if offset is not None:
        rows.offset[0] = offset
    prior_mean = np.zeros((1, r)) if mean is None else np.asarray(mean, np.float64)[None]
    mode, _ = _newton(rows, prior_mean, _matrix(l2 if precision is None else precision, r)[None], tolerance)
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
    tolerance: float = 1e-5,
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
            still taken, so the error that remains is about its square.

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
        covariance[silent] = _inverse(precision if precision.ndim == 2 else precision[silent])
    columns = (v, label, weight, offset)

    def solve(people: np.ndarray) -> None:
        rows = _gather(columns, order, starts[people], counts[people])
        prior = precision[None] if precision.ndim == 2 else precision[people]
        mode[people], covariance[people] = _newton(rows, mean[people], prior, tolerance)

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


@dataclass(frozen=True)
class _Rows:
    """The comparisons of b people, padded to n each with rows of weight 0: v (b, n, r), the others (b, n)."""

    v: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    offset: np.ndarray

    def take(self, people: np.ndarray) -> _Rows:
        return _Rows(self.v[people], self.label[people], self.weight[people], self.offset[people])


def _column(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float64)


def _gather(columns: tuple, order: np.ndarray | None, starts: np.ndarray, counts: np.ndarray) -> _Rows:
    n = int(counts.max())
    position = np.arange(n)
    own = position < counts[:, None]
    index = starts[:, None] + np.minimum(position, counts[:, None] - 1)
    if order is not None:
        index = order[index]
    v, label, weight, offset = columns
    return _Rows(
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


def _newton(rows: _Rows, mean: np.ndarray, precision: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
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
        pull = np.matmul(precision, deviation[:, :, None]) if step else 0.0
        slope = (np.matmul(transposed, residual[:, :, None]) + pull)[:, :, 0]
        bend = np.matmul(transposed, curvature[:, :, None] * rows.v) + precision
        factor = _cholesky(bend)
        direction = -_cholesky_solve(factor, slope)
        decrement = -np.einsum("br,br->b", slope, direction)
        change = np.matmul(rows.v, direction[:, :, None])[:, :, 0]
        length = _step_length(rows.weight, change, direction, precision, decrement)[:, None]
        deviation = deviation + length * direction
        done = decrement <= tolerance**2
        if done.any() or step == _MAX_STEPS - 1:
            leaving = done if step < _MAX_STEPS - 1 else np.ones_like(done)
            people = active[leaving]
            mode[people] = mean[people] + deviation[leaving]
            covariance[people] = _inverse(bend[leaving])
            if leaving.all():
                break
            staying = np.flatnonzero(~leaving)
            active, rows, deviation = active[staying], rows.take(staying), deviation[staying]
            eta, change, length = eta[staying], change[staying], length[staying]
            precision = precision if len(precision) == 1 else precision[staying]
        eta = eta + length * change
    return mode, covariance


def _step_length(
    weight: np.ndarray, change: np.ndarray, direction: np.ndarray, precision: np.ndarray, decrement: np.ndarray
) -> np.ndarray:
    """(b,) how much of each Newton step to take, such that the objective surely falls, without evaluating it.

    Along the step the curvature φ″ starts at λ² (the squared decrement), grows at most by e^{td} with
    d = max_i |change in logit i| (|σ‴| ≤ σ″-bound of Bach 2010, prop. 1), and never exceeds L = Σ c_i change_i²/4 + pᵀPp.
    The first bound allows t = log(1 + d)/d (Sun and Tran-Dinh 2019, eq. 12), the second t = λ²/L; the full step lowers the
    objective by at least λ²/4 when d ≤ 1 or L ≤ 1.5 λ². Near the mode all steps are full, hence quadratic convergence.
    """
    largest = np.max(np.abs(change) * (weight > 0), axis=1, initial=0.0)
    prior_bend = np.einsum("br,br->b", np.matmul(direction[:, None, :], precision)[:, 0], direction)
    ceiling = 0.25 * np.einsum("bn,bn,bn->b", weight, change, change) + prior_bend
    full = (largest <= 1.0) | (ceiling <= 1.5 * decrement)
    safe = np.where(largest > 0, largest, 1.0)
    damped = np.maximum(np.log1p(safe) / safe, decrement / np.maximum(ceiling, np.finfo(float).tiny))
    return np.where(full, 1.0, np.minimum(damped, 1.0))


def _cholesky(matrices: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.cholesky(matrices)
    except np.linalg.LinAlgError:
        raise InputError(
            "prior precision plus curvature is not positive definite; use a positive definite precision and finite features"
        ) from None


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


def _inverse(matrices: np.ndarray) -> np.ndarray:
    """Inverse of symmetric positive definite matrices, symmetric to the last bit."""
    try:
        inverse = np.linalg.inv(matrices)
    except np.linalg.LinAlgError:
        raise InputError("prior precision is singular; use a positive definite precision") from None
    return 0.5 * (inverse + np.swapaxes(inverse, -1, -2))


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
