"""The OpenAI-compatible client against scripted servers."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import numpy as np
import pytest

from palate.backends.openai import ChatClient, EmbeddingClient
from palate.errors import ConfigError, EndpointError, InputError

HELLO = [{"role": "user", "content": "hello"}]
KEY = "sk-very-secret-0123"


def reply(text="hi", **extra):
    return httpx.Response(200, json={"choices": [{"message": {"content": text}, "finish_reason": "stop", **extra}]})


class Script:
    """A server that gives its answers in turn and keeps the requests."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []
        self.waits = []

    def __call__(self, request):
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self, kind=ChatClient, **settings):
        settings = {"model": "m", "base_url": "http://server.test/v1", **settings}
        return kind(transport=httpx.MockTransport(self), sleep=self.waits.append, **settings)

    def body(self, number=0):
        return json.loads(self.requests[number].content)


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    monkeypatch.delenv("PALATE_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def test_chat_sends_what_was_asked_and_returns_the_text():
    server = Script(reply("pong"))
    with server.client(api_key=KEY) as client:
        assert client.chat(HELLO, temperature=0.5, max_tokens=7, stop=["\n"], seed=3) == "pong"
    assert server.body() == {
        "model": "m",
        "messages": HELLO,
        "temperature": 0.5,
        "max_tokens": 7,
        "stop": ["\n"],
        "seed": 3,
    }
    assert str(server.requests[0].url) == "http://server.test/v1/chat/completions"
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_first_token_logprobs():
    top = [{"token": "A", "logprob": -0.1}, {"token": "B", "logprob": -2.4}]
    server = Script(reply("A", logprobs={"content": [{"token": "A", "top_logprobs": top}]}), reply("A"))
    with server.client() as client:
        assert client.answer(HELLO, top_logprobs=2).first_token == {"A": -0.1, "B": -2.4}
        with pytest.raises(EndpointError, match="no log-probabilities"):
            client.answer(HELLO, top_logprobs=2)


@pytest.mark.parametrize(
    "failure",
    [
        httpx.Response(429),
        httpx.Response(500, text="oops"),
        httpx.Response(503, json={"error": {"message": "busy"}}),
        httpx.ConnectError("refused"),
        httpx.ReadError("connection reset by peer"),
        httpx.ReadTimeout("slow"),
    ],
)
def test_passing_failures_are_tried_again_with_growing_pauses(failure):
    server = Script(failure, failure, reply("ok"))
    with server.client() as client:
        assert client.chat(HELLO) == "ok"
    assert len(server.waits) == 2
    assert 0.3 < server.waits[0] < server.waits[1] <= 1.0


def test_retry_after_is_honoured_in_seconds_and_as_a_date():
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    server = Script(
        httpx.Response(429, headers={"retry-after": "7"}), httpx.Response(503, headers={"retry-after": date}), reply()
    )
    with server.client() as client:
        client.chat(HELLO)
    assert server.waits[0] == 7
    assert 15 < server.waits[1] <= 20


def test_a_server_that_asks_for_too_long_is_given_up():
    server = Script(httpx.Response(429, headers={"retry-after": "3600"}))
    with server.client(max_wait=30) as client, pytest.raises(EndpointError, match="wait 3600 s, over max_wait=30"):
        client.chat(HELLO)
    assert server.waits == []


def test_tries_are_limited_and_the_error_names_server_and_model():
    server = Script(*[httpx.Response(500)] * 3)
    with server.client(attempts=3) as client, pytest.raises(EndpointError) as caught:
        client.chat(HELLO)
    assert "m at http://server.test/v1" in str(caught.value) and "after 3 tries" in str(caught.value)
    assert len(server.requests) == 3 and len(server.waits) == 2


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (httpx.Response(401, json={"error": {"message": f"bad key {KEY}"}}), "PALATE_API_KEY"),
        (httpx.Response(404, text="no such model"), "model's name"),
        (httpx.Response(400, json={"error": "too long"}), "too long"),
        (httpx.Response(400, json=["odd"]), "odd"),
        (httpx.Response(429, json={"error": {"code": "insufficient_quota", "message": "pay"}}), "quota"),
        (httpx.Response(302, headers={"location": "http://elsewhere.test"}), "HTTP 302"),
        (httpx.Response(200, text="<html>welcome"), "not JSON"),
        (httpx.Response(200, json={"choices": []}), "no choices"),
        (httpx.Response(200, json=[1]), "no choices"),
        (reply(None), "empty"),
    ],
)
def test_hopeless_answers_fail_at_once_in_one_line_without_the_key(answer, line):
    server = Script(answer)
    with server.client(api_key=KEY) as client, pytest.raises(EndpointError, match=line) as caught:
        client.chat(HELLO)
    assert len(server.requests) == 1
    assert KEY not in str(caught.value) and "\n" not in str(caught.value)


def test_the_key_is_nowhere_but_in_the_header(tmp_path, caplog):
    caplog.set_level("DEBUG")
    server = Script(reply(), httpx.ReadError(KEY))
    with server.client(api_key=KEY, cache=tmp_path, attempts=1) as client:
        client.chat(HELLO)
        with pytest.raises(EndpointError) as caught:
            client.chat([*HELLO, *HELLO])
        assert KEY not in repr(client) + repr(client.config) + str(caught.value) + caplog.text
    assert all(KEY not in file.read_text() for file in tmp_path.rglob("*.json"))


def test_address_with_a_password_does_not_show_it():
    server = Script(httpx.Response(400))
    with server.client(base_url="http://me:hush@server.test/v1") as client, pytest.raises(EndpointError) as caught:
        client.chat(HELLO)
    assert "hush" not in str(caught.value) + repr(client)


def test_keys_from_the_environment_go_only_where_they_belong(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "openai-key")
    elsewhere, home, own = Script(reply()), Script(reply()), Script(reply())
    with elsewhere.client() as client:
        client.chat(HELLO)
    with home.client(base_url="https://api.openai.com/v1") as client:
        client.chat(HELLO)
    monkeypatch.setenv("PALATE_API_KEY", "palate-key")
    with own.client() as client:
        client.chat(HELLO)
    assert "authorization" not in elsewhere.requests[0].headers
    assert home.requests[0].headers["authorization"] == "Bearer openai-key"
    assert own.requests[0].headers["authorization"] == "Bearer palate-key"


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="base_url"):
        ChatClient(model="m", base_url="server.test/v1")
    with pytest.raises(ConfigError, match="unknown setting 'retries'"):
        ChatClient(model="m", retries=3)
    with pytest.raises(InputError, match="API key"):
        ChatClient(model="m", api_key="schlüssel")


def test_cached_answers_ask_nothing_and_differ_by_request(tmp_path):
    server = Script(reply("one"), reply("two"))
    with server.client(cache=tmp_path) as client:
        assert [client.chat(HELLO, seed=seed) for seed in (1, 2, 1, 2)] == ["one", "two", "one", "two"]
    assert len(server.requests) == 2
    for file in tmp_path.rglob("*.json"):
        file.write_text("{half")
    again = Script(reply("fresh"))
    with again.client(cache=tmp_path) as client:
        assert client.chat(HELLO, seed=1) == "fresh"


def test_many_conversations_keep_their_order_and_report_progress():
    def echo(request):
        return reply(json.loads(request.content)["messages"][0]["content"])

    seen = []
    with ChatClient(model="m", base_url="http://server.test/v1", transport=httpx.MockTransport(echo)) as client:
        answers = client.chat_many(
            [[{"role": "user", "content": str(i)}] for i in range(30)],
            workers=4,
            progress=lambda done, total, what: seen.append((done, total)),
        )
    assert answers == [str(i) for i in range(30)]
    assert seen[-1] == (30, 30)


def test_many_conversations_stop_at_the_first_failure():
    server = Script(*[httpx.Response(400)] * 50)
    with server.client() as client, pytest.raises(EndpointError):
        client.chat_many([HELLO] * 50, workers=1)
    assert len(server.requests) < 50


def vectors(*rows):
    return httpx.Response(200, json={"data": [{"index": i, "embedding": row} for i, row in rows]})


def test_embeddings_come_in_batches_and_in_order():
    server = Script(vectors((1, [3, 4]), (0, [1, 2])), vectors((0, [5, 6])))
    with server.client(EmbeddingClient) as client:
        embedded = client.embed(["a", "b", "c"], batch_size=2)
        assert client.embed([]).shape == (0, 0)
    np.testing.assert_array_equal(embedded, np.array([[1, 2], [3, 4], [5, 6]], np.float32))
    assert server.body(1) == {"model": "m", "input": ["c"], "encoding_format": "float"}


@pytest.mark.parametrize(
    "answer",
    [
        vectors((0, [1.0])),
        vectors((0, [1.0]), (1, [1.0, 2.0])),
        httpx.Response(200, json={"data": [{"index": 0, "embedding": "abc"}, {"index": 1, "embedding": "abc"}]}),
        httpx.Response(200, json={}),
        httpx.Response(200, content=b'{"data":[{"index":0,"embedding":[NaN]},{"index":1,"embedding":[1]}]}'),
    ],
)
def test_odd_embeddings_are_refused(answer):
    server = Script(answer)
    with server.client(EmbeddingClient) as client, pytest.raises(EndpointError, match="OpenAI-compatible"):
        client.embed(["a", "b"])


def test_vectors_of_changing_width_are_refused():
    server = Script(vectors((0, [1.0])), vectors((0, [1.0, 2.0])))
    with server.client(EmbeddingClient) as client, pytest.raises(EndpointError, match="1 and 2 numbers"):
        client.embed(["a", "b"], batch_size=1)
