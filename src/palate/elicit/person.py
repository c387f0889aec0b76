"""A reward model whose people can be asked: `me.ask(pool)`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from palate.elicit.acquisition import Strategy, best_question
from palate.elicit.pool import Pool
from palate.elicit.questions import check_question
from palate.models.personal import History, PersonalModel, Question
from palate.models.reward_model import FeatureRewardModel
from palate.progress import Progress, silent
from palate.rng import RNGLike
from palate.types import UserState

__all__ = ["AskablePerson", "AskingRewardModel"]


@dataclass(frozen=True)
class AskablePerson(PersonalModel):
    """What one person prefers, and what to ask next."""

    model: AskingRewardModel

    def ask(
        self,
        pool: Sequence[Question],
        *,
        strategy: str | Strategy = "v_optimal",
        rng: RNGLike = None,
        progress: Progress = silent,
    ) -> Question:
        """The question whose answer would tell most about this person.

        Args:
            pool: (prompt, left, right) triples that may be asked; leave out what was asked already.
            strategy: a name of `palate.elicit.STRATEGIES`, or a `Strategy`.
            rng: draws between questions of equal worth, and for "random".
            progress: called while texts are embedded.

        Returns:
            One of the pool's triples.

        Raises:
            InputError: the pool is empty, or the method lacks the posterior that the strategy needs.
        """
        questions = [check_question(entry) for entry in pool]
        texts = [(prompt, reply) for prompt, *sides in questions for reply in sides]
        items = self.model.items(texts, progress=progress)
        left = np.arange(0, len(texts), 2)
        offered = Pool(items.take(left), items.take(left + 1))
        return questions[best_question(self.state, offered, self.model.method, by=strategy, rng=rng)]


class AskingRewardModel(FeatureRewardModel):
    """A `FeatureRewardModel` whose people can be asked; what `palate.fit` returns."""

    def adapt(
        self,
        history: History = None,
        *,
        user_text: str = "",
        half_life: float | None = None,
        progress: Progress = silent,
    ) -> AskablePerson:
        """The model of one person, who may be new; see `FeatureRewardModel.adapt`."""
        personal = super().adapt(history, user_text=user_text, half_life=half_life, progress=progress)
        return AskablePerson(self, personal.state)

    def person(self, user: str) -> AskablePerson:
        """The model of a training person; see `FeatureRewardModel.person`."""
        return AskablePerson(self, super().person(user).state)

    def load_person(self, path: str | os.PathLike[str]) -> AskablePerson:
        """The model of the person whose state was saved; see `FeatureRewardModel.load_person`."""
        return AskablePerson(self, super().load_person(path).state)

    def with_state(self, state: UserState) -> AskablePerson:
        """The model of the person with this state; see `FeatureRewardModel.with_state`."""
        return AskablePerson(self, super().with_state(state).state)
