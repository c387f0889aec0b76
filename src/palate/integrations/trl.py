"""Personal rewards for TRL: train a language model that answers each person the way that person likes.

    from trl import GRPOConfig, GRPOTrainer

    reward = reward_function(palate.load_model("model"), user_column="user_id")
    GRPOTrainer("my/LM", reward_funcs=reward, args=GRPOConfig(...), train_dataset=dataset).train()

`dataset` has the columns `prompt` (text or messages) and `user_id`. TRL itself is not imported here: a reward function is
any callable, called with `prompts=`, `completions=` and the data set's columns.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from palate.data.conversations import as_messages, flatten, is_conversation
from palate.errors import InputError
from palate.features.base_reward import score_texts
from palate.models.personal import History, PersonalModel
from palate.models.reward_model import FeatureRewardModel
from palate.types import UserStates

__all__ = ["BestOfN", "RewardFunction", "best_of_n", "reward_function"]

RewardFunction: TypeAlias = Callable[..., list[float]]
"""Called by TRL with `prompts`, `completions` and the columns of the data set; one reward per completion."""


def reward_function(
    model: FeatureRewardModel | PersonalModel,
    *,
    user_column: str = "user_id",
    histories: Mapping[str, History] | None = None,
    unknown: Literal["average", "error"] = "average",
    name: str = "palate_reward",
) -> RewardFunction:
    """A reward function for TRL's `reward_funcs` (GRPO, RLOO, …): the reward of each completion for the row's own person.

    Rewards are logits; only their differences between completions of one prompt mean anything, which is what group-relative
    methods use. A completion without text gets the lowest reward of its prompt. Vectors of completions are not kept on disk.

    Args:
        model: a fitted reward model that knows people, or the model of one person (then no column is needed).
        user_column: the data set's column that names the person of a row.
        histories: what further people chose, by id; they are adapted to here, once.
        unknown: what to do about an id that neither the model nor `histories` knows: take the average person, or refuse it.
        name: how TRL's logs call the reward.

    Raises:
        InputError: the model has no scalar reward, or a base reward that cannot score new texts.
    """
    one = isinstance(model, PersonalModel)
    rewards = copy.copy(model.model if one else model)
    _check(rewards)
    # Completions are sampled and never come again; kept on disk they would only fill it.
    rewards.cache = None
    people = _Person(model.state.batch) if one else _People.of(rewards, user_column, histories or {}, unknown)

    def palate_reward(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        texts = [(_text(prompt), _text(completion)) for prompt, completion in zip(prompts, completions, strict=True)]
        who = people.rows(columns, len(texts))
        found = np.full(len(texts), np.nan)
        said = np.array([bool(reply.strip()) for _, reply in texts])
        index = np.flatnonzero(said)
        for person in np.unique(who[index]):
            own = index[who[index] == person]
            states = people.states.take(np.array([person]))
            found[own] = rewards.reward([texts[i] for i in own], states)[0]
        return _filled(found, [prompt for prompt, _ in texts], who)

    palate_reward.__name__ = name
    return palate_reward


@dataclass(frozen=True)
class BestOfN:
    """The reply that a person likes best.

    Args:
        index: its place among the candidates.
        reply: its text.
        scores: (n,) of all candidates, as `PersonalModel.score` gives them.
    """

    index: int
    reply: str
    scores: np.ndarray


def best_of_n(
    person: PersonalModel, prompt: Any, replies: Sequence[Any], *, base_reward: Sequence[float] | None = None
) -> BestOfN:
    """The best of n candidates for one person; of equals the first.

    Args:
        person: whose taste decides.
        prompt: a text or messages.
        replies: n texts or messages, n ≥ 1.
        base_reward: (n,) scores, where the model was fitted on scores that are no function.

    Raises:
        InputError: no candidate, or none with a text.
    """
    texts = [_text(reply) for reply in replies]
    said = [i for i, text in enumerate(texts) if text.strip()]
    if not said:
        raise InputError(f"{len(texts)} candidates and none with a text; give at least one reply")
    given = None if base_reward is None else [base_reward[i] for i in said]
    scores = np.full(len(texts), -np.inf)
    scores[said] = person.score(_text(prompt), [texts[i] for i in said], base_reward=given)
    best = int(scores.argmax())
    return BestOfN(best, texts[best], scores)


@dataclass(frozen=True)
class _Person:
    """One person, whatever the row says."""

    states: UserStates

    def rows(self, columns: Mapping[str, Any], count: int) -> np.ndarray:
        return np.zeros(count, np.int64)


@dataclass(frozen=True)
class _People:
    """People by id; the last state is that of the average person."""

    states: UserStates
    number: Mapping[str, int]
    column: str
    unknown: str

    @classmethod
    def of(cls, model: FeatureRewardModel, column: str, histories: Mapping[str, History], unknown: str) -> _People:
        known = model.users_ or ()
        parts = [model.method.states_] if known else []
        names = list(known)
        for name, history in histories.items():
            parts.append(model.adapt(history).state.batch)
            names.append(name)
        states = UserStates.concatenate([*parts, model.adapt().state.batch])
        return cls(states, {name: i for i, name in enumerate(names)}, column, unknown)

    def rows(self, columns: Mapping[str, Any], count: int) -> np.ndarray:
        """(count,) number of the person of each row."""
        if self.column not in columns:
            there = ", ".join(sorted(name for name, value in columns.items() if isinstance(value, (list, tuple))))
            raise InputError(
                f"the data has no column {self.column!r} that names the person; it has: {there or 'none'}; pass user_column="
            )
        ids = [str(value) for value in columns[self.column]]
        strangers = [name for name in ids if name not in self.number]
        if strangers and self.unknown == "error":
            raise InputError(
                f"unknown user {strangers[0]!r}; the model knows {len(self.number)}; pass their choices in histories="
            )
        return np.array([self.number.get(name, len(self.number)) for name in ids], np.int64)


def _check(model: Any) -> None:
    if not isinstance(model, FeatureRewardModel) or not model.scalar:
        raise InputError(f"{type(model).__name__} has no reward of a single reply; use a fitted FeatureRewardModel")
    model.adapt()  # refuses a model that is not fitted
    if model.method.has_base_ and score_texts(model.base_reward, []) is None:
        raise InputError(
            "this model stands on scores that were given beside its data, and new texts have none; "
            "fit with base_reward= a classifier or a function"
        )


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if not is_conversation(value):
        raise InputError(f"{value!r} is a {type(value).__name__}; prompts and completions must be texts or messages")
    try:
        return flatten(as_messages(value)) if len(value) else ""
    except ValueError as error:
        raise InputError(f"a prompt or completion {error}") from None


def _filled(rewards: np.ndarray, prompts: Sequence[str], who: np.ndarray) -> list[float]:
    """The rewards, with the lowest one of the same prompt and person where there is none; 0 where all lack one."""
    lowest: dict[tuple[str, int], float] = {}
    for key, reward in zip(zip(prompts, who.tolist(), strict=True), rewards.tolist(), strict=True):
        if not np.isnan(reward):
            lowest[key] = min(reward, lowest.get(key, np.inf))
    keys = zip(prompts, who.tolist(), strict=True)
    return [lowest.get(key, 0.0) if np.isnan(r) else r for key, r in zip(keys, rewards.tolist(), strict=True)]
