"""One person's reward as a sequence classifier of transformers: the same rewards, stock or with code."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny_models
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from typer.testing import CliRunner

import palate
from palate.cli.app import app
from palate.data import read
from palate.errors import InputError, StorageError
from palate.models.export import cluster_people
from palate.models.judge import JudgeRewardModel
from palate.models.reward_model import FeatureRewardModel

NEW = [
    ("What is tea?", "A drink."),
    ("What is tea?", "Leaves in hot water! Try it, please; it is good for you."),
    ("Say hi", "hi hi hi"),
    ("Say hi", "Good morning to you, my dear old friend."),
]


def rows(n_users=10, each=12):
    """Even people like long replies, odd ones short replies."""
    rng = np.random.default_rng(0)
    found = []
    for user in range(n_users):
        for _ in range(each):
            left, right = (f"{'Xylophone'[n]} {'so ' * n}" for n in rng.choice(9, 2, replace=False))
            label = int((len(left) > len(right)) == (user % 2 == 0))
            row = {"user": f"person-{user}", "prompt": f"Ask {rng.integers(4)}", "left": left, "right": right}
            found.append(row | {"label": label})
    return found


def fitted(folder, method="factor", **features):
    options = {"model": None, "dtype": "float32", "device": "cpu"} | features
    options.pop("model")
    model = FeatureRewardModel(folder, method, cache=False, feature_options=options)
    return model.fit(read(rows()), rng=0)


@pytest.fixture(autouse=True)
def own_module_cache(tmp_path, monkeypatch):
    """Code beside a model is copied to a cache first, which must not be the user's."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))


def load(folder, *, trust):
    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=trust)
    return model.eval(), AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)


def rewards(folder, texts, *, trust, prompts=True):
    model, tokenizer = load(folder, trust=trust)
    assert model.config.num_labels == 1
    sides = [list(side) for side in zip(*texts, strict=True)]
    with torch.inference_mode():
        batch = tokenizer(*(sides if prompts else sides[1:]), padding=True, return_tensors="pt")
        return model(**batch).logits[:, 0].double().numpy()


CASES = {
    "stock": ("llama", {"layer": -1, "pooling": "last"}, True),
    "stock gpt2": ("gpt2", {"layer": -1, "pooling": "last"}, True),
    "stock over all tokens": ("llama", {"layer": -1, "pooling": "last", "span": "all"}, True),
    "default of a causal model": ("llama", {}, False),
    "default of gpt2": ("gpt2", {}, False),
    "with a chat template": ("chat", {}, False),
    "last layer, mean": ("llama", {"layer": -1}, False),
    "last token of a middle layer": ("llama", {"layer": 3, "pooling": "last"}, False),
    "first token of the reply": ("llama", {"layer": 2, "pooling": "first"}, False),
    "mean over everything": ("llama", {"span": "all"}, False),
    "a causal model on replies alone": ("llama", {"prompt": False}, False),
    "default of an encoder": ("bert", {}, False),
    "an encoder with prompts": ("bert", {"prompt": True, "span": "response", "layer": 1}, False),
    "an encoder's first token": ("bert", {"pooling": "first", "normalise": False}, False),
}


@pytest.mark.parametrize("case", CASES)
def test_the_classifier_gives_the_persons_rewards(case, tmp_path):
    kind, features, stock = CASES[case]
    source = tiny_models.save(tmp_path / "lm", "llama" if kind == "chat" else kind, chat=kind == "chat")
    model = fitted(source, **features)
    me = model.adapt([(r["prompt"], r["left"], r["right"]) for r in rows()[:6]])
    made = me.export_classifier(tmp_path / "me")
    assert made.stock == stock and (made.folder / "modeling_palate.py").exists() == (not stock)
    assert ("trust_remote_code" in (made.folder / "README.md").read_text()) == (not stock)
    prompts = model.featurizer.uses_prompt
    texts = [*NEW, *[(p, r + " and on") for p, r in NEW]]
    found = rewards(made.folder, texts, trust=not stock, prompts=prompts)
    expected = model.reward(texts, me.state.batch)[0]
    assert np.ptp(expected) > 0.02
    assert found - found[0] == pytest.approx(expected - expected[0], abs=1e-4)


def test_only_the_layers_that_are_used_are_written(tmp_path):
    source = tiny_models.save(tmp_path / "lm", "llama")
    made = fitted(source).export_classifier(tmp_path / "one", user="person-0")
    model, _ = load(made.folder, trust=True)
    assert len(model.backbone.layers) == 2 and model.config.backbone["num_hidden_layers"] == 2


def test_texts_from_a_chat_template_need_no_marks(tmp_path):
    """The reply is found after the last turn's opening, and the closing of its turn is left out."""
    source = tiny_models.save(tmp_path / "lm", "llama", chat=True)
    model = fitted(source)
    made = model.export_classifier(tmp_path / "one", user="person-0")
    classifier, tokenizer = load(made.folder, trust=True)
    turns = [{"role": "user", "content": NEW[1][0]}, {"role": "assistant", "content": NEW[1][1]}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    marked = tokenizer(*NEW[1], return_tensors="pt")
    with torch.inference_mode():
        whole, expected = classifier(ids).logits, classifier(**marked).logits
        # The closing tokens come after the reply, so a causal model's states of the reply do not see them.
        assert whole.item() == pytest.approx(expected.item(), abs=1e-5)
        with pytest.raises(ValueError, match="no reply found"):
            classifier(torch.tensor([[40, 41, 42]]))


def test_batch_and_padding_do_not_matter(tmp_path):
    made = fitted(tiny_models.save(tmp_path / "lm", "llama")).export_classifier(tmp_path / "one", user="person-0")
    together = rewards(made.folder, NEW, trust=True)
    alone = [rewards(made.folder, [text], trust=True)[0] for text in NEW]
    assert together == pytest.approx(alone, abs=1e-5)


def test_half_precision_keeps_the_head(tmp_path):
    model = fitted(tiny_models.save(tmp_path / "lm", "llama"))
    made = model.export_classifier(tmp_path / "half", user="person-0", dtype="bfloat16")
    loaded, _ = load(made.folder, trust=True)
    assert (
        loaded.score.weight.dtype == torch.float32
        and loaded.backbone.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16
    )
    expected = model.person("person-0").model.reward(NEW, model.person("person-0").state.batch)[0]
    found = rewards(made.folder, NEW, trust=True)
    assert found - found[0] == pytest.approx(expected - expected[0], abs=0.1)


@pytest.mark.parametrize("method", ["pooled", "individual", "hierarchical"])
def test_every_linear_method(method, tmp_path):
    model = fitted(tiny_models.save(tmp_path / "lm", "llama"), method)
    made = model.export_classifier(tmp_path / "one", user="person-3")
    expected = model.reward(NEW, model.person("person-3").state.batch)[0]
    found = rewards(made.folder, NEW, trust=True)
    assert found - found[0] == pytest.approx(expected - expected[0], abs=1e-4)


def test_groups_are_the_mean_of_their_people(tmp_path):
    model = fitted(tiny_models.save(tmp_path / "lm", "llama"))
    groups = cluster_people(model, 2)
    assert sorted(map(len, groups)) == [5, 5] and {name[-1] in "02468" for name in groups[0]} in ({True}, {False})
    made = model.export_classifier(tmp_path / "group", cluster=(1, 2))
    assert made.n_people == 5
    one_by_one = [model.reward(NEW, model.person(name).state.batch)[0] for name in groups[0]]
    expected = np.mean(one_by_one, axis=0)
    found = rewards(made.folder, NEW, trust=True)
    assert found - found[0] == pytest.approx(expected - expected[0], abs=1e-4)
    named = model.export_classifier(tmp_path / "named", users=list(groups[0]))
    assert rewards(named.folder, NEW, trust=True) == pytest.approx(found, abs=1e-6)


def test_what_cannot_be_exported(tmp_path):
    lm = tiny_models.save(tmp_path / "lm", "llama")
    style = FeatureRewardModel("style", "pooled", cache=False).fit(read(rows()), rng=0)
    with pytest.raises(InputError, match="style features cannot be exported"):
        style.adapt().export_classifier(tmp_path / "x")
    with pytest.raises(InputError, match="conditional is not linear"):
        fitted(lm, "conditional").adapt().export_classifier(tmp_path / "x")
    scored = FeatureRewardModel(lm, "pooled", base_reward=lambda texts: [len(r) for _, r in texts], cache=False)
    with pytest.raises(InputError, match="on top of a base reward"):
        scored.fit(read(rows()), rng=0).adapt().export_classifier(tmp_path / "x")
    model = fitted(lm)
    for choice, message in (
        ({}, "in one way"),
        ({"user": "person-0", "cluster": (1, 2)}, "in one way"),
        ({"users": []}, "users= is empty"),
        ({"user": "nobody"}, "unknown user 'nobody'"),
        ({"cluster": (3, 2)}, "cluster 3 of 2"),
        ({"cluster": (1, 99)}, "99 clusters of 10 people"),
        ({"user": "person-0", "dtype": "int8"}, "dtype='int8'"),
    ):
        with pytest.raises(InputError, match=message):
            model.export_classifier(tmp_path / "x", **choice)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="another folder"):
        model.export_classifier(tmp_path / "file", user="person-0")


def test_a_judge_is_no_classifier(tmp_path):
    from palate.models.export import export_classifier

    class Silent:
        def chat(self, messages, *, temperature=0.0, max_tokens=256):
            return "A"

    judge = JudgeRewardModel(Silent())
    with pytest.raises(InputError, match="JudgeRewardModel cannot be exported"):
        export_classifier(judge, judge.adapt().state.batch, tmp_path / "x")


def test_command_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    model = palate.fit(rows(), features=tiny_models.save(tmp_path / "lm", "llama"), method="factor")
    folder = str(model.save_pretrained(tmp_path / "m", people=True))
    history = tmp_path / "mine.jsonl"
    history.write_text("\n".join(json.dumps({k: v for k, v in row.items() if k != "user"}) for row in rows()[:5]))
    state = tmp_path / "me.state"
    model.adapt([(r["prompt"], r["left"], r["right"]) for r in rows()[:5]]).save(state)

    def export(*words):
        return CliRunner().invoke(app, ["export", folder, "-o", str(tmp_path / "out"), *words])

    run = export("--user-history", str(history), "--json")
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout) == {"classifier": str(tmp_path / "out"), "stock": False, "n_people": 1}
    first = rewards(tmp_path / "out", NEW, trust=True)
    assert export("--state", str(state)).exit_code == 0
    assert export("--user", "person-0", "--user", "person-2").output.startswith("exported the mean reward of 2 people")
    second = export("--cluster", "1/2")
    assert "of 5 people" in second.output and np.ptp(first) > 0
    for words in ((), ("--state", str(state), "--cluster", "1/2"), ("--cluster", "half")):
        assert export(*words).exit_code == 2
