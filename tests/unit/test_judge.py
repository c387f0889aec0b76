"""The judge: both orders, ties, contradictions, refusals and garbage, examples, cache; against a scripted endpoint."""

import json
import threading

import httpx
import numpy as np
import polars as pl
import pytest

from palate.backends.openai import ChatClient
from palate.errors import ConfigError, EndpointError, FingerprintError, InputError
from palate.features.base import Featurizer
from palate.models.judge import JudgeRewardModel, read_answer

QUESTION = ("Name a drink.", "Tea, of course!", "coffee")


class Endpoint:
    """A fake OpenAI-compatible server; `script` maps the texts of the messages to an answer, a status or None."""

    def __init__(self, script):
        self.script, self.seen, self.lock = script, [], threading.Lock()

    def __call__(self, request):
        messages = json.loads(request.content)["messages"]
        with self.lock:
            self.seen.append(messages)
        answer = self.script(messages)
        if isinstance(answer, int):
            return httpx.Response(answer, json={"error": {"message": "scripted"}})
        message = {"role": "assistant", "content": answer}
        return httpx.Response(200, json={"choices": [{"message": message, "finish_reason": "stop"}]})

    def client(self, **options):
        return ChatClient(
            model="scripted",
            base_url="http://judge/v1",
            transport=httpx.MockTransport(self),
            sleep=lambda _: 0,
            **options,
        )


def judge_of(script, *, cache=None, **settings):
    endpoint = Endpoint(script)
    return JudgeRewardModel(endpoint.client(cache=cache), **settings), endpoint


def shown_first(messages, text):
    """Whether `text` is the first of the two replies of the last question."""
    return f"<reply 1>\n{text}\n" in messages[1]["content"].split("Now the question.")[1]


def likes(text, yes="1", no="2"):
    return lambda messages: yes if shown_first(messages, text) else no


def test_consistent_answers_decide_in_both_orders():
    judge, endpoint = judge_of(likes("Tea, of course!"), trust=0.8)
    me = judge.adapt()
    assert me.prefer(*QUESTION) == pytest.approx(0.8)
    assert me.prefer(QUESTION[0], QUESTION[2], QUESTION[1]) == pytest.approx(0.2)
    assert len(endpoint.seen) == 4 == judge.expected_calls(2)
    verdicts = judge.judge([QUESTION], me.state.batch)
    assert verdicts.flag.tolist() == ["decided"] and verdicts.first_share == 0.5 and verdicts.calls == 2


def test_position_bias_is_a_tie_and_is_seen():
    judge, _ = judge_of(lambda messages: "1")
    verdicts = judge.judge([QUESTION] * 3, judge.adapt().state.batch)
    assert verdicts.probability.tolist() == [0.5] * 3
    assert set(verdicts.flag) == {"contradiction"} and verdicts.first_share == 1.0
    single, endpoint = judge_of(lambda messages: "1", both_orders=False)
    assert single.adapt().prefer(*QUESTION) == 0.75 and len(endpoint.seen) == 1 == single.expected_calls(1)


def test_a_tie_in_one_order_weakens_and_in_both_is_a_tie():
    judge, _ = judge_of(lambda messages: "0")
    verdicts = judge.judge([QUESTION], judge.adapt().state.batch)
    assert verdicts.probability[0] == 0.5 and verdicts.flag[0] == "tie" and np.isnan(verdicts.first_share)
    half, _ = judge_of(likes("coffee", yes="1", no="0"), trust=0.9)
    assert half.adapt().prefer(*QUESTION) == pytest.approx(0.5 - 0.5 * 0.4)


@pytest.mark.parametrize("nonsense", ["I prefer not to say.", "", None, "3", "12", "1 or 2", "0.7"])
def test_garbage_and_refusals_are_asked_once_more_then_half(nonsense):
    judge, endpoint = judge_of(lambda messages: nonsense)
    verdicts = judge.judge([QUESTION], judge.adapt().state.batch)
    assert verdicts.probability[0] == 0.5 and verdicts.flag[0] == "unreadable"
    assert verdicts.calls == len(endpoint.seen) == 4 and verdicts.unreadable == 2
    assert "cannot read" in endpoint.seen[-1][-1]["content"]


def test_a_reminder_can_help():
    judge, _ = judge_of(lambda messages: "Well, let me think" if len(messages) == 2 else likes("coffee")(messages))
    verdicts = judge.judge([QUESTION], judge.adapt().state.batch)
    assert verdicts.probability[0] == 0.25 and verdicts.calls == 4 and verdicts.unreadable == 0


@pytest.mark.parametrize(
    ("text", "certainty", "expected"),
    [
        ("1", False, (1, 1.0)),
        (" **2**.", False, (-1, 1.0)),
        ("Answer: 1", False, (1, 1.0)),
        ("The answer: 2", False, (-1, 1.0)),
        ("Reply 2", False, (-1, 1.0)),
        ("2 80", True, (-1, 0.8)),
        ("1, certainty: 65", True, (1, 0.65)),
        ("1\n100", True, (1, 1.0)),
        ("1 because reply 2 is rude", False, (1, 1.0)),
        ("1", True, (None, 0.0)),
        ("1 900", True, (None, 0.0)),
        ("1/2", False, (None, 0.0)),
        ("10", False, (None, 0.0)),
        ("I like reply 1", False, (None, 0.0)),
        ("The person would prefer 1.", False, (1, 1.0)),
        ("This person prefers reply 2", False, (-1, 1.0)),
        ("This person would prefer 1 or 2", False, (None, 0.0)),
    ],
)
def test_reading_answers(text, certainty, expected):
    assert read_answer(text, certainty) == expected


def test_certainty_scales_the_probability():
    judge, endpoint = judge_of(likes("coffee", yes="1 90", no="2 50"), certainty=True, trust=1.0)
    assert judge.adapt().prefer(*QUESTION) == pytest.approx(0.5 - 0.5 * 0.7)
    assert "certainty" in endpoint.seen[0][1]["content"]


HISTORY = [
    {"prompt": "Name a fruit.", "left": "Apple!", "right": "a pear", "label": 1, "time": 30.0},
    {"prompt": "Name a sport.", "left": "chess", "right": "Rowing!", "label": 0, "time": 10.0},
    {"prompt": "Name a city.", "left": "Rome!", "right": "oslo", "label": 0.5, "time": 20.0},
]


def test_recent_examples_and_user_text_are_shown():
    judge, endpoint = judge_of(lambda messages: "1", examples=2)
    me = judge.adapt(HISTORY, user_text="Likes exclamation marks.")
    me.prefer(*QUESTION)
    asked = endpoint.seen[0][1]["content"]
    assert "Likes exclamation marks." in asked and "Name a sport." not in asked
    assert asked.index("Name a city.") < asked.index("Name a fruit.") < asked.index("Name a drink.")
    assert "preferred neither" in asked and "preferred reply 1" in asked
    zero_shot, endpoint = judge_of(lambda messages: "1")
    zero_shot.adapt(HISTORY).prefer(*QUESTION)
    assert "Earlier choice" not in endpoint.seen[0][1]["content"]


def test_history_may_be_a_frame_or_triples():
    judge, _ = judge_of(lambda messages: "1", examples=3)
    triples = judge.adapt([("Name a fruit.", "Apple!", "a pear")])
    row = json.loads(triples.state["history"])[0]
    assert (row["left"] if row["label"] == 1 else row["right"]) == "Apple!"
    frame = judge.adapt(pl.DataFrame(HISTORY))
    pandas = judge.adapt(pl.DataFrame(HISTORY).to_pandas())
    assert frame.state["history"] == pandas.state["history"] == judge.adapt(HISTORY).state["history"]
    assert json.loads(judge.adapt([]).state["history"]) == []


class Letters(Featurizer):
    """Counts of letters."""

    name, fingerprint, dim = "letters", "letters", 26

    def embed(self, items, *, progress=None):
        return np.array([[text.lower().count(chr(97 + i)) for i in range(26)] for _, text in items], np.float32)


def test_nearest_examples_do_not_depend_on_the_order():
    rows = [{"prompt": "?", "left": "zzzz zz", "right": "zzz", "label": 1}] * 3
    rows += [{"prompt": "?", "left": "tea tea", "right": "coffees", "label": 0}]
    endpoint = Endpoint(lambda messages: "1")
    judge = JudgeRewardModel(endpoint.client(), examples=1, choose="nearest", similarity=Letters())
    judge.adapt(rows).prefer(*QUESTION)
    assert all("tea tea" in messages[1]["content"] for messages in endpoint.seen)
    with pytest.raises(InputError, match="similarity"):
        JudgeRewardModel(endpoint.client(), examples=1, choose="nearest")


def test_answers_are_cached_and_a_killed_run_resumes(tmp_path):
    judge, endpoint = judge_of(likes("coffee"), cache=tmp_path)
    first = judge.adapt(HISTORY).prefer(*QUESTION)
    again, silent_endpoint = judge_of(lambda messages: 500, cache=tmp_path)
    assert again.adapt(HISTORY).prefer(*QUESTION) == first and not silent_endpoint.seen
    with pytest.raises(EndpointError):
        again.adapt(HISTORY).prefer("Another prompt", "a", "b")
    assert len(endpoint.seen) == 2


def test_calls_are_announced_before_the_first():
    judge, endpoint = judge_of(lambda messages: "1", workers=1)
    announced = []
    judge.judge([QUESTION] * 2, judge.adapt().state.batch, progress=lambda *call: announced.append(call))
    assert announced[0] == (0, 4, "judge") and announced[-1] == (4, 4, "judge")


def test_score_is_a_tournament():
    order = ["a", "b", "c", "d"]

    def script(messages):
        question = messages[1]["content"].split("Now the question.")[1]
        shown = [question.split(f"<reply {i}>\n")[1][0] for i in (1, 2)]
        return "1" if order.index(shown[0]) > order.index(shown[1]) else "2"

    judge, endpoint = judge_of(script, trust=1.0)
    assert judge.adapt().score("?", order) == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert len(endpoint.seen) == 12
    assert judge.adapt().score("?", ["only"]).tolist() == [0.5] and len(judge.adapt().score("?", [])) == 0


def test_bad_input():
    judge, _ = judge_of(lambda messages: "1")
    other, _ = judge_of(lambda messages: "1", examples=2)
    me = judge.adapt()
    with pytest.raises(FingerprintError):
        other.prefer([QUESTION], me.state.batch)
    with pytest.raises(InputError, match="2 people"):
        judge.adapt([{**HISTORY[0], "user": "a"}, {**HISTORY[1], "user": "b"}])
    with pytest.raises(InputError, match="has no reward"):
        judge.reward([("a", "b")], me.state.batch)
    with pytest.raises(InputError, match="must be texts"):
        me.prefer("?", "a", None)
    with pytest.raises(InputError, match="triple"):
        judge.adapt([("only", "two")])
    with pytest.raises(InputError, match="give one each"):
        judge.prefer([QUESTION], me.state.batch, np.zeros(2, int))
    with pytest.raises(ConfigError, match="trust"):
        judge_of(lambda messages: "1", trust=0.2)
