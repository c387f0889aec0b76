"""`palate generate --with …`: every way from the command line, and what does not go together."""

from __future__ import annotations

import json
from pathlib import Path

import generate_world
import policy_world
import pytest
from typer.testing import CliRunner

from palate.cli.app import app
from palate.cli.generate import _is_policy
from palate.generate import BestOfN, Guided, LocalSampler, RewardGuide, Soup, fit_values
from palate.policies import Policy, tune

PROMPT = "say 5"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A reward model, two policies of one preference, and value heads, as they lie on a disk."""
    where = tmp_path_factory.mktemp("generate")
    generate_world.model().save_pretrained(where / "model", people=True)
    lone = policy_world.QUICK | {"user_tokens": 0, "user_model": "uniform"}
    for seed, name in enumerate(("brief", "funny")):
        tune(policy_world.rows(24, seed=seed), base=policy_world.base(), out=where / name, epochs=1, **lone)
    heads = fit_values(generate_world.model(), generate_world.sampler(), ["a", "b", "c", "d"], replies=2, max_tokens=6)
    heads.save(where / "heads")
    return {path.name: path for path in where.iterdir()}


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["generate", *map(str, words)])
    return result.exit_code, result.stdout, result.stderr


def ask(folder: Path, *words: object) -> dict[str, object]:
    code, shown, error = run(folder, "--prompt", PROMPT, "--max-tokens", 8, "--json", *words)
    assert code == 0, error
    return json.loads(shown)


def writer() -> LocalSampler:
    return LocalSampler(policy_world.base())


def test_best_of_n_is_the_default_for_a_reward_model(folders: dict[str, Path]) -> None:
    told = ask(folders["model"], "--user", "ann", "--sampler", policy_world.base(), "--set", "n=3", "--set", "cost=0")
    ann = generate_world.model().person("ann").state
    expected = BestOfN(writer(), generate_world.model(), n=3, cost=0.0).reply(PROMPT, ann, rng=0, max_tokens=8)
    assert told["with"] == "best_of_n"
    assert told["reply"] == expected.text
    assert told["personalized"] is True
    assert [each["score"] for each in told["candidates"]] == pytest.approx([each.score for each in expected.candidates])


def test_guided_by_rewards_and_by_values(folders: dict[str, Path]) -> None:
    model, ann = generate_world.model(), generate_world.model().person("ann").state
    words = ("--user", "ann", "--sampler", policy_world.base(), "--with", "guided", "--set", "guidance=30")
    expected = Guided(writer(), RewardGuide(model), guidance=30.0).reply(PROMPT, ann, max_tokens=8).text
    assert ask(folders["model"], *words)["reply"] == expected
    whole = Guided(writer(), RewardGuide(model, share="whole"), guidance=30.0).reply(PROMPT, ann, max_tokens=8).text
    assert ask(folders["model"], *words, "--set", "share=whole")["reply"] == whole
    assert ask(folders["model"], *words, "--values", folders["heads"])["personalized"] is True
    assert ask(folders["model"], *words, "--guard-radius", 0.5)["personalized"] is True


def test_who_it_is(folders: dict[str, Path], tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    mine = [{key: row[key] for key in ("prompt", "chosen", "rejected")} for row in policy_world.rows(3)]
    answers.write_text("\n".join(map(json.dumps, mine)), encoding="utf-8")
    words = ("--sampler", policy_world.base(), "--set", "n=2")
    placed = ask(folders["model"], *words, "--answers", answers, "-o", tmp_path / "me.state")
    again = ask(folders["model"], *words, "--state", tmp_path / "me.state")
    assert placed["candidates"] == again["candidates"]
    nobody = ask(folders["model"], *words, "--with", "revise")
    assert (nobody["personalized"], nobody["note"]) == (False, "nothing is known of this person")


def test_the_guard_holds_best_of_n_to_what_all_share(folders: dict[str, Path]) -> None:
    words = ("--sampler", policy_world.base(), "--set", "n=4", "--set", "cost=0")
    scored = ask(folders["model"], *words)  # by what nobody in particular likes
    best = max(scored["candidates"], key=lambda each: each["score"])["reply"]
    assert ask(folders["model"], *words, "--user", "cat", "--guard-radius", 0)["reply"] == best
    assert ask(folders["model"], *words, "--user", "cat", "--guard", 1e9)["reply"] == best
    free = ask(folders["model"], *words, "--user", "cat")["reply"]
    assert ask(folders["model"], *words, "--user", "cat", "--guard", 0)["reply"] == free


def test_told_in_words_over_an_endpoint(folders: dict[str, Path]) -> None:
    with generate_world.endpoint(lambda body, number: ["ok"]) as (address, requests):
        told = ask(
            folders["model"], "--with", "prompted", "--user-text", "I am old.", "--sampler", f"openai:m@{address}"
        )
    assert told["reply"] == "ok"
    assert "I am old." in requests[0]["messages"][0]["content"]


def test_a_note_is_said_apart_from_the_reply(folders: dict[str, Path]) -> None:
    words = ("--prompt", PROMPT, "--max-tokens", 6, "--sampler", policy_world.base(), "--with", "guided")
    code, shown, said = run(folders["model"], *words)
    assert code == 0
    assert shown.strip()
    assert "note: nothing is known of this person" in said


def test_policies_guide_and_mix(folders: dict[str, Path]) -> None:
    policies = {str(folders[name]): Policy.from_pretrained(folders[name]) for name in ("brief", "funny")}
    soup = Soup(policies)
    mixed = [f"--mix={name}=0.5" for name in policies]
    expected = soup.reply(PROMPT, soup.state(dict.fromkeys(policies, 0.5)), max_tokens=8).text
    assert ask(folders["brief"], "--with", "soups", *mixed)["reply"] == expected
    plain = ask(folders["brief"])
    assert plain["with"] == "soft_prompt"
    assert ask(folders["brief"], "--with", "guided", "--sampler", policy_world.base())["personalized"] is False


@pytest.mark.parametrize(
    ("folder", "words", "message"),
    [
        ("model", ["--with", "magic"], "--with magic: unknown; there are: best_of_n"),
        ("model", ["--with", "soups", "--mix", "a=1"], "needs a policy of palate tune"),
        ("brief", ["--with", "best_of_n"], "needs a reward model of palate fit"),
        ("brief", ["--with", "soups"], "--mix FOLDER=WEIGHT"),
        ("brief", ["--with", "soups", "--mix", "x=much"], "the weight must be a number"),
        ("brief", ["--set", "n=3"], "has no settings"),
        ("brief", ["--sampler", "x"], "the policy writes itself"),
        ("model", ["--values", "heads"], "--values steers --with guided"),
        ("brief", ["--guard", "1"], "--guard holds the rewards"),
        ("model", ["--with", "guided", "--guard", "1"], "--with guided takes --guard-radius"),
        ("model", ["--guard-radius", "1", "--with", "prompted"], "--guard-radius holds the rewards"),
        ("model", ["--base", "x"], "--base is of a policy"),
        ("model", ["--with", "prompted", "--user-text", "x", "-o", "me.state"], "there is no state to write"),
        ("brief", ["--with", "soups", "--mix", "brief=1", "--user", "ann"], "--user beside --mix"),
        ("brief", ["--with", "soups", "--mix", "brief=1", "--set", "n=3"], "--set beside --mix"),
        ("model", ["--user-text", "x"], "--user-text is told by --with prompted"),
        ("model", ["--set", "m=3"], "unknown setting 'm'"),
        ("model", ["--user", "a", "--state", "b"], "say who it is in one way"),
    ],
)
def test_what_does_not_go_together(folders: dict[str, Path], folder: str, words: list[str], message: str) -> None:
    sampler = [] if folder == "brief" else ["--sampler", policy_world.base()]
    code, shown, said = run(folders[folder], "--prompt", PROMPT, *sampler, *words)
    assert (code, shown) == (2, "")
    assert message in said


def test_on_the_hub_the_way_says_what_a_name_stands_for(tmp_path: Path) -> None:
    name = Path("somebody/model")
    assert [_is_policy(name, how) for how in (None, "soups", "best_of_n", "prompted")] == [True, True, False, False]
    assert not _is_policy(tmp_path, None)
