"""A logistic regression for each of many people, in the space that a person's own rows span.

What `individual` is, and the personal part of `prm`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate.models.likelihood import adapt_users, similar_people
from palate.progress import Progress
from palate.types import Comparisons

__all__ = ["Span", "Table", "learn_precision", "spans_of"]

_CELLS = 1 << 22
_MAX_ROUNDS = 30
_L2_BOUNDS = (1e-4, 1e8)


@dataclass(frozen=True)
class Table:
    """Item vectors of `width`: dense `features` (n, width), or the indicator of position `known` (n,), −1 for none."""

    features: np.ndarray | None
    known: np.ndarray
    width: int

    def difference(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(b, n, width) vectors of left − right for indices (b, n)."""
        if self.features is not None:
            return self.features[left] - self.features[right]
        z = np.zeros((*left.shape, self.width))
        for side, sign in ((left, 1.0), (right, -1.0)):
            known = self.known[side]
            person, row = np.nonzero(known >= 0)
            z[person, row, known[person, row]] += sign
        return z


@dataclass(frozen=True)
class Span:
    """A batch of people in the coordinates of the space that their own rows span.

    With fewer rows than features the weights lie in the span of the rows. In an orthonormal basis of it the prior is
    still N(0, I / l2), so the problem shrinks from width to n dimensions without any approximation.

    Args:
        people: (b,).
        rows: (b, n) row numbers, padded with the person's last row.
        own: (b, n) which of them are not padding.
        v: (b, n, r) coordinates of every row, r = min(n, width).
        strength: (b, r) eigenvalues of the rows' Gram matrix, or None where v is in plain coordinates.
    """

    people: np.ndarray
    rows: np.ndarray
    own: np.ndarray
    v: np.ndarray
    strength: np.ndarray | None

    @classmethod
    def of(
        cls, comparisons: Comparisons, table: Table, people: np.ndarray, order: np.ndarray, starts: np.ndarray
    ) -> Span:
        """The rows of `people`, from the order and starts of `Comparisons.by_user`."""
        counts = starts[people + 1] - starts[people]
        position = np.arange(counts.max())
        own = position < counts[:, None]
        rows = order[starts[people][:, None] + np.minimum(position, counts[:, None] - 1)]
        z = np.where(own[:, :, None], table.difference(comparisons.left[rows], comparisons.right[rows]), 0.0)
        if z.shape[1] >= table.width:
            return cls(people, rows, own, z, None)
        strength, vectors = np.linalg.eigh(np.matmul(z, z.transpose(0, 2, 1)))
        strength = np.where(strength > 1e-10 * strength[:, -1:], strength, 0.0)
        return cls(people, rows, own, vectors * np.sqrt(strength)[:, None, :], strength)

    def solve(self, comparisons: Comparisons, offset: np.ndarray, l2: float) -> tuple[np.ndarray, np.ndarray]:
        """Mode (b, r) and covariance (b, r, r) in the coordinates of the span."""
        b, n, r = self.v.shape
        return adapt_users(
            self.v.reshape(b * n, r),
            comparisons.label[self.rows].ravel(),
            (comparisons.weight[self.rows] * self.own).ravel(),
            np.repeat(np.arange(b), n),
            b,
            mean=np.zeros(r),
            precision=l2 * np.eye(r),
            offset=offset[self.rows].ravel(),
        )

    def weights(self, mode: np.ndarray, comparisons: Comparisons, table: Table) -> np.ndarray:
        """(b, width) weights from coordinates (b, r)."""
        if self.strength is None:
            return mode
        inverse = np.divide(1.0, self.strength, out=np.zeros_like(self.strength), where=self.strength > 0)
        share = np.einsum("bnr,br->bn", self.v, mode * inverse)
        z = table.difference(comparisons.left[self.rows], comparisons.right[self.rows])
        return np.einsum("bn,bnw->bw", share, z)


def learn_precision(
    spans: list[Span], comparisons: Comparisons, offset: np.ndarray, l2: float, progress: Progress | None
) -> float:
    """The precision with the highest Laplace evidence over all people, by MacKay's fixed point l2 = Σγ_u / Σ‖w_u‖².

    γ_u = r − l2 tr(H_u⁻¹) counts the directions that person u's rows determine. Laplace's approximation of Bernoulli
    answers errs towards a higher precision, by up to a half where people have few rows.
    """
    for round_ in range(_MAX_ROUNDS):
        determined = length = 0.0
        for span in spans:
            mode, covariance = span.solve(comparisons, offset, l2)
            determined += mode.size - l2 * float(np.einsum("brr->", covariance))
            length += float(np.square(mode).sum())
        previous, l2 = l2, float(np.clip(max(determined, 1e-9) / max(length, 1e-300), *_L2_BOUNDS))
        if progress is not None:
            progress(round_ + 1, _MAX_ROUNDS, "prior precision")
        if abs(np.log(l2 / previous)) < 0.02:
            break
    return l2


def spans_of(comparisons: Comparisons, table: Table) -> list[Span]:
    """Everybody who has rows, in batches of people with similar numbers of them."""
    order, starts = comparisons.by_user()
    return [
        Span.of(comparisons, table, people, order, starts)
        for people in similar_people(comparisons.counts(), table.width, _CELLS)
    ]
