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
from palate.models.broaden import broaden
from palate.models.hierarchical_few import FEW_PEOPLE, learn_few
from palate.models.hierarchical_fit import learn_tastes
from palate.models.linear import LinearMethod, logit_variance
from palate.models.tastes import Tastes, design_weights, settle
from palate.progress import Progress
from palate.types import Comparisons, Items

__all__ = ["Hierarchical", "HierarchicalConfig"]

_SETTLING = 4
"""EM rounds on the people alone at the end, so that the population is N(0, I) at the final loadings."""


class HierarchicalConfig(Config):
    """Settings of `hierarchical`."""

    rank: int = Field(
        10, ge=1, le=64, description="Number of axes of taste, r; more than needed costs time, not accuracy."
    )
    epochs: int = Field(20, ge=2, description="Rounds of EM: one pass over the people, then `steps` gradient steps.")
    steps: int = Field(6, ge=1, description="Gradient steps on the items' posterior per round.")
    learning_rate: float = Field(0.05, gt=0, description="Peak rate of Adam (one-cycle schedule).")
    item_correlation: float = Field(
        0.5,
        ge=0,
        le=1,
        description=(
            "How alike a person's answers about one item are beyond taste (Kish's ρ): 0 counts every row in full, 1 counts "
            "an item once however often it is compared. 0.5 costs next to nothing where items do not repeat."
        ),
    )


class Hierarchical(LinearMethod):
    """Shared reward, axes of taste, item effects; a Gaussian posterior per person.

    Penalties: none to choose. Weights, item effects and loadings have Gaussian priors whose four variances are learned
    with them (variational EM); the prior on people is N(0, I) by construction of the axes. With up to 40 people who answered, and
    features that tell replies apart, only `rank` and `item_correlation` are used: the axes are the main ones in which these people differ.

    When not to use it: where nobody differs, `pooled` is the same for less; where everybody has thousands of answers,
    `individual` is. A few people tell little about somebody new: their answers do.

    Attributes:
        tastes_: the arrays of `Tastes`.
    """

    name = "hierarchical"
    traits = Traits(linear=True, posterior=True, population=True)
    Config = HierarchicalConfig
    config: HierarchicalConfig

    tastes_: dict[str, np.ndarray]

    def _fit(self, comparisons: Comparisons, offset: np.ndarray, rng: np.random.Generator, progress: Progress) -> None:
        counted = comparisons.weight > 0
        if not counted.all():
            # A row of weight 0 is none: it makes nobody one of the people, and its items shape no axis.
            comparisons, offset = comparisons.take(counted), offset[counted]
        asked = np.flatnonzero(comparisons.counts())
        if len(asked) <= FEW_PEOPLE and _told_apart(comparisons):
            self._fit_few(comparisons, offset, asked, progress)
        else:
            self._settle_in(self._of_a_population(comparisons, offset, rng, progress), comparisons, offset)

    def _settle_in(self, tastes: Tastes, comparisons: Comparisons, offset: np.ndarray) -> None:
        """Take `tastes` as the space, with people N(0, I) in it."""
        self.tastes_ = tastes.to_arrays()
        rank = tastes.content.shape[1]
        self.prior_mean_ = np.zeros(rank)
        self.prior_precision_ = np.eye(rank)
        self._set_states(comparisons, offset)

    def _fit_few(self, comparisons: Comparisons, offset: np.ndarray, asked: np.ndarray, progress: Progress) -> None:
        """The people `asked` are learned together with the space; whoever else is a stranger."""
        own = comparisons.for_users(asked)
        config = self.config
        few = learn_few(own, offset, rank=config.rank, correlation=config.item_correlation, progress=progress)
        self.temper_ = few.temper
        self._settle_in(few.tastes, comparisons, offset)
        mean, covariance = (np.array(self.states_.arrays[name]) for name in ("mean", "covariance"))
        mean[asked], covariance[asked] = few.mean, few.covariance
        self.states_ = self._states(comparisons.n_users, {"mean": mean, "covariance": covariance})

    def _of_a_population(
        self, comparisons: Comparisons, offset: np.ndarray, rng: np.random.Generator, progress: Progress
    ) -> Tastes:
        config = self.config
        tastes = learn_tastes(
            comparisons,
            offset,
            rank=config.rank,
            epochs=config.epochs,
            steps=config.steps,
            learning_rate=config.learning_rate,
            correlation=config.item_correlation,
            rng=rng,
            progress=progress,
        )
        tastes = settle(tastes, comparisons, offset, self._worth(comparisons), _SETTLING)
        return broaden(tastes, comparisons, offset, config.item_correlation)

    def spread(self, left: Items, right: Items) -> np.ndarray:
        """(m,) standard deviation over the learned population N(0, S) of people's logits of pairs, sqrt(vᵀ S v)."""
        gap = self.basis(left) - self.basis(right)
        nobody = np.zeros(len(gap), np.int64)
        return self.temper_ * np.sqrt(logit_variance(gap, self.prior_.arrays["covariance"], nobody))

    # -- hooks of LinearMethod ------------------------------------------------------------------------------------

    def _basis(self, items: Items) -> np.ndarray:
        return self._tastes().basis(items)

    def _shared(self, items: Items) -> np.ndarray:
        return self._tastes().offset(items)

    def _doubt(self, left: Items, right: Items) -> np.ndarray:
        return self._tastes().doubt_between(left, right)

    def _worth(self, comparisons: Comparisons) -> np.ndarray:
        return design_weights(comparisons, self.config.item_correlation)

    def _tastes(self) -> Tastes:
        return Tastes.from_arrays(self.tastes_)


def _told_apart(comparisons: Comparisons) -> bool:
    """Whether features differ between the two sides of any row."""
    features, chunk = comparisons.items.features, 16_384
    return any(
        bool((features[comparisons.left[start:][:chunk]] != features[comparisons.right[start:][:chunk]]).any())
        for start in range(0, len(comparisons), chunk)
    )
