"""The reward model somebody already has: classifiers, columns, and what is refused."""

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
from palate.errors import FingerprintError, InputError
from palate.features import ClassifierScores, ScoreColumns, featurize
from palate.features.base_reward import score_texts

TEXTS = [
    ("Name a drink.", "tea"),
    ("Name a drink.", "a large cup of coffee, please!"),
    ("Why?", "because it is " + "very " * 12 + "good"),
    ("Why?", "no"),
]


def rows(n_users=8, each=12, **columns):
    """Choices of people who like long replies; `columns` make further columns from (left, right, label)."""
    rng = np.random.default_rng(0)
    found = []
    for user in range(n_users):
        for _ in range(each):
            left, right = (f"reply {'so ' * n}{n}" for n in rng.choice(9, 2, replace=False))
            label = int((len(left) > len(right)) == (rng.random() < 0.8))
            row = {"user": f"person-{user}", "prompt": f"Ask {rng.integers(4)}", "left": left, "right": right}
            found.append(row | {"label": label} | {k: f(left, right, label) for k, f in columns.items()})
    return found


@pytest.fixture(scope="module", params=["llama", "chat", "bert"])
def reward_model(request, tmp_path_factory):
    kind = "llama" if request.param == "chat" else request.param
    return tiny_models.save_classifier(tmp_path_factory.mktemp(request.param), kind, chat=request.param == "chat")


def by_transformers(folder, prompt, reply):
    """The score as a model card would compute it, one text at a time."""
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    if tokenizer.chat_template:
        turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]
        batch = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False), return_tensors="pt")
    elif tokenizer.sep_token:
        batch = tokenizer(prompt, reply, return_tensors="pt")
    else:
        batch = tokenizer(f"{prompt}\n\n{reply}", return_tensors="pt")
    if "llama" in model.config.model_type:
        batch.pop("token_type_ids", None)
    with torch.inference_mode():
        return float(model(**batch).logits[0, 0])


def test_scores_are_those_of_the_model_alone(reward_model, tmp_path):
    expected = [by_transformers(reward_model, *text) for text in TEXTS]
    scores = ClassifierScores(model=reward_model, dtype="float32", batch_tokens=300)
    assert score_texts(scores, TEXTS, cache=tmp_path) == pytest.approx(expected, abs=1e-5)
    assert np.ptp(expected) > 1e-3


def test_scores_are_cached_like_features(reward_model, tmp_path):
    scores = ClassifierScores(model=reward_model)
    first = score_texts(scores, TEXTS, cache=tmp_path)
    again = ClassifierScores(model=reward_model)
    assert np.array_equal(score_texts(again, TEXTS[::-1], cache=tmp_path), first[::-1])
    assert "_scores" not in vars(again), "the model was loaded although every score is on disk"


def test_long_texts_keep_their_ends(tmp_path):
    folder = tiny_models.save_classifier(tmp_path / "rm", "llama")
    short = ClassifierScores(model=folder, max_length=32, dtype="float32")
    prompt = "Tell me everything about the sea. " * 4
    one, same_end, other = (
        score_texts(short, [(prompt + middle, end)], cache=False)[0]
        for middle, end in (("ab", "the end of it all, my dear"), ("cd", "the end of it all, my dear"), ("ab", "x"))
    )
    assert one == pytest.approx(same_end, abs=1e-6) and abs(one - other) > 1e-4


def test_a_classifier_under_a_method_and_again_after_loading(reward_model, tmp_path, monkeypatch):
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    model = palate.fit(rows(), features="style", method="individual", base_reward=reward_model)
    assert model.method.has_base_ and isinstance(model.base_reward, ClassifierScores)
    folder = model.save_pretrained(tmp_path / "m")
    loaded = palate.load_model(folder)
    history = [(r["prompt"], r["left"], r["right"]) for r in rows()[:5]]
    replies = ["one", "a longer one", "the longest of all"]
    scores = loaded.adapt(history).score("Ask 1", replies)
    assert np.array_equal(scores, model.adapt(history).score("Ask 1", replies))
    base = score_texts(model.base_reward, [("Ask 1", reply) for reply in replies])
    without = model.method._reward(model.items([("Ask 1", r) for r in replies]), model.adapt(history).state.batch)[0]
    assert scores == pytest.approx(without + model.method.base_scale_ * base)
    assert 0 < loaded.adapt(history).prefer("Ask 1", *replies[:2]) < 1


def test_another_reward_model_under_the_old_name_is_refused(tmp_path):
    rm = tiny_models.save_classifier(tmp_path / "rm", "llama")
    folder = palate.fit(rows(), features="style", method="pooled", base_reward=rm).save_pretrained(tmp_path / "m")
    tiny_models.save_classifier(tmp_path / "rm", "bert")
    with pytest.raises(FingerprintError, match="bring the old weights back"):
        palate.load_model(folder)


LENGTHS = {"rm_left": lambda a, b, y: len(a), "rm_right": lambda a, b, y: len(b)}
CHOSEN = {
    "chosen_rm": lambda a, b, y: len(a if y else b),
    "rejected_rm": lambda a, b, y: len(b if y else a),
}


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        (LENGTHS, "rm"),
        ({f"{k.split('_')[1]}_rm": f for k, f in LENGTHS.items()}, "rm"),
        (LENGTHS, "rm_left/rm_right"),
        (CHOSEN, "rm"),
        (CHOSEN, "chosen_rm/rejected_rm"),
    ],
)
def test_columns_by_any_of_their_names(columns, name):
    dataset = read(rows(**columns))
    expected = [len(reply) for _, reply in dataset.item_texts()]
    assert featurize(dataset, base_reward=name).base_reward.tolist() == expected
    assert ScoreColumns(name).columns(dataset) is not None


def test_chosen_and_rejected_rows_keep_their_scores():
    plain = [
        {"user": "u", "prompt": f"p{i}", "chosen": "x" * (i + 2), "rejected": "y" * (i + 1), "chosen_rm": i + 2.0}
        | {"rejected_rm": i + 1.0}
        for i in range(30)
    ]
    dataset = read(plain)
    assert 0 < dataset.label.mean() < 1, "sides are drawn, so some of the chosen are right"
    assert featurize(dataset, base_reward="rm").base_reward.tolist() == [len(r) for _, r in dataset.item_texts()]
    tied = read([{**row, "label": 0.5} for row in rows(**CHOSEN)])
    with pytest.raises(InputError, match="96 rows are ties"):
        featurize(tied, base_reward="rm")


def test_columns_are_remembered_and_new_texts_need_scores(tmp_path):
    model = palate.fit(rows(**LENGTHS), features="style", method="individual", base_reward="rm")
    loaded = palate.load_model(model.save_pretrained(tmp_path / "m"))
    assert loaded.base_reward == ScoreColumns("rm")
    me = loaded.adapt(rows(n_users=1, **LENGTHS))
    with pytest.raises(InputError, match="pass their scores as base_reward="):
        me.score("Ask 1", ["a", "bb"])
    with pytest.raises(InputError, match="pass their scores as base_reward="):
        me.prefer("Ask 1", "a", "bb")
    with pytest.raises(InputError, match="no column left_rm and right_rm"):
        loaded.adapt(rows(n_users=1))
    scores = me.score("Ask 1", ["a", "bb"], base_reward=[1.0, 2.0])
    higher = me.prefer("Ask 1", "a", "bb", base_reward=(9.0, 2.0))
    assert higher > me.prefer("Ask 1", "a", "bb", base_reward=(1.0, 2.0)) and scores.shape == (2,)


def test_none_is_none():
    dataset = read(rows())
    assert featurize(dataset, base_reward="none").base_reward is None
    assert not palate.fit(dataset, features="style", method="pooled", base_reward="none").method.has_base_


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row["left"] != "", "the same|for all"),
        (lambda row: float("nan"), "no score or several"),
    ],
)
def test_constant_and_missing_scores(change, message):
    bad = [row | {"rm_left": float(change(row)), "rm_right": float(change(row))} for row in rows()]
    with pytest.raises(InputError, match=message):
        featurize(read(bad), base_reward="rm")


def test_what_is_no_reward_model(tmp_path):
    dataset = read(rows())
    plain = tiny_models.save(tmp_path / "lm", "llama")
    with pytest.raises(InputError, match="has no trained score head"):
        featurize(dataset, base_reward=plain, cache=False)
    several = tiny_models.save_classifier(tmp_path / "three", labels=3)
    with pytest.raises(InputError, match="3 labels; a reward model has one"):
        featurize(dataset, base_reward=several, cache=False)
    with pytest.raises(InputError, match="no column left_rm .* no such model folder"):
        featurize(dataset, base_reward="rm", cache=False)


def test_command_line_fits_and_scores_on_top_of_a_classifier(tmp_path, monkeypatch):
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    rm = tiny_models.save_classifier(tmp_path / "rm", "llama")
    data, out = tmp_path / "choices.jsonl", str(tmp_path / "m")
    data.write_text("\n".join(map(json.dumps, rows())))
    run = CliRunner().invoke(
        app, ["fit", str(data), "-o", out, "--features", "style", "--method", "pooled", "--base-reward", rm]
    )
    assert run.exit_code == 0, run.output
    replies = tmp_path / "replies.txt"
    replies.write_text("one\nanother one\n")
    run = CliRunner().invoke(app, ["score", out, "--prompt", "Ask 1", "--replies", str(replies), "--json"])
    assert run.exit_code == 0 and len(json.loads(run.stdout)) == 2
    assert json.loads((tmp_path / "m" / "config.json").read_text())["base_reward"]["settings"]["model"] == rm


def test_a_classifier_in_a_benchmark(tmp_path, monkeypatch):
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    rm = tiny_models.save_classifier(tmp_path / "rm", "llama")
    settings = {"methods": ["individual"], "features": "style", "protocol": "known-items", "seeds": 1, "tune": False}
    settings |= {"baseline": False, "ks": [0]}
    dataset = read(rows(24, 16), name="town")
    sources = (None, rm, lambda texts: [len(reply) for _, reply in texts])
    plain, classified, by_length = (palate.bench(dataset, base_reward=source, **settings) for source in sources)
    fingerprints = {f.manifest["data"]["town"]["items_fingerprint"] for f in (plain, classified, by_length)}
    assert len(fingerprints) == 3, "cells of different base rewards would be taken for each other"
    wanted = {"method": "individual", "metric": "accuracy", "k": 0}
    before, after = (found.select(**wanted)[0]["value"] for found in (plain, by_length))
    assert after > before + 0.1, "people like long replies, and new people start from the base reward"
