"""`hierarchical`: Palate's own method. A shared reward, a few learned axes of taste, and people as latent variables.

    logit = r_u(left) − r_u(right),   r_u(i) = f(i) + λ_u·c(i),   λ_u ~ N(0, I) before the first answer

f is what an average person thinks and c how an item loads on the axes; both come from content and, for items that
several people have judged, from the item itself. Before the first answer a person is the population, so the method
starts where `pooled` stands and every answer moves it; all scales are learned.

Sources: the factor form is PReF (Shenfeld et al. 2025, eq. 3) and RFM; people as latent variables while training follow
Bishop 1999 and the probit factor models of item response theory (Bock and Aitkin 1981).
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from palate.config import Config
from palate.models.base import Traits
from palate.models.hierarchical_fit import learn_tastes
from palate.models.likelihood import predictive
from palate.models.linear import LinearMethod, logit_variance
from palate.models.tastes import Tastes, design_weights, people, settle
from palate.progress import Progress, silent
from palate.types import Comparisons, Items

__all__ = ["Hierarchical", "HierarchicalConfig"]

_CORRELATIONS = (0.0, 0.25, 0.5, 1.0)
_TEMPERS = (0.7, 0.8, 0.9, 1.0, 1.1)
_SETTLING = 4


class HierarchicalConfig(Config):
    """Settings of `hierarchical`."""

    rank: int = Field(
        10, ge=1, le=64, description="Number of axes of taste, r; more than needed costs time, not accuracy."
    )
    epochs: int = Field(20, ge=2, description="Rounds of EM: one pass over the people, then `steps` gradient steps.")
    steps: int = Field(6, ge=1, description="Gradient steps on the items' posterior per round.")
    learning_rate: float = Field(0.05, gt=0, description="Peak rate of Adam (one-cycle schedule).")
    item_correlation: float | None = Field(
        None,
        ge=0,
        le=1,
        description=(
            "How alike a person's answers about one item are beyond taste: 0 counts every row in full, 1 counts an item once. "
            "None learns it on people held out of a first, shorter fit."
        ),
    )


class Hierarchical(LinearMethod):
    """Shared reward, axes of taste, item effects; a Gaussian posterior per person.

    Penalties: none to choose. Weights, item effects and loadings have Gaussian priors whose four variances are learned
    with them (variational EM); the prior on people is N(0, I) by construction of the axes.

    When not to use it: with a handful of people (fewer than about 20) there is no population to learn from; use
    `individual` with much data per person, `pooled` with little.

    Attributes:
        tastes_: the arrays of `Tastes`.
        item_correlation_: ρ of `design_weights`, learned or given.
    """

    name = "hierarchical"
    traits = Traits(linear=True, posterior=True)
    Config = HierarchicalConfig
    config: HierarchicalConfig

    tastes_: dict[str, np.ndarray]
    item_correlation_: float

    def _fit(self, comparisons: Comparisons, offset: np.ndarray, rng: np.random.Generator, progress: Progress) -> None:
        self.item_correlation_, self.temper_ = self._calibrate(comparisons, offset, rng)
        tastes = self._learn(comparisons, offset, self.item_correlation_, self.config.epochs, rng, progress)
        self.tastes_ = tastes.to_arrays()
        self.prior_mean_ = np.zeros(self.config.rank)
        self.prior_precision_ = np.eye(self.config.rank)
        self._set_states(comparisons, offset)

    def _learn(
        self,
        comparisons: Comparisons,
        offset: np.ndarray,
        correlation: float,
        epochs: int,
        rng: np.random.Generator,
        progress: Progress = silent,
    ) -> Tastes:
        tastes = learn_tastes(
            comparisons,
            offset,
            rank=self.config.rank,
            epochs=epochs,
            steps=self.config.steps,
            learning_rate=self.config.learning_rate,
            correlation=correlation,
            rng=rng,
            progress=progress,
        )
        return settle(tastes, comparisons, offset, design_weights(comparisons, correlation), _SETTLING)

    def _calibrate(self, comparisons: Comparisons, offset: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
        """Item correlation and temper that predict best for people whom a first fit has not seen.

        Each of them is adapted to the rows among one half of the own items and judged on the rows among the other
        half, so that nothing is predicted from an answer about the same item.
        """
        given = self.config.item_correlation
        held, rest = _held_out_people(comparisons, rng)
        if len(held) == 0:
            return (0.5 if given is None else given), 1.0
        in_rest = np.isin(comparisons.user, rest)
        first = self._learn(
            comparisons.for_users(rest),
            offset[in_rest],
            0.5 if given is None else given,
            max(2, self.config.epochs // 2),
            rng,
        )
        own = comparisons.for_users(held)
        own_offset = offset[np.isin(comparisons.user, held)]
        history, test = _halves(own, rng)
        candidates = _CORRELATIONS if given is None else (given,)
        losses = {
            (correlation, temper): loss
            for correlation in candidates
            for temper, loss in _losses(first, own, own_offset, history, test, correlation).items()
        }
        return min(losses, key=losses.__getitem__)

    # -- hooks of LinearMethod ------------------------------------------------------------------------------------

    def _basis(self, items: Items) -> np.ndarray:
        return self._tastes().basis(items)

    def _shared(self, items: Items) -> np.ndarray:
        return self._tastes().offset(items)

    def _noise(self, items: Items) -> np.ndarray:
        return self._tastes().noise(items)

    def _worth(self, comparisons: Comparisons) -> np.ndarray:
        return design_weights(comparisons, self.item_correlation_)

    def _tastes(self) -> Tastes:
        return Tastes.from_arrays(self.tastes_)


_FEWEST_HELD = 20
_MOST_HELD = 400


def _held_out_people(comparisons: Comparisons, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A fifth of the people with at least four rows (20 to 400 of them, else nobody), and the rest."""
    able = np.flatnonzero(comparisons.counts() >= 4)
    count = min(len(able) // 5, _MOST_HELD)
    if count < _FEWEST_HELD:
        return np.zeros(0, np.int64), np.arange(comparisons.n_users)
    held = np.sort(rng.choice(able, count, replace=False))
    return held, np.setdiff1d(np.flatnonzero(comparisons.counts()), held)


def _halves(comparisons: Comparisons, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Row masks of two parts in which no person meets the same item twice; rows that mix them are in neither."""
    person = comparisons.user.astype(np.int64) * len(comparisons.items)
    met, ends = np.unique(np.concatenate([person + comparisons.left, person + comparisons.right]), return_inverse=True)
    part = rng.integers(2, size=len(met))[ends]
    left, right = part[: len(comparisons)], part[len(comparisons) :]
    return (left == 0) & (right == 0), (left == 1) & (right == 1)


def _losses(
    tastes: Tastes,
    comparisons: Comparisons,
    offset: np.ndarray,
    history: np.ndarray,
    test: np.ndarray,
    correlation: float,
) -> dict[float, float]:
    """Mean log-loss (nats) on the test rows after the history rows, for each temper."""
    known, judged = comparisons.take(history), comparisons.take(test)
    mode, covariance = people(tastes, known, offset[history], design_weights(known, correlation))
    items, left, right, user = judged.items, judged.left, judged.right, judged.user
    basis, shared, noise = tastes.basis(items), tastes.offset(items), tastes.noise(items)
    v = basis[left] - basis[right]
    margin = offset[test] + shared[left] - shared[right] + np.einsum("mr,mr->m", v, mode[user])
    variance = logit_variance(v, covariance, user) + noise[left] + noise[right]
    losses = {}
    for temper in _TEMPERS:
        chance = np.clip(predictive(temper * margin, temper**2 * variance), 1e-12, 1 - 1e-12)
        nats = -judged.label * np.log(chance) - (1 - judged.label) * np.log1p(-chance)
        losses[temper] = float(np.average(nats, weights=judged.weight)) if judged.weight.any() else 0.0
    return losses
