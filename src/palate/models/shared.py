"""The reward everybody shares: linear in the features, plus a shrunken effect of every known item.

    r(i) = β·x̃_i + b_key(i),      β ~ N(0, τ_x² I),   b ~ N(0, τ_b² I),      logit = offset + r(left) − r(right),

where x̃ are features scaled to unit spread of their within-pair differences. The prior scales τ_x and τ_b are learned
by maximising the Laplace approximation of the marginal likelihood, so neither content nor identity can hurt much
where it does not help: its scale goes to zero.

Source: MacKay 1992, "The evidence framework applied to classification networks", eq. 2.19 (the fixed point for τ).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import linalg, sparse
from scipy.special import expit

from palate.progress import Progress, silent
from palate.types import Comparisons, Items

__all__ = ["SharedReward", "fit_shared", "locate", "pair_scale", "summed"]

_DENSE_LIMIT = 1000
"""Unknowns up to which the Hessian is factorised exactly; above, conjugate gradients and random probes, which at 2,400
unknowns take a fifteenth of the time."""

_PROBED, _PROBES = 40_000, (8, 40)
"""Numbers in all probes together, and fewest and most probes."""

_MAX_ROUNDS = 60
_VARIANCE_BOUNDS = (1e-8, 1e4)

_NEGLIGIBLE = 2e-3
"""A part that adds less variance than this to a logit need not be shrunk any further: 0.0003 nats of log-loss."""


@dataclass(frozen=True)
class SharedReward:
    """A fitted shared reward: plain arrays.

    Args:
        beta: (d,) weights of standardised features.
        center, scale: (d,) features are used as (x − center) / scale.
        keys: (k,) int64, sorted: the known items.
        effects: (k,) their effects b.
        feature_variance, effect_variance: learned prior variances τ_x² and τ_b².
    """

    beta: np.ndarray
    center: np.ndarray
    scale: np.ndarray
    keys: np.ndarray
    effects: np.ndarray
    feature_variance: float
    effect_variance: float

    def reward(self, items: Items) -> np.ndarray:
        """(n,) float64 shared reward of each item; an unknown key has effect 0."""
        reward = (items.features - self.center) @ (self.beta / self.scale) if items.dim else np.zeros(len(items))
        if len(self.keys):
            place = locate(self.keys, items.keys)
            reward = reward + np.where(place >= 0, self.effects[place], 0.0)
        return reward

    def margin(self, comparisons: Comparisons) -> np.ndarray:
        """(m,) reward(left) − reward(right) of every row."""
        reward = self.reward(comparisons.items)
        return reward[comparisons.left] - reward[comparisons.right]

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays under the names of the fields."""
        return {name: np.atleast_1d(value) for name, value in vars(self).items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """The inverse of `to_arrays`."""
        scalars = ("feature_variance", "effect_variance")
        return cls(**{name: value.item() if name in scalars else value for name, value in arrays.items()})


def locate(table: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Positions (n,) of `keys` (n,) in the sorted `table` (k,), −1 where a key is not in it or is itself negative."""
    if len(table) == 0:
        return np.full(len(keys), -1, np.int64)
    place = np.minimum(np.searchsorted(table, keys), len(table) - 1)
    return np.where((table[place] == keys) & (keys >= 0), place, -1)


def summed(values: np.ndarray, comparisons: Comparisons) -> np.ndarray:
    """(n_users, c) sums of `values` (m, c) over each person's rows, by weight."""
    m = len(comparisons)
    who = sparse.csr_array((comparisons.weight, (comparisons.user, np.arange(m))), shape=(comparisons.n_users, m))
    return who @ values


def pair_scale(comparisons: Comparisons) -> np.ndarray:
    """(d,) root mean square of left − right per feature, weighted; 1 where a feature never differs."""
    items, weight = comparisons.items, comparisons.weight
    total = np.zeros(items.dim)
    for start in range(0, len(comparisons), 16384):
        rows = slice(start, start + 16384)
        difference = items.features[comparisons.left[rows]] - items.features[comparisons.right[rows]]
        total += weight[rows] @ np.square(difference, dtype=np.float64)
    scale = np.sqrt(total / max(weight.sum(), np.finfo(float).tiny))
    return np.where(scale > 0, scale, 1.0)


def fit_shared(
    comparisons: Comparisons,
    offset: np.ndarray | None = None,
    *,
    scale: np.ndarray | None = None,
    l2: float | None = None,
    item_effects: bool = True,
    start: SharedReward | None = None,
    progress: Progress = silent,
) -> SharedReward:
    """The shared reward of these comparisons.

    Args:
        comparisons: rows of any people; who chose does not matter here.
        offset: (m,) fixed logits (a base reward, personal parts), or None.
        scale: (m,) factors on the reward margin of each row, logit = offset + scale·(r(left) − r(right)), or None for 1.
        l2: prior precision of all weights and effects; None learns both prior variances.
        item_effects: give each known item (key ≥ 0) its own shrunken effect.
        start: of the same comparisons with other logits or factors; its variances save rounds, the end is the same.
        progress: called once per round.

    Returns:
        The posterior mode. Time per round is about rows·d + items·d², plus (d + items)³ up to 1,000 unknowns.
    """
    problem = _Problem.of(comparisons, offset, scale, item_effects)
    d, k = problem.sizes
    variances = np.full(2, 1.0 / l2) if l2 is not None else np.array([1.0 / max(d, 1), 0.5])
    if start is not None and l2 is None:
        variances = np.array([start.feature_variance, start.effect_variance])
    weights, shift = np.zeros(d + k), np.zeros(2)
    # Without items nothing is sparse, and both ways factorise the same matrix.
    solver = _dense_solver if d + k <= _DENSE_LIMIT or not k else _SparseSolver(d + k)
    for round_ in range(_MAX_ROUNDS if d + k else 0):
        weights, moved, inverse_trace = _newton_step(problem, weights, variances, solver, traces=l2 is None)
        progress(round_ + 1, _MAX_ROUNDS, "shared reward")
        if l2 is None:
            updated = _next_variances(weights, variances, inverse_trace, problem.sizes)
            shift, previous = np.log(updated / variances), shift
            variances = np.clip(variances * np.exp(_extrapolate(shift, previous)), *_VARIANCE_BOUNDS)
        matters = variances * (d, 2.0) > _NEGLIGIBLE
        if moved < 1e-5 and np.all((np.abs(shift) < 0.01) | ~matters):
            break
    return SharedReward(
        beta=weights[:d],
        center=problem.center,
        scale=problem.scale,
        keys=problem.keys,
        effects=weights[d:],
        feature_variance=float(variances[0]),
        effect_variance=float(variances[1]),
    )


def _next_variances(
    weights: np.ndarray, variances: np.ndarray, inverse_trace: np.ndarray, sizes: tuple[int, int]
) -> np.ndarray:
    """MacKay's fixed point τ² ← ‖mode‖² / γ, γ = size − tr(H⁻¹)/τ² the number of well-determined weights."""
    updated = np.array(variances)
    for block, part in enumerate((weights[: sizes[0]], weights[sizes[0] :])):
        if sizes[block]:
            determined = max(sizes[block] - inverse_trace[block] / variances[block], 1e-6)
            updated[block] = np.clip(part @ part / determined, *_VARIANCE_BOUNDS)
    return updated


def _extrapolate(shift: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """Aitken's estimate of the sum of all shifts to come of log τ², at most twenty times the present one.

    The fixed point converges linearly, and slowly on its way to τ = 0, where it matters most that it arrives.
    """
    ratio = np.divide(shift, previous, out=np.zeros(2), where=np.abs(previous) > np.abs(shift))
    return shift / (1.0 - np.clip(ratio, 0.0, 0.95))


@dataclass(frozen=True)
class _Problem:
    """The data as sparse incidences: `items` x̃ (n, d), `pairs` (m, n) with +1 left, −1 right, `owner` (n, k) item -> key."""

    x: np.ndarray
    pairs: sparse.csr_matrix
    owner: sparse.csr_matrix
    center: np.ndarray
    scale: np.ndarray
    keys: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    offset: np.ndarray

    @property
    def sizes(self) -> tuple[int, int]:
        return self.x.shape[1], len(self.keys)

    @classmethod
    def of(
        cls, comparisons: Comparisons, offset: np.ndarray | None, factor: np.ndarray | None, item_effects: bool
    ) -> _Problem:
        items, m = comparisons.items, len(comparisons)
        used, ends = np.unique(np.concatenate([comparisons.left, comparisons.right]), return_inverse=True)
        scale = pair_scale(comparisons)
        center = items.features[used].mean(0, dtype=np.float64) if items.dim else np.zeros(0)
        used_keys = items.keys[used]
        keys = np.unique(used_keys[used_keys >= 0]) if item_effects else np.zeros(0, np.int64)
        place = locate(keys, used_keys)
        known = np.flatnonzero(place >= 0)
        factor = np.ones(m) if factor is None else factor
        sides = np.concatenate([factor, -factor])
        rows = np.concatenate([np.arange(m), np.arange(m)])
        return cls(
            x=(items.features[used] - center) / scale,
            pairs=sparse.csr_matrix((sides, (rows, ends)), shape=(m, len(used))),
            owner=sparse.csr_matrix((np.ones(len(known)), (known, place[known])), shape=(len(used), len(keys))),
            center=center,
            scale=scale,
            keys=keys,
            label=comparisons.label,
            weight=comparisons.weight,
            offset=np.zeros(m) if offset is None else offset,
        )

    def logit(self, weights: np.ndarray) -> np.ndarray:
        d = self.x.shape[1]
        return self.offset + self.pairs @ (self.x @ weights[:d] + self.owner @ weights[d:])

    def laplacian(self, curvature: np.ndarray) -> sparse.csr_matrix:
        """(n, n) the Hessian in the space of items: a weighted graph, far smaller than one row per comparison."""
        return (self.pairs.T @ self.pairs.multiply(curvature[:, None])).tocsr()

    def objective(self, weights: np.ndarray, penalty: np.ndarray) -> float:
        eta = self.logit(weights)
        return float(self.weight @ (np.logaddexp(0.0, eta) - self.label * eta) + 0.5 * penalty @ weights**2)


_Solver = Callable[[_Problem, np.ndarray, np.ndarray, np.ndarray, bool], tuple[np.ndarray, np.ndarray]]
"""(problem, curvature of each row, penalty, slope, traces wanted) -> H⁻¹ slope and the traces of H⁻¹ of both blocks."""


def _newton_step(
    problem: _Problem, weights: np.ndarray, variances: np.ndarray, solver: _Solver, *, traces: bool
) -> tuple[np.ndarray, float, np.ndarray]:
    """One Newton step with halving; the new weights, the squared decrement per weight, and tr(H⁻¹) of both blocks."""
    d, k = problem.sizes
    penalty = np.repeat(1.0 / variances, [d, k])
    probability = expit(problem.logit(weights))
    by_item = problem.pairs.T @ (problem.weight * (probability - problem.label))
    slope = np.concatenate([by_item @ problem.x, problem.owner.T @ by_item]) + penalty * weights
    curvature = problem.weight * probability * (1.0 - probability)
    step, inverse_trace = solver(problem, curvature, penalty, slope, traces)
    decrement = float(slope @ step)
    before, length = problem.objective(weights, penalty), 1.0
    while length > 1e-6 and problem.objective(weights - length * step, penalty) > before - 1e-4 * length * decrement:
        # Rounding of a large sum can hide a tiny descent; such a step is taken whole.
        if decrement <= 1e-10 * max(abs(before), 1.0):
            break
        length /= 2
    return weights - length * step, decrement / max(d + k, 1), inverse_trace


def _dense_solver(
    problem: _Problem, curvature: np.ndarray, penalty: np.ndarray, slope: np.ndarray, traces: bool
) -> tuple[np.ndarray, np.ndarray]:
    """H⁻¹ slope and the traces of H⁻¹ by one Cholesky factorisation."""
    d, k = problem.sizes
    laplacian = problem.laplacian(curvature)
    hessian = np.empty((d + k, d + k))
    by_item = laplacian @ problem.x
    hessian[:d, :d] = problem.x.T @ by_item
    hessian[d:, :d] = problem.owner.T @ by_item
    hessian[:d, d:] = hessian[d:, :d].T
    hessian[d:, d:] = (problem.owner.T @ laplacian @ problem.owner).toarray()
    hessian[np.diag_indices(d + k)] += penalty
    factor = linalg.cholesky(hessian, lower=True, overwrite_a=True, check_finite=False)
    step = linalg.cho_solve((factor, True), slope, check_finite=False)
    if not traces:
        return step, np.zeros(2)
    diagonal = np.square(linalg.lapack.dtrtri(factor, lower=1)[0]).sum(0)
    return step, np.array([diagonal[:d].sum(), diagonal[d:].sum()])


class _SparseSolver:
    """The same without a large dense matrix: features eliminated exactly, item effects by conjugate gradients.

    The traces are Hutchinson's estimate from fixed ±1 probes, the same in every run and round; its error falls with the
    number of unknowns, so that many unknowns need few probes. Between rounds the Hessian changes little: each probe
    starts from its last solution, and the Hessian of the data is made anew only once the curvature has changed (a stale
    one still gives steps downhill, and the slope is exact).
    """

    def __init__(self, unknowns: int) -> None:
        count = int(np.clip(_PROBED / max(unknowns, 1), *_PROBES))
        self.probes = np.random.default_rng(0).choice([-1.0, 1.0], (unknowns, count))
        self.found = np.zeros((unknowns, count))
        self.curvature: np.ndarray | None = None

    def refresh(self, problem: _Problem, curvature: np.ndarray) -> None:
        """Make the blocks of the data's Hessian, unless those at hand are within 2 % of it."""
        if self.curvature is not None and np.abs(curvature - self.curvature).sum() <= 0.02 * self.curvature.sum():
            return
        self.curvature = curvature
        laplacian = problem.laplacian(curvature)
        by_item = laplacian @ problem.x
        self.inner = problem.x.T @ by_item
        self.cross = problem.owner.T @ by_item
        self.graph = problem.owner.T @ laplacian @ problem.owner

    def __call__(
        self, problem: _Problem, curvature: np.ndarray, penalty: np.ndarray, slope: np.ndarray, traces: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        d, _ = problem.sizes
        self.refresh(problem, curvature)
        cross = self.cross
        factor = linalg.cho_factor(self.inner + np.diag(penalty[:d]), check_finite=False) if d else None
        graph = (self.graph + sparse.diags(penalty[d:])).tocsr()

        def eliminate(right: np.ndarray) -> np.ndarray:
            return linalg.cho_solve(factor, right, check_finite=False) if d else right

        def apply(effects: np.ndarray) -> np.ndarray:
            return graph @ effects - cross @ eliminate(cross.T @ effects)

        probes, found = (self.probes, self.found) if traces else (self.probes[:, :0], self.found[:, :0])
        right = np.column_stack([slope, probes])
        effects = _conjugate_gradients(
            apply,
            right[d:] - cross @ eliminate(right[:d]),
            graph.diagonal(),
            start=np.column_stack([np.zeros(len(slope) - d), found[d:]]),
            tolerance=np.repeat([1e-6, 1e-3], [1, probes.shape[1]]),
        )
        solution = np.concatenate([eliminate(right[:d] - cross.T @ effects), effects])
        if not traces:
            return solution[:, 0], np.zeros(2)
        self.found = solution[:, 1:]
        agreement = (probes * self.found).mean(1)
        return solution[:, 0], np.array([agreement[:d].sum(), agreement[d:].sum()])


def _conjugate_gradients(
    apply: Callable[[np.ndarray], np.ndarray],
    right: np.ndarray,
    diagonal: np.ndarray,
    *,
    start: np.ndarray,
    tolerance: np.ndarray,
) -> np.ndarray:
    """Solve A X = right (k, c) for symmetric positive definite A, all columns at once, with Jacobi preconditioning.

    `tolerance` (c,) is relative to the right-hand side, in the norm of the preconditioner.
    """
    solution = np.array(start)
    residual = right - apply(solution) if start.any() else np.array(right)
    scaled = residual / diagonal[:, None]
    direction = scaled
    energy = (residual * scaled).sum(0)
    goal = tolerance**2 * (np.square(right) / diagonal[:, None]).sum(0)
    for _ in range(1000):
        if np.all(energy <= goal):
            break
        image = apply(direction)
        bend = (direction * image).sum(0)
        length = np.divide(energy, bend, out=np.zeros_like(energy), where=bend > 0)
        solution += length * direction
        residual -= length * image
        scaled = residual / diagonal[:, None]
        previous, energy = energy, (residual * scaled).sum(0)
        ratio = np.divide(energy, previous, out=np.zeros_like(energy), where=previous > 0)
        direction = scaled + ratio * direction
    return solution
