"""A quick personal model, only to see whether there is anything to personalize.

    logit P(u prefers left) = (a_left - a_right) · (1, z_u),   a_i = e_i + W x_i,   z_u ~ N(0, I)

The first column is the reward everybody shares, the others are tastes that people hold to different degrees. The
loadings e (of known items) and W (of features) are random too, with one learned variance per column and kind: a column
the data do not speak for shrinks to nothing, so that a world without disagreement yields exactly no gain. Everything is
a mean-field variational fit with Jaakkola's bound; a round is two sparse products and a few conjugate-gradient steps,
which makes it fit for an audit. `models.hierarchical` is the method to use; this one only has to rank worlds.

Source: Jaakkola and Jordan 2000 (the bound, eq. 7); MacKay 1992 (the update of the variances); Nakajima et al. 2013 (why
a variational factorisation prunes what is below the noise).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.special import expit

from palate.types import Comparisons

__all__ = ["Fit", "compress", "fit"]

_LARGEST_PRECISION = 1e7  # a column this tight is switched off
_CG_STEPS = 5


@dataclass(frozen=True)
class Fit:
    """A fitted probe.

    Args:
        loadings: (n_items, 1 + rank) mean of a_i.
        spread: (n_items, 1 + rank) variance of a_i.
        mean: (n_users, rank) posterior mean of z.
        covariance: (n_users, rank, rank) posterior covariance of z.
    """

    loadings: np.ndarray
    spread: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray

    @property
    def rank(self) -> int:
        """How many columns of taste were asked for (some may have been switched off)."""
        return self.mean.shape[1]

    def logits(self, left: np.ndarray, right: np.ndarray, user: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(m,) mean and (m,) variance of the logit of rows."""
        a = self.loadings[left] - self.loadings[right]
        taste, z, covariance = a[:, 1:], self.mean[user], self.covariance[user]
        spread = self.spread[left] + self.spread[right]
        second = z**2 + np.diagonal(covariance, axis1=1, axis2=2)
        variance = np.einsum("mi,mij,mj->m", taste, covariance, taste) + spread[:, 0] + (spread[:, 1:] * second).sum(1)
        return a[:, 0] + (taste * z).sum(axis=1), variance

    def probability(self, left: np.ndarray, right: np.ndarray, user: np.ndarray) -> np.ndarray:
        """(m,) predictive probability that the person prefers left (probit approximation, MacKay 1992)."""
        mean, variance = self.logits(left, right, user)
        return expit(mean / np.sqrt(1.0 + np.pi * variance / 8.0))

    def taste_variance(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(m,) variance between people of the logit of these pairs."""
        return ((self.loadings[left, 1:] - self.loadings[right, 1:]) ** 2).sum(axis=1)


def compress(comparisons: Comparisons, *, width: int = 32, sample: int = 20_000) -> np.ndarray:
    """(n, ≤ width) the directions in which compared items differ most, on a common scale.

    Features are put on one scale each, then rotated to the principal axes of the *differences* between compared items:
    what two replies to one prompt have in common cannot tell them apart. A base reward is appended as one more column.
    """
    items = comparisons.items
    columns = [_axes(items.features, comparisons, width, sample)] if items.dim else []
    if items.base_reward is not None:
        columns.append(_unit_differences(items.base_reward[:, None].astype(np.float64), comparisons))
    return np.hstack(columns) if columns else np.zeros((len(items), 0))


def _axes(features: np.ndarray, comparisons: Comparisons, width: int, sample: int) -> np.ndarray:
    step = max(1, len(comparisons) // sample)
    left, right = comparisons.left[::step], comparisons.right[::step]
    rows, index = len(left), np.arange(len(left))
    compared, sides = np.unique(np.concatenate([left, right]), return_inverse=True)
    signs = np.repeat([1.0, -1.0], rows)
    contrast = sparse.csr_array((signs, (np.r_[index, index], sides)), (rows, len(compared)))
    # Centred, so that a column that is constant but large leaves no rounding behind in the differences.
    values = features[compared].astype(np.float64)
    values -= values.mean(axis=0)
    # Sums over rows of products of differences, through the items: they are fewer than the rows.
    products = values.T @ ((contrast.T @ contrast) @ values)
    mean = (contrast.sum(axis=0) @ values) / rows
    scale = np.sqrt(np.maximum(np.diagonal(products) / rows - mean**2, 0.0))
    usable = scale > 1e-9
    if not usable.any():
        return np.zeros((len(features), 0))
    scale = scale[usable]
    _, axes = np.linalg.eigh(products[np.ix_(usable, usable)] / np.outer(scale, scale))
    scaled = features[:, usable] / scale
    return _unit_differences(scaled @ axes[:, ::-1][:, :width], comparisons)


def _unit_differences(columns: np.ndarray, comparisons: Comparisons) -> np.ndarray:
    """Columns scaled so that the difference of two compared items has squared length 1 on average."""
    difference = columns[comparisons.left] - columns[comparisons.right]
    length = np.sqrt((difference**2).sum(axis=1).mean()) if len(difference) else 0.0
    return columns / length if length > 0 else columns[:, :0]


def fit(
    comparisons: Comparisons, features: np.ndarray, *, rank: int, rounds: int, rng: np.random.Generator
) -> tuple[Fit, Fit]:
    """Fit the probe without and with tastes.

    Args:
        comparisons: m ≥ 1 rows; items and people without a row get the prior.
        features: (n_items, q) from `compress`; q may be 0.
        rank: columns of taste; 0 skips the personal model.
        rounds: of variational updates.
        rng: starts the search for tastes.

    Returns:
        The pooled fit (rank 0: one reward for everybody, with shrunken item effects) and the personal one.
    """
    rows = _Rows.of(comparisons, features)
    pooled = _refine(rows, _State.start(rows, 0, None), max(4, rounds // 2))
    if not rank:
        return (_readout(rows, pooled),) * 2
    tastes = _first_tastes(rows, pooled, rank, rng)
    # few people or items have fewer directions than were asked for
    personal = _refine(rows, _State.start(rows, tastes.shape[1], tastes, shared=pooled), rounds)
    return _readout(rows, pooled), _readout(rows, personal)


@dataclass(frozen=True)
class _Rows:
    """Rows, and the maps between parameters, rows and people; p = n_items + q parameters, items first.

    The p columns of the design are never written out: what features add to a row is what they add to its two items.

    Args:
        sides: (m, n_items) sparse: 1 at the left item, -1 at the right one; `both` has 1 at both.
        people: (n_users, m) sparse sums over a person's rows.
        squares: (m, q) squared differences of features.
        user, weight: (m,).
        pull: (m,) weight · (label - ½).
        features: (n_items, q).
    """

    sides: sparse.csr_array
    sides_transposed: sparse.csr_array
    both: sparse.csr_array
    both_transposed: sparse.csr_array
    people: sparse.csr_array
    squares: np.ndarray
    user: np.ndarray
    weight: np.ndarray
    pull: np.ndarray
    features: np.ndarray

    @classmethod
    def of(cls, comparisons: Comparisons, features: np.ndarray) -> _Rows:
        m, n = len(comparisons), len(comparisons.items)
        index = np.arange(m)
        ones = np.ones(m)
        sides = sparse.csr_array(
            (np.r_[ones, -ones], (np.r_[index, index], np.r_[comparisons.left, comparisons.right])), (m, n)
        )
        return cls(
            sides=sides,
            sides_transposed=sides.T.tocsr(),
            both=abs(sides),
            both_transposed=abs(sides).T.tocsr(),
            people=sparse.csr_array((ones, (comparisons.user, index)), (comparisons.n_users, m)),
            squares=(features[comparisons.left] - features[comparisons.right]) ** 2,
            user=comparisons.user,
            weight=comparisons.weight,
            pull=comparisons.weight * (comparisons.label - 0.5),
            features=features,
        )

    @property
    def n_items(self) -> int:
        return len(self.features)

    @property
    def n_users(self) -> int:
        return self.people.shape[0]

    @property
    def n_parameters(self) -> int:
        return self.n_items + self.features.shape[1]

    def margins(self, a: np.ndarray) -> np.ndarray:
        """(m, c) left minus right of parameters (p, c)."""
        return self.sides @ self.of_items(a)

    def of_items(self, a: np.ndarray) -> np.ndarray:
        """(n_items, c) what parameters (p, c) say of each item."""
        return a[: self.n_items] + self.features @ a[self.n_items :]

    def to_parameters(self, by_item: np.ndarray) -> np.ndarray:
        """(p, c), the transpose of `of_items`."""
        return np.vstack([by_item, self.features.T @ by_item])

    def gathered(self, by_row: np.ndarray) -> np.ndarray:
        """(p, c), the transpose of `margins`."""
        return self.to_parameters(self.sides_transposed @ by_row)

    def spreads(self, variance: np.ndarray) -> np.ndarray:
        """(m, c) variances of the margins, of parameters with these variances (p, c)."""
        return self.both @ variance[: self.n_items] + self.squares @ variance[self.n_items :]

    def gathered_squares(self, by_row: np.ndarray) -> np.ndarray:
        """(p, c), the transpose of `spreads`."""
        return np.vstack([self.both_transposed @ by_row, self.squares.T @ by_row])

    def blocks(self) -> list[slice]:
        """Item parameters and feature parameters (the latter only where there are features)."""
        p = self.n_parameters
        return [slice(0, self.n_items)] + ([slice(self.n_items, p)] if p > self.n_items else [])


@dataclass
class _State:
    """What is being learned: loadings (p, 1 + r) with diagonal variances, people, and the bound's slack."""

    a: np.ndarray
    variance: np.ndarray
    precision: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray
    curvature: np.ndarray

    @classmethod
    def start(cls, rows: _Rows, rank: int, tastes: np.ndarray | None, shared: _State | None = None) -> _State:
        p = rows.n_parameters
        a = np.zeros((p, 1 + rank))
        precision = np.ones((p, 1 + rank))
        curvature = np.full(len(rows.user), 0.25)
        if shared is not None and tastes is not None:
            a[:, :1], a[:, 1:] = shared.a, tastes
            precision[:, :1] = shared.precision
            for block in rows.blocks():
                precision[block, 1:] = 1.0 / np.maximum((tastes[block] ** 2).mean(axis=0), 1.0 / _LARGEST_PRECISION)
            curvature = shared.curvature
        return cls(
            a=a,
            variance=np.zeros_like(a),
            precision=precision,
            mean=np.zeros((rows.n_users, rank)),
            covariance=np.broadcast_to(np.eye(rank), (rows.n_users, rank, rank)).copy(),
            curvature=curvature,
        )


def _refine(rows: _Rows, state: _State, rounds: int) -> _State:
    for _ in range(rounds):
        if state.mean.shape[1]:
            _update_people(rows, state)
        _update_loadings(rows, state)
        _update_bound(rows, state)
        _update_precision(rows, state)
    if state.mean.shape[1]:
        _update_people(rows, state)
    return state


def _update_people(rows: _Rows, state: _State) -> None:
    """q(z_u) = N(mean, covariance), given the loadings."""
    rank = state.mean.shape[1]
    margin = rows.margins(state.a)
    taste, shared = margin[:, 1:], margin[:, 0]
    weight = rows.weight * state.curvature
    first, second = np.triu_indices(rank)
    outer = taste[:, first] * taste[:, second]
    outer[:, first == second] += rows.spreads(state.variance[:, 1:])
    sums = rows.people @ (weight[:, None] * outer)
    precision = np.empty((rows.n_users, rank, rank))
    precision[:, first, second] = sums
    precision[:, second, first] = sums
    precision += np.eye(rank)
    score = rows.people @ ((rows.pull - weight * shared)[:, None] * taste)
    state.covariance = np.linalg.inv(precision)
    state.mean = np.einsum("uij,uj->ui", state.covariance, score)


def _moments(rows: _Rows, state: _State) -> np.ndarray:
    """(n_users, 1 + r, 1 + r) second moments of (1, z_u)."""
    rank = state.mean.shape[1]
    moments = np.empty((rows.n_users, 1 + rank, 1 + rank))
    moments[:, 0, 0] = 1.0
    moments[:, 0, 1:] = moments[:, 1:, 0] = state.mean
    moments[:, 1:, 1:] = state.covariance + state.mean[:, :, None] * state.mean[:, None, :]
    return moments


def _update_loadings(rows: _Rows, state: _State) -> None:
    """q(a): the mean solves the joint normal equations (a few conjugate gradients), the variances are diagonal."""
    moments = _moments(rows, state)[rows.user]
    weight = rows.weight * state.curvature
    moments *= weight[:, None, None]
    ahead = np.hstack([np.ones((len(rows.user), 1)), state.mean[rows.user]])
    target = rows.gathered(rows.pull[:, None] * ahead)
    diagonal = rows.gathered_squares(np.ascontiguousarray(np.diagonal(moments, axis1=1, axis2=2))) + state.precision

    def apply(a: np.ndarray) -> np.ndarray:
        return rows.gathered(np.einsum("mij,mj->mi", moments, rows.margins(a))) + state.precision * a

    state.a = _conjugate_gradients(apply, target, state.a, diagonal)
    state.variance = 1.0 / diagonal


def _conjugate_gradients(apply, target: np.ndarray, start: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
    """A few preconditioned steps from `start`; matrices are treated as one long vector."""
    x = start.copy()
    residual = target - apply(x)
    direction = preconditioned = residual / diagonal
    power = (residual * preconditioned).sum()
    for _ in range(_CG_STEPS):
        if power <= 1e-20:
            break
        image = apply(direction)
        step = power / (direction * image).sum()
        x += step * direction
        residual = residual - step * image
        preconditioned = residual / diagonal
        renewed = (residual * preconditioned).sum()
        direction = preconditioned + (renewed / power) * direction
        power = renewed
    return x


def _update_bound(rows: _Rows, state: _State) -> None:
    """Jaakkola's curvature 2λ(ξ) = tanh(ξ/2) / 2ξ at ξ² = E[logit²]."""
    moments = _moments(rows, state)[rows.user]
    margin = rows.margins(state.a)
    spread = rows.spreads(state.variance)
    square = np.einsum("mi,mij,mj->m", margin, moments, margin)
    square += (spread * np.diagonal(moments, axis1=1, axis2=2)).sum(axis=1)
    xi = np.sqrt(np.maximum(square, 1e-12))
    state.curvature = np.tanh(xi / 2) / (2 * xi)


def _update_precision(rows: _Rows, state: _State) -> None:
    """One prior precision per column and kind of parameter.

    MacKay's fixed point for the shared column; the slower EM update for tastes, because the fixed point switches weak
    but real tastes off before they have found their direction.
    """
    for block in rows.blocks():
        a, variance, precision = state.a[block], state.variance[block], state.precision[block]
        known = np.full(a.shape[1], float(len(a)))
        known[0] = max((1.0 - precision[:, 0] * variance[:, 0]).sum(), 1e-3)
        second = (a**2).sum(axis=0)
        second[1:] += variance[:, 1:].sum(axis=0)
        state.precision[block] = np.minimum(known / np.maximum(second, 1e-12), _LARGEST_PRECISION)


def _first_tastes(rows: _Rows, state: _State, rank: int, rng: np.random.Generator) -> np.ndarray:
    """(p, rank) directions along which people's residuals agree with themselves: a truncated SVD."""
    probability = expit(rows.margins(state.a)[:, 0])
    residual = rows.pull + rows.weight * (0.5 - probability)
    scale = 1.0 / np.sqrt(np.maximum(rows.gathered_squares((rows.weight * 0.25)[:, None]), 1.0))
    # The table of people and parameters is people @ diag(residual) @ design @ diag(scale).
    table = rows.people @ (sparse.diags_array(residual) @ rows.sides)
    back = table.T.tocsr()
    sketch = table @ rows.of_items(scale * rng.standard_normal((rows.n_parameters, rank + 8)))
    for _ in range(6):
        sketch, _ = np.linalg.qr(table @ rows.of_items(scale**2 * rows.to_parameters(back @ sketch)))
    _, _, right = np.linalg.svd((scale * rows.to_parameters(back @ sketch)).T, full_matrices=False)
    tastes = scale * right[:rank].T
    reach = np.sqrt(np.average(rows.margins(tastes) ** 2, axis=0, weights=rows.weight))
    return tastes / np.maximum(reach, 1e-12)


def _readout(rows: _Rows, state: _State) -> Fit:
    n = rows.n_items
    spread = state.variance[:n] + rows.features**2 @ state.variance[n:]
    return Fit(rows.of_items(state.a), spread, state.mean, state.covariance)
