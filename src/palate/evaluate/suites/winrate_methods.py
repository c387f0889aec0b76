"""What the suite `winrate` computes: what each model would choose for each new person, what was there, and how good it truly is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb
from typing import Any

import numpy as np
from scipy.special import log_expit, softmax

from palate.errors import ConfigError
from palate.evaluate.judging import judge_contender
from palate.evaluate.suites.pref_world import PrefWorld, Size, asked_states, build_world
from palate.evaluate.suites.winrate_world import build_text_world, in_words, text_rewards
from palate.features import embed_items, make
from palate.features.base_reward import LikelihoodScores
from palate.generate import Prompted, make_sampler
from palate.generate.samplers import endpoint
from palate.models.base import Method
from palate.models.judge import JudgeRewardModel
from palate.models.registry import make as make_method
from palate.policies.generation import Sampling
from palate.rng import derive
from palate.simulate import corpus_people
from palate.simulate.tastes import ATTRIBUTES, TRAIT_PAIRS
from palate.types import Items, UserState, UserStates

__all__ = [
    "Draws",
    "Place",
    "best_of",
    "candidates",
    "check_judge",
    "chosen_by",
    "drawn",
    "ideal_picks",
    "judged",
    "learned",
    "numbers",
    "profile_picks",
    "stated",
    "truth",
    "truth_of_drawn",
]

_LIKED = "Write in this style: {traits}.\n\n"


@dataclass(frozen=True)
class Place:
    """Where something is measured.

    Args:
        size, features, seed: as in `build_world`.
        known: how many of the prompts that training people answered about are chosen for, beside all new ones.
    """

    size: Size
    features: str
    seed: int
    known: int = 16

    def world(self) -> PrefWorld:
        """Readers of the shipped replies."""
        return build_world(self.size, self.features, self.seed)

    def text_world(self) -> PrefWorld:
        """People whose taste can be counted in any text."""
        return build_text_world(self.size, self.features, self.seed)


@dataclass(frozen=True)
class Draws:
    """Replies that a language model writes.

    Args:
        sampler: as `palate.generate.make_sampler` takes it.
        n: replies to each prompt.
        max_tokens: of a reply.
        penalty: of repeated tokens.
    """

    sampler: str
    n: int
    max_tokens: int
    penalty: float = 1.1

    def sampling(self) -> Sampling:
        """At temperature 1."""
        return Sampling(max_tokens=self.max_tokens, temperature=1.0, repetition_penalty=self.penalty)


def candidates(world: PrefWorld, place: Place) -> dict[str, np.ndarray]:
    """(prompts, replies) items to choose from: of the new prompts, and of some known ones."""
    new = np.unique(world.items.prompt[world.test.left])
    groups = {"new": new, "known": np.sort(world.order[: place.known])}
    # The items of a row answer one prompt; a prompt has the same number in every world.
    return {
        name: np.stack([np.flatnonzero(world.items.prompt == prompt) for prompt in prompts])
        for name, prompts in groups.items()
    }


def truth(place: Place) -> dict[str, Any]:
    """True rewards of all candidates, their words, a reply drawn for each sample (the plain model) and the one of two that the
    person chose."""
    world, found = place.world(), {}
    texts = shipped_texts()
    rewards = world.truth.reward(world.new)
    for name, items in candidates(world, place).items():
        rng = derive(place.seed, "winrate opponents", name)
        own = rewards[:, items]
        people, prompts, width = own.shape
        first = rng.integers(width, size=(people, prompts))
        second = (first + rng.integers(1, width, size=(people, prompts))) % width
        gap = np.take_along_axis(own, first[..., None], 2) - np.take_along_axis(own, second[..., None], 2)
        prefers = rng.random((people, prompts)) < 1.0 / (1.0 + np.exp(-gap[..., 0]))
        found[name] = {
            "prompt": world.items.prompt[items[:, 0]].tolist(),
            "reward": own.round(3).tolist(),
            "words": [[len(texts[item][1].split()) for item in row] for row in items],
            "plain": _digits(rng.integers(width, size=(people, prompts))),
            "chosen": _digits(np.where(prefers, first, second)),
        }
    return found | {"people": [" and ".join(own) for own in _traits(world)]}


def chosen_by(place: Place, name: str, ks: Sequence[int], by: str = "random") -> dict[str, Any]:
    """What a method would choose for each new person after these numbers of answers, and its over-optimisation curve.

    Args:
        place: where.
        name: of the method.
        ks: numbers of answers.
        by: "random" questions, or a strategy of `palate.elicit`.
    """
    world = place.world()
    method = _fitted(place, name)
    true = world.truth.reward(world.new)
    found = {}
    for k, states in _known_after(world, method, ks, by, place.seed).items():
        rewards = method.reward(world.items, states)
        found[str(k)] = {
            name: _digits(rewards[:, items].argmax(axis=2)) for name, items in candidates(world, place).items()
        }
        items = candidates(world, place)["new"]
        found[str(k)]["curve"] = best_of(rewards[:, items], true[:, items])
        found[str(k)]["undecided"] = int((np.ptp(rewards[:, items], axis=2) == 0.0).sum())
    return {"ks": found}


def ideal_picks(place: Place, ks: Sequence[int]) -> dict[str, Any]:
    """What somebody would choose who knows every label, the 84 kinds of people and how they err: the posterior mean reward.

    P(kind | answers) ∝ Π σ(± difference of the kind's rewards), all kinds alike before.
    """
    world = place.world()
    kinds = np.array([[sum(_pole(trait, name) for trait in pair) for name in ATTRIBUTES] for pair in TRAIT_PAIRS])
    rewards = world.truth.shared + kinds @ world.truth.loadings.T
    true, items, found = world.truth.reward(world.new), candidates(world, place), {}
    for k in ks:
        left, right, label = (own[:, :k] for own in (world.history.left, world.history.right, world.history.label))
        sides = np.where(label > 0.5, 1.0, -1.0)
        likelihood = log_expit(sides * (rewards[:, left] - rewards[:, right])).sum(axis=2).T
        expected = softmax(likelihood, axis=1) @ rewards
        found[str(k)] = {name: _digits(expected[:, own].argmax(axis=2)) for name, own in items.items()}
        found[str(k)] |= {"curve": best_of(expected[:, items["new"]], true[:, items["new"]]), "undecided": 0}
    return {"ks": found}


def _pole(trait: str, attribute: str) -> float:
    first, second = ATTRIBUTES[attribute]
    return float(trait == first) - float(trait == second)


def best_of(told: np.ndarray, true: np.ndarray) -> dict[str, list[float]]:
    """n -> mean learned and true gain of the best of n candidates by the learned reward, over the mean candidate.

    Expected over all sets of n out of N: the j-th best of all is the best of a set with probability C(N - 1 - j, n - 1) / C(N, n).

    Args:
        told, true: (people, prompts, N) learned and true rewards.
    """
    width = told.shape[2]
    order = np.argsort(-told, axis=2, kind="stable")
    ranked = [
        np.take_along_axis(one, order, axis=2) - one.mean(axis=2, keepdims=True) for one in (told, true)
    ]  # best first
    curve = {}
    for n in (n for n in (1, 2, 4, 8, 16, 32) if n <= width):
        chance = np.array([comb(width - 1 - j, n - 1) / comb(width, n) for j in range(width)])
        curve[str(n)] = [round(float((one @ chance).mean()), 4) for one in ranked]
    return curve


def profile_picks(place: Place, prompts: int) -> dict[str, Any]:
    """What a language model would choose that is told the person's true traits: the reply whose log-probability they raise most."""
    world = place.world()
    items = candidates(world, place)["new"][:prompts]
    texts, traits = shipped_texts(), _traits(world)
    asked = [texts[item] for item in items.ravel()]
    scorer = LikelihoodScores()
    plain = embed_items(scorer, asked)[:, 0].reshape(items.shape)
    picks = {}
    for own in dict.fromkeys(traits):
        told = [(_LIKED.format(traits=" and ".join(own)) + prompt, reply) for prompt, reply in asked]
        picks[own] = (embed_items(scorer, told)[:, 0].reshape(items.shape) - plain).argmax(axis=1)
    return {"new": _digits(np.stack([picks[own] for own in traits])), "prompts": len(items)}


def judged(
    world_values: Mapping[str, Any], picks: Mapping[str, Any], *, place: Place, model: str, k: int, most: int
) -> dict[str, Any]:
    """A language model that knows each person's traits judges what was chosen against the plain reply, in both orders.

    Args:
        world_values, picks: of `truth` and `chosen_by`.
        place: where.
        model: who judges.
        k: after how many answers it was chosen.
        most: questions.
    """
    world = place.world()
    items, texts, traits = candidates(world, place)["new"], shipped_texts(), _traits(world)
    ours, theirs = (numbers(own["new"]) for own in (picks["ks"][str(k)], world_values))
    cells = derive(place.seed, "winrate judged").permutation(ours.size)
    cells = cells[(ours != theirs).ravel()[cells]][:most]
    person, prompt = np.divmod(cells, ours.shape[1])
    questions = []
    for who, what in zip(person, prompt, strict=True):
        left, right = items[what, ours[who, what]], items[what, theirs[who, what]]
        questions.append((texts[left][0], texts[left][1], texts[right][1]))
    judge = open_judge(model)
    states = UserStates.concatenate(
        [judge.adapt(user_text=f"I like {' and '.join(own)} replies.").state.batch for own in traits]
    )
    said = judge.judge(questions, states, person)
    true = np.array(world_values["new"]["reward"])[person, prompt]
    gap = true[np.arange(len(cells)), ours[person, prompt]] - true[np.arange(len(cells)), theirs[person, prompt]]
    words = np.array(world_values["new"]["words"])[prompt]
    longer = words[np.arange(len(cells)), ours[person, prompt]] - words[np.arange(len(cells)), theirs[person, prompt]]
    return {
        "model": model,
        "person": person.tolist(),
        "prompt": prompt.tolist(),
        "probability": said.probability.round(4).tolist(),
        "flag": said.flag.tolist(),
        "true": np.where(np.abs(gap) < 1e-9, 0.5, (gap > 0).astype(float)).tolist(),
        "longer": longer.tolist(),
        "first_share": None if np.isnan(said.first_share) else round(said.first_share, 4),
        "calls": said.calls,
        "unreadable": said.unreadable,
    }


def open_judge(model: str) -> JudgeRewardModel:
    """A judge by name: `openai:MODEL@URL`, or a model that runs here."""
    settings: dict[str, Any] = {"model": model, "max_tokens": 8}
    if found := endpoint(model, "judge"):
        settings |= {"model": found[0], "base_url": found[1]}
    judge = judge_contender("judge", settings).model
    assert isinstance(judge, JudgeRewardModel)
    return judge


def check_judge(judge: str, writer: str) -> None:
    """Refuse a judge that wrote what it judges.

    Raises:
        ConfigError: they are the same model.
    """

    def plain(name: str) -> str:
        return name.removeprefix("openai:").rpartition("@")[0].lower() or name.lower()

    if plain(judge) == plain(writer):
        raise ConfigError(f"judge {judge!r} is the model that writes the replies; name another with --judge-model")


# -- replies that a language model writes ----------------------------------------------------------------------------------


def drawn(place: Place, draws: Draws, number: int) -> dict[str, Any]:
    """n replies to one of the new prompts."""
    world = place.text_world()
    prompt = _asked(place, number)
    rng = derive(place.seed, "winrate draws", number)
    found = make_sampler(draws.sampler).sample(prompt, draws.n, rng=rng, sampling=draws.sampling())
    if len(set(found.texts)) < 2:
        raise ConfigError(f"{draws.sampler}: all replies to {prompt[:40]!r} are the same; raise max_tokens")
    return {"prompt": prompt, "texts": list(found.texts), "people": len(world.new), "missing": found.missing}


def truth_of_drawn(*texts: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """True rewards and words of drawn replies, and of what people chose among the shipped ones."""
    world = place.text_world()
    rewards = np.stack([text_rewards(world, own["texts"]) for own in texts], axis=1)
    items = candidates(world, place)["new"][: len(texts)]
    shipped = world.truth.reward(world.new)[:, items]
    rng = derive(place.seed, "winrate shipped")
    first = rng.integers(items.shape[1], size=shipped.shape[:2])
    second = (first + rng.integers(1, items.shape[1], size=shipped.shape[:2])) % items.shape[1]
    pair = [np.take_along_axis(shipped, one[..., None], 2)[..., 0] for one in (first, second)]
    prefers = rng.random(pair[0].shape) < 1.0 / (1.0 + np.exp(pair[1] - pair[0]))
    replies = shipped_texts()
    size = np.array([[len(replies[item][1].split()) for item in row] for row in items])
    place_of = np.where(prefers, first, second)
    return {
        "reward": rewards.round(3).tolist(),
        "words": [[len(text.split()) for text in own["texts"]] for own in texts],
        "chosen": np.where(prefers, *pair).round(3).tolist(),
        "chosen_words": size[np.arange(len(items)), place_of].tolist(),
        "people": [" and ".join(own) for own in _traits(world)],
    }


def learned(true: Mapping[str, Any], *texts: Mapping[str, Any], place: Place, name: str, k: int) -> dict[str, Any]:
    """What a method thinks each new person thinks of drawn replies, after k answers about shipped ones."""
    world = place.text_world()
    method = make_method(name).fit(world.training, rng=derive(place.seed, "pref fit"))
    states = method.adapt(world.history.first(k, world.items))
    pairs = [(own["prompt"], text) for own in texts for text in own["texts"]]
    vectors = embed_items(make(place.features), pairs)
    told = method.reward(Items.of(vectors), states).reshape(len(states), len(texts), -1)
    return {
        "picks": _digits(told.argmax(axis=2)),
        "undecided": int((np.ptp(told, axis=2) == 0.0).sum()),
        "curve": best_of(told, np.array(true["reward"])),
    }


def stated(place: Place, draws: Draws, people: int, prompts: int) -> dict[str, Any]:
    """The same model told the true profile: P-RLHF's oracle. One reply for each of some people and prompts."""
    world, generator = place.text_world(), Prompted(make_sampler(draws.sampler))
    said = []
    for who in range(people):
        state: UserState = generator.state(in_words(_traits(world)[who]))
        for number in range(prompts):
            reply = generator.reply(
                _asked(place, number), state, rng=derive(place.seed, "winrate stated", who, number),
                **draws.sampling().model_dump(),
            )  # fmt: skip
            said.append(reply.text or " ")
    rewards = text_rewards(world, said)
    own = rewards[np.repeat(np.arange(people), prompts), np.arange(len(said))]
    words = np.array([len(text.split()) for text in said])
    return {
        "reward": own.round(3).reshape(people, prompts).tolist(),
        "words": words.reshape(people, prompts).tolist(),
        "texts": said,
    }


@lru_cache(maxsize=1)
def _fitted(place: Place, name: str) -> Method:
    """Fitted once for cells in a row."""
    return make_method(name).fit(place.world().training, rng=derive(place.seed, "pref fit"))


# -- small things ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def shipped_texts() -> tuple[tuple[str, str], ...]:
    """(prompt, reply) of all items."""
    return tuple(corpus_people(1, 1, new_share=0.0).dataset.item_texts())


def _asked(place: Place, number: int) -> str:
    """The text of a new prompt."""
    items = candidates(place.text_world(), place)["new"][number]
    return shipped_texts()[items[0]][0]


def _traits(world: PrefWorld) -> list[tuple[str, ...]]:
    return [world.truth.traits[number] for number in world.new]


def _known_after(world: PrefWorld, method: Method, ks: Sequence[int], by: str, seed: int) -> dict[int, UserStates]:
    if by != "random":
        return asked_states(world, method, by, ks, len(world.new), seed)
    return {k: method.adapt(world.history.first(k, world.items)) for k in ks}


def _digits(picks: np.ndarray) -> list[str]:
    """A text for each person, a hexadecimal digit for each prompt."""
    return ["".join(f"{int(pick):x}" for pick in row) for row in picks]


def numbers(digits: Mapping[str, Any] | Sequence[str]) -> np.ndarray:
    """(people, prompts) of what `_digits` wrote; of `truth`, the plain replies."""
    lines = digits["plain"] if isinstance(digits, Mapping) else digits
    return np.array([[int(digit, 16) for digit in line] for line in lines])
