"""The suite `winrate`: counting people's tastes in any text, length control, best of n, judges that may not judge themselves."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from scipy.special import expit
from typer.testing import CliRunner

from palate.cli.app import app
from palate.errors import ConfigError, InputError
from palate.evaluate.length_control import length_controlled
from palate.evaluate.suites import winrate_methods as methods
from palate.evaluate.suites import winrate_summary
from palate.evaluate.suites.pref_world import Size
from palate.evaluate.suites.winrate import plan
from palate.evaluate.suites.winrate_methods import (
    Draws,
    Place,
    best_of,
    check_judge,
    chosen_by,
    ideal_picks,
    numbers,
    truth,
)
from palate.evaluate.suites.winrate_summary import summarise
from palate.evaluate.suites.winrate_words import all_words
from palate.evaluate.suites.winrate_world import STATISTICS, build_text_world, counted, in_words, text_rewards
from palate.simulate.recipes import reply_pool, scorers_of

TINY = Size(people=24, answers=20, new=6, history=40, tests=20, prompts=3)
PLACE = Place(TINY, "style", 0, known=2)


# -- people whose taste can be counted in any text ----------------------------------------------------------------------


def test_tastes_are_counted_in_texts_as_they_are_in_the_pool():
    pool = reply_pool(None)
    texts = [pool.reply(item) for item in range(40)]
    expected = np.clip(scorers_of(pool, list(STATISTICS)).values[:40], -3.0, 3.0)
    np.testing.assert_allclose(counted(texts), expected, atol=1e-6)
    shouting = counted(["Yes! Yes! Yes! Yes! Yes!"])[0][list(STATISTICS).index("exclamations")]
    assert 2.5 < shouting <= 3.0


def test_the_true_reward_of_a_text_is_that_of_the_same_shipped_reply():
    world = build_text_world(TINY, "style", 0)
    texts = [methods.shipped_texts()[item][1] for item in range(20)]
    np.testing.assert_allclose(text_rewards(world, texts), world.truth.reward(world.new)[:, :20], atol=1e-9)
    assert len(world.new) == 6 and (np.abs(world.truth.people).sum(axis=1) == 2).all()


def test_who_knows_every_reward_is_right_in_85_percent():
    big = build_text_world(Size(people=100, answers=60, new=20, history=40, tests=40), "none", 1)
    rows = big.training
    chance = big.truth.probability(rows.left, rows.right, rows.user)
    assert np.maximum(chance, 1 - chance).mean() == pytest.approx(0.85, abs=0.02)


def test_what_a_person_says_of_themselves():
    assert in_words(("long replies", "no contractions")) == "I like long replies and no contractions."


# -- numbers -------------------------------------------------------------------------------------------------------------


def test_best_of_n_is_the_mean_over_all_sets():
    rng = np.random.default_rng(0)
    told, true = rng.standard_normal((2, 3, 4, 8))
    found = best_of(told, true)
    assert list(found) == ["1", "2", "4", "8"] and found["1"] == [0.0, 0.0]
    for n in (2, 4, 8):
        gains = []
        for own in map(list, itertools.combinations(range(8), n)):
            best = told[..., own].argmax(-1)[..., None]
            gains.append([np.take_along_axis(one[..., own], best, -1)[..., 0] - one.mean(-1) for one in (told, true)])
        np.testing.assert_allclose(found[str(n)], np.mean(gains, axis=(0, 2, 3)), atol=1e-4)


def test_length_control_takes_out_what_length_decides():
    rng = np.random.default_rng(0)
    difference, prompt = rng.normal(30, 20, 4000), rng.integers(20, size=4000)
    longer = (rng.random(4000) < expit(2 * np.tanh(difference / 20))).astype(float)
    assert longer.mean() > 0.75 and length_controlled(longer, difference, prompt) == pytest.approx(0.5, abs=0.1)
    better = (rng.random(4000) < 0.7).astype(float)
    assert length_controlled(better, difference, prompt) == pytest.approx(0.7, abs=0.05)
    same = length_controlled(better, np.zeros(4000), prompt)
    assert same == pytest.approx(better.mean(), abs=0.01)
    with pytest.raises(InputError, match="give one each"):
        length_controlled(np.ones(3), np.ones(2), np.ones(3))


def test_the_ideal_observer_learns_who_answers_and_the_truth_is_in_reach():
    found, true = ideal_picks(PLACE, (1, 40)), truth(PLACE)
    rewards = np.array(true["new"]["reward"])
    gains = []
    for k in ("1", "40"):
        picks = numbers(found["ks"][k]["new"])
        gains.append((np.take_along_axis(rewards, picks[..., None], 2)[..., 0] - rewards.mean(2)).mean())
    assert gains[1] > gains[0] and gains[1] > 0.85 * (rewards.max(2) - rewards.mean(2)).mean()
    assert rewards.shape == (6, 3, 8) and len(true["known"]["plain"][0]) == 2


def test_a_method_picks_among_the_replies_of_each_prompt():
    found = chosen_by(PLACE, "pooled", (0, 5))
    picks = numbers(found["ks"]["5"]["new"])
    assert picks.shape == (6, 3) and len({tuple(row) for row in picks.tolist()}) == 1
    assert found["ks"]["0"]["new"] == found["ks"]["5"]["new"] and found["ks"]["5"]["undecided"] == 0
    asked = chosen_by(PLACE, "factor", (2,), "pref")
    assert numbers(asked["ks"]["2"]["known"]).shape == (6, 2)


# -- judges and samplers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("judge", ["smollm2", "openai:smollm2@http://localhost:1/v1", "SmolLM2"])
def test_a_judge_never_judges_its_own_replies(judge):
    with pytest.raises(ConfigError, match="is the model that writes the replies"):
        plan(judge_model=judge)
    check_judge("openai:other@http://localhost:1/v1", "smollm2")


def test_judges_and_settings_are_checked():
    with pytest.raises(ConfigError, match="write openai:MODEL@URL"):
        methods.open_judge("openai:nameless")
    with pytest.raises(ConfigError, match="takes one text model"):
        plan(features=("style", "minilm"))
    with pytest.raises(ConfigError, match="seeds=0"):
        plan(seeds=0)
    assert not [cell for cell in plan() if cell.identity["figure"] == "judge"]
    assert [cell for cell in plan(judge=True) if cell.identity["figure"] == "judge"][0].identity["model"] == "smollm2"


class Mute:
    """Answers neither first nor second."""

    def chat(self, messages, *, temperature=0.0, max_tokens=8):
        return "Both are lovely."


def test_answers_that_name_neither_reply_are_ties_and_flagged(monkeypatch):
    from palate.models.judge import JudgeRewardModel

    monkeypatch.setattr(methods, "open_judge", lambda model: JudgeRewardModel(Mute(), name="mute"))
    true, picks = truth(PLACE), chosen_by(PLACE, "factor", (10,))
    values = methods.judged(true, picks, place=PLACE, model="mute", k=10, most=5)
    assert set(values["flag"]) == {"unreadable"} and values["unreadable"] == 10
    found = summarise([({"figure": "judge", "setting": "factor", "seed": 0}, values)])
    (row,) = found.rows
    assert row["value"] == 0.5 and row["unreadable"] == 1.0 and row["agrees"] is None
    assert any("neither reply" in line for line in found.words["judge"]) and "100.0" in found.table("judge")[1][0]


class Parrot:
    """Says the same whatever is asked."""

    def sample(self, messages, n, *, rng, sampling, progress=None):
        from palate.generate import Drawn

        return Drawn(("Hello.",) * n)


def test_replies_that_are_all_the_same_are_an_error(monkeypatch):
    monkeypatch.setattr(methods, "make_sampler", lambda name: Parrot())
    with pytest.raises(ConfigError, match="all replies to .* are the same"):
        methods.drawn(PLACE, Draws("parrot", 4, 8), 0)


def test_sampled_replies_are_ranked_for_each_person(monkeypatch):
    texts = [{"prompt": f"Question {n}?", "texts": [f"Reply {i}{'!' * i}" for i in range(4)]} for n in range(3)]
    true = methods.truth_of_drawn(*texts, place=PLACE)
    assert np.array(true["reward"]).shape == (6, 3, 4) and np.array(true["words"]).shape == (3, 4)
    found = methods.learned(true, *texts, place=PLACE, name="factor", k=10)
    assert numbers(found["picks"]).shape == (6, 3) and list(found["curve"]) == ["1", "2", "4"]
    cells = [
        ({"figure": "sampled truth", "setting": "x", "seed": 0}, true),
        ({"figure": "sampled picks", "setting": "factor", "seed": 0}, found),
    ]
    rows = {(row["setting"], row["against"]): row for row in summarise(cells).rows if row["figure"] == "sampled"}
    assert rows["true reward", "plain"]["value"] >= 0.5 and rows["true reward", "plain"][
        "reward_share"
    ] == pytest.approx(1.0)
    assert ("plain", "plain") not in rows and rows["factor", "chosen"]["samples"] == 18


# -- words and the whole ----------------------------------------------------------------------------------------------------


def test_words_follow_the_numbers():
    common = {"figure": "corpus", "against": "plain", "reward_share": 0.5}
    rows = [
        {**common, "setting": "true reward", "exact": 0.94, "exact_best": 0.94, "exact_other": 1.0},
        {**common, "setting": "m", "exact": 0.74, "exact_best": 0.94, "exact_other": 0.77},
        {**common, "setting": "n", "exact": 0.6, "exact_best": 0.94, "exact_other": 0.61},
    ]
    first, second = all_words(rows)["corpus"]
    assert "m:" in first and "reached" in first and "missed" in second
    line = [
        {"figure": "optimised", "setting": "m", "where": "sampled", "n": n, "value": value, "learned": n / 10}
        for n, value in ((1, 0.0), (2, 0.5), (4, 0.3))
    ]
    assert "falls at n = 4" in all_words(line)["optimised"][0]
    equal = {"figure": "sampled", "setting": "m", "answers": 10, "undecided": 7, "against": "plain"}
    assert "m after 10 answers: 7 choices in which all candidates are equal" in all_words([equal])["sampled"][-1]


def test_the_quick_suite_without_a_language_model(tmp_path, monkeypatch):
    """The whole of it but for writing: three replies stand for what a model would say."""

    class Three:
        def sample(self, messages, n, *, rng, sampling, progress=None):
            from palate.generate import Drawn

            return Drawn(tuple(f"Well{'!' * int(i)} {'long words indeed ' * int(i)}" for i in rng.permutation(n)))

    monkeypatch.setattr(methods, "make_sampler", lambda name: Three())
    verb = ["bench", "--suite", "winrate", "--quick", "-o", str(tmp_path / "out"), "--json"]
    first = CliRunner().invoke(app, verb)
    assert first.exit_code == 0, first.output
    rows = json.loads(first.stdout)["rows"]
    assert {row["figure"] for row in rows} == {"corpus", "known", "answers", "sampled", "optimised"}
    page = (tmp_path / "out" / "suite.html").read_text()
    assert page.count("<svg") == 2 and "ideal observer" in page
    assert json.loads(CliRunner().invoke(app, verb).stdout)["rows"] == rows


def test_options_are_refused_elsewhere():
    for option in (["--pairs", "x.jsonl"], ["--judge-model", "x"]):
        result = CliRunner().invoke(app, ["bench", "data.csv", *option])
        assert result.exit_code == 2 and f"{option[0]}: only with --suite" in result.stderr


def test_curves_go_by_the_number_of_candidates_and_not_by_the_alphabet():
    curve = {name: [0.0, float(name)] for name in sorted(map(str, (1, 2, 4, 8, 16)))}
    cells = [({"figure": "sampled picks", "setting": "m"}, {"curve": curve})]
    assert [told["n"] for told in winrate_summary._optimised(cells)] == [1, 2, 4, 8, 16]
