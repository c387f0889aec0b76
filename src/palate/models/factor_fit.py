"""How `factor` finds its map of items and its table of people: a start by SVD, then L-BFGS on all rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import optimize, sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator, svds
from scipy.special import expit

from palate.progress import Progress
from palate.types import Comparisons

__all__ = ["Factors", "FactorProblem", "svd_start"]

_DENSE_CELLS = 1 << 22
"""Pairs × people up to which the SVD start refills and clips the dense matrix, exactly as the paper does."""

_ROUNDS = 10


@dataclass(frozen=True)
class Factors:
    """What is learned: `weight` (d, r) of features, `embeddings` (k, r) of known items, `people` (n_users, r)."""

    weight: np.ndarray
    embeddings: np.ndarray
    people: np.ndarray

    def ravel(self) -> np.ndarray:
        """All numbers in one vector."""
        return np.concatenate([self.weight.ravel(), self.embeddings.ravel(), self.people.ravel()])

    def like(self, vector: np.ndarray) -> Factors:
        """The inverse of `ravel`, with these shapes."""
        ends = np.cumsum([self.weight.size, self.embeddings.size])
        parts = np.split(vector, ends)
        shapes = (self.weight.shape, self.embeddings.shape, self.people.shape)
        return Factors(*(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)))


@dataclass(frozen=True)
class FactorProblem:
    """Rows of weight > 0 in the form that makes objective and gradient a few matrix products.

    Args:
        x: (n, d) scaled features / √d of the items that occur.
        owner: (n, k) item -> known item.
        pairs: (m, n) with +1 at the left item and −1 at the right one.
        who: (m, n_users) with 1 at the person.
        user: (m,).
        label, weight, offset: (m,).
        l2, item_l2: prior precisions of people, and of weights and embeddings.
    """

    x: np.ndarray
    owner: sparse.csr_matrix
    pairs: sparse.csr_matrix
    who: sparse.csr_matrix
    user: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    offset: np.ndarray
    l2: float
    item_l2: float

    @classmethod
    def of(
        cls,
        comparisons: Comparisons,
        x: np.ndarray,
        known: np.ndarray,
        n_keys: int,
        offset: np.ndarray,
        **priors: float,
    ) -> FactorProblem:
        """From rows, scaled features (n_items, d) and the position of each item among `n_keys` known ones (−1 none)."""
        m = len(comparisons)
        used, ends = np.unique(np.concatenate([comparisons.left, comparisons.right]), return_inverse=True)
        sides = np.concatenate([np.ones(m), -np.ones(m)])
        rows = np.tile(np.arange(m), 2)
        has = np.flatnonzero(known[used] >= 0)
        return cls(
            x=x[used].astype(np.float64),
            owner=sparse.csr_matrix((np.ones(len(has)), (has, known[used][has])), shape=(len(used), n_keys)),
            pairs=sparse.csr_matrix((sides, (rows, ends)), shape=(m, len(used))),
            who=sparse.csr_matrix((np.ones(m), (np.arange(m), comparisons.user)), shape=(m, comparisons.n_users)),
            user=comparisons.user,
            label=comparisons.label,
            weight=comparisons.weight,
            offset=offset,
            **priors,
        )

    def pair_features(self, factors: Factors) -> np.ndarray:
        """(m, r) v = φ(left) − φ(right)."""
        return self.pairs @ (self.x @ factors.weight + self.owner @ factors.embeddings)

    def objective(self, factors: Factors) -> tuple[float, Factors]:
        """Minus the log posterior in nats, and its gradient.

        Σ_i w_i [softplus(η_i) − y_i η_i] + ½ l2 ‖Λ‖² + ½ item_l2 (‖W‖² + ‖E‖²),  η_i = offset_i + λ_u(i)·v_i.
        """
        v, own = self.pair_features(factors), factors.people[self.user]
        eta = self.offset + np.einsum("mr,mr->m", v, own)
        residual = (self.weight * (expit(eta) - self.label))[:, None]
        value = self.weight @ (np.logaddexp(0.0, eta) - self.label * eta)
        value += 0.5 * self.l2 * np.sum(factors.people**2) + self._item_penalty(factors)
        by_item = self._by_item(residual * own, factors)
        return float(value), Factors(*by_item, self.who.T @ (residual * v) + self.l2 * factors.people)

    def target_objective(self, factors: Factors, target: np.ndarray) -> tuple[float, Factors]:
        """½ Σ_i ‖v_i − target_i‖² plus the item prior, and its gradient; people do not move."""
        gap = self.pair_features(factors) - target
        value = 0.5 * float(np.sum(gap**2)) + self._item_penalty(factors)
        return value, Factors(*self._by_item(gap, factors), np.zeros_like(factors.people))

    def _item_penalty(self, factors: Factors) -> float:
        return 0.5 * self.item_l2 * float(np.sum(factors.weight**2) + np.sum(factors.embeddings**2))

    def _by_item(self, by_pair: np.ndarray, factors: Factors) -> tuple[np.ndarray, np.ndarray]:
        """Gradients of W and E from those of the pair features (m, r)."""
        by_item = self.pairs.T @ by_pair
        return (
            self.x.T @ by_item + self.item_l2 * factors.weight,
            self.owner.T @ by_item + self.item_l2 * factors.embeddings,
        )

    def minimise(self, start: Factors, steps: int, progress: Progress, target: np.ndarray | None = None) -> Factors:
        """At most `steps` iterations of L-BFGS on `objective`, or on `target_objective` where a target is given."""

        def value(vector: np.ndarray) -> tuple[float, np.ndarray]:
            factors = start.like(vector)
            result = self.objective(factors) if target is None else self.target_objective(factors, target)
            return result[0], result[1].ravel()

        found = optimize.minimize(
            value,
            start.ravel(),
            jac=True,
            method="L-BFGS-B",
            callback=_counter(progress, steps),
            options={"maxiter": steps},
        )
        return start.like(found.x)


def _counter(progress: Progress, steps: int) -> Callable[[np.ndarray], None]:
    done = 0

    def tick(vector: np.ndarray) -> None:
        nonlocal done
        done += 1
        progress(done, steps, "factor")

    return tick


def svd_start(
    comparisons: Comparisons, rank: int, *, centred: bool, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """People's vectors and targets for the pair features, from the SVD of the preference matrix.

    The matrix is pairs × people with the mean label of each, missing cells ½. Ten times its missing cells are refilled
    from the rank-k reconstruction, clipped to [0, 1] (only where the matrix is small enough to be held; a large one is
    so sparse that no reconstruction comes near the bounds). U S Vᵀ of the result gives λ = V √S and v ≈ U √S.

    Args:
        comparisons: rows of weight > 0.
        rank: number of singular vectors.
        centred: subtract ½ first. The paper does not, so its first component says that labels are about ½ on average.
        rng: start vector of the iterative SVD.

    Returns:
        people (n_users, rank) and targets (m, rank) for the rows as they stand; components beyond the
        matrix's own rank are zero.

    Source: Shenfeld et al. 2025, § 4.1 and their program.
    """
    pair, side, n_pairs = _pairs(comparisons)
    label = np.where(side > 0, comparisons.label, 1.0 - comparisons.label)
    shape = (n_pairs, comparisons.n_users)
    cells = (pair, comparisons.user)
    count = sparse.csr_matrix((np.ones(len(pair)), cells), shape=shape)
    observed = sparse.csr_matrix((label - 0.5, cells), shape=shape)
    observed.data /= count.data
    shift = 0.0 if centred else 0.5
    k = min(rank, min(shape) - 1)
    if k < 1:
        return np.zeros((shape[1], rank)), np.zeros((len(pair), rank))
    complete = _complete_dense if shape[0] * shape[1] <= _DENSE_CELLS else _complete_sparse
    u, s, v = complete(observed, k, shift, rng)
    people, targets = np.zeros((shape[1], rank)), np.zeros((n_pairs, rank))
    people[:, :k], targets[:, :k] = v * np.sqrt(s), u * np.sqrt(s)
    return people, targets[pair] * side[:, None]


def _pairs(comparisons: Comparisons) -> tuple[np.ndarray, np.ndarray, int]:
    """(m,) number of each row's unordered pair, (m,) ±1 whether the row has it in that order, and how many pairs."""
    left, right = comparisons.left.astype(np.int64), comparisons.right.astype(np.int64)
    low, high = np.minimum(left, right), np.maximum(left, right)
    distinct, pair = np.unique(low * len(comparisons.items) + high, return_inverse=True)
    return pair, np.where(left == low, 1.0, -1.0), len(distinct)


_Parts = tuple[np.ndarray, np.ndarray, np.ndarray]


def _complete_dense(observed: sparse.csr_matrix, k: int, shift: float, rng: np.random.Generator) -> _Parts:
    rows, columns = _cells(observed)
    matrix = np.full(observed.shape, shift)
    matrix[rows, columns] += observed.data
    for round_ in range(_ROUNDS + 1):
        u, s, vt = np.linalg.svd(matrix, full_matrices=False)
        u, s, vt = u[:, :k], s[:k], vt[:k]
        if round_ < _ROUNDS:
            matrix = np.clip((u * s) @ vt, shift - 0.5, shift + 0.5)
            matrix[rows, columns] = shift + observed.data
    return u, s, vt.T


def _complete_sparse(observed: sparse.csr_matrix, k: int, shift: float, rng: np.random.Generator) -> _Parts:
    """The same with the filled matrix as low rank plus sparse, never held."""
    rows, columns = _cells(observed)
    n, m = observed.shape
    left, right = np.full((n, 1), shift), np.ones((m, 1))
    start = rng.standard_normal(min(n, m))
    for _ in range(_ROUNDS + 1):
        gap = shift + observed.data - np.einsum("ik,ik->i", left[rows], right[columns])
        rest = sparse.csr_matrix((gap, (rows, columns)), shape=(n, m))
        filled = aslinearoperator(rest) + _low_rank(left, right)
        u, s, vt = svds(filled, k, v0=start, tol=1e-4)
        u, s, vt = u[:, ::-1], s[::-1], vt[::-1]
        left, right = u * s, vt.T
    return u, s, vt.T


def _low_rank(left: np.ndarray, right: np.ndarray) -> LinearOperator:
    return aslinearoperator(left) @ aslinearoperator(right.T)


def _cells(observed: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of every stored cell, in the order of `data`; a label of exactly ½ is stored too."""
    return np.repeat(np.arange(observed.shape[0]), np.diff(observed.indptr)), observed.indices
