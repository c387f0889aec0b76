"""`pooled`: one reward for everybody, the reward model without personalization.

    logit = r(left) − r(right),      r(x) = β·x̃ + b_key(x)

Source: the "vanilla RM" of Dong et al. 2025 on frozen features, with a shrunken effect for every known item, so that
a personal method is compared with the best that other people's choices alone can say (see `palate.models.shared`).
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from palate.config import Config
from palate.models.base import Traits
from palate.models.linear import LinearMethod
from palate.models.shared import SharedReward, fit_shared
from palate.progress import Progress
from palate.types import Comparisons, Items, UserStates

__all__ = ["Pooled", "PooledConfig"]


class PooledConfig(Config):
    """Settings of `pooled`."""

    l2: float | None = Field(
        None,
        gt=0,
        description="Prior precision of every feature weight and item effect; None learns one for each of the two kinds.",
    )
    item_effects: bool = Field(True, description="Give each known item its own effect, shrunk towards its features.")


class Pooled(LinearMethod):
    """One shared reward; a person's answers change nothing.

    When not to use it: where the audit finds room for personalization. It is the bar that every other method must
    clear: on known items its item effects hold everything that the majority thinks.

    Attributes:
        shared_: the arrays of a `SharedReward`.
    """

    name = "pooled"
    traits = Traits(linear=True, adapts=False)
    Config = PooledConfig
    config: PooledConfig

    shared_: dict[str, np.ndarray]

    def _fit(self, comparisons: Comparisons, offset: np.ndarray, rng: np.random.Generator, progress: Progress) -> None:
        shared = fit_shared(
            comparisons, offset, l2=self.config.l2, item_effects=self.config.item_effects, progress=progress
        )
        self.shared_ = shared.to_arrays()
        self.prior_ = self._states(1, {"mean": np.zeros((1, 0)), "covariance": np.zeros((1, 0, 0))})
        self.states_ = self.prior_.repeat(comparisons.n_users)

    def _basis(self, items: Items) -> np.ndarray:
        return np.zeros((len(items), 0))

    def _shared(self, items: Items) -> np.ndarray:
        return SharedReward.from_arrays(self.shared_).reward(items)

    def _adapt(self, comparisons: Comparisons, offset: np.ndarray) -> UserStates:
        return self.prior_.repeat(comparisons.n_users)
