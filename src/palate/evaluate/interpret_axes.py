"""Readable axes of a learned reward space over a pool of replies.

    reward_u(i) = average(i) + c(i)·(λ_u − μ),    λ_u ~ (μ, S) over people

c(i) is centred within each prompt, because only differences between replies to one prompt mean anything. With S = LLᵀ
the matrix C L holds what people's tastes add to each reply, one column per unit of spread. Its principal components say
how many axes matter; but where variances are nearly equal they are an arbitrary rotation of each other, so the ones that
matter are turned by varimax: every reply then loads on few axes, which is what makes them readable. The turn keeps the
axes orthogonal and people's coordinates uncorrelated with unit variance.

Sources: components of a factored reward by Shenfeld et al. 2025 (PReF), § 5.5; rotation by Kaiser 1958, "The varimax
criterion for analytic rotation in factor analysis".
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from palate.errors import InputError
from palate.models.linear import LinearMethod
from palate.types import Items, UserStates

__all__ = ["TasteAxes", "center_within", "elbow", "taste_axes", "varimax"]

MOST_AXES = 12
"""More axes than anybody reads."""

_ENOUGH = 0.95
_CLEAR = 0.1
_STARTS = 8


@dataclass(frozen=True)
class TasteAxes:
    """Axes of taste over a pool, strongest first.

    Args:
        replies: (n, k) coordinates a(i) of the pool's replies, in logits per standard deviation of people.
        people: (count, k) coordinates t_u of people's posterior means, in standard deviations of the population.
        covariance: (count, k, k) what is uncertain about them.
        share: (k,) each axis' share of the variance that tastes cause over the pool.
        spectrum: (r,) shares of the principal components, descending; their sum is 1.
        suggested_rank: where the spectrum falls off, or None where it does not.
        directions: (r, k); a(i) = c(i) @ directions.
        mean: (r,) μ, the average person's weights.
        back: (r, k); t_u = (λ_u − μ) @ back.
    """

    replies: np.ndarray
    people: np.ndarray
    covariance: np.ndarray
    share: np.ndarray
    spectrum: np.ndarray
    suggested_rank: int | None
    directions: np.ndarray
    mean: np.ndarray
    back: np.ndarray

    def place(self, states: UserStates) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates (count, k) of other people and their covariances (count, k, k)."""
        mean, covariance = states.arrays["mean"], states.arrays["covariance"]
        return (mean - self.mean) @ self.back, self.back.T @ covariance @ self.back

    def flipped(self, sign: np.ndarray) -> TasteAxes:
        """The same axes with those turned round where `sign` (k,) is -1; an axis has no direction of its own."""
        return replace(
            self,
            replies=self.replies * sign,
            people=self.people * sign,
            covariance=self.covariance * np.outer(sign, sign),
            directions=self.directions * sign,
            back=self.back * sign,
        )


def taste_axes(method: LinearMethod, items: Items, states: UserStates, *, axes: int | None = None) -> TasteAxes:
    """Find the axes of taste of a fitted linear method over a pool.

    Args:
        method: fitted, with a basis.
        items: the pool; replies to one prompt have the same prompt number.
        states: the training people; with fewer than two the prior stands for them.
        axes: how many to turn; by default as many as the spectrum suggests, else enough for 95 % of the variance.

    Raises:
        InputError: no basis, no prompt with two replies, replies that all look the same, or too many axes asked for.
    """
    basis = center_within(_basis(method, items), items.prompt)
    mean, covariance = _population(method, states)
    root, inverse = _roots(covariance)
    spread = basis @ root
    _, values, right = np.linalg.svd(spread, full_matrices=False)
    total = float(np.sum(values**2))
    scale = float(np.abs(basis).max(initial=0.0))
    if not total > 1e-16 * max(1.0, scale) ** 2 * len(basis):
        raise InputError(
            "the model sees no difference between the replies to any prompt of the pool (identical features, or no "
            "taste learned); give a pool of replies that differ"
        )
    spectrum = values**2 / total
    suggested = elbow(spectrum)
    count = _how_many(spectrum, suggested, axes)
    components = right[:count].T
    turn = varimax(spread @ components)
    turned = components @ turn
    replies = spread @ turned
    order = np.argsort(-np.square(replies).sum(0), kind="stable")
    sign = np.where(np.sum(replies**3, axis=0) < 0, -1.0, 1.0)  # the longer tail is the high end
    turned = (turned * sign)[:, order]
    back = inverse.T @ turned
    people = states.arrays["mean"]
    return TasteAxes(
        replies=spread @ turned,
        people=(people - mean) @ back,
        covariance=back.T @ states.arrays["covariance"] @ back,
        share=np.square(replies).sum(0)[order] / total,
        spectrum=spectrum,
        suggested_rank=suggested,
        directions=root @ turned,
        mean=mean,
        back=back,
    )


def varimax(loadings: np.ndarray, *, rounds: int = 500, tolerance: float = 1e-10) -> np.ndarray:
    """The rotation that makes squared loadings as uneven as possible within each column.

    Maximises Σ_k [mean(a_k⁴) − mean(a_k²)²] over orthogonal matrices, by alternating projections from several starts, as
    the criterion has local maxima.

    Args:
        loadings: (n, k).
        rounds: at most so many per start.
        tolerance: relative gain below which a start has arrived.

    Returns:
        (k, k) orthogonal R; the turned loadings are `loadings @ R`.
    """
    size = loadings.shape[1]
    scale = np.sqrt(np.mean(loadings**2)) or 1.0
    loadings = loadings / scale
    rng = np.random.default_rng(0)
    starts = [np.eye(size)] + [np.linalg.qr(rng.standard_normal((size, size)))[0] for _ in range(_STARTS - 1)]
    best, found = -np.inf, np.eye(size)
    for start in starts if size > 1 else []:
        rotation = _climb(loadings, start, rounds, tolerance)
        value = _criterion(loadings @ rotation)
        if value > best * (1 + 1e-9) + 1e-12:
            best, found = value, rotation
    return found


def _climb(loadings: np.ndarray, rotation: np.ndarray, rounds: int, tolerance: float) -> np.ndarray:
    before = 0.0
    for _ in range(rounds):
        turned = loadings @ rotation
        gradient = loadings.T @ (turned**3 - turned * np.mean(turned**2, axis=0))
        left, values, right = np.linalg.svd(gradient)
        rotation = left @ right
        if values.sum() <= before * (1 + tolerance):
            break
        before = values.sum()
    return rotation


def _criterion(turned: np.ndarray) -> float:
    return float(np.sum(np.mean(turned**4, axis=0) - np.mean(turned**2, axis=0) ** 2))


def elbow(spectrum: np.ndarray) -> int | None:
    """How many components come before the spectrum falls off.

    The point where the cumulative share lies farthest above the chord from nothing to everything; None where it is
    nowhere clearly (0.1) above it, so that all components count alike and the rank may be too small to tell.

    Args:
        spectrum: (r,) shares, descending.
    """
    size = len(spectrum)
    above = np.cumsum(spectrum) - np.arange(1, size + 1) / size
    best = int(np.argmax(above))
    return best + 1 if above[best] > _CLEAR else None


def center_within(values: np.ndarray, prompt: np.ndarray) -> np.ndarray:
    """(n, …) values minus their mean over the rows with the same prompt."""
    _, index = np.unique(prompt, return_inverse=True)
    counts = np.bincount(index).astype(float)
    sums = np.zeros((len(counts), *values.shape[1:]))
    np.add.at(sums, index, values)
    return values - (sums / counts.reshape(-1, *[1] * (values.ndim - 1)))[index]


def _basis(method: LinearMethod, items: Items) -> np.ndarray:
    if not method.traits.linear or not method.traits.adapts:
        raise InputError(
            f"{method.name} has no basis of tastes to read; fit a method that has one (hierarchical or factor)"
        )
    if len(items) == 0 or np.bincount(np.unique(items.prompt, return_inverse=True)[1]).max() < 2:
        raise InputError(
            f"pool of {len(items)}: no prompt has two replies, and axes are of differences between replies to one "
            "prompt; give at least two replies to a prompt"
        )
    return method.basis(items)


def _population(method: LinearMethod, states: UserStates) -> tuple[np.ndarray, np.ndarray]:
    """Mean (r,) and covariance (r, r) of people's weights, by the law of total variance; of the prior without people."""
    if len(states) < 2:
        return method.prior_mean_, np.linalg.inv(method.prior_precision_)
    mean, covariance = states.arrays["mean"], states.arrays["covariance"]
    return mean.mean(0), covariance.mean(0) + np.cov(mean.T, bias=True).reshape(mean.shape[1], -1)


def _roots(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The symmetric root of a covariance and its pseudo-inverse."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > 1e-12 * values.max(initial=0.0)
    root = np.sqrt(np.where(kept, values, 0.0))
    inverse = np.divide(1.0, root, out=np.zeros_like(root), where=kept)
    return vectors * root @ vectors.T, vectors * inverse @ vectors.T


def _how_many(spectrum: np.ndarray, suggested: int | None, wanted: int | None) -> int:
    real = int(np.sum(spectrum > 1e-10))
    if wanted is None:
        enough = int(np.searchsorted(np.cumsum(spectrum), _ENOUGH)) + 1
        return max(1, min(suggested or enough, real, MOST_AXES))
    if not 1 <= wanted <= real:
        raise InputError(f"axes={wanted}: the model has {real} over this pool; ask for 1 to {real}")
    return wanted
