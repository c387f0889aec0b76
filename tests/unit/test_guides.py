"""Guides: cached reading equals reading anew, values foretell, policies guide, soups are averages."""

from __future__ import annotations

import threading
from pathlib import Path

import generate_world
import numpy as np
import policy_world
import pytest
from generate_world import PROMPT, Judge
from scipy.special import log_softmax

from palate.errors import FingerprintError, InputError
from palate.generate import (
    BestOfN,
    Guided,
    LocalSampler,
    PolicyGuide,
    RewardGuide,
    SoftPrompt,
    Soup,
    ValueGuide,
    ValueHeads,
    fit_values,
)
from palate.generate.reading import PrefixFeatures
from palate.generate.values import least_squares_td
from palate.models.reward_model import FeatureRewardModel
from palate.policies import Policy, Sampling, tune

WORDS = [ord(letter) - ord("a") + 70 for letter in "bees"]
"""Some tokens of the tiny tokenizer."""


def ann():
    return generate_world.model().person("ann").state


# -- rewards of prefixes (ARGS) ---------------------------------------------------------------------------------------


def test_features_that_grow_are_those_of_the_whole_text() -> None:
    features, sampler = generate_world.model().featurizer, generate_world.sampler()
    prefix = PrefixFeatures(features, PROMPT)
    said: list[int] = []
    for token in WORDS:
        looked, states = prefix.look(np.array([5, token, 33]))
        for candidate, own in zip((5, token, 33), looked, strict=True):
            text = sampler.form.tokenizer.decode([*said, candidate])
            if "�" not in text and text.strip():
                assert np.allclose(own, features.embed([(PROMPT, text)])[0], atol=1e-4)
        prefix.accept(token)
        said.append(token)
        assert np.allclose(prefix.last, states[1])
    assert prefix.count == len(WORDS)


@pytest.mark.parametrize("share", ["personal", "whole"])
def test_cached_scores_are_those_of_texts_read_anew(share: str) -> None:
    from palate.generate import reward_guide

    sampler, guide = generate_world.sampler(), RewardGuide(generate_world.model(), share=share)
    quick = guide.open(PROMPT, ann(), sampler, 32)
    assert isinstance(quick, reward_guide._Growing)
    slow = reward_guide._Rereading(PROMPT, quick._weigh, sampler)
    stop = next(iter(sampler.stops))
    for token in WORDS:
        candidates = np.array([token, 66, 90, stop])
        first, second = quick.score(candidates, np.zeros(1)), slow.score(candidates, np.zeros(1))
        assert np.allclose(first - first[0], second - second[0], atol=1e-3)
        quick.accept(token)
        slow.accept(token)


def test_features_of_another_kind_guide_too() -> None:
    guide = RewardGuide(generate_world.model(features="style"))
    state = generate_world.model(features="style").person("ann").state
    reply = Guided(generate_world.sampler(), guide, guidance=20.0, top_k=4).reply(PROMPT, state, max_tokens=10)
    assert reply.personalized


def test_guidance_raises_what_it_is_guided_by() -> None:
    model, sampler = generate_world.model(), generate_world.sampler()
    rewards = {}
    for guidance in (0.0, 100.0):
        guided = Guided(sampler, RewardGuide(model), guidance=guidance)
        texts = [(prompt, guided.reply(prompt, ann(), max_tokens=16).text) for prompt in ("say 1", "say 2", "say 3")]
        own, nobody = (model.reward(texts, who.batch)[0] for who in (ann(), guided.prior))
        rewards[guidance] = float(np.mean(own - nobody))
    assert rewards[100.0] > rewards[0.0]


def test_a_guide_under_guard_leaves_tokens_that_all_like_or_dislike() -> None:
    model, sampler = generate_world.model(), generate_world.sampler()
    tokens, logits = np.array([66, 70, 80, 90, 100]), np.zeros(1)
    shared = RewardGuide(model, share="whole").open(PROMPT, model.person("ann").state, sampler, 8)
    free = RewardGuide(model).open(PROMPT, ann(), sampler, 8).score(tokens, logits)
    whole = shared.score(tokens, logits)
    gap = np.abs((whole - free) - (whole - free)[0])
    radius = float(np.median(gap[1:]))
    held = RewardGuide(model, radius=radius).open(PROMPT, ann(), sampler, 8).score(tokens, logits)
    assert np.all(held[gap >= radius] == 0)
    assert np.all(np.abs(held) <= np.abs(free) + 1e-12)
    assert np.any(held[gap < radius] != 0)


def test_what_cannot_guide_says_so() -> None:
    with pytest.raises(InputError, match="only prefers; use best_of_n"):
        RewardGuide(Judge())
    with pytest.raises(InputError, match="share='all'"):
        RewardGuide(generate_world.model(), share="all")
    with pytest.raises(InputError, match="radius=0"):
        RewardGuide(generate_world.model(), radius=0)


# -- values (VAS) -----------------------------------------------------------------------------------------------------


def test_values_of_a_random_walk_are_the_known_ones() -> None:
    # Five places in a row, each step left or right, reward 1 at the right end: the chance to end there is i / 6.
    rng = np.random.default_rng(0)
    for trace in (0.5, 1.0):
        courses = []
        for _ in range(3000):
            place, states = 3, []
            while 0 < place < 6:
                states.append(np.append(np.eye(5)[place - 1], 0.0))
                place += int(rng.integers(2)) * 2 - 1
            courses.append((np.array(states), np.array([float(place == 6)])))
        found = least_squares_td(courses, trace, 1e-9)[:5, 0]
        assert np.allclose(found, np.arange(1, 6) / 6, atol=0.03)


def test_with_full_traces_it_is_ridge_regression_on_final_rewards() -> None:
    rng = np.random.default_rng(1)
    courses = [(np.append(rng.standard_normal((7, 3)), np.ones((7, 1)), 1), rng.standard_normal(2)) for _ in range(9)]
    states = np.concatenate([course for course, _ in courses])
    finals = np.concatenate([np.tile(final, (7, 1)) for _, final in courses])
    ridge = np.diag([0.01 * 63] * 3 + [1e-9 * 63])
    expected = np.linalg.solve(states.T @ states + ridge, states.T @ finals)
    assert np.allclose(least_squares_td(courses, 1.0, 0.01), expected)


@pytest.fixture(scope="module")
def heads() -> ValueHeads:
    prompts = [f"say {i}" for i in range(10)]
    return fit_values(generate_world.model(), generate_world.sampler(), prompts, replies=6, max_tokens=12, rng=0)


def test_heads_foretell_final_rewards_of_held_out_prompts(heads: ValueHeads) -> None:
    method = generate_world.model().method
    assert heads.weights.shape == (2 * 32 + 1, len(method.prior_mean_) + 1)
    used = heads.explained[heads.explained != 0]
    assert len(used) > 1
    assert used.min() > 0
    assert used.mean() > 0.1


def test_a_persons_weights_combine_the_heads(heads: ValueHeads) -> None:
    model, sampler = generate_world.model(), generate_world.sampler()
    tokens = np.array([66, 70, 80])
    prefix = PrefixFeatures(model.featurizer, PROMPT)
    means, states = prefix.look(tokens)
    own = heads.values(means, states)
    lift = ann()["mean"] - model.method.prior_.arrays["mean"][0]
    personal = ValueGuide(model, heads).open(PROMPT, ann(), sampler, 8).score(tokens, np.zeros(1))
    whole = ValueGuide(model, heads, share="whole").open(PROMPT, ann(), sampler, 8).score(tokens, np.zeros(1))
    assert np.allclose(personal, own[:, :-1] @ lift)
    assert np.allclose(whole, own[:, :-1] @ ann()["mean"] + own[:, -1])


def test_to_end_is_worth_the_reward_as_it_stands(heads: ValueHeads) -> None:
    model, sampler = generate_world.model(), generate_world.sampler()
    steering = ValueGuide(model, heads, share="whole").open(PROMPT, ann(), sampler, 8)
    stop = next(iter(sampler.stops))
    for token in WORDS:
        steering.score(np.array([token, stop]), np.zeros(1))
        steering.accept(token)
    ending = steering.score(np.array([66, stop]), np.zeros(1))[1]
    text = sampler.form.tokenizer.decode(WORDS)
    assert ending == pytest.approx(model.person("ann").score(PROMPT, [text])[0], abs=1e-3)


def test_heads_are_saved_and_belong_to_one_model(heads: ValueHeads, tmp_path: Path) -> None:
    heads.save(tmp_path / "heads")
    again = ValueHeads.load(tmp_path / "heads")
    assert np.array_equal(again.weights, heads.weights)
    state = ann()
    replies = {
        Guided(generate_world.sampler(), ValueGuide(generate_world.model(), which), guidance=30.0)
        .reply(PROMPT, state, max_tokens=12)
        .text
        for which in (heads, again)
    }
    assert len(replies) == 1
    other = FeatureRewardModel(policy_world.base(), "hierarchical", cache=False).fit(
        policy_world.rows(48, seed=2), rng=0
    )
    with pytest.raises(FingerprintError, match="fit them again"):
        ValueGuide(other, heads)
    with pytest.raises(InputError, match="no value heads"):
        ValueHeads.load(tmp_path / "nothing")
    with pytest.raises(InputError, match="linear method"):
        fit_values(Judge(), generate_world.sampler(), ["a"] * 4)
    with pytest.raises(InputError, match="at least 4"):
        fit_values(generate_world.model(), generate_world.sampler(), ["a"])
    with pytest.raises(InputError, match="token by token"):
        fit_values(generate_world.model(features="style"), generate_world.sampler(), ["a"] * 4)


# -- policies ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def policy() -> Policy:
    return tune(policy_world.rows(96), base=policy_world.base(), epochs=4, **policy_world.QUICK)


@pytest.fixture(scope="module")
def preferences() -> dict[str, Policy]:
    """One policy for long replies, one for short ones, without soft tokens."""
    settings = policy_world.QUICK | {"user_tokens": 0, "user_model": "uniform", "learning_rate": 2e-2}
    found = {}
    for name, people in (("long", ("ann", "bob")), ("short", ("cat", "dan"))):
        rows = [row for row in policy_world.rows(96) if row["user_id"] in people]
        found[name] = tune(rows, base=policy_world.base(), epochs=4, **settings)
    return found


def test_a_soft_prompt_is_the_policys_own_reply(policy: Policy) -> None:
    generator, state = SoftPrompt(policy), policy.person("ann")
    for temperature in (0.0, 0.9):
        reply = generator.reply(PROMPT, state, rng=2, max_tokens=16, temperature=temperature)
        assert reply.text == policy.reply(PROMPT, state, rng=2, max_tokens=16, temperature=temperature)
        assert reply.personalized
        nobody = generator.reply(PROMPT, rng=2, max_tokens=16, temperature=temperature)
        assert nobody.text == policy.reply(PROMPT, rng=2, max_tokens=16, temperature=temperature)
        assert not nobody.personalized


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("against", ["base", "nobody"])
def test_a_policy_with_full_weight_over_all_tokens_is_the_policy(policy: Policy, against: str, fold: bool) -> None:
    sampler = generate_world.sampler() if against == "base" else LocalSampler.of_policy(policy)
    guided = Guided(sampler, PolicyGuide(policy, fold=fold), guidance=1.0, top_k=10_000)
    for name in ("ann", "cat"):
        state = policy.person(name)
        assert guided.reply(PROMPT, state, max_tokens=16).text == policy.reply(PROMPT, state, max_tokens=16)


def test_the_token_reward_is_the_log_ratio(policy: Policy) -> None:
    sampler, tokens = generate_world.sampler(), np.array([66, 70, 80])
    logits = np.random.default_rng(0).standard_normal(sampler.network.plain.config.vocab_size)
    steering = PolicyGuide(policy).open(PROMPT, policy.person("ann"), sampler, 8)
    scores = steering.score(tokens, logits)
    own, seen = LocalSampler.of_policy(policy, policy.person("ann")), []
    rng, sampling = np.random.default_rng(0), Sampling(max_tokens=1)
    list(own.stream(PROMPT, rng=rng, sampling=sampling, steer=lambda row, raw, said: seen.append(row.copy()) or row))
    assert np.allclose(scores, log_softmax(seen[0])[tokens] - log_softmax(logits)[tokens], atol=1e-4)


def test_a_guide_sees_logits_before_the_penalty_of_repetition(policy: Policy) -> None:
    own, seen = LocalSampler.of_policy(policy, policy.person("ann")), []

    def steer(row: np.ndarray, raw: np.ndarray, said: list[int]) -> np.ndarray:
        seen.append((row.copy(), raw.copy(), list(said)))
        return row

    sampling = Sampling(max_tokens=4, repetition_penalty=3.0)
    list(own.stream(PROMPT, rng=np.random.default_rng(0), sampling=sampling, steer=steer))
    assert len(seen) > 1
    for row, raw, said in seen:
        assert set(np.flatnonzero(row != raw)) == set(said)


def test_a_policy_guides_only_the_same_tokens(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = LocalSampler(policy_world.base(), dtype="float32", device="cpu")
    monkeypatch.setitem(sampler.vocabulary, "another", 5000)
    guided = Guided(sampler, PolicyGuide(policy))
    with pytest.raises(InputError, match="other tokens"):
        guided.reply(PROMPT, policy.person("ann"), max_tokens=4)


def test_a_policys_own_reward_chooses_too(policy: Policy) -> None:
    model = policy.as_reward_model()
    generator = BestOfN(generate_world.sampler(), model, n=3, cost=0)
    reply = generator.reply(PROMPT, policy.person("ann"), rng=0, max_tokens=8)
    scores = policy.score(PROMPT, [candidate.text for candidate in reply.candidates], policy.person("ann"))
    assert reply.text == reply.candidates[int(np.argmax(scores))].text
    assert [candidate.score for candidate in reply.candidates] == pytest.approx(scores.tolist(), abs=1e-4)


def test_a_soup_of_one_is_its_policy_and_of_none_the_base(preferences: dict[str, Policy]) -> None:
    soup = Soup(preferences)
    plain = generate_world.sampler().sample(PROMPT, 1, rng=np.random.default_rng(0), sampling=Sampling(max_tokens=16))
    said = set()
    for name, policy in preferences.items():
        reply = soup.reply(PROMPT, soup.state({name: 1.0}), max_tokens=16)
        assert reply.text == policy.reply(PROMPT, max_tokens=16)
        assert reply.personalized
        said.add(reply.text)
    nobody = soup.reply(PROMPT, max_tokens=16)
    assert nobody.text == plain.texts[0]
    assert not nobody.personalized
    assert len(said | {nobody.text}) > 1


def test_a_soup_averages_the_parameters(preferences: dict[str, Policy]) -> None:
    from palate.backends.adapters import take_weights

    soup = Soup(preferences)
    soup.reply(PROMPT, soup.state({"long": 0.5, "short": 0.25}), max_tokens=2)
    mixed = take_weights(soup.sampler.network.model, "lora")
    long, short = (take_weights(policy.network.model, "lora") for policy in preferences.values())
    for name, part in mixed.items():
        assert np.allclose(part, 0.5 * long[name] + 0.25 * short[name], atol=1e-7)
    again = preferences["long"].reply(PROMPT, max_tokens=16)
    assert Soup(preferences).reply(PROMPT, soup.state({"long": 1.0}), max_tokens=16).text == again


def test_soups_of_several_people_at_once(preferences: dict[str, Policy]) -> None:
    soup = Soup(preferences)
    states = [soup.state({"long": 1.0}), soup.state({"short": 1.0}), soup.prior]
    alone = [soup.reply(PROMPT, state, max_tokens=16).text for state in states]
    streams = [soup.stream(PROMPT, state, max_tokens=16) for state in states]
    pieces: list[list[str]] = [[], [], []]
    for _ in range(20):
        for stream, own in zip(streams, pieces, strict=True):
            own += [piece for piece in [next(stream, "")] if piece]
    assert ["".join(own).strip() for own in pieces] == alone
    found: dict[int, str] = {}

    def ask(number: int) -> None:
        found[number] = soup.reply(PROMPT, states[number % 3], max_tokens=16).text

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(6)] == alone * 2


def test_what_cannot_be_mixed_says_so(preferences: dict[str, Policy], policy: Policy) -> None:
    with pytest.raises(InputError, match="no policies"):
        Soup({})
    with pytest.raises(InputError, match="has soft tokens"):
        Soup({**preferences, "people": policy})
    soup = Soup(preferences)
    with pytest.raises(InputError, match="no policy for 'funny'"):
        soup.state({"funny": 1.0})
    with pytest.raises(InputError, match="finite"):
        soup.state({"long": float("nan")})
    with pytest.raises(FingerprintError):
        Soup({"long": preferences["long"]}).reply(PROMPT, soup.state({"long": 1.0}))
    with pytest.raises(FingerprintError):
        BestOfN(generate_world.sampler(), generate_world.model()).reply(PROMPT, soup.prior)
