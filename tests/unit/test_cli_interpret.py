"""`palate interpret` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import palate as package
from palate.backends import openai
from palate.cli.app import app
from palate.errors import EndpointError
from palate.simulate import corpus_people


def palate(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], prog_name="palate")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    people = corpus_people(25, 20, seed=4).dataset
    fitted = package.fit(people, features="style", rank=3, epochs=4)
    return fitted.save_pretrained(tmp_path_factory.mktemp("interpret") / "model", people=True)


def test_words_json_and_page(model: Path, tmp_path: Path) -> None:
    done = palate("interpret", model, "--axes", 2, "--user", "person-07", "-o", tmp_path / "atlas.html", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert len(found["axes"]) == 2 and found["card"]["title"] == "person-07"
    assert done.stderr == f"written: {tmp_path / 'atlas.html'}\n"
    page = (tmp_path / "atlas.html").read_text()
    assert "person-07" in page and "person-08" not in page
    words = palate("interpret", model, "--axes", 1, "--pool", "corpus", "-o", tmp_path / "atlas.json")
    assert words.exit_code == 0, words.output
    assert words.stdout.startswith("hierarchical, rank 3, over 512 replies to 64 prompts")
    assert json.loads((tmp_path / "atlas.json").read_text())["n_people"] == 25


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere"], "no Palate model here"),
        (["MODEL", "-o", "atlas.pdf"], "an atlas is written as .html or .json"),
        (["MODEL", "--user", "nobody"], "unknown user 'nobody'"),
        (["MODEL", "--user", "a", "--state", "b"], "--user and --state both given"),
        (["MODEL", "--pool", "nowhere.jsonl"], "nowhere.jsonl"),
        (["MODEL", "--pool", "POOL"], "no prompt has two replies"),
        (["MODEL", "--axes", "9"], "--axes 9: the model has 3"),
        (["MODEL", "--chat", "model"], "--chat model: not MODEL@URL"),
        (["MODEL", "--chat", "model@server"], "not MODEL@URL"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words: list[str], says: str, model: Path, tmp_path: Path) -> None:
    pool = tmp_path / "pool.jsonl"
    pool.write_text('{"prompt": "p", "reply": "the only one"}\n')
    done = palate("interpret", *(word.replace("MODEL", str(model)).replace("POOL", str(pool)) for word in words))
    assert done.exit_code == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("error: ")
    assert says in done.stderr


def test_a_chat_server_that_is_away_is_a_note(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(self, messages, **options):
        assert repr(self) == "ChatClient(qwen at http://server.test/v1)"
        raise EndpointError("qwen at http://server.test/v1: no answer")

    monkeypatch.setattr(openai.ChatClient, "chat", away)
    done = palate("interpret", model, "--axes", 2, "--chat", "qwen@http://server.test/v1", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["notes"][-1].startswith("axes from 1 on are named by statistics: qwen")
