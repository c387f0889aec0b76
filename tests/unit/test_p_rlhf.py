"""The suite `p-rlhf`: who learns from what, that its numbers are the policy's own, and its words, judged both ways."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from palate.backends.tiny import tiny_model
from palate.cli.app import app
from palate.errors import InputError
from palate.evaluate.suites import open_suite, p_rlhf_policies, run_suite
from palate.evaluate.suites.p_rlhf import ABLATIONS, MAIN, plan
from palate.evaluate.suites.p_rlhf_policies import RANDOM, Recipe
from palate.evaluate.suites.p_rlhf_published import PUBLISHED
from palate.evaluate.suites.p_rlhf_summary import summarise
from palate.evaluate.suites.p_rlhf_world import PROFILES, TEST, TRAIN, VALIDATION, Pairs, counted_rewards, open_town
from palate.evaluate.suites.regimes_world import REGIMES
from palate.types import UserStates

SETTINGS = {
    "user_tokens": 2, "batch_size": 4, "learning_rate": 1e-3, "user_learning_rate": 1e-2, "lora_rank": 2, "lora_dropout": 0.0,
    "adapt_steps": 2, "device": "cpu", "precision": "off",
}  # fmt: skip
RECIPE = Recipe("conflicting", RANDOM, 20, Pairs(characters=350), SETTINGS)


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Policies are kept in a folder of this module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALATE_CACHE", str(tmp_path_factory.mktemp("cache")))
        p_rlhf_policies._policy.cache_clear()
        yield
    p_rlhf_policies._policy.cache_clear()


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quick suite, run once on the command line."""
    out = tmp_path_factory.mktemp("suite") / "p-rlhf"
    result = CliRunner().invoke(app, ["bench", "--suite", "p-rlhf", "--quick", "-o", str(out)])
    assert result.exit_code == 0, result.output
    return out


# -- people and pairs -----------------------------------------------------------------------------------------------------


def test_three_of_ten_prefer_the_shorter_reply():
    town = open_town("conflicting")
    length = np.array([len(town.pool.reply(item)) for item in range(town.pool.n_items)])
    longer = np.corrcoef(np.vstack([length, town.rewards]))[0, 1:]
    assert np.allclose(longer, [1, 1, 1, -1, -1, -1, 1, 1, 1, 1])
    assert town.minority == (3, 4, 5) and len(town.majority) == 7
    forty = open_town("forty")
    assert (len(forty.majority), len(forty.minority)) == (26, 14)


def test_no_prompt_has_two_uses():
    town = open_town("conflicting")
    parts = [set(town.prompts(use).tolist()) for use in (TRAIN, VALIDATION, TEST)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 64
    assert [len(part) for part in parts] == [44, 8, 12]


@pytest.mark.parametrize("name", ["conflicting", "personas"])
def test_people_answer_pairs_of_their_own_on_training_prompts_as_their_rewards_say(name):
    town = open_town(name)
    data = town.training(120, Pairs(contrast=0.5, characters=500))
    train = {town.pool.table.prompts[prompt] for prompt in town.prompts(TRAIN)}
    assert set(data.prompts) <= train
    assert np.bincount(data.user).tolist() == [120 // len(town.names)] * len(town.names)
    number = {(town.pool.prompt(item), town.pool.reply(item)): item for item in range(town.pool.n_items)}
    items = np.array([number[text] for text in data.item_texts()])
    people = np.array([town.names.index(user) for user in data.users])[data.user]
    gap = town.rewards[people, items[data.left]] - town.rewards[people, items[data.right]]
    assert ((gap > 0) == (data.label == 1.0)).all() and np.abs(gap).min() >= 0.5
    texts = data.item_texts()
    size = [len(texts[a][0]) + len(texts[a][1]) + len(texts[b][1]) for a, b in zip(data.left, data.right, strict=True)]
    assert max(size) <= 500
    assert 0.3 < data.label.mean() < 0.7
    mine = {user: set(zip(data.left[data.user == user], data.right[data.user == user], strict=True)) for user in (0, 1)}
    assert mine[0] != mine[1]
    assert (
        town.training(120, Pairs(0.5, 500)).fingerprint
        == data.fingerprint
        != town.training(120, Pairs(0.5, 500), 1).fingerprint
    )


def test_new_people_answer_on_training_prompts():
    town = open_town("conflicting")
    answers = town.answers(town.rewards[3], 10, Pairs(characters=400), seed=5)
    assert len(answers) == 10 and all(len(chosen) < len(rejected) for _, chosen, rejected in answers)
    assert {prompt for prompt, _, _ in answers} <= {town.pool.table.prompts[prompt] for prompt in town.prompts(TRAIN)}
    with pytest.raises(InputError, match="finds no pair of replies for Pairs"):
        town.answers(town.rewards[3], 10, Pairs(characters=3), seed=5)
    with pytest.raises(InputError, match="no town 'moscow'"):
        open_town("moscow")


def test_profiles_are_opposites_and_counted_as_their_rewards_are():
    town = open_town("personas")
    assert town.names == tuple(PROFILES) == tuple(REGIMES["opposing"].people)
    np.testing.assert_allclose(town.rewards[::2], -town.rewards[1::2] * [[1], [1], [1]], atol=1e-12)
    texts = [town.pool.reply(item) for item in range(60)]
    for name in town.names[:4]:
        counted = counted_rewards(name, texts)
        assert np.corrcoef(counted, town.rewards[town.names.index(name), :60])[0, 1] == pytest.approx(1.0)
    kind, rude = "Thank you, I am so glad you asked! You are welcome, please do!", "No. That is wrong."
    friendly = counted_rewards("3A friendly", [kind, rude])
    assert friendly[0] > friendly[1] and np.allclose(counted_rewards("3B unfriendly", [kind, rude]), -friendly)


# -- policies -------------------------------------------------------------------------------------------------------------


def test_accuracies_are_those_of_the_policy_score():
    found = p_rlhf_policies.accuracies(RECIPE, prompts=1)
    policy, town = p_rlhf_policies._policy(RECIPE), open_town("conflicting")
    items = town.replies(town.prompts(TEST)[0])
    replies = [town.pool.reply(item) for item in items]
    length = np.array([len(reply) for reply in replies])
    left, right = np.triu_indices(len(items), 1)
    longer = length[left] > length[right]
    for who, shares, sign in (
        (policy.person("person 02"), found["own"][1], 1),
        (policy.meet(), found["generic"][3], -1),
    ):
        score = policy.score(town.pool.prompt(items[0]), replies, who)
        expected = np.mean(
            ((score[left] > score[right]) == longer) if sign > 0 else ((score[left] < score[right]) == longer)
        )
        assert shares["all"] == [pytest.approx(expected, abs=1e-4)]
    both = [a["all"][0] + b["all"][0] for a, b in zip(found["generic"][:1], found["generic"][3:4], strict=True)]
    assert both == [pytest.approx(1.0, abs=2e-4)]


def test_a_policy_that_was_swept_away_is_trained_again_to_the_same_numbers():
    first = p_rlhf_policies.trained(RECIPE), p_rlhf_policies.accuracies(RECIPE, prompts=1)
    shutil.rmtree(RECIPE.folder())
    p_rlhf_policies._policy.cache_clear()
    again = p_rlhf_policies.trained(RECIPE), p_rlhf_policies.accuracies(RECIPE, prompts=1)
    assert first == again
    about = first[0]
    assert (about["rows"], about["people"], about["steps"], about["device"]) == (20, 10, 5, "cpu")


def test_another_recipe_is_another_folder():
    other = [
        Recipe("conflicting", RANDOM, 20, Pairs(characters=300), SETTINGS),
        Recipe("conflicting", RANDOM, 20, Pairs(characters=350), {**SETTINGS, "alpha": 0.9}),
        Recipe("conflicting", RANDOM, 20, Pairs(characters=350), SETTINGS, seed=1),
        Recipe("personas", RANDOM, 20, Pairs(characters=350), SETTINGS),
    ]
    assert len({recipe.folder() for recipe in (RECIPE, *other)}) == 5


def test_the_curve_takes_the_last_word_of_a_step(tmp_path):
    lines = [{"settings": {}}, {"step": 1, "tokens_per_second": 1.0, "user_accuracy": 0.0}]
    lines += [
        {"step": 1, "tokens_per_second": 1.0, "user_accuracy": 1.0},
        {"step": 2, "tokens_per_second": 1.0, "generic_accuracy": 0.5},
    ]
    lines += [{"step": 2, "loss": 3.0}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    curve = p_rlhf_policies._curve(tmp_path / "log.jsonl", 2)
    assert (
        len(curve) == 10
        and curve[4] == {"step": 1, "user_accuracy": 1.0}
        and curve[9] == {"step": 2, "generic_accuracy": 0.5}
    )
    assert curve[0] == {"step": 0}


def test_replies_are_each_persons_and_the_base_models_own():
    found = p_rlhf_policies.lengths(RECIPE, prompts=2, max_tokens=6)
    policy, town = p_rlhf_policies._policy(RECIPE), open_town("conflicting")
    asked = [town.pool.table.prompts[prompt] for prompt in town.prompts(TEST)[:2]]
    assert found["who"] == [*town.names, "generic"]
    state = UserStates.concatenate([policy.person("person 05").batch] * 2)
    said = policy.reply_many(asked, state, rng=0, max_tokens=6, repetition_penalty=1.1)
    assert [reply["text"] for reply in found["replies"][4]] == said
    base = p_rlhf_policies.lengths(RECIPE, prompts=2, max_tokens=6, base=True)
    vanilla = Recipe(
        "conflicting",
        RANDOM,
        20,
        Pairs(characters=350),
        {**SETTINGS, "user_tokens": 0, "user_model": "uniform", "alpha": 0.0},
    )
    assert p_rlhf_policies.lengths(vanilla, prompts=2, max_tokens=6, base=True) == base
    assert policy.config.user_tokens == 2


def test_a_tiny_model_is_the_same_every_time():
    assert tiny_model() == tiny_model() and (Path(tiny_model()) / "tokenizer.json").is_file()


# -- the suite ------------------------------------------------------------------------------------------------------------


def test_the_quick_suite_ends_with_all_tables_and_goes_on(quick):
    found = json.loads((quick / "suite.json").read_text())
    assert {row["figure"] for row in found["rows"]} == {
        "conflicting",
        "curves",
        "lengths",
        "new",
        "personas",
        "wins",
        "runs",
    }
    page = (quick / "suite.html").read_text()
    assert page.index("One prompt, six people") < page.index("70 % prefer the longer reply")
    assert "A quick run" in page and 'class="text"' in page
    kept = {path: path.stat().st_mtime_ns for path in (quick / "cells").iterdir()}
    again = run_suite("p-rlhf", quick, quick=True)
    assert again.rows == found["rows"] and {path: path.stat().st_mtime_ns for path in kept} == kept


def test_what_needs_an_accelerator_is_planned_only_on_demand(monkeypatch):
    monkeypatch.delenv("PALATE_DATA", raising=False)
    settings = {(cell.identity["figure"], cell.identity["setting"]) for cell in plan(everything=True)}
    assert {("ablations", name) for name in ABLATIONS} < settings and ("forty", "individual") in settings
    assert "convarg" not in {figure for figure, _ in settings}  # its texts are not here
    few = {(cell.identity["figure"], cell.identity["setting"]) for cell in plan(everything=False)}
    assert few < settings and not {figure for figure, _ in few} & {"ablations", "forty", "convarg"}
    assert {("conflicting", name) for name in MAIN} < few
    assert set(PUBLISHED["conflicting"]) == {*MAIN, *ABLATIONS} and set(PUBLISHED["forty"]) == set(MAIN)
    identities = json.dumps([cell.identity for cell in plan()])
    assert "/" not in identities.replace("K = 5", "")  # no path of a machine


def test_all_belongs_to_suites(tmp_path):
    said = CliRunner().invoke(app, ["bench", "data.csv", "--all"])
    assert said.exit_code == 2 and "--all: only with --suite p-rlhf" in said.output
    said = CliRunner().invoke(app, ["bench", "--suite", "pref", "--all"])
    assert said.exit_code == 2 and "--all: not with --suite pref, which takes --features, --seeds" in " ".join(
        said.output.split()
    )


# -- words ----------------------------------------------------------------------------------------------------------------


def measured(top, minority, generic, name="individual"):
    """The cells of a policy that is that good on every prompt."""
    people = [top] * 7 + [minority] * 3
    own = [{"all": [value - 0.2] * 4, "clear": [value, None, value, value]} for value in people]
    other = [{"all": [generic] * 4, "clear": [generic] * 4} for _ in people]
    values = {"people": [str(i) for i in range(10)], "minority": [7, 8, 9], "own": own, "generic": other}
    return {"figure": "conflicting", "setting": name}, values


def written(majority, minority):
    who = [*(f"person {i}" for i in range(10)), "generic"]
    words = [majority] * 7 + [minority] * 3 + [majority]
    replies = [[{"text": "", "words": count, "cut": count > 60}] * 3 for count in words]
    return {"figure": "lengths", "setting": "individual"}, {
        "who": who,
        "minority": [7, 8, 9],
        "replies": replies,
        "max_tokens": 96,
    }


def met(after):
    person = {
        "before": {"all": [0.5] * 3, "clear": [0.5] * 3},
        "after": {"all": [after] * 3, "clear": [after] * 3},
        "moved": 1.0,
    }
    people = [{"camp": camp, **person} for camp in ("majority", "minority")]
    return {"figure": "new", "setting": "individual"}, {"answers": 10, "people": people}


def words(*cells):
    return summarise(list(cells)).words


def test_words_say_what_was_reached_and_what_was_missed():
    vanilla = measured(0.66, 0.3, 0.6, "vanilla DPO")
    good = words(vanilla, measured(0.9, 0.92, 0.615), written(70, 20), met(0.85))
    assert [line.split(":")[0] for line in good["conflicting"][:3]] == ["Reached"] * 3
    assert (
        "seen people 0.906" in good["conflicting"][0]
        and "leaves the minority at 0.300, as in the paper" in good["conflicting"][3]
    )
    assert good["lengths"][0].startswith("Reached: individual: the minority gets 20.0 words, the majority 70.0: 29%")
    assert "cut at 96 tokens" in good["lengths"][1]
    assert all(line.startswith("Reached") for line in good["new"])
    bad = words(vanilla, measured(0.85, 0.89, 0.63), written(40, 20), met(0.79))
    assert [line.split(":")[0] for line in bad["conflicting"][:3]] == ["Missed"] * 3
    assert bad["lengths"][0].startswith("Missed") and not any("cut at" in line for line in bad["lengths"])
    assert all(line.startswith("Missed") for line in bad["new"])


def test_rows_have_the_papers_numbers_beside_them_and_errors_over_people():
    rows = summarise([measured(0.9, 0.92, 0.6), written(70, 20)]).rows
    named = {(row["figure"], row["metric"]): row for row in rows}
    assert (
        named["conflicting", "minority"]["published"] == 0.9435
        and named["conflicting", "seen people"]["value"] == 0.906
    )
    assert named["conflicting", "majority"]["deviation"] == 0.0
    every = named["conflicting", "seen people, all pairs"]
    assert every["value"] == 0.706 and every["published"] is None
    assert named["lengths", "minority over majority"]["value"] == pytest.approx(20 / 70, abs=1e-4)
    assert (
        named["lengths", "person 0"]["note"] == "100% cut at 96 tokens" and named["lengths", "person 9"]["note"] is None
    )


def test_it_is_among_the_suites():
    assert open_suite("p-rlhf").settings == ("everything",)
