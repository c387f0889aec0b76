"""The last steps of `hierarchical` for a population: f as strangers meet it, and tastes as wide as people are.

Both mend what EM over the training people comes to say, from the same people's answers and their exact or Laplace evidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.optimize import brentq, minimize_scalar

from palate.models.likelihood import adapt_users, fit_weights
from palate.models.shared import SharedReward, fit_shared
from palate.models.tastes import Tastes, design_weights
from palate.types import Comparisons

__all__ = ["broaden", "center_on_strangers"]

_STRANGERS_SHARE = 0.25
"""How far f of known items moves towards what is best for strangers; see `center_on_strangers`."""


def center_on_strangers(
    tastes: Tastes, comparisons: Comparisons, offset: np.ndarray, start: SharedReward | None = None
) -> tuple[Tastes, SharedReward]:
    """The same axes, with f learned anew from how people choose before anything is known of them.

    Before the first answer the chance of a choice is E σ(o + f(left) − f(right) + λ·v) ≈ σ(κ (o + f(left) −
    f(right))), with the fixed logit o, κ = (1 + π|v|²/8)^−½ and v = c(left) − c(right) (MacKay 1992). Given κ this is
    a shared reward, whose weights and item effects `fit_shared` finds with their exact evidence, as `pooled` does;
    first along the axes of taste, since what people differ about is mostly what they care about on the whole, and
    hundreds of features can then be shrunk harder.
    The factorised posterior of the EM credits an item's own effect with what its text explains as well, which would
    leave texts that nobody has judged without a reward: β is therefore taken from here. For known items f moves a
    quarter of the way: all the way serves strangers as well as `pooled` does but costs people with answers accuracy,
    none costs strangers log-loss.

    Args:
        tastes: with people N(0, I) in it.
        comparisons: training rows.
        offset: (m,) fixed logits.
        start: the shared reward of an earlier call on the same rows, which saves rounds.

    Returns:
        The tastes, and the shared reward along the axes.
    """
    items, left, right = comparisons.items, comparisons.left, comparisons.right
    basis = tastes.basis(items)
    scale = 1.0 / np.sqrt(1.0 + np.pi / 8.0 * np.square(basis[left] - basis[right]).sum(1))
    told = tastes.rotated(items) @ tastes.content
    along = told[left] - told[right]
    mean = fit_weights(scale[:, None] * along, comparisons.label, comparisons.weight, scale * offset, l2=1.0)
    shared = fit_shared(comparisons, scale * (offset + along @ mean), scale=scale, start=start)
    # The columns of the rotation are orthogonal in standardised features.
    standard = tastes.rotation * shared.scale[:, None]
    beta = shared.beta @ standard / np.square(standard).sum(0) + tastes.content @ mean
    known, place = tastes.known(items)
    seen = np.flatnonzero(known)
    level = shared.reward(items)[seen] + told[seen] @ mean
    level = (1 - _STRANGERS_SHARE) * tastes.offset(items)[seen] + _STRANGERS_SHARE * level
    effects = np.array(tastes.effects)
    effects[place[seen]] = level - tastes.rotated(items)[seen] @ beta
    return replace(tastes, beta=beta, effects=effects), shared


_ELSEWHERE, _PRICE = 0.3, 0.02
"""Variance of tastes that the axes do not hold, over the variance of those they do: at most, and what it may cost of the evidence,
in nats per answer; see `broaden`."""

_DIRECTIONS, _WITNESSES, _WIDEST = 32, 500, 1.5


def broaden(tastes: Tastes, comparisons: Comparisons, offset: np.ndarray, correlation: float) -> Tastes:
    """People differ by more, and in more ways, than EM over the training people has come to say; as many axes as before.

    Two corrections of the covariance that tastes cause between items. Its scale τ² is where the Laplace evidence of the
    training people's answers is largest: EM moves by what it already believes and stops below it. And part of the variance
    is put evenly on the leading directions of content, because the axes were drawn towards the people who happened to be
    there, and somebody new may care about anything (shrinkage of a covariance matrix towards a multiple of the identity:
    Ledoit and Wolf 2004; probabilistic principal components: Tipping and Bishop 1999). In sample the axes explain everything,
    so that evidence always prefers them alone: by a hundredth of a nat an answer where people differ in many ways, by ten times as
    much where all differ in one. Hence as large a part as costs little. How much, and how far τ may go, was chosen on
    simulated people and on validation people.
    Before, f is learned anew for strangers (`center_on_strangers`); after, what it says of known items is, once more. Where no
    taste was found, nothing is broadened.

    Args:
        tastes: with people N(0, I) in it.
        comparisons: training rows.
        offset: (m,) fixed logits.
        correlation: ρ of `design_weights`.

    Returns:
        The space, of the same rank, its axes by strength.
    """
    tastes, shared = center_on_strangers(tastes, comparisons, offset)
    rank = tastes.content.shape[1]
    strength = _strength(tastes, comparisons)
    if strength < 1e-3:
        return tastes
    witnesses = _Witnesses.of(tastes, comparisons, offset, correlation)
    scale = _widest(witnesses)
    rotated = tastes.rotated(comparisons.items)
    count = min(_DIRECTIONS, rotated.shape[1])
    gap = (rotated[comparisons.left] - rotated[comparisons.right])[:, :count]
    length = math.sqrt(np.square(gap).sum(1).mean()) if count else 0.0
    even = strength / length if length > 0 else 0.0
    even *= math.sqrt(_evenest(witnesses, scale, even * gap[witnesses.rows]))
    wide = replace(
        tastes,
        content=scale * np.concatenate([tastes.content, even * np.eye(rotated.shape[1], count)], 1),
        loadings=scale * np.concatenate([tastes.loadings, np.zeros((len(tastes.loadings), count))], 1),
    )
    basis = wide.basis(comparisons.items)
    gap = basis[comparisons.left] - basis[comparisons.right]
    _, vectors = np.linalg.eigh(gap.T @ gap)
    axes = vectors[:, ::-1][:, :rank]
    wide = replace(wide, content=wide.content @ axes, loadings=wide.loadings @ axes)
    return _known_again(wide, comparisons, offset, shared)


def _known_again(wide: Tastes, comparisons: Comparisons, offset: np.ndarray, shared: SharedReward) -> Tastes:
    """Known items centred on strangers once more: with more taste, the chance of their choices is nearer one half."""
    known, place = wide.known(comparisons.items)
    seen = np.flatnonzero(known)
    if not len(seen):
        return wide
    level = center_on_strangers(wide, comparisons, offset, shared)[0].offset(comparisons.items)[seen]
    effects = np.array(wide.effects)
    effects[place[seen]] = level - wide.rotated(comparisons.items)[seen] @ wide.beta
    return replace(wide, effects=effects)


def _strength(tastes: Tastes, comparisons: Comparisons) -> float:
    """Root mean square of what taste adds to the logit of a training row."""
    basis = tastes.basis(comparisons.items)
    return math.sqrt(np.square(basis[comparisons.left] - basis[comparisons.right]).sum(1).mean())


@dataclass(frozen=True)
class _Witnesses:
    """Some hundred training people and their answers.

    Args:
        rows: (m,) numbers of the answers.
        answers: the same, people numbered from 0.
        worth: (m,) their weights.
        base: (m,) logits of a stranger.
        gap: (m, r) what a row shows of tastes.
    """

    rows: np.ndarray
    answers: Comparisons
    worth: np.ndarray
    base: np.ndarray
    gap: np.ndarray

    @classmethod
    def of(cls, tastes: Tastes, comparisons: Comparisons, offset: np.ndarray, correlation: float) -> Self:
        """Evenly among those who answered."""
        asked = np.unique(comparisons.user)
        chosen = asked[np.linspace(0, len(asked) - 1, min(len(asked), _WITNESSES)).astype(np.int64)]
        rows = np.flatnonzero(np.isin(comparisons.user, chosen))
        some = comparisons.take(rows).for_users(chosen)
        basis, shared = tastes.basis(some.items), tastes.offset(some.items)
        gap, base = basis[some.left] - basis[some.right], offset[rows] + shared[some.left] - shared[some.right]
        return cls(rows, some, design_weights(some, correlation), base, gap)

    def evidence(self, gap: np.ndarray) -> float:
        """Laplace log-evidence per answer if rows show (m, s) of tastes N(0, I)."""
        some, rank = self.answers, gap.shape[1]
        mode, covariance = adapt_users(
            gap, some.label, self.worth, some.user, some.n_users, mean=np.zeros(rank), precision=np.eye(rank), offset=self.base,
            tolerance=1e-3,
        )  # fmt: skip
        eta = self.base + np.einsum("ms,ms->m", gap, mode[some.user])
        told = self.worth @ (some.label * eta - np.logaddexp(0.0, eta))
        spread = 0.5 * np.linalg.slogdet(covariance)[1].sum() - 0.5 * np.square(mode).sum()
        return float((told + spread) / self.worth.sum())


def _widest(witnesses: _Witnesses) -> float:
    """τ from 1 to 1.5 at which the evidence is largest."""
    found = minimize_scalar(
        lambda log_scale: -witnesses.evidence(math.exp(log_scale) * witnesses.gap),
        bounds=(0.0, math.log(_WIDEST)),
        method="bounded",
        options={"xatol": 0.03},
    )
    return math.exp(found.x)


def _evenest(witnesses: _Witnesses, scale: float, even: np.ndarray) -> float:
    """The largest share, up to `_ELSEWHERE`, that costs at most `_PRICE` of the evidence.

    Args:
        witnesses: whose answers.
        scale: τ.
        even: (m, s) what the rows show of even tastes with as much variance as those on the axes have.
    """
    least = witnesses.evidence(scale * witnesses.gap) - _PRICE

    def spare(root: float) -> float:
        return witnesses.evidence(scale * np.concatenate([witnesses.gap, root * even], 1)) - least

    most = math.sqrt(_ELSEWHERE)
    if spare(most) >= 0.0:
        return _ELSEWHERE
    return brentq(spare, 0.0, most, xtol=0.02) ** 2
