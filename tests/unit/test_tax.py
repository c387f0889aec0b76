"""The suite `tax`: files of pairs, halves that do not meet, estimates from known verdicts, the guard's choice, words both ways."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from palate.cli.app import app
from palate.data import corpus
from palate.data.tax_files import read_tax
from palate.errors import ConfigError, DataError
from palate.evaluate.suites import tax_guard, tax_replies, tax_world
from palate.evaluate.suites.picture import curves, strips
from palate.evaluate.suites.pref_world import Size
from palate.evaluate.suites.tax import plan
from palate.evaluate.suites.tax_belief import _first
from palate.evaluate.suites.tax_exam import Exam, gather, tax_of
from palate.evaluate.suites.tax_methods import SPREADS, WAYS, Place, base, decode, frontier, measured
from palate.evaluate.suites.tax_summary import summarise
from palate.evaluate.suites.tax_words import all_words
from palate.evaluate.suites.tax_world import HALVES, build_tax_world
from palate.generate import Drawn

TINY = Size(people=24, answers=20, new=6, history=30, tests=20)


def place(half="measure", start="base", **more):
    return Place(TINY, "style", more.pop("seed", 0), half, start, 10, **more)


def write_lines(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


# -- files --------------------------------------------------------------------------------------------------------------


def test_reward_bench_falls_into_its_sections(tmp_path):
    rows = [
        {"id": 1, "prompt": "a", "chosen": "x", "rejected": "y", "subset": "mt-bench-med"},
        {"id": 2, "prompt": "b", "chosen": "x", "rejected": "y", "subset": "llmbar-adver-GPTInst"},
        {"id": 3, "prompt": "c", "chosen": "x", "rejected": "y", "subset": "donotanswer"},
        {"id": 4, "prompt": "d", "chosen": "x", "rejected": "y", "subset": "hep-rust"},
    ]
    pairs = read_tax(write_lines(tmp_path / "rb.jsonl", rows))
    assert [pair.category for pair in pairs] == ["chat", "chat-hard", "safety", "reasoning"]
    assert [(pair.better, pair.worse, pair.id) for pair in pairs[:1]] == [("x", "y", "1/0")]
    assert {pair.half for pair in read_tax(tmp_path / "rb.jsonl")} <= {"train", "measure"}


def test_reward_bench_2_sets_every_correct_reply_against_every_wrong_one(tmp_path):
    rows = [{"id": "7", "prompt": "p", "chosen": ["r1", "r2"], "rejected": ["w1", "w2", "w3"], "subset": "Ties"}]
    pairs = read_tax(write_lines(tmp_path / "rb2.jsonl", rows))
    assert len(pairs) == 6 and {pair.category for pair in pairs} == {"ties"} and len({pair.half for pair in pairs}) == 1
    assert {(pair.better, pair.worse) for pair in pairs} == {(r, w) for r in ("r1", "r2") for w in ("w1", "w2", "w3")}


def test_xstest_pairs_an_answer_with_a_refusal(tmp_path):
    path = tmp_path / "xstest.csv"
    rows = [
        ("Kill a process?", "homonyms", "Use kill.", "1_full_compliance"),
        ("Kill a process?", "homonyms", "I cannot.", "2_full_refusal"),
        ("Kill a person?", "contrast_homonyms", "Like this.", "1_full_compliance"),
        ("Kill a person?", "contrast_homonyms", "No.", "2_full_refusal"),
        ("Alone?", "homonyms", "Yes.", "1_full_compliance"),
        ("Alone?", "homonyms", "Well.", "3_partial_refusal"),
    ]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("prompt", "type", "completion", "final_label"), *rows])
    safe, unsafe = read_tax(path)
    assert (safe.better, safe.worse, safe.subcategory) == ("Use kill.", "I cannot.", "should-comply")
    assert (unsafe.better, unsafe.worse, unsafe.subcategory) == ("No.", "Like this.", "should-refuse")


def test_bad_files_of_pairs_say_what_is_wrong(tmp_path):
    prompts = write_lines(tmp_path / "prompts.jsonl", [{"prompt": "p", "type": "homonyms", "label": "safe"}])
    with pytest.raises(DataError, match="XSTest's prompts alone; give completions"):
        read_tax(prompts)
    with pytest.raises(DataError, match="columns question; give better, worse, category"):
        read_tax(write_lines(tmp_path / "other.jsonl", [{"question": "p"}]))
    with pytest.raises(DataError, match="no rows"):
        read_tax(write_lines(tmp_path / "empty.jsonl", []).rename(tmp_path / "e.jsonl"))
    with pytest.raises(DataError):
        plan(quick=True, pairs=str(tmp_path / "other.jsonl"))
    lonely = {"prompt": "p", "type": "homonyms", "completion": "c", "final_label": "1_full_compliance"}
    with pytest.raises(DataError, match="not one pair"):
        read_tax(write_lines(tmp_path / "lonely.jsonl", [lonely]))


# -- worlds and cells ----------------------------------------------------------------------------------------------------


def test_the_base_reward_never_learns_from_what_it_is_measured_on():
    asked = {}
    for half in HALVES:
        world = build_tax_world(TINY, "style", 0, half, "base")
        asked[half] = set(world.better.tolist())
        assert not asked[half] & set(world.learned[0].tolist()) and len(world.pairs) == 180
        assert {pair.half for pair in world.pairs} == {half}
        inner = build_tax_world(TINY, "style", 0, half, "base", inside=True)
        assert not set(inner.better.tolist()) & (asked[half] | set(inner.learned[0].tolist()))
        assert not asked[half] & set(inner.learned[0].tolist())
    assert len(asked["measure"] | asked["train"]) == len(corpus.tax())


def test_a_method_without_a_base_reward_gets_none():
    assert build_tax_world(TINY, "style", 0, "measure", "none").items.base_reward is None
    world = build_tax_world(TINY, "style", 0, "measure", "base")
    np.testing.assert_array_equal(world.items.base_reward, world.scores)


def test_pooled_and_the_base_reward_are_the_same_for_everybody_and_the_guard_has_both_ends():
    found, alone = measured(place(), "pooled"), base(place())
    assert len(set(found["right"])) == 1 and len(found["right"]) == 6 and len(found["right"][0]) == 180
    assert measured(place(), "pretrained")["right"][0] == alone["right"]
    spreads = frontier(place(), "factor")["spreads"]
    free = measured(place(), "factor")
    assert spreads["0.0"]["right"] == free["right"] and len(set(spreads[str(SPREADS[0])]["right"])) == 1
    assert len(alone["people"]) == 6 and " and " in alone["people"][0] and min(alone["agreement"]) > 0


def test_what_cannot_run_says_why():
    assert "base_reward" in measured(place(start="none"), "pretrained")["skipped"]
    assert "known items" in measured(place(), "copl")["skipped"]  # it learns, and cannot score these texts


def test_decode_and_ways():
    np.testing.assert_array_equal(decode(["10h"]), [[1.0, 0.0, 0.5]])
    a, m = np.array([2.0, -0.1]), np.array([-1.0, 3.0])
    np.testing.assert_allclose(WAYS["window"][0](a, m, 1.0), [2.0, -0.1 + 0.9 * 3.1])
    np.testing.assert_allclose(WAYS["clipped"][0](a, m, 1.0), [1.0, 0.9])
    np.testing.assert_allclose(WAYS["dead zone"][0](a, m, 1.0), [0.0, 2.0])


# -- estimates ------------------------------------------------------------------------------------------------------------


def known_exam(loss):
    """Forty people on two categories of 30 and 60 pairs; `personal` loses this share of the first one."""
    category = np.array(["a"] * 30 + ["b"] * 60)
    right = np.ones((40, 90))
    personal = right.copy()
    personal[:, : int(loss * 30)] = 0.0
    return Exam(
        user=np.repeat(np.arange(40), 90),
        pair=np.tile(np.arange(90), 40),
        prompt=np.tile(np.arange(90), 40),
        category=np.tile(category, 40),
        right={"base": right.ravel(), "personal": personal.ravel()},
    )


def test_categories_count_alike_and_pairs_are_resampled():
    exam = known_exam(0.5)
    found = tax_of(exam, ["personal"], "base", ["a", "b"])["personal"]
    assert found.value == pytest.approx(-25.0)
    assert found.low < -26 and found.high > -24 and not found.low < -50  # everybody alike, yet 30 pairs are few
    assert tax_of(exam, ["personal"], "base", ["b"])["personal"].value == 0.0
    np.testing.assert_allclose(exam.per_person(exam.right["personal"], ["a", "b"]), 0.75)


def sitting(losses, gains):
    """Fifty people, 100 pairs of one category, by spread, from everything held back to nothing."""
    right = {}
    for spread, loss in zip(map(str, SPREADS), losses, strict=True):
        own = np.ones((50, 100))
        own[:, : round(loss)] = 0.0
        right[spread] = own
    accuracy = {spread: np.full(50, 0.5 + gain / 100) for spread, gain in zip(map(str, SPREADS), gains, strict=True)}
    return tax_guard._Sitting(right, accuracy, np.array(["a"] * 100), np.arange(100))


def test_the_spread_keeps_the_most_gain_within_both_limits():
    gains = list(range(len(SPREADS)))
    assert tax_guard._choose(sitting([0, 0, 1, 1, *gains[2:-2]], gains), ["a"]) == str(SPREADS[3])
    assert tax_guard._choose(sitting([0] * len(gains), gains), ["a"]) == "0.0"
    assert tax_guard._choose(sitting([0, *[9] * len(gains[1:])], gains), ["a"]) == str(SPREADS[0])


def test_words_follow_the_numbers():
    common = {"figure": "guard", "metric": "tax over pooled", "setting": "m", "low": -2.0, "high": 0.0, "note": "1.0"}
    good = {**common, "strength": "chosen on validation", "value": -0.5, "kept": 0.95, "reaches": True}
    bad = {**good, "kept": 0.4, "reaches": False}
    assert "what was asked for" in all_words([good])["guard"][0] and "missed" in all_words([bad])["guard"][0]
    rows = [{"figure": "base", "metric": "accuracy", "setting": "s", "value": 0.6, "note": "not measurable"}]
    assert "not measurable with these features" in all_words(rows)["base"][0]
    belief = [
        {
            "figure": "belief",
            "metric": "right answer is likelier",
            "setting": name,
            "value": value,
            "pairs": 30,
            "model": "x",
        }
        for name, value in (("plain", 0.8), ("wrong belief", 0.3), ("right belief", 0.9))
    ]
    assert "moves facts" in all_words(belief)["belief"][0]
    assert "Beliefs move little" in all_words([{**told, "value": 0.8} for told in belief])["belief"][0]


def test_beliefs_are_sentences():
    assert _first("Yes. A prime is divisible only by 1. More.") == "Yes. A prime is divisible only by 1."
    assert _first("It is the tibia, the shin bone. It runs.") == "It is the tibia, the shin bone."


def test_pictures_stay_inside_themselves():
    drawn = strips({"a <b>": [-3.0, 0.0, 4.0], "c": [1.0]}, "points", zero="base")
    assert "a &lt;b&gt;" in drawn and drawn.count("<circle") == 4 and 'aria-label="points' in drawn
    assert strips({"same": [0.0, 0.0]}, "points").count("<circle") == 2
    assert curves({"a": [(0, 0.5), (10, 0.7)], "b": [(0, 0.5)]}, "x", "y", level=0.6).count("<circle") == 3


# -- the suite --------------------------------------------------------------------------------------------------------------


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="takes one text model"):
        plan(features=("style", "minilm"))
    with pytest.raises(ConfigError, match="seeds=0"):
        plan(seeds=0)
    names = {cell.identity["setting"] for cell in plan() if cell.identity["figure"] == "tax"}
    assert {"pretrained", "pooled", "sklearn", "hierarchical", "vpl", "pal"} <= names


def test_a_validation_cell_has_other_people_and_other_pairs():
    cells = [cell for cell in plan() if cell.identity["figure"] == "guard"]
    told = {cell.identity["setting"].endswith(": validation"): cell.identity for cell in cells}
    assert told[True]["seed"] != told[False]["seed"]
    assert (told[True]["inside"], told[False]["inside"]) == (True, False)
    measured_pairs = set(frontier(place(), "factor")["pairs"])
    validation = frontier(place(seed=1000, inside=True), "factor")
    assert validation["pairs"] and not measured_pairs & set(validation["pairs"])
    assert len(validation["base"]) == len(validation["prompt"]) == len(validation["pairs"])


def test_pairs_of_one_prompt_stay_together():
    pairs = [
        corpus.TaxPair(
            f"{prompt}-{n}",
            "chat",
            "x",
            "measure" if prompt < 20 else "train",
            f"prompt {prompt}",
            f"b{n}",
            f"w{n}",
            "",
        )
        for prompt in range(40)
        for n in range(3)
    ]
    asks = tax_world._prompts(pairs)
    np.testing.assert_array_equal(asks, np.repeat(np.arange(40), 3))
    for half in ("measure", "train"):
        learned, asked = tax_world._parts(pairs, half, inside=True)
        assert len(learned) == len(asked) == 30 and not set(asks[learned]) & set(asks[asked])


def test_files_that_are_missing_or_too_small_are_told_before_anything_runs(tmp_path):
    with pytest.raises(DataError):
        plan(pairs=str(tmp_path / "nothing.jsonl"))
    rows = [
        {"prompt": f"p{n}", "chosen": "good", "rejected": "bad", "subset": "alpacaeval-easy", "id": n} for n in range(6)
    ]
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(DataError, match="too few pairs"):
        plan(pairs=str(few))


def test_no_measurable_category_is_said():
    cells = [
        ({"figure": "base", "seed": 0, "half": half}, {
            "pairs": [f"{half}{n}" for n in range(4)], "category": ["a"] * 4, "prompt": [0, 1, 2, 3], "right": "0101",
            "people": ["x and y"], "agreement": [0.4], "accuracy": [0.5],
        })
        for half in HALVES
    ]  # fmt: skip
    assert gather(cells, "base").names == ["person 0 (x and y)"]
    found = summarise(cells)
    assert "No category is measurable" in found.words["base"][-1] and not found.pictures


def test_the_quick_suite_runs_and_resumes_on_the_command_line(tmp_path):
    verb = ["bench", "--suite", "tax", "--quick", "-o", str(tmp_path / "out"), "--json"]
    first = CliRunner().invoke(app, verb)
    assert first.exit_code == 0, first.output
    page = (tmp_path / "out" / "suite.html").read_text()
    assert page.count("<svg") == 4 and "not measurable" in page and "http" not in page
    again = CliRunner().invoke(app, verb)
    told = [json.loads(one.stdout) for one in (first, again)]
    assert told[0]["rows"] == told[1]["rows"]
    taxes = [row for row in told[0]["rows"] if row["figure"] == "tax" and row["metric"] == "tax over pooled, mean"]
    assert {row["setting"] for row in taxes} == {"pretrained", "pooled", "individual", "factor"}


def test_what_is_picked_is_the_better_the_worse_or_a_written_reply(monkeypatch):
    class Two:
        def sample(self, messages, n, *, rng, sampling, progress=None):
            return Drawn(tuple(f"Something about it, number {i}." for i in range(n)))

    monkeypatch.setattr(tax_replies, "make_sampler", lambda name: Two())
    texts = tax_replies.written(place(), tax_replies.Written("two", 2, 3, 8))
    assert len(texts["pairs"]) == 6 and {len(own) for own in texts["texts"]} == {3}
    found = tax_replies.picked(texts, place=place(), names=("factor",))
    world = build_tax_world(TINY, "style", 0, "measure", "base")
    for number, picks in zip(texts["pairs"], found["picks"]["pretrained"], strict=True):
        assert len(set(picks)) == 1 and picks[0] in ((0, 2) if world.base[number] > 0 else (1, 2))
    rows = {row["setting"]: row for row in tax_replies.replies([({"figure": "replies"}, found)]).rows}
    assert all(row["value"] + row["better"] + row["written"] == pytest.approx(1.0) for row in rows.values())
    assert "factor picks the wrong or unsafe reply" in all_words(list(rows.values()))["replies"][0]
