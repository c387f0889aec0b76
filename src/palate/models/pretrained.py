"""`pretrained`: the reward model that is already there, as it is.

    logit = base_scale · (base_left − base_right)

Nothing is learned but the scale, one non-negative number that turns its scores into logits; the order of any two items
is the reward model's own. The scores are `Items.base_reward`: of a classifier, of columns, of any function, or the
log-likelihood of a language model (`palate.features.LikelihoodScores`).

Source: the "pre-trained RM" of Dong et al. 2025, § 4.4.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy.special import expit

from palate.models.base import Method, Traits
from palate.progress import Progress
from palate.types import Comparisons, Items, UserStates

__all__ = ["Pretrained"]

_DISAGREEING = 1e-3
"""Logits per root mean square margin for scores that these people contradict: their order stays, their confidence not."""


class Pretrained(Method):
    """A reward model's scores, the same for everybody.

    When not to use it: as anything but a bar. Whatever people's choices say beyond these scores is not heard; `pooled`
    on top of the same base reward hears it.
    """

    name: ClassVar[str] = "pretrained"
    traits: ClassVar[Traits] = Traits(adapts=False, needs=frozenset({"base_reward"}))

    def _fit(self, comparisons: Comparisons, offset: np.ndarray, rng: np.random.Generator, progress: Progress) -> None:
        if self.base_scale_ == 0.0:
            base = comparisons.items.base_reward
            margin = base[comparisons.left] - base[comparisons.right]
            spread = float(np.sqrt(np.average(margin**2, weights=comparisons.weight)))
            self.base_scale_ = _DISAGREEING / spread if spread else 0.0
        self.prior_ = self._states(1)
        self.states_ = self._states(comparisons.n_users)

    def _adapt(self, comparisons: Comparisons, offset: np.ndarray) -> UserStates:
        return self.prior_.repeat(comparisons.n_users)

    def _prefer(
        self, left: Items, right: Items, states: UserStates, user_index: np.ndarray, offset: np.ndarray
    ) -> np.ndarray:
        return expit(offset)

    def _reward(self, items: Items, states: UserStates) -> np.ndarray:
        return np.zeros((len(states), len(items)))
