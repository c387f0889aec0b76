"""People played by a chat model: both orders, bias, refusals, garbage, rate limits, a cut connection; a scripted endpoint."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from palate.backends.openai import ChatClient
from palate.cli.app import app
from palate.data import read
from palate.errors import DataError, EndpointError, InputError
from palate.simulate.recipes import (
    Calls,
    attributes_played,
    drawn_profiles,
    opposing_played,
    profiles_played,
    read_profiles,
)
from palate.simulate.recipes.consistency import count_circles

POOL = [(f"question {p}", f"reply {p} " + "more " * (3 * number + p % 3)) for p in range(6) for number in range(3)]


class Endpoint:
    """A fake server; `script(messages)` gives an answer, None (a refusal), a status, or raises what the network would."""

    def __init__(self, script):
        self.script, self.answered, self.requests, self.lock = script, [], 0, threading.Lock()

    def __call__(self, request):
        messages = json.loads(request.content)["messages"]
        with self.lock:
            self.requests += 1
            number = self.requests
        answer = self.script(messages, number)
        if isinstance(answer, int):
            return httpx.Response(answer, json={"error": {"message": "scripted"}})
        with self.lock:
            self.answered.append(json.dumps(messages))
        choice = {"message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
        return httpx.Response(200, json={"choices": [choice]})

    def calls(self, folder, **options):
        transport = httpx.MockTransport(self)
        client = ChatClient(model="scripted", base_url="http://judge/v1", transport=transport, sleep=lambda _: 0)
        return Calls(client, folder, **options)


def replies(messages):
    return re.findall(r"<reply \d>\n(.*?)\n</reply \d>", messages[1]["content"], re.DOTALL)


def taste(messages, number=0):
    """Follows length where the person cares about it; else the last digit of the prompt decides, alike in both orders."""
    first, second = replies(messages)
    system = messages[0]["content"]
    if "concise" in system:
        return "1" if len(first) < len(second) else "2"
    if "verbose" in system:
        return "1" if len(first) > len(second) else "2"
    return "1" if first < second else "2"


def test_the_person_decides_and_both_orders_are_asked(tmp_path):
    endpoint = Endpoint(taste)
    plan = attributes_played(POOL, pairs=10, people=84, repeats=0.0)
    made = plan.make(endpoint.calls(tmp_path))
    data = made.dataset
    assert data.n_users == 84 and len(data) == 84 * len(set(zip(plan.left, plan.right, strict=True)))
    assert len(endpoint.answered) == len(set(endpoint.answered)) == 2 * len(data) == made.record["calls"]["asked"]
    traits = {row["user"]: row["traits"] for row in made.people}
    seen = {"verbose": 0, "concise": 0}
    for row in data.to_frame().iter_rows(named=True):
        for pole, sign in (("verbose", 1), ("concise", -1)):
            if pole in traits[row["user"]] and len(row["left"]) != len(row["right"]):
                assert row["label"] == float(sign * (len(row["left"]) - len(row["right"])) > 0)
                seen[pole] += 1
    assert min(seen.values()) > 50
    told = {row["told"] for row in made.people}
    assert "You are a helpful AI judge. You prefer verbose and formal responses." in told


def test_order_bias_is_a_tie_and_stands_in_the_report(tmp_path):
    def half_biased(messages, number):
        return "1" if "polite" in messages[0]["content"] else taste(messages)

    made = attributes_played(POOL, pairs=8, people=84, repeats=0.0).make(Endpoint(half_biased).calls(tmp_path))
    biased = [row["user"] for row in made.people if "polite" in row["traits"]]
    report = {row["user"]: row for row in made.consistency.rows()}
    rows = made.dataset.to_frame()
    for name, row in report.items():
        labels = rows.filter(pl.col("user") == name)["label"]
        assert row["flip_share"] == (1.0 if name in biased else 0.0) and row["questions"] == len(labels)
        assert row["first_share"] == (1.0 if name in biased else 0.5)
        assert (labels == 0.5).all() if name in biased else (labels != 0.5).all()
    total = made.consistency.total()
    assert total["people_mostly_flipping"] == len(biased) and total["flips"] == len(biased) * 8
    assert {row["verdict"] for row in made.answers if row["user"] == biased[0]} == {"flip"}


@pytest.mark.parametrize("nonsense", [None, "", "As an AI I have no taste.", "1 or 2", "7"])
def test_refusals_and_garbage_are_asked_once_more_and_left_out(tmp_path, nonsense):
    def partly(messages, number):
        return nonsense if "question 0" in messages[1]["content"] else taste(messages)

    endpoint = Endpoint(partly)
    calls = endpoint.calls(tmp_path)
    made = attributes_played(POOL, pairs=12, people=5, repeats=0.0).make(calls)
    bad = sum(row["prompt"] == "question 0" for row in made.answers)
    assert bad > 0 and made.record["left_out"] == bad == made.consistency.total()["unreadable"]
    assert len(made.dataset) == len(made.answers) - bad and "question 0" not in made.dataset.prompts
    assert len(endpoint.answered) == 2 * len(made.answers) + 2 * bad == made.record["calls"]["asked"]
    assert made.record["calls"]["refused"] == (4 * bad if nonsense is None else 0)
    again = attributes_played(POOL, pairs=12, people=5, repeats=0.0).make(endpoint.calls(tmp_path))
    assert again.record["calls"]["asked"] == 0 and again.dataset.fingerprint == made.dataset.fingerprint


def test_a_reminder_can_help(tmp_path):
    endpoint = Endpoint(lambda messages, number: "Hm." if len(messages) == 2 else taste(messages))
    made = attributes_played(POOL, pairs=3, people=2, repeats=0.0).make(endpoint.calls(tmp_path))
    assert made.record["left_out"] == 0 and len(endpoint.answered) == 4 * len(made.dataset)


def test_a_model_that_never_says_1_or_2_is_one_clear_line(tmp_path):
    calls = Endpoint(lambda messages, number: "Both are lovely").calls(tmp_path)
    with pytest.raises(DataError, match="'Both are lovely'.*take a model that can say 1 or 2") as error:
        attributes_played(POOL, pairs=3, people=2).make(calls)
    assert "\n" not in str(error.value)


def test_rate_limits_lose_nothing_and_count_nothing_twice(tmp_path):
    endpoint = Endpoint(lambda messages, number: 429 if number % 3 == 0 else taste(messages))
    plan = attributes_played(POOL, pairs=10, people=6, repeats=0.2)
    calls = endpoint.calls(tmp_path)
    expected = plan.cost(calls)
    made = plan.make(calls)
    assert endpoint.requests > len(endpoint.answered) == len(set(endpoint.answered)) == expected.calls
    assert made.record["calls"]["asked"] == expected.calls
    calm = plan.make(Endpoint(taste).calls(tmp_path / "calm"))
    assert calm.dataset.fingerprint == made.dataset.fingerprint


@pytest.mark.parametrize("workers", [1, 8])
def test_a_cut_connection_keeps_what_was_answered(tmp_path, workers):
    def cut(messages, number):
        if number > 50:
            raise httpx.ConnectError("cable pulled")
        return taste(messages)

    plan = attributes_played(POOL, pairs=10, people=8)
    broken = Endpoint(cut)
    calls = broken.calls(tmp_path, workers=workers)
    total = plan.cost(calls).calls
    with pytest.raises(EndpointError, match=f"cable pulled.*50 of {total} answers are kept, run the same again"):
        plan.make(calls)
    assert len(broken.answered) == 50 == calls.asked
    rest = plan.cost(calls)
    assert rest.kept == 50 and rest.calls == total
    seen = []
    mended = Endpoint(taste)
    made = plan.make(mended.calls(tmp_path), progress=lambda done, total, what="": seen.append((done, total)))
    assert seen[0] == (50, total) and seen[-1] == (total, total)
    assert len(mended.answered) == total - 50 == made.record["calls"]["asked"]
    assert not set(mended.answered) & set(broken.answered)
    whole = plan.make(Endpoint(taste).calls(tmp_path / "whole"))
    assert whole.dataset.fingerprint == made.dataset.fingerprint and list(whole.answers) == list(made.answers)


def test_damaged_and_half_written_answers_are_asked_again(tmp_path):
    plan, endpoint = attributes_played(POOL, pairs=4, people=3), Endpoint(taste)
    first = plan.make(endpoint.calls(tmp_path))
    files = sorted(tmp_path.rglob("*.json"))
    files[0].write_text("{")
    files[1].write_text('{"text": 3}')
    files[2].unlink()
    (tmp_path / "ab").mkdir(exist_ok=True)
    (tmp_path / "ab" / ".x.tmp").write_text('{"te')
    endpoint.answered.clear()
    again = plan.make(endpoint.calls(tmp_path))
    assert len(endpoint.answered) == 3 and again.dataset.fingerprint == first.dataset.fingerprint


def test_answers_of_another_model_are_not_taken(tmp_path):
    plan = attributes_played(POOL, pairs=2, people=2)
    endpoint = Endpoint(taste)
    plan.make(endpoint.calls(tmp_path))
    assert plan.cost(endpoint.calls(tmp_path)).kept > 0
    assert plan.cost(endpoint.calls(tmp_path, name="another")).kept == 0


def test_the_cost_is_told_before_and_falls_to_nothing(tmp_path):
    plan, endpoint = opposing_played(POOL, pairs=9, repeats=0.0), Endpoint(taste)
    calls = endpoint.calls(tmp_path)
    cost = plan.cost(calls)
    assert endpoint.requests == 0 and cost.calls == 6 * 2 * len(plan.left) / 6 and cost.kept == 0
    letters = sum(len(message["content"]) for text in (plan._asked(),) for talk in text for message in talk)
    assert cost.prompt_tokens == pytest.approx(letters / 4 + 8 * cost.calls, abs=1)
    assert f"{cost.calls:,} calls" in str(cost)
    plan.make(calls)
    after = plan.cost(calls)
    assert after.kept == after.calls == cost.calls and after.prompt_tokens == after.answer_tokens == 0


def test_second_answers_and_circles_are_counted(tmp_path):
    def moody(messages, number):
        if "Of these two" in messages[1]["content"] and "concise" in messages[0]["content"]:
            return "1" if taste(messages) == "2" else "2"
        return taste(messages)

    made = attributes_played(POOL, pairs=18, people=84, repeats=0.5).make(Endpoint(moody).calls(tmp_path))
    for row, person in zip(made.consistency.rows(), made.people, strict=True):
        assert row["repeats"] == 9 and row["repeat_agreement"] == (0.0 if "concise" in person["traits"] else 1.0)
        assert row["triads"] == 6 and row["circles"] == 0
    assert len(made.dataset) == 84 * 18  # second answers are for the report only


def test_circles():
    circle = np.array([0, 1, 2]), np.array([1, 2, 0]), np.array([1.0, 1.0, 1.0])
    assert count_circles(*circle) == (1, 1)
    assert count_circles(circle[0], circle[1], np.array([1.0, 1.0, 0.0])) == (1, 0)
    assert count_circles(circle[0], circle[1], np.array([1.0, 1.0, 0.5])) == (0, 0)
    rng = np.random.default_rng(0)
    left, right = np.triu_indices(40, 1)
    triads, circles = count_circles(left, right, (rng.random(len(left)) < 0.5).astype(float))
    assert triads == 40 * 39 * 38 / 6 and circles / triads == pytest.approx(0.25, abs=0.02)


# -- profiles -----------------------------------------------------------------------------------------------------------


def world(messages, number=0):
    """Even prompts are controversial; a revision is a word longer; `brevity` wants short replies, others long ones."""
    ask = messages[-1]["content"]
    if "yes or no" in ask:
        return "Yes." if int(re.search(r"question (\d)", ask)[1]) % 2 == 0 else "no"
    if "rewrite" in messages[0]["content"]:
        text = re.search(r"<reply>\n(.*?)\n</reply>", ask, re.DOTALL)[1]
        return text if "question 4" in ask else text + " suited"
    first, second = replies(messages)
    return "1" if (len(first) < len(second)) == ("brevity" in messages[0]["content"]) else "2"


def test_profiles_revise_a_reply_for_somebody_and_ask_everybody_drawn(tmp_path):
    endpoint = Endpoint(world)
    plan = profiles_played(POOL, people=30, pairs=5, people_per_pair=12, repeats=0.0, seed=2)
    bound = plan.cost(endpoint.calls(tmp_path))
    assert bound.most and endpoint.requests == 0
    made = plan.make(endpoint.calls(tmp_path))
    # Three prompts are controversial; the revision of one says nothing new.
    assert set(made.dataset.prompts) == {"question 0", "question 2"} and made.record["pairs"] == 2
    assert len(made.dataset) == 2 * 12 and len(endpoint.answered) == 6 + 3 + 2 * 2 * 12 <= bound.calls
    assert plan.cost(endpoint.calls(tmp_path)).to_dict() == {
        "calls": len(endpoint.answered), "kept": len(endpoint.answered), "prompt_tokens": 0, "answer_tokens": 0, "most": False,
    }  # fmt: skip
    brief = {row["user"] for row in made.people if row["profile"]["values most in a reply"] == "brevity"}
    for row in made.dataset.to_frame().iter_rows(named=True):
        assert row["left"].endswith("suited") != row["right"].endswith("suited")
        assert row["label"] == float((len(row["left"]) < len(row["right"])) == (row["user"] in brief))
        assert ("brevity" in row["user_text"]) == (row["user"] in brief)
    assert {row["prompt"] for row in made.record["revisions"]} == set(made.dataset.prompts)


def test_profiles_go_on_after_a_cut_in_the_middle_of_the_second_step(tmp_path):
    def cut(messages, number):
        if number > 8:
            raise httpx.ReadError("gone")
        return world(messages)

    plan = profiles_played(POOL, people=10, pairs=5, people_per_pair=4, seed=1)
    with pytest.raises(EndpointError, match="2 of 3 answers are kept"):
        plan.make(Endpoint(cut).calls(tmp_path, workers=1))
    endpoint = Endpoint(world)
    made = plan.make(endpoint.calls(tmp_path))
    whole = Endpoint(world)
    assert plan.make(whole.calls(tmp_path / "whole")).dataset.fingerprint == made.dataset.fingerprint
    assert len(endpoint.answered) == len(whole.answered) - 8


def test_profiles_of_marked_prompts_and_pairs_of_the_pool(tmp_path):
    frame = pl.DataFrame({"prompt": [p for p, _ in POOL], "reply": [r for _, r in POOL]})
    frame = frame.with_columns(controversial=pl.col("prompt").is_in(["question 1", "question 3"]))
    frame.write_parquet(tmp_path / "pool.parquet")
    people = tmp_path / "people.csv"
    people.write_text("user,wants,age\nann,brevity,20\nbob,depth,\n")
    plan = profiles_played(
        tmp_path / "pool.parquet", profiles=read_profiles(people), controversial="marked", revise=False, repeats=0.0
    )
    endpoint = Endpoint(world)
    made = plan.make(endpoint.calls(tmp_path / "calls"))
    assert set(made.dataset.prompts) == {"question 1", "question 3"} and made.dataset.users == ("ann", "bob")
    assert len(endpoint.answered) == 2 * 2 * 2 and made.dataset.user_text == ("wants: brevity\nage: 20", "wants: depth")
    labels = made.dataset.to_frame().sort("user", "prompt")["label"].to_numpy().reshape(2, 2)
    np.testing.assert_array_equal(labels[0], 1.0 - labels[1])


def test_no_controversy_and_no_revision_are_one_line(tmp_path):
    with pytest.raises(DataError, match="no prompt controversial"):
        profiles_played(POOL, people=3).make(Endpoint(lambda messages, number: "no").calls(tmp_path / "a"))
    dull = profiles_played(POOL, people=3, controversial="all")
    with pytest.raises(DataError, match="revised none of 6"):
        dull.make(Endpoint(lambda messages, number: None).calls(tmp_path / "b"))


@pytest.mark.parametrize(
    "make,named",
    [
        (lambda: profiles_played(POOL, controversial="marked"), "marks no prompt"),
        (lambda: profiles_played(POOL, controversial="maybe"), "controversial='maybe'"),
        (lambda: profiles_played(POOL, pairs=0), "pairs=0"),
        (lambda: profiles_played(POOL, profiles=[]), "profiles=[]"),
        (
            lambda: profiles_played(POOL, profiles=[{"user": "a", "x": "1"}, {"user": "a", "x": "2"}]),
            "'a' is there twice",
        ),
        (lambda: profiles_played([("a", "x"), ("b", "y")], controversial="all", revise=False), "no prompt has two"),
        (lambda: attributes_played(POOL, repeats=2.0), "repeats=2.0"),
        (lambda: drawn_profiles(0), "people=0"),
        (lambda: Calls(None, "x", name="x", workers=0), "workers=0"),
    ],
)
def test_bad_settings_are_one_line(make, named):
    with pytest.raises(InputError) as error:
        make()
    assert named in str(error.value) and "\n" not in str(error.value)


def test_profiles_that_say_nothing_are_named(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text("user,wants\nann,depth\nbob,\n")
    with pytest.raises(DataError, match="row 2 says nothing"):
        read_profiles(path)
    with pytest.raises(DataError, match="no .jsonl"):
        read_profiles(tmp_path / "none.csv")


# -- command line -------------------------------------------------------------------------------------------------------


@pytest.fixture
def server():
    """A real server on this machine, for what the command line does with an address."""
    state = {"answered": 0, "fail_after": None, "biased": False}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            state["answered"] += 1
            cut = state["fail_after"] is not None and state["answered"] > state["fail_after"]
            text = "1" if state["biased"] else taste(body["messages"])
            content = json.dumps(
                {"error": {"message": "no"}}
                if cut
                else {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
            ).encode()
            self.send_response(401 if cut else 200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    state["url"] = f"fake@http://127.0.0.1:{running.server_address[1]}/v1"
    yield state
    running.shutdown()
    running.server_close()
    thread.join()


def test_command_line_says_the_cost_asks_and_resumes(server, tmp_path):
    pool = tmp_path / "pool.csv"
    pl.DataFrame({"prompt": [p for p, _ in POOL], "reply": [r for _, r in POOL]}).write_csv(pool)
    out = tmp_path / "out"
    verb = [*("simulate", "attributes", "--pool", str(pool), "--licence", "CC0", "--chat", server["url"])]
    verb += ["--people", "5", "--pairs", "4", "--repeats", "0", "-o", str(out)]
    runner = CliRunner()
    dry = runner.invoke(app, [*verb, "--dry-run", "--json"])
    assert dry.exit_code == 0 and json.loads(dry.stdout)["calls"] == 40 and server["answered"] == 0
    server["fail_after"] = 15
    broken = runner.invoke(app, [*verb, "--workers", "1"])
    assert broken.exit_code == 1 and "15 of 40 answers are kept" in broken.stderr and not (out / "recipe.json").exists()
    server.update(fail_after=None, answered=0)
    done = runner.invoke(app, [*verb, "--json"])
    assert done.exit_code == 0 and server["answered"] == 25 and "about 25 calls (15 more are answered" in done.stderr
    facts = json.loads(done.stdout)
    assert facts["n_users"] == 5 and facts["calls"]["asked"] == 25 and facts["licences"]["texts"] == "CC0"
    assert len(read(facts["files"]["choices"])) == 20
    report = pl.read_csv(facts["files"]["consistency"])
    assert report["questions"].to_list() == [4] * 5 and report["flips"].sum() == 0
    assert len((out / "answers.jsonl").read_text().splitlines()) == 20


def test_command_line_says_when_the_model_plays_nobody(server, tmp_path):
    verb = ["simulate", "opposing", "--chat", server["url"], "--pairs", "2", "--repeats", "0"]
    fair = CliRunner().invoke(app, [*verb, "-o", str(tmp_path / "fair")])
    assert fair.exit_code == 0 and "take a better model" not in fair.stderr and "order decided 0 %" in fair.stdout
    server["biased"] = True
    biased = CliRunner().invoke(app, [*verb, "-o", str(tmp_path / "biased")])
    assert "the order decided 100 % of the questions" in biased.stderr and "100 % ties" in biased.stdout


def test_command_line_scores(tmp_path):
    runner = CliRunner()
    for verb, people in (("attributes", 84), ("opposing", 6), ("long-short", 10), ("personalllm", 20)):
        more = ["--users", "20", "--comparisons", "3"] if verb == "personalllm" else []
        made = runner.invoke(app, ["simulate", verb, *more, "-o", str(tmp_path / verb), "--json"])
        assert made.exit_code == 0, made.stderr
        facts = json.loads(made.stdout)
        assert facts["n_users"] == people and facts["licences"]["texts"] == "CC0-1.0"
        assert read(tmp_path / verb / "choices.parquet").fingerprint == facts["fingerprint"]


@pytest.mark.parametrize(
    "more,named",
    [
        (["opposing", "--chat", "m@http://x/v1"], "-o is missing"),
        (["opposing", "--chat", "http://x/v1", "-o", "OUT"], "not MODEL@URL"),
        (["opposing", "--chat", "m@http://x/v1", "--noise", "1", "-o", "OUT"], "--noise 1"),
        (["personalllm", "--comparisons", "few"], "--comparisons few"),
        (["personalllm", "--pool", "missing.jsonl"], "missing.jsonl"),
    ],
)
def test_command_line_errors(tmp_path, monkeypatch, more, named):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["simulate", *more])
    assert result.exit_code == 2 and named in result.stderr and result.stderr.count("\n") == 1
