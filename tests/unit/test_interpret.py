"""Reading a reward space: axes, names, people, groups, sparse features."""

from __future__ import annotations

import json

import numpy as np
import pytest

import palate
from palate.api import write_atlas
from palate.data import corpus
from palate.errors import EndpointError, FingerprintError, InputError
from palate.evaluate.interpret import interpret
from palate.evaluate.interpret_axes import center_within, elbow, taste_axes, varimax
from palate.evaluate.interpret_chat import name_by_chat
from palate.evaluate.interpret_names import (
    STATISTICS,
    AxisName,
    name_by_statistics,
    statistics_of,
    typical_words,
)
from palate.evaluate.interpret_people import agreement_with_others, groups_of, pairs_within
from palate.evaluate.interpret_pool import pool_texts
from palate.evaluate.interpret_sparse import learn_sparse, sparse_features
from palate.simulate import corpus_people

REPLIES = [row.text for row in corpus.replies()]
PROMPTS = np.repeat(np.arange(64), 8)


@pytest.fixture(scope="module")
def people():
    return corpus_people(60, 30, seed=3).dataset


@pytest.fixture(scope="module")
def model(people):
    return palate.fit(people, features="style", rank=5, epochs=8)


@pytest.fixture(scope="module")
def found(model):
    return palate.interpret(model)


# -- axes --------------------------------------------------------------------------------------------------------


def test_all_axes_together_are_the_rewards_against_the_average_person(model) -> None:
    items = model.items([(row.prompt, row.text) for row in corpus.replies()])
    states = model.method.states_
    space = taste_axes(model.method, items, states, axes=5)
    reward = model.method.reward(items, states)
    own = center_within((reward - reward.mean(0)).T, items.prompt)
    np.testing.assert_allclose(space.replies @ space.people.T, own, atol=1e-8)
    assert space.share.sum() == pytest.approx(1)
    assert np.all(np.diff(space.share) <= 1e-12)


def test_people_are_uncorrelated_with_unit_variance_on_the_turned_axes(model) -> None:
    items = model.items([(row.prompt, row.text) for row in corpus.replies()])
    space = taste_axes(model.method, items, model.method.states_)
    total = np.cov(space.people.T, bias=True) + space.covariance.mean(0)
    np.testing.assert_allclose(total, np.eye(len(total)), atol=1e-8)
    place, covariance = space.place(model.method.states_)
    np.testing.assert_allclose(place, space.people)
    np.testing.assert_allclose(covariance, space.covariance)


def test_turning_an_axis_round_changes_no_reward(model) -> None:
    items = model.items([(row.prompt, row.text) for row in corpus.replies()])
    space = taste_axes(model.method, items, model.method.states_, axes=3)
    turned = space.flipped(np.array([1.0, -1.0, 1.0]))
    np.testing.assert_allclose(turned.replies @ turned.people.T, space.replies @ space.people.T)
    np.testing.assert_allclose(turned.replies[:, 1], -space.replies[:, 1])
    np.testing.assert_allclose(turned.place(model.method.states_)[1], turned.covariance)


def test_varimax_finds_sparse_loadings_under_any_rotation() -> None:
    rng = np.random.default_rng(0)
    sparse = rng.standard_normal((400, 4)) * (rng.random((400, 4)) < 0.25)
    hidden = sparse @ np.linalg.qr(rng.standard_normal((4, 4)))[0]
    rotation = varimax(hidden)
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(4), atol=1e-10)
    match = np.abs(np.corrcoef(sparse.T, (hidden @ rotation).T)[:4, 4:])
    assert match.max(1).min() > 0.97
    assert np.abs(np.corrcoef(sparse.T, hidden.T)[:4, 4:]).max(1).min() < 0.9


def test_varimax_of_one_column_and_of_nothing_is_the_identity() -> None:
    np.testing.assert_array_equal(varimax(np.ones((5, 1))), [[1.0]])
    np.testing.assert_array_equal(varimax(np.zeros((5, 3))), np.eye(3))


@pytest.mark.parametrize(
    ("spectrum", "rank"),
    [
        ([0.3, 0.28, 0.22, 0.2, 0, 0, 0, 0], 4),
        ([0.9, 0.03, 0.03, 0.02, 0.02], 1),
        ([0.27, 0.26, 0.24, 0.23], None),
        ([1.0], None),
    ],
)
def test_elbow(spectrum: list[float], rank: int | None) -> None:
    assert elbow(np.array(spectrum)) == rank


# -- names -------------------------------------------------------------------------------------------------------


def test_an_axis_is_named_after_the_statistic_behind_it_and_from_the_right_end() -> None:
    table = statistics_of(REPLIES)
    assert table.shape == (512, len(STATISTICS))
    words = [statistic.name for statistic in STATISTICS].index("words")
    noise = np.random.default_rng(0).standard_normal(512) * table[:, words].std()
    name = name_by_statistics(-table[:, words] + noise, table, PROMPTS)
    assert (name.high, name.low, name.statistic, name.sign) == ("shorter", "longer", "words", -1)
    assert 0.5 < name.correlation < 0.8
    assert name.turned().text == "longer / shorter" and name.turned().sign == 1


def test_noise_gets_no_name_though_one_statistic_is_always_closest() -> None:
    table = statistics_of(REPLIES)
    for seed in range(5):
        name = name_by_statistics(np.random.default_rng(seed).standard_normal(512), table, PROMPTS)
        assert (name.by, name.text) == ("nothing", "no simple name")
        assert name.correlation < 0.2


def test_few_prompts_cannot_check_a_name() -> None:
    name = name_by_statistics(np.arange(16.0), statistics_of(REPLIES[:16]), PROMPTS[:16])
    assert name.correlation is None and name.by == "nothing"


def test_statistics_count_what_they_say() -> None:
    names = [statistic.name for statistic in STATISTICS]
    plain = "The train leaves at nine. It is on time."
    told = statistics_of(
        [plain, plain.replace("nine.", "nine?"), "Hey, it's gonna be okay", "- a\n- b", "Ready to go?"]
    )
    assert told[1, names.index("questions")] > told[0, names.index("questions")] == 0
    assert told[2, names.index("formality")] < told[0, names.index("formality")]
    assert told[3, names.index("list lines")] > 0 == told[0, names.index("list lines")]
    assert told[4, names.index("ends with a question")] == 1 and told[1, names.index("ends with a question")] == 0


def test_typical_words_are_those_of_either_end() -> None:
    replies = ["alpha beta", "alpha gamma", "alpha delta", "alpha", "omega beta", "omega gamma", "omega delta", "omega"]
    assert typical_words(np.array([3.0, 3, 3, 3, -3, -3, -3, -3]), replies) == ((), ())
    many = np.repeat([3.0, -3.0], 8)
    assert typical_words(many, [*(["alpha beta"] * 8), *(["omega beta"] * 8)]) == (("alpha",), ("omega",))


class Scripted:
    """A chat model that gives its answers in turn."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers, self.asked = list(answers), []

    def chat(self, messages, *, temperature: float = 0.0, max_tokens: int = 256) -> str:
        self.asked.append(messages[-1]["content"])
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer(messages[-1]["content"]) if callable(answer) else answer


FROM_STATISTICS = AxisName("longer", "shorter", "words", 0.8, "statistics")
LENGTHS = np.array([[len(text)] for text in REPLIES], float)
NAMED = 'Sure! {"group1": "Long replies", "group2": "terse"} Hope that helps.'


def by_length(question: str) -> str:
    """What somebody would answer who sorts rightly by length."""
    lines = question.split("\n")
    first = [len(line) for line in lines if line.startswith("A: ")]
    second = [len(line) for line in lines if line.startswith("B: ")]
    return "\n".join(f"{n}: {'A' if a > b else 'B'}" for n, (a, b) in enumerate(zip(first, second, strict=True), 1))


def test_a_chat_model_names_an_axis_and_is_checked_on_other_replies() -> None:
    chat = Scripted(NAMED, by_length)
    (name,), notes = name_by_chat(chat, [FROM_STATISTICS], LENGTHS, REPLIES, PROMPTS)
    assert (name.high, name.low, name.by, name.agreement) == ("long replies", "terse", "chat", 1.0)
    assert (name.statistic, name.correlation, notes) == ("words", 0.8, [])
    quoted = [{line[2:] for line in asked.split("\n") if line[:3] in ('- "',)} for asked in chat.asked[:1]]
    checked = {line[3:] for line in chat.asked[1].split("\n") if line[:3] in ("A: ", "B: ")}
    assert len(quoted[0]) == 12 and len(checked) == 20 and not quoted[0] & checked


@pytest.mark.parametrize(
    "nonsense",
    [
        "I cannot help with that.",
        "{not json}",
        '{"group1": "long"}',
        '{"group1": 3, "group2": "x"}',
        '{"group1": "same", "group2": "Same."}',
        '{"group1": "", "group2": "x"}',
        '{"group1": "a name that goes on and on and on", "group2": "x"}',
        '{"group1": "group 1", "group2": "group 2"}',
        '{"group1": "tab\\u0007", "group2": "x"}',
        "",
    ],
)
def test_nonsense_leaves_the_name_from_statistics(nonsense: str) -> None:
    (name,), (note,) = name_by_chat(Scripted(nonsense), [FROM_STATISTICS], LENGTHS, REPLIES, PROMPTS)
    assert name == FROM_STATISTICS
    assert note.startswith("axis 1: ") and note.endswith("the name from statistics stays")


def test_a_name_that_does_not_sort_held_out_replies_is_dropped() -> None:
    wrong = Scripted(NAMED, lambda question: by_length(question).translate(str.maketrans("AB", "BA")))
    (name,), (note,) = name_by_chat(wrong, [FROM_STATISTICS], LENGTHS, REPLIES, PROMPTS)
    assert name == FROM_STATISTICS and "sorts 0 % of 10 held-out pairs" in note


def test_a_name_whose_check_is_not_answered_is_kept_unchecked() -> None:
    (name,), notes = name_by_chat(Scripted(NAMED, "1: A\n2: B"), [FROM_STATISTICS], LENGTHS, REPLIES, PROMPTS)
    assert (name.high, name.by, name.agreement, notes) == ("long replies", "chat", None, [])


def test_an_endpoint_that_fails_ends_the_asking_not_the_work() -> None:
    chat = Scripted(NAMED, by_length, EndpointError("m at x: no answer"))
    names, notes = name_by_chat(chat, [FROM_STATISTICS] * 3, np.tile(LENGTHS, 3), REPLIES, PROMPTS)
    assert [name.by for name in names] == ["chat", "statistics", "statistics"]
    assert notes == ["axes from 2 on are named by statistics: m at x: no answer"]


# -- people ------------------------------------------------------------------------------------------------------


def test_groups_are_claimed_where_people_fall_apart_and_not_where_they_spread() -> None:
    for seed in range(3):
        spread = np.random.default_rng(seed).standard_normal((200, 3))
        none = groups_of(spread)
        assert len(none) == 0 and set(none.label) == {-1} and "vary by degrees" in none.why
    apart = spread + 9.0 * (np.arange(200) < 140)[:, None] * [1, 0, 0]
    groups = groups_of(apart)
    assert np.bincount(groups.label).tolist() == [140, 60]
    np.testing.assert_allclose(groups.centres[0], apart[:140].mean(0))
    assert groups.silhouette > groups.by_chance


@pytest.mark.parametrize("count", [0, 1, 19])
def test_no_groups_of_fewer_than_20_people(count: int) -> None:
    groups = groups_of(np.repeat(np.eye(2) * 10, 10, axis=0)[:count])
    assert len(groups) == 0 and "no claim is made below 20" in groups.why


def test_people_who_are_all_alike_have_no_groups() -> None:
    assert len(groups_of(np.zeros((30, 2)))) == 0


def test_who_wants_the_opposite_of_the_others_is_a_minority() -> None:
    taste = np.array([1.0] * 9 + [-1.0])
    found = agreement_with_others(taste[:, None] * np.arange(8.0), np.zeros(8, int))
    np.testing.assert_allclose(found.share, [1.0] * 9 + [0.0])
    assert found.minority.tolist() == [False] * 9 + [True]
    assert not agreement_with_others(np.zeros((5, 8)), np.zeros(8, int)).minority.any()
    assert np.isnan(agreement_with_others(np.ones((1, 8)), np.zeros(8, int)).share[0])


@pytest.mark.parametrize("size", [7, 1000])
def test_pairs_are_of_replies_to_one_prompt(size: int) -> None:
    prompt = np.repeat([4, 2], size)
    left, right = pairs_within(prompt, most=50)
    assert np.all(prompt[left] == prompt[right]) and np.all(left != right)
    assert len(left) == min(50, size * (size - 1))


# -- sparse features -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features made of two of eight directions each, the directions, and the prompts."""
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.standard_normal((16, 16)))[0][:8]
    code = rng.standard_normal((400, 8)) * (rng.permuted(np.tile(np.arange(8) < 1, (400, 1)), axis=1))
    return code @ directions, directions, np.repeat(np.arange(100), 4)


def test_sparse_features_find_planted_directions_and_explain_held_out_prompts(planted) -> None:
    features, directions, prompt = planted
    space = learn_sparse(features, prompt, size=8, active=2)
    unit = space.decoder / np.linalg.norm(space.decoder, axis=1, keepdims=True)
    assert np.abs(directions @ unit.T).max(1).min() > 0.95
    assert space.explained > 0.95
    code = space.code(features[:50] - features[50:100])
    assert (code != 0).sum(1).max() == 2
    np.testing.assert_array_equal(space.code(features[50:100] - features[:50]), -code)


def test_weights_of_sparse_features_are_those_of_the_rewards(planted) -> None:
    features, directions, prompt = planted
    space = learn_sparse(features, prompt, size=8, active=2)
    liked = features @ directions[3]
    torn = features @ directions[5]
    reward = np.stack([liked + torn, liked - torn])
    found = sparse_features(space, features, reward, [f"text {i}" for i in range(400)], prompt)
    shared = max(found, key=lambda feature: abs(feature.weight))
    split = max(found, key=lambda feature: feature.spread)
    assert abs(shared.weight) > 5 * shared.spread and split.spread > 5 * abs(split.weight)
    assert all(feature.high[0][1] > 0 > feature.low[0][1] for feature in found)


def test_sparse_features_need_features_that_differ() -> None:
    for features in (np.zeros((8, 0)), np.ones((8, 3))):
        with pytest.raises(InputError, match="text features differ within a prompt"):
            learn_sparse(features, np.repeat([0, 1], 4))
    with pytest.raises(InputError, match="5 active of 4"):
        learn_sparse(np.eye(8), np.zeros(8, int), size=4, active=5)


# -- the whole -----------------------------------------------------------------------------------------------------


def test_interpretation_reads_axes_people_and_a_card(found, people) -> None:
    assert (found.n_people, found.n_replies, found.n_prompts, found.rank) == (60, 512, 64, 5)
    assert 1 <= len(found.axes) <= 5
    for k, axis in enumerate(found.axes):
        assert axis.high[0].value > 0 > axis.low[0].value
        assert axis.high[0].value == pytest.approx(found.space.replies[:, k].max())
        assert len({quote.prompt for quote in axis.high}) == 2
        assert axis.name.sign == 1
    card = found.card
    assert "person with the most pronounced taste" in card.title
    assert np.all(card.low < card.place) and np.all(card.place < card.high)
    assert card.suits[0].value > 0 > card.suits_not[0].value
    text = str(found)
    assert "1. " in text and "minority" in text and not any(user in text for user in people.users)


def test_json_has_no_ids_and_no_nan(found, people) -> None:
    text = json.dumps(found.to_dict(), allow_nan=False)
    assert not any(user in text for user in people.users)
    back = json.loads(text)
    assert len(back["axes"]) == len(found.axes) and back["suggested_rank"] == found.space.suggested_rank
    assert sum(back["spectrum"]) == pytest.approx(1, abs=1e-4)


def test_a_large_pool_is_read_by_fewer_people() -> None:
    from palate.evaluate.interpret import _sample as sample

    assert len(sample(150, 0, 10**9)) == 150 and len(sample(5000, 0, 10**9)) == 200
    assert len(sample(10**6, 0, 512)) == 5000 and len(sample(5000, 0, 100_000)) == 500


def test_the_same_twice(model, found) -> None:
    assert palate.interpret(model).to_dict() == found.to_dict()


def test_card_of_a_named_person_and_of_a_new_one(model, people, found) -> None:
    user = people.users[7]
    card = interpret(model, user=user).card
    assert card.title == user
    np.testing.assert_allclose(card.place, found.space.people[7])
    assert card.agreement is not None
    mine = people.subset(people.user == 3)
    new = interpret(model, person=model.adapt(mine.subset(np.arange(5)))).card
    assert new.title == "The person given" and new.agreement is None
    assert np.all(new.high - new.low > card.high - card.low)


def test_a_model_without_its_people_still_has_axes(model, tmp_path) -> None:
    model.save_pretrained(tmp_path / "model")
    found = palate.interpret(tmp_path / "model")
    assert found.n_people == 0 and found.card is None and len(found.axes) >= 1
    assert any("without its people" in note for note in found.notes)
    assert found.to_dict()["minority_share"] is None
    assert write_atlas(found, tmp_path / "atlas.html").read_text().count('id="people"') == 0
    with pytest.raises(InputError, match="sparse=True needs the model's people"):
        interpret(palate.load_model(tmp_path / "model"), sparse=True)


def test_pool_from_choices_files_and_pairs(model, people, tmp_path) -> None:
    pairs = [(row.prompt, row.text) for row in corpus.replies()[:80]]
    file = tmp_path / "pool.jsonl"
    file.write_text("\n".join(json.dumps({"prompt": prompt, "reply": reply}) for prompt, reply in pairs))
    assert pool_texts(file) == ("pool", pairs) and pool_texts(pairs)[1] == pairs
    people.to_frame().head(40).write_csv(tmp_path / "choices.csv")
    assert set(pool_texts(tmp_path / "choices.csv")[1]) <= set(people.item_texts())
    assert len(pool_texts()[1]) == 512
    found = interpret(model, [*pairs, pairs[0], ("a prompt of its own", "with one reply")])
    assert found.n_replies == 80
    assert found.notes == ("1 replies are the only one to their prompt and were left out.",)


def test_few_people_are_shown_but_nothing_is_claimed(tmp_path) -> None:
    few = palate.fit(corpus_people(8, 20, seed=5).dataset, features="style", rank=2, epochs=4)
    found = palate.interpret(few)
    assert len(found.groups) == 0 and "8 people are too few" in found.groups.why
    assert "nothing is claimed about people at large" in write_atlas(found, tmp_path / "a.html").read_text()


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["pooled", "individual"])
def test_a_method_without_a_basis(people, method: str) -> None:
    fitted = palate.fit(people, features="style", method=method)
    with pytest.raises(InputError, match=f"{method} has no basis of tastes to read"):
        palate.interpret(fitted)


@pytest.mark.parametrize(
    ("pool", "says"),
    [
        ([("p", "one reply")], "pool of 1: no prompt has two replies"),
        ([("p", "x"), ("p", "x")], "pool of 1: no prompt has two replies"),
        ([("p", "x"), ("q", "y")], "pool of 2: no prompt has two replies"),
        ([("p", "same words here"), ("p", "same words ther")], "no difference between the replies"),
        ([], "no replies in it"),
        ([("p", " ")], "entry 1 is"),
        ([("p", "x"), ("p", 3)], "entry 2 is"),
    ],
)
def test_pools_that_cannot_be_read(model, pool, says: str) -> None:
    with pytest.raises(InputError, match=says):
        palate.interpret(model, pool)


def test_identical_features(people) -> None:
    flat = palate.fit(people, features=lambda_features(people), rank=2, epochs=4)
    pool = [("p", "x"), ("p", "y"), ("p", "z")]
    flat_vectors = {text: np.ones(3) for _, text in pool}
    from palate.models.reward_model import FeatureRewardModel

    blind = FeatureRewardModel(flat_vectors, flat.method)
    blind.users_, blind.info_ = flat.users_, flat.info_
    with pytest.raises(InputError, match="identical features"):
        interpret(blind, pool)


def lambda_features(people) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {text: rng.standard_normal(3) for _, text in people.item_texts()}


@pytest.mark.parametrize("axes", [0, 6, -1])
def test_axes_out_of_range(model, axes: int) -> None:
    with pytest.raises(InputError, match=f"axes={axes}: the model has 5 over this pool; ask for 1 to 5"):
        interpret(model, axes=axes)


def test_somebody_the_model_does_not_know(model, people) -> None:
    with pytest.raises(InputError, match="unknown user 'nobody'"):
        interpret(model, user="nobody")
    with pytest.raises(InputError, match="both given"):
        interpret(model, user=people.users[0], person=model.adapt())
    other = palate.fit(people, features="style", rank=4, epochs=4)
    with pytest.raises(FingerprintError):
        interpret(model, person=other.adapt())


def test_one_axis_makes_a_page_without_a_map(model, tmp_path) -> None:
    page = write_atlas(interpret(model, axes=1), tmp_path / "one.html").read_text()
    assert 'id="people-lanes"' in page and 'id="taste-map"' not in page


def test_an_atlas_is_a_page_or_json(found, tmp_path) -> None:
    assert json.loads(write_atlas(found, tmp_path / "a.json").read_text())["method"] == "hierarchical"
    with pytest.raises(InputError, match="written as .html or .json"):
        write_atlas(found, tmp_path / "a.pdf")


def test_names_from_a_chat_endpoint_reach_the_page_and_cannot_break_it(model, tmp_path) -> None:
    hostile = Scripted(*(['{"group1": "<b>x</b>", "group2": "y & z"}', "no idea"] * 5))
    found = interpret(model, chat=hostile)
    assert found.axes[0].name.by == "chat"
    page = write_atlas(found, tmp_path / "a.html").read_text()
    assert "<b>x</b>" not in page and "&lt;b&gt;x&lt;/b&gt;" in page
