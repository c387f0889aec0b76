"""Personal rewards for TRL: its calling convention, and a training run with a tiny model where TRL is installed."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_models

import palate
from palate.data import read
from palate.errors import InputError, NotFittedError
from palate.integrations.trl import best_of_n, reward_function
from palate.models.reward_model import FeatureRewardModel


def rows(n_users=10, each=20):
    """Even people like exclamation marks, odd ones do not."""
    rng = np.random.default_rng(0)
    found = []
    for user in range(n_users):
        for _ in range(each):
            marks = rng.choice(5, 2, replace=False)
            left, right = (f"good day{'!' * mark}" for mark in marks)
            label = int((marks[0] > marks[1]) == (user % 2 == 0))
            row = {"user": f"u{user}", "prompt": f"Greet {rng.integers(3)}", "left": left, "right": right}
            found.append(row | {"label": label})
    return found


@pytest.fixture(scope="module")
def model():
    return palate.fit(rows(), features="style", method="individual")


def call(reward, completions, users, prompts=None, **more):
    """As TRL calls it."""
    columns = {"user_id": users} if users is not None else {}
    state = {
        "trainer_state": object(),
        "log_extra": print,
        "log_metric": print,
        "completion_ids": [[1]] * len(completions),
    }
    return reward(
        prompts=prompts or ["Greet 1"] * len(completions), completions=completions, **state, **columns, **more
    )


def test_each_row_has_its_own_persons_reward(model):
    reward = reward_function(model)
    completions = ["hi", "hi!!!", "hi", "hi!!!"]
    found = call(reward, completions, ["u0", "u0", "u1", "u1"], answer=["x"] * 4)
    assert all(type(value) is float for value in found) and reward.__name__ == "palate_reward"
    assert found[1] > found[0] and found[3] < found[2]
    expected = [
        model.person(u).score("Greet 1", [c])[0] for u, c in zip(["u0", "u0", "u1", "u1"], completions, strict=True)
    ]
    assert found == pytest.approx(expected, abs=1e-12)


def test_conversations_and_texts_are_the_same(model):
    reward = reward_function(model, user_column="who", name="taste")
    plain = reward(prompts=["Greet 1"], completions=["hi!"], who=["u0"])
    messages = reward(
        prompts=[[{"role": "user", "content": "Greet 1"}]],
        completions=[[{"role": "assistant", "content": "hi!"}]],
        who=["u0"],
    )
    assert plain == messages and reward.__name__ == "taste"


def test_strangers_are_average_or_refused_and_histories_are_learned(model):
    history = [("Greet 1", "hello", "hello!!!"), ("Greet 2", "day", "day!!"), ("Greet 0", "yo", "yo!!!!")] * 3
    reward = reward_function(model, histories={"new": history})
    new = call(reward, ["hi", "hi!!!"], ["new", "new"])
    assert new == pytest.approx(model.adapt(history).score("Greet 1", ["hi", "hi!!!"])) and new[0] > new[1]
    assert call(reward, ["hi!"], ["nobody"]) == pytest.approx(model.adapt().score("Greet 1", ["hi!"]))
    with pytest.raises(InputError, match="unknown user 'nobody'; the model knows 10"):
        call(reward_function(model, unknown="error"), ["hi!"], ["nobody"])


def test_one_person_needs_no_column(model):
    me = model.person("u1")
    found = call(reward_function(me), ["hi", "hi!!!"], None)
    assert found == pytest.approx(me.score("Greet 1", ["hi", "hi!!!"]))


def test_a_completion_without_text_is_the_worst_of_its_prompt(model):
    reward = reward_function(model)
    found = call(reward, ["hi", "", "hi!!!", " \n", ""], ["u0"] * 4 + ["u1"], prompts=["a", "a", "a", "b", "a"])
    assert found[1] == min(found[0], found[2]) and found[3:] == [0.0, 0.0]


def test_best_of_n(model):
    replies = ["hi", "hi!!!", "hi!", ""]
    best = best_of_n(model.person("u0"), "Greet 1", replies)
    assert (best.index, best.reply) == (1, "hi!!!") and best.scores[3] == -np.inf
    assert best_of_n(model.person("u1"), [{"role": "user", "content": "Greet 1"}], replies).index == 0
    assert best_of_n(model.person("u1"), "Greet 1", ["same", "same"]).index == 0
    with pytest.raises(InputError, match="none with a text"):
        best_of_n(model.person("u1"), "Greet 1", [""])


def test_completions_are_not_kept_on_disk(tmp_path):
    lm = tiny_models.save(tmp_path / "lm", "llama")
    model = FeatureRewardModel(lm, "factor", cache=tmp_path / "cache").fit(read(rows(4, 5)), rng=0)
    before = sorted((tmp_path / "cache").rglob("*"))
    found = call(reward_function(model), ["something new", "and this"], ["u0", "u1"])
    assert sorted((tmp_path / "cache").rglob("*")) == before and len(set(found)) == 2
    assert model.cache == tmp_path / "cache", "the model itself was changed"


def test_bad_input(model):
    reward = reward_function(model)
    with pytest.raises(InputError, match="no column 'user_id' .* it has: completion_ids"):
        call(reward, ["hi"], None)
    with pytest.raises(InputError, match="texts or messages"):
        call(reward, [3], ["u0"])
    with pytest.raises(InputError, match="role and content"):
        call(reward, [[{"role": "assistant"}]], ["u0"])
    with pytest.raises(NotFittedError):
        reward_function(FeatureRewardModel("style"))
    scored = [row | {"left_rm": float(len(row["left"])), "right_rm": float(len(row["right"]))} for row in rows()]
    with pytest.raises(InputError, match="new texts have none"):
        reward_function(palate.fit(scored, features="style", method="pooled", base_reward="rm"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("conversational", [False, True])
def test_grpo_trains_on_personal_rewards(model, tmp_path, conversational, monkeypatch):
    trl = pytest.importorskip("trl", reason="needs the extra palate[trl]")
    datasets = pytest.importorskip("datasets", reason="needs the extra palate[trl]")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    folder = tiny_models.save(tmp_path / "lm", "llama", chat=True)
    seen = []
    inner = reward_function(model)

    def reward(prompts, completions, **columns):
        seen.append((columns["user_id"], inner(prompts, completions, **columns)))
        return seen[-1][1]

    prompts = [[{"role": "user", "content": "Greet"}] if conversational else "Greet"] * 8
    data = datasets.Dataset.from_dict({"prompt": prompts, "user_id": ["u0", "u1"] * 4})
    args = trl.GRPOConfig(
        output_dir=str(tmp_path / "out"),
        per_device_train_batch_size=4,
        num_generations=2,
        max_completion_length=6,
        max_steps=2,
        report_to=[],
        use_cpu=True,
        bf16=False,
        logging_steps=1,
        save_strategy="no",
    )
    trainer = trl.GRPOTrainer(
        AutoModelForCausalLM.from_pretrained(folder),
        reward_funcs=reward,
        args=args,
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert len(logged) == 2 and np.isfinite([entry["reward"] for entry in logged]).all()
    assert {user for users, _ in seen for user in users} == {"u0", "u1"}
    assert all(len(values) == 4 and np.isfinite(values).all() for _, values in seen)
