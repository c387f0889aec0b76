"""Read a learned reward space: what people's tastes differ in, where people lie, and what suits one of them.

The short way is `palate.interpret`; the page of it is `palate.report.write_atlas`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from palate.backends.base import ChatBackend
from palate.errors import InputError
from palate.evaluate.interpret_axes import TasteAxes, taste_axes
from palate.evaluate.interpret_chat import name_by_chat
from palate.evaluate.interpret_names import AxisName, name_by_statistics, statistics_of, typical_words
from palate.evaluate.interpret_people import Agreement, Groups, agreement_with_others, groups_of
from palate.evaluate.interpret_pool import pool_texts
from palate.evaluate.interpret_sparse import SparseFeature, learn_sparse, sparse_features
from palate.models.personal import PersonalModel
from palate.models.reward_model import FeatureRewardModel
from palate.progress import Progress, silent
from palate.types import Items, UserState, UserStates

__all__ = ["Axis", "Interpretation", "PersonCard", "Quote", "Sparse", "interpret"]

MOST_PEOPLE = 5000
"""Rewards of at most so many people are compared; axes are of all."""

MOST_REWARDS = 50_000_000
"""People times replies: with a larger pool fewer people are compared, so that their rewards fit into 400 MB."""

_CERTAINTY = 1.6448536269514722  # a normal deviate: 90 % lie within


@dataclass(frozen=True)
class Quote:
    """A reply and its number: a coordinate, or what a person adds to its reward."""

    prompt: str
    reply: str
    value: float


@dataclass(frozen=True)
class Axis:
    """One axis of taste.

    Args:
        name: what its ends are called, and how well that fits.
        share: of the variance that tastes cause over the pool.
        words: typical words of the high and of the low end.
        high, low: the replies that gain most, and lose most, with people at the high end; one per prompt.
    """

    name: AxisName
    share: float
    words: tuple[tuple[str, ...], tuple[str, ...]]
    high: tuple[Quote, ...]
    low: tuple[Quote, ...]


@dataclass(frozen=True)
class PersonCard:
    """One person on the axes.

    Args:
        title: who it is; without an id unless the id was asked for.
        place: (k,) coordinates, in standard deviations of people.
        low, high: (k,) ends of the 90 % credible intervals.
        suits, suits_not: replies whose reward this person raises, or lowers, most against the average person.
        agreement: share of the pool's pairs on which the person sides with most others, or None.
        group: number of the group from 1, or None.
    """

    title: str
    place: np.ndarray
    low: np.ndarray
    high: np.ndarray
    suits: tuple[Quote, ...]
    suits_not: tuple[Quote, ...]
    agreement: float | None = None
    group: int | None = None


@dataclass(frozen=True)
class Sparse:
    """The sparse-feature view: features of differences between replies, learned without choices, and their bearing.

    Args:
        features: most weighty first.
        explained: share of the differences' variance that four features a pair keep, on prompts held out.
        quotes: replies at the two ends of each feature.
    """

    features: tuple[SparseFeature, ...]
    explained: float
    quotes: tuple[tuple[tuple[Quote, ...], tuple[Quote, ...]], ...]


@dataclass(frozen=True)
class Interpretation:
    """What a reward space holds, in words and numbers.

    Args:
        axes: strongest first.
        space: the numbers behind them.
        rank: of the model.
        method, pool: names.
        n_prompts, n_replies: of the pool that were used.
        n_people: training people of the model; 0 where it was saved without them.
        people: rows of the training people that `agreement` and `groups` are about.
        agreement: with most others.
        groups: of like taste, or why none are claimed.
        card: one person, or None where the model has no people and none was given.
        sparse: the sparse-feature view, or None.
        notes: what a reader should know.
    """

    axes: tuple[Axis, ...]
    space: TasteAxes
    rank: int
    method: str
    pool: str
    n_prompts: int
    n_replies: int
    n_people: int
    people: np.ndarray
    agreement: Agreement
    groups: Groups
    card: PersonCard | None
    sparse: Sparse | None
    notes: tuple[str, ...]

    def __str__(self) -> str:
        from palate.evaluate.interpret_text import describe

        return describe(self)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values for JSON; of single people only the card."""
        from palate.evaluate.interpret_text import plain

        return plain(self)


def interpret(
    model: FeatureRewardModel,
    pool: Any = None,
    *,
    axes: int | None = None,
    user: str | None = None,
    person: PersonalModel | None = None,
    chat: ChatBackend | None = None,
    sparse: bool = False,
    shown: int = 2,
    base_reward: Sequence[float] | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Interpretation:
    """Read the reward space of a fitted model over a pool of replies.

    Args:
        model: fitted with a method that has a basis (`hierarchical`, `factor`).
        pool: see `palate.evaluate.interpret_pool.pool_texts`; the shipped replies by default.
        axes: how many; by default as many as the spectrum suggests.
        user: the training person whose card is wanted; by default the one with the most pronounced taste, unnamed.
        person: or anybody the model was adapted to.
        chat: a chat model that names the axes, e.g. `palate.backends.openai.ChatClient`; it is sent replies of the pool.
        sparse: also learn sparse features of differences and their bearing on rewards.
        shown: replies at each end.
        base_reward: scores of the pool's replies, where the model stands on a base reward that cannot score texts.
        seed: of draws and of k-means.
        progress: called now and then.

    Raises:
        InputError: a method without a basis, a pool without two replies to one prompt, replies that all look the same to
            the model, or an unknown user.
        NotFittedError: the model is not fitted.
    """
    if user is not None and person is not None:
        raise InputError("user= and person= both given; say whose card in one way")
    states = model.method.states_
    someone = model.person(user) if user is not None else person
    if someone is not None:
        someone.state.batch.require(states.method, states.fingerprint)
    name, texts = pool_texts(pool)
    items = model.items(texts, base_reward=base_reward, progress=progress)
    items, texts, notes = _with_rivals(items, texts)
    space = taste_axes(model.method, items, states, axes=axes)
    space, names, more = _named(space, [reply for _, reply in texts], items.prompt, chat, progress)
    people = _sample(len(states), seed, len(items))
    if len(people) < len(states):
        notes.append(f"{len(people):,} of the {len(states):,} people were drawn for agreement and groups.")
    if len(states) == 0:
        notes.append("The model was saved without its people: axes are scaled by its prior, and no people are shown.")
    reward = model.method.reward(items, states.take(people))
    agreement = agreement_with_others(reward, items.prompt, seed=seed)
    groups = groups_of(space.people[people], seed=seed)
    title = user or ("The person given" if someone is not None else "The person with the most pronounced taste")
    if someone is None and len(people):
        someone = model.with_state(states[int(people[np.argmax(np.square(space.people[people]).sum(1))])])
    card = None
    if someone is not None:
        card = _card(someone.state, title, space, texts, items.prompt, shown)
        card = _among(card, _row_of(someone.state, states.take(people)), agreement, groups)
    return Interpretation(
        axes=tuple(_axis(space, names, k, texts, items.prompt, shown) for k in range(len(names))),
        space=space,
        rank=len(space.spectrum),
        method=model.method.name,
        pool=name,
        n_prompts=len(np.unique(items.prompt)),
        n_replies=len(items),
        n_people=len(states),
        people=people,
        agreement=agreement,
        groups=groups,
        card=card,
        sparse=_sparse(items, texts, reward, shown, seed, progress) if sparse else None,
        notes=(*notes, *more),
    )


def _with_rivals(items: Items, texts: list[tuple[str, str]]) -> tuple[Items, list[tuple[str, str]], list[str]]:
    """The replies whose prompt has another one; the rest has nothing to differ from."""
    counts = np.bincount(items.prompt)[items.prompt]
    kept = np.flatnonzero(counts > 1)
    if len(kept) == 0 or len(kept) == len(items):
        return items, texts, []
    note = f"{len(items) - len(kept):,} replies are the only one to their prompt and were left out."
    return items.take(kept), [texts[row] for row in kept], [note]


def _named(
    space: TasteAxes, replies: list[str], prompt: np.ndarray, chat: ChatBackend | None, progress: Progress
) -> tuple[TasteAxes, list[AxisName], list[str]]:
    """Axes turned so that each goes with its statistic, their names, and notes."""
    statistics = statistics_of(replies)
    names = [name_by_statistics(values, statistics, prompt) for values in space.replies.T]
    space = space.flipped(np.array([name.sign for name in names], float))
    names = [name.turned() if name.sign < 0 else name for name in names]
    if chat is None:
        return space, names, []
    return space, *name_by_chat(chat, names, space.replies, replies, prompt, progress=progress)


def _axis(
    space: TasteAxes, names: Sequence[AxisName], k: int, texts: list[tuple[str, str]], prompt: np.ndarray, shown: int
) -> Axis:
    values = space.replies[:, k]
    return Axis(
        name=names[k],
        share=float(space.share[k]),
        words=typical_words(values, [reply for _, reply in texts]),
        high=_quotes(values, texts, prompt, shown),
        low=_quotes(-values, texts, prompt, shown, sign=-1.0),
    )


def _quotes(
    values: np.ndarray, texts: list[tuple[str, str]], prompt: np.ndarray, shown: int, sign: float = 1.0
) -> tuple[Quote, ...]:
    """The replies with the largest values, at most one per prompt."""
    order = np.argsort(-values, kind="stable")
    _, first = np.unique(prompt[order], return_index=True)
    return tuple(Quote(*texts[row], float(sign * values[row])) for row in order[np.sort(first)][:shown])


def _sample(count: int, seed: int, replies: int) -> np.ndarray:
    most = min(MOST_PEOPLE, max(200, MOST_REWARDS // max(1, replies)))
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def _card(
    state: UserState, title: str, space: TasteAxes, texts: list[tuple[str, str]], prompt: np.ndarray, shown: int
) -> PersonCard:
    """Somebody's card, as far as the axes tell."""
    place, covariance = space.place(state.batch)
    half = _CERTAINTY * np.sqrt(np.diagonal(covariance[0]))
    own = space.replies @ place[0]
    return PersonCard(
        title=title,
        place=place[0],
        low=place[0] - half,
        high=place[0] + half,
        suits=_quotes(own, texts, prompt, shown),
        suits_not=_quotes(-own, texts, prompt, shown, sign=-1.0),
    )


def _row_of(state: UserState, states: UserStates) -> int | None:
    """Which of these people this is, if any."""
    same = np.flatnonzero((states.arrays["mean"] == state["mean"]).all(1)) if len(states) else np.zeros(0, int)
    return int(same[0]) if len(same) else None


def _among(card: PersonCard, row: int | None, agreement: Agreement, groups: Groups) -> PersonCard:
    """The card with what is known of a training person beside the others."""
    if row is None:
        return card
    share = float(agreement.share[row])
    return replace(
        card,
        agreement=share if np.isfinite(share) else None,
        group=int(groups.label[row]) + 1 if len(groups) else None,
    )


def _sparse(
    items: Items, texts: list[tuple[str, str]], reward: np.ndarray, shown: int, seed: int, progress: Progress
) -> Sparse:
    if len(reward) == 0:
        raise InputError("sparse=True needs the model's people, whose rewards are explained; save it with people=True")
    space = learn_sparse(items.features, items.prompt, seed=seed, progress=progress)
    replies = [reply for _, reply in texts]
    features = sparse_features(space, items.features, reward, replies, items.prompt, shown=shown)
    quotes = tuple((_cited(feature.high, texts), _cited(feature.low, texts)) for feature in features)
    return Sparse(tuple(features), space.explained, quotes)


def _cited(rows: Sequence[tuple[int, float]], texts: list[tuple[str, str]]) -> tuple[Quote, ...]:
    return tuple(Quote(*texts[row], value) for row, value in rows)
