"""Choosing among replies: how many, which, and what goes wrong."""

from __future__ import annotations

import generate_world
import numpy as np
import policy_world
import pytest
from generate_world import PROMPT, Judge
from scipy.stats import norm

from palate.backends.openai import ChatClient
from palate.errors import ConfigError, EndpointError, FingerprintError, InputError, RefusalError
from palate.generate import (
    BestOfN,
    Drawn,
    EndpointSampler,
    Guided,
    LocalSampler,
    Prompted,
    Revise,
    RewardGuide,
    expected_gain,
    make_sampler,
    rank,
)
from palate.models.guard import guarded
from palate.policies import Sampling

LONG, SHORT = "bee ant sun sea", "oak"


class Script:
    """A sampler that says what it is told to."""

    def __init__(self, *texts: str) -> None:
        self.texts, self.said = list(texts), 0

    def sample(self, messages, n, *, rng, sampling, progress=None):
        drawn = [self.texts[(self.said + i) % len(self.texts)] for i in range(n)]
        self.said += n
        return Drawn(tuple(drawn))

    def stream(self, messages, *, rng, sampling):
        yield self.texts[0]


def person(name: str = "ann"):
    return generate_world.model(features="style").person(name).state


# -- how many ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scores", [[0.0, 1.0, 3.0], [0.1, 0.2, 0.0, -0.5, 0.15, 0.1]])
def test_the_expected_gain_is_that_of_the_predictive(scores: list[float]) -> None:
    rng, m = np.random.default_rng(0), len(scores)
    scale = np.std(scores, ddof=1) * np.sqrt(1 + 1 / m)
    draws = np.mean(scores) + scale * rng.standard_t(m - 1, 2_000_000)
    # For ν = 2 the variance is infinite and the mean slow to come.
    assert expected_gain(np.array(scores)) == pytest.approx(np.maximum(0, draws - max(scores)).mean(), rel=0.05)


def test_the_expected_gain_falls_with_draws_and_scales_with_the_unit() -> None:
    draws = norm.ppf((np.arange(64) + 0.5) / 64)
    gains = [expected_gain(np.random.default_rng(1).permutation(draws)[:m]) for m in (4, 16, 64)]
    assert gains[0] > gains[1] > gains[2] > 0
    assert expected_gain(10 * draws + 3) == pytest.approx(10 * expected_gain(draws))
    assert expected_gain(np.zeros(5)) == 0.0
    assert expected_gain(np.array([1.0, 2.0])) == np.inf


def test_sampling_stops_when_a_candidate_costs_more_than_it_promises() -> None:
    model = generate_world.model(features="style")
    texts = [" ".join(policy_world.WORDS[: 1 + i % 5]) for i in range(64)]
    spread = float(np.std(model.person("ann").score(PROMPT, texts[:5])))
    asked = {}
    for cost in (0.0, 0.12 * spread, 100.0):
        sampler = Script(*texts)
        BestOfN(sampler, model, n=40, cost=cost).reply(PROMPT, person(), rng=0)
        asked[cost] = sampler.said
    assert asked[0.0] == 40
    assert asked[100.0] == 4
    assert 4 < asked[0.12 * spread] < 40


# -- which ------------------------------------------------------------------------------------------------------------


def test_each_person_gets_what_they_like() -> None:
    model = generate_world.model(features="style")
    chosen = {}
    for name in ("ann", "cat"):
        reply = BestOfN(Script(LONG, SHORT, "sun sea"), model, n=3, cost=0).reply(PROMPT, person(name), rng=0)
        chosen[name] = reply.text
        assert reply.personalized
        scores = model.person(name).score(PROMPT, [LONG, SHORT, "sun sea"])
        assert [candidate.score for candidate in reply.candidates] == pytest.approx(scores.tolist())
        assert reply.text == reply.candidates[int(np.argmax(scores))].text
    assert chosen == {"ann": LONG, "cat": SHORT}


def test_nobody_in_particular_gets_what_people_in_general_like_and_a_flag() -> None:
    model = generate_world.model(features="style")
    reply = BestOfN(Script(LONG, SHORT, "sun sea"), model, n=3, cost=0).reply(PROMPT, rng=0)
    assert reply.text == reply.candidates[int(np.argmax([each.score for each in reply.candidates]))].text
    assert (reply.personalized, "chosen by what all share" in reply.note) == (False, True)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
def test_a_tournament_finds_the_best_with_n_minus_1_questions(count: int) -> None:
    rng = np.random.default_rng(count)
    texts = ["x" * length for length in rng.permutation(np.arange(1, count + 1))]
    judge = Judge()
    ranking = rank(judge, judge.state, PROMPT)
    ranking.add(texts)
    assert len(ranking.texts[ranking.best]) == count
    assert judge.asked == count - 1
    ranking.add(["y" * (count + 1), "z"])
    assert len(ranking.texts[ranking.best]) == count + 1
    assert judge.asked == count + 1
    assert np.isnan(ranking.scores).all()


def test_a_tournament_adapts_its_n_too() -> None:
    judge, sampler = Judge(), Script(*("x" * (i % 9 + 1) for i in range(64)))
    reply = BestOfN(sampler, judge, n=32, cost=0.2).reply(PROMPT, judge.state, rng=0)
    assert 4 < sampler.said < 32
    assert reply.text == "x" * max(len(candidate.text) for candidate in reply.candidates)


def test_a_model_under_guard_decides_by_tournament_and_embeds_a_reply_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = guarded(generate_world.model(features="style"), radius=1e9)
    ranking = rank(model, model.person("ann").state, PROMPT)
    embedded = []
    own = type(model.featurizer).embed
    monkeypatch.setattr(
        type(model.featurizer), "embed", lambda self, items, **more: embedded.extend(items) or own(self, items, **more)
    )
    ranking.add([SHORT, LONG, "sun sea", SHORT])
    ranking.add(["bee bee bee bee bee bee"])
    assert len(embedded) == 4
    plain = generate_world.model(features="style").person("ann").score(PROMPT, ranking.texts)
    assert ranking.best == int(np.argmax(plain))


@pytest.mark.parametrize("texts", [[LONG] * 4, [" ", "", "  "]])
def test_candidates_that_are_all_equal_give_the_first_with_a_flag(texts: list[str]) -> None:
    texts = [text.strip() for text in texts]
    reply = BestOfN(Script(*texts), generate_world.model(features="style"), n=8).reply(PROMPT, person(), rng=0)
    assert reply.text == texts[0]
    assert not reply.personalized
    assert "candidate" in reply.note


def test_candidates_that_the_person_does_not_tell_apart() -> None:
    judge = Judge("none")
    reply = BestOfN(Script("a", "b", "c"), judge, n=3).reply(PROMPT, judge.state, rng=0)
    assert (reply.text, reply.personalized, reply.note) == ("a", False, "all 3 candidates are equal to this model")


def test_temperature_0_has_one_candidate_and_says_so() -> None:
    sampler = generate_world.sampler()
    reply = BestOfN(sampler, generate_world.model(), n=4).reply(PROMPT, max_tokens=8, temperature=0)
    assert not reply.personalized
    assert "temperature=0" in reply.note


# -- samplers ---------------------------------------------------------------------------------------------------------


def test_the_first_sample_is_the_stream_and_batches_do_not_matter() -> None:
    sampler, sampling = generate_world.sampler(), Sampling(max_tokens=12, temperature=1.0)
    streamed = "".join(sampler.stream(PROMPT, rng=np.random.default_rng(4), sampling=sampling)).strip()
    together = sampler.sample(PROMPT, 6, rng=np.random.default_rng(4), sampling=sampling).texts
    assert together[0] == streamed
    assert len(set(together)) == 6
    rng = np.random.default_rng(4)
    apart = [text for n in (4, 2) for text in sampler.sample(PROMPT, n, rng=rng, sampling=sampling).texts]
    assert tuple(apart) == together


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("chat", [True, False])
def test_any_causal_model_of_transformers(kind: str, chat: bool) -> None:
    from palate.backends.huggingface import load_causal

    name = policy_world.base(kind, chat)
    sampler = LocalSampler(name, dtype="float32", device="cpu")
    said = sampler.sample(PROMPT, 2, rng=np.random.default_rng(0), sampling=Sampling(max_tokens=6)).texts
    assert said[0] == said[1]
    import torch

    prompt = [*sampler.form.head, *sampler.prompt(PROMPT)]
    model = load_causal(name, dtype="float32", device="cpu")
    made = model.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.int64), max_new_tokens=6, do_sample=False,
        pad_token_id=0, eos_token_id=sorted(sampler.stops),
    )[0, len(prompt) :]  # fmt: skip
    assert sampler.form.tokenizer.decode(made, skip_special_tokens=True).strip() == said[0]


def test_a_prompt_beyond_the_context_is_refused() -> None:
    sampler, model = generate_world.sampler(), generate_world.model()
    for generator in (BestOfN(sampler, model, n=2), Guided(sampler, RewardGuide(model))):
        with pytest.raises(InputError, match="model reads 512"):
            generator.reply("x" * 600, model.person("ann").state, max_tokens=16)


def test_a_state_of_another_model_is_refused_before_anything_is_sampled() -> None:
    sampler = Script("a")
    with pytest.raises(FingerprintError, match="does not belong"):
        BestOfN(sampler, generate_world.model(features="style")).stream(
            PROMPT, generate_world.model().person("ann").state
        )
    assert sampler.said == 0


def test_what_is_no_prompt_is_refused() -> None:
    generator = BestOfN(Script("a"), generate_world.model(features="style"))
    for wrong, told in ((5, "is a int"), ("  ", "the prompt is empty"), ([{"role": "user"}], "role and content")):
        with pytest.raises(InputError, match=told):
            generator.reply(wrong)
    with pytest.raises(ConfigError, match="unknown setting 'heat'"):
        generator.reply(PROMPT, heat=1)
    with pytest.raises(ConfigError, match="n=0"):
        BestOfN(Script("a"), generate_world.model(features="style"), n=0)


# -- endpoints --------------------------------------------------------------------------------------------------------


def remote(address: str, **settings: object) -> EndpointSampler:
    client = ChatClient(model="m", base_url=address, attempts=2, sleep=lambda seconds: None, **settings)
    return EndpointSampler(client, workers=2)


def test_an_endpoint_answers_and_streams() -> None:
    with generate_world.endpoint(lambda body, number: ["bee ", "and ", "sea"]) as (address, requests):
        sampler = remote(address)
        pieces = sampler.stream(PROMPT, rng=np.random.default_rng(0), sampling=Sampling(temperature=0.5, top_p=0.9))
        assert list(pieces) == ["bee ", "and ", "sea"]
        drawn = sampler.sample(PROMPT, 3, rng=np.random.default_rng(0), sampling=Sampling(temperature=0.5))
        assert drawn.texts == ("bee and sea",) * 3
        assert requests[0]["stream"] is True
        assert requests[0]["top_p"] == 0.9
        assert len({request["seed"] for request in requests[1:]}) == 3
        assert requests[0]["seed"] in {request["seed"] for request in requests[1:]}
        assert "top_p" not in requests[1]
    with pytest.raises(ConfigError, match="repetition_penalty"):
        sampler.sample(PROMPT, 1, rng=np.random.default_rng(0), sampling=Sampling(repetition_penalty=1.2))


def test_an_endpoint_that_dies_mid_stream_is_an_error_that_tells_how_much_came() -> None:
    with generate_world.endpoint(lambda body, number: ["bee ", None]) as (address, _):
        generator = BestOfN(remote(address), generate_world.model(features="style"), n=1)
        stream = generator.stream(PROMPT, person(), rng=0)
        assert next(stream) == "bee "
        with pytest.raises(EndpointError, match="broke off after 4 characters"):
            list(stream)
        with pytest.raises(InputError, match="broke off"):
            stream.finish()


def test_a_stream_that_fails_before_its_first_piece_is_tried_again() -> None:
    with generate_world.endpoint(lambda body, number: 503 if number == 0 else ["bee"]) as (address, requests):
        assert "".join(remote(address).stream(PROMPT, rng=np.random.default_rng(0), sampling=Sampling())) == "bee"
        assert len(requests) == 2
    with (
        generate_world.endpoint(lambda body, number: 503) as (address, _),
        pytest.raises(EndpointError, match="HTTP 503.*after 2 tries"),
    ):
        list(remote(address).stream(PROMPT, rng=np.random.default_rng(0), sampling=Sampling()))
    with (
        generate_world.endpoint(lambda body, number: 401) as (address, _),
        pytest.raises(EndpointError, match="HTTP 401.*PALATE_API_KEY"),
    ):
        list(remote(address).stream(PROMPT, rng=np.random.default_rng(0), sampling=Sampling()))
    with generate_world.endpoint(lambda body, number: []) as (address, _), pytest.raises(RefusalError):
        list(remote(address).stream(PROMPT, rng=np.random.default_rng(0), sampling=Sampling()))


def test_candidates_that_do_not_come_leave_those_that_do() -> None:
    def answer(body, number):
        return 400 if number % 3 == 1 else [LONG if number % 2 else SHORT]

    with generate_world.endpoint(answer) as (address, _):
        reply = BestOfN(remote(address), generate_world.model(features="style"), n=8, cost=0).reply(
            PROMPT, person(), rng=0
        )
    assert reply.text == LONG
    assert "did not come" in reply.note
    assert 1 < len(reply.candidates) < 8


def test_an_endpoint_that_dies_between_batches_leaves_the_first_batch() -> None:
    texts = [SHORT, LONG, "sun sea", "ant"]
    with generate_world.endpoint(lambda body, number: [texts[number]] if number < 4 else 500) as (address, _):
        reply = BestOfN(remote(address), generate_world.model(features="style"), n=8, cost=0).reply(
            PROMPT, person(), rng=0
        )
        assert (reply.text, reply.personalized, len(reply.candidates)) == (LONG, True, 4)
        assert "HTTP 500" in reply.note
        with pytest.raises(EndpointError, match="HTTP 500"):
            BestOfN(remote(address), generate_world.model(features="style"), n=8).reply(PROMPT, person(), rng=0)


def test_endpoints_cannot_be_guided() -> None:
    sampler = remote("http://127.0.0.1:9/v1")
    with pytest.raises(InputError, match="needs the model's logits"):
        Guided(sampler, RewardGuide(generate_world.model()))


def test_samplers_by_name() -> None:
    sampler = make_sampler("openai:qwen@http://127.0.0.1:9/v1")
    assert isinstance(sampler, EndpointSampler)
    assert sampler.client.config.model == "qwen"
    assert isinstance(make_sampler(policy_world.base()), LocalSampler)
    with pytest.raises(ConfigError, match="openai:MODEL@URL"):
        make_sampler("openai:qwen")
    with pytest.raises(InputError, match="beside a ready client"):
        EndpointSampler(sampler.client, base_url="http://x/v1")


# -- telling and rewriting --------------------------------------------------------------------------------------------


def test_what_a_person_states_is_told_before_the_conversation() -> None:
    with generate_world.endpoint(lambda body, number: ["ok"]) as (address, requests):
        generator = Prompted(remote(address))
        assert generator.reply(PROMPT).personalized is False
        assert [turn["role"] for turn in requests[0]["messages"]] == ["user"]
        reply = generator.reply(
            [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
            generator.state("I am a beekeeper."),
        )
        assert reply.personalized
        system, user = requests[1]["messages"]
        assert system["role"] == "system"
        assert system["content"].startswith("Be brief.\n\nThe person you talk to says of themselves: I am a beekeeper.")
        assert user["content"] == "hi"
    with pytest.raises(ConfigError, match=r"must hold \{text\} once"):
        Prompted(Script("a"), stated="nothing")


def test_what_is_inferred_of_a_person_is_told_in_words() -> None:
    from palate.elicit.profile import axis_names

    model = generate_world.model(features="style")
    texts = [(f"say {i}", text) for i in range(8) for text in (LONG, SHORT, "sun sea", "bee sky ant sun")]
    axes = axis_names(model.method, model.items(texts), texts)
    generator = Prompted(Script("a"), model, axes=axes)
    told = {name: generator.about(person(name)) for name in ("ann", "cat")}
    assert "likes long replies better than short replies" in told["ann"]
    assert "likes short replies better than long replies" in told["cat"]
    assert generator.about(generator.prior) == ""
    assert generator.reply(PROMPT, person()).personalized
    bare = Prompted(Script("a"), model).reply(PROMPT, person())
    assert (bare.personalized, "surely" in bare.note) == (False, True)
    with pytest.raises(InputError, match="Gaussian posterior"):
        Prompted(Script("a"), Judge(), axes=axes)
    with pytest.raises(InputError, match="states come from the model"):
        generator.state("I am old.")


def test_rewrites_of_one_baseline_and_the_one_the_person_likes() -> None:
    model = generate_world.model(features="style")

    def answer(body, number):
        asked = body["messages"][-1]["content"]
        if not asked.startswith("Somebody asked"):
            return ["sun sea"]
        assert "say 5" in asked
        assert "sun sea" in asked
        return [LONG if "longer" in asked else SHORT]

    with generate_world.endpoint(answer) as (address, requests):
        chosen = {
            name: Revise(remote(address), model, n=24).reply(PROMPT, person(name), rng=1) for name in ("ann", "cat")
        }
    assert chosen["ann"].text == LONG
    assert chosen["cat"].text == SHORT
    assert chosen["ann"].candidates[0].text == "sun sea"
    assert len(requests) == 48
    ways = {request["messages"][-1]["content"] for request in requests[1:24]}
    assert len(ways) > 12


def test_rewrites_that_do_not_come_leave_the_baseline_with_a_flag() -> None:
    model = generate_world.model(features="style")
    with generate_world.endpoint(lambda body, number: ["sun sea"] if number == 0 else 500) as (address, _):
        reply = Revise(remote(address), model, n=3).reply(PROMPT, person(), rng=1)
    assert (reply.text, reply.personalized) == ("sun sea", False)
    assert "only one candidate came; a rewrite did not come" in reply.note


def test_nothing_is_rewritten_for_somebody_unknown() -> None:
    sampler, model = Script("sun sea", LONG), generate_world.model(features="style")
    for reply in (Revise(sampler, model).reply(PROMPT), Revise(sampler, model, n=1).reply(PROMPT, person())):
        assert (reply.text, reply.personalized) == ("sun sea", False)
    assert sampler.said == 0


# -- features that were heard while sampling ---------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_states_heard_while_sampling_are_the_features_of_the_replies(temperature: float) -> None:
    from palate.generate.reading import heard_features, shared_layer

    sampler, features = generate_world.sampler(), generate_world.model().featurizer
    layer = shared_layer(features, sampler)
    assert layer == features.layer
    sampling = Sampling(max_tokens=10, temperature=temperature)
    drawn = sampler.sample(PROMPT, 6, rng=np.random.default_rng(0), sampling=sampling, layer=layer)
    assert drawn.texts == sampler.sample(PROMPT, 6, rng=np.random.default_rng(0), sampling=sampling).texts
    found = heard_features(features, PROMPT, drawn, (*sampler.form.head, *sampler.prompt(PROMPT)))
    for text, vector in found.items():
        assert np.allclose(vector, features.embed([(PROMPT, text)])[0], atol=1e-4)
    canonical = {
        text
        for text, trace in zip(drawn.texts, drawn.traces, strict=True)
        if tuple(sampler.form.tokenizer(text, add_special_tokens=False)["input_ids"])
        == trace.tokens[: len(text.encode())]
    }
    assert set(found) == {text for text in canonical if text}
    # What is not heard as it would be read, is read: random bytes are seldom a text.
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    assert not heard_features(features, "User: a", drawn, (*sampler.form.head, *sampler.prompt(turns)))


def test_another_model_is_not_listened_to() -> None:
    from palate.generate.reading import shared_layer

    features = generate_world.model().featurizer
    other = LocalSampler(policy_world.base("gpt2"), dtype="float32", device="cpu")
    assert shared_layer(features, other) is None
    assert shared_layer(generate_world.model(features="style").featurizer, generate_world.sampler()) is None
    assert shared_layer(features, Script("a")) is None


def test_candidates_that_were_heard_are_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sampler = generate_world.model(), generate_world.sampler()
    read = []
    own = type(model.featurizer).embed
    monkeypatch.setattr(
        type(model.featurizer), "embed", lambda self, items, **more: read.extend(items) or own(self, items, **more)
    )
    signs = sampler.form.tokenizer.convert_ids_to_tokens(range(len(sampler.form.tokenizer)))
    words = np.array([len(sign) == 1 and sign.isascii() and sign.isalpha() for sign in signs])

    def letters(logits: np.ndarray, raw: np.ndarray, said: object) -> np.ndarray:
        return np.where(words, logits, -np.inf)

    tokens = sampler._tokens
    monkeypatch.setattr(sampler, "_tokens", lambda *given, **options: tokens(*given, **options | {"steer": letters}))
    ann = model.person("ann")
    reply = BestOfN(sampler, model, n=6, cost=0).reply(PROMPT, ann.state, rng=0, max_tokens=10)
    assert read == []
    scores = ann.score(PROMPT, [candidate.text for candidate in reply.candidates])
    assert [candidate.score for candidate in reply.candidates] == pytest.approx(scores.tolist(), abs=1e-3)
