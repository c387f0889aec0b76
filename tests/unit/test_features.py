"""Featurizers by name, their vectors, and the items of a data set."""

from __future__ import annotations

import json
import subprocess
import sys

import httpx
import numpy as np
import polars as pl
import pytest
import tiny_models

from palate.data import PreferenceDataset
from palate.errors import ConfigError, DataError, InputError
from palate.features import Featurizer, available, conditioned_items, embed_items, featurize, make
from palate.features.endpoint import EndpointFeatures
from palate.features.language_model import LanguageModelFeatures
from palate.testing import check_featurizer

SHORT = (("Why?", "Because."), ("", "No question!"), ("Say ä", "ä, ö and ü: " * 8), ("Why?", "No idea…"))


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return tiny_models.save(tmp_path_factory.mktemp("llama"), "llama", chat=True)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_models.save(tmp_path_factory.mktemp("bert"), "bert")


@pytest.fixture(scope="module")
def dataset():
    rows = [
        {"user": "ann", "prompt": "p", "left": "a", "right": "b", "label": 1.0},
        {"user": "bob", "prompt": "p", "left": "b", "right": "c", "label": 0.0},
        {"user": "bob", "prompt": "q", "left": "a", "right": "c", "label": 1.0},
        {"user": "cas", "prompt": "p", "left": "a", "right": "c", "label": 0.5},
    ]
    return PreferenceDataset.from_rows(rows)


class Counting(Featurizer):
    """The lengths of prompt and response; keeps what it was asked."""

    name = "counting"
    fingerprint = "f" * 32
    dim = 2

    def __init__(self):
        self.asked = []

    def embed(self, items, *, progress=None):
        self.asked.extend(items)
        return np.array([[len(p), len(r)] for p, r in items], np.float32).reshape(-1, 2)


# -- language models --------------------------------------------------------------------------------------------------


def test_causal_features_obey_the_contract(llama):
    check_featurizer(
        lambda: make(llama, dtype="float32"),
        variants=[
            lambda: make(llama),
            lambda: make(llama, dtype="float32", layer=1),
            lambda: make(llama, dtype="float32", pooling="last"),
            lambda: make(llama, dtype="float32", span="all"),
            lambda: make(llama, dtype="float32", max_length=64),
            lambda: make(llama, dtype="float32", template="plain"),
            lambda: make(llama, dtype="float32", prompt=False),
            lambda: make(llama, dtype="float32", normalise=True),
        ],
        texts=SHORT,
        tolerance=1e-5,
    )


def test_encoder_features_obey_the_contract(bert):
    check_featurizer(
        lambda: make(bert, dtype="float32"),
        variants=[lambda: make(bert, dtype="float32", prompt=True)],
        texts=SHORT,
        tolerance=1e-5,
    )


def test_defaults_are_the_middle_of_a_causal_model_and_the_unit_vector_of_an_encoder(llama, bert, tmp_path):
    causal, encoder = make(llama), make(bert)
    assert (causal.layer, causal.pooling, causal.max_length, causal.uses_prompt) == (2, "mean", 512, True)
    assert (encoder.layer, encoder.pooling, encoder.max_length, encoder.uses_prompt) == (2, "mean", 256, False)
    np.testing.assert_allclose(np.linalg.norm(encoder.embed(SHORT), axis=1), 1, atol=1e-5)
    assert make(llama, layer=-1).layer == 4
    path = tiny_models.save(tmp_path, "bert")
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 77}')
    assert (make(path).pooling, make(path).max_length) == ("first", 77)
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode": "lasttoken"}')
    assert make(path).pooling == "last"


def test_a_causal_vector_is_the_mean_over_the_responses_tokens(llama):
    import torch

    from palate.backends.huggingface import load_backbone, load_tokenizer

    tokenizer, model = load_tokenizer(llama), load_backbone(llama, dtype="float32", device="cpu")
    head = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Why?"}], tokenize=False, add_generation_prompt=True
    )
    before = len(tokenizer(head, add_special_tokens=False)["input_ids"])
    ids = tokenizer(head + "Because.", add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        hidden = model(input_ids=ids, output_hidden_states=True).hidden_states[2][0]
    vector = make(llama, dtype="float32", device="cpu").embed([("Why?", "Because.")])[0]
    np.testing.assert_allclose(vector, hidden[before:].mean(0).numpy(), atol=1e-5)


def test_the_prompt_matters_where_it_is_read_and_nowhere_else(llama, bert):
    one, other = [("Why?", "So.")], [("Where?", "So.")]
    for featurizer, reads in ((make(llama), True), (make(llama, prompt=False), False), (make(bert), False)):
        assert featurizer.uses_prompt is reads
        assert np.allclose(featurizer.embed(one), featurizer.embed(other), atol=1e-5) is not reads
    assert not np.allclose(make(bert, prompt=True).embed(one), make(bert, prompt=True).embed(other), atol=1e-5)


def test_settings_that_cannot_be_met(llama, bert):
    with pytest.raises(ConfigError, match="layer=9: .* has layers 1 to 4"):
        make(llama, layer=9).embed(SHORT)
    with pytest.raises(ConfigError, match="max_length=9999: .* at most 512 tokens"):
        make(llama, max_length=9999).embed(SHORT)
    with pytest.raises(ConfigError, match="unknown setting 'layers'"):
        make(llama, layers=2)
    with pytest.raises(ConfigError, match="has no chat template"):
        make(bert, kind="causal", template="chat").embed(SHORT)


# -- by name ----------------------------------------------------------------------------------------------------------


def test_make_takes_names_featurizers_arrays_and_none():
    assert make("none").dim == make(None).dim == 0 and make("style").dim == 18
    assert isinstance(make("minilm", prompt=True), LanguageModelFeatures)
    remote = make("openai:text-embedding-3-small@http://localhost:8000/v1", batch_size=2)
    assert (remote.config.model, remote.config.base_url) == ("text-embedding-3-small", "http://localhost:8000/v1")
    assert make("openai:m").config.base_url == "https://api.openai.com/v1"
    style = make("style")
    assert make(style) is style
    assert all(len(line) > 10 for line in available().values())


@pytest.mark.parametrize(
    ("source", "options", "line"),
    [
        ("smolm2", {}, "did you mean 'smollm2'"),
        ("mini-lm", {}, "did you mean 'minilm'"),
        ("style", {"layer": 3}, "no settings, so layer"),
        ("none", {"layer": 3}, "no settings"),
        (3, {}, "give a name"),
        ("openai:m@nowhere", {}, "base_url"),
    ],
)
def test_make_refuses_with_the_fix(source, options, line):
    with pytest.raises(ConfigError, match=line):
        make(source, **options)


def test_importing_features_and_reading_a_fingerprint_needs_no_torch(bert):
    program = (
        f"import sys, palate.features as f; assert f.make({bert!r}).fingerprint and f.make({bert!r}).dim == 32; "
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


# -- style ------------------------------------------------------------------------------------------------------------


def test_style_obeys_the_contract():
    check_featurizer(lambda: make("style"))


def test_style_knows_what_it_says():
    style = make("style")

    def column(name, text):
        return style.embed([("", text)])[0, style.columns.index(name)]

    assert column("log_words", "one two three") == pytest.approx(np.log(4))
    assert column("exclamations", "Go! Now!") == 1 and column("exclamations", "Go. Now.") == 0
    assert column("questions", "Why? Because.") == pytest.approx(np.sqrt(0.5))
    assert column("list_lines", "- one\n- two\n3. three") == pytest.approx(np.sqrt(3))
    assert column("hedging_minus_certainty", "maybe") == 1 and column("hedging_minus_certainty", "never") == -1
    assert column("politeness", "thank you please") == pytest.approx(np.sqrt(2 / 3))
    assert column("second_minus_first_person", "you") == 1 and column("second_minus_first_person", "me") == -1
    assert column("contractions", "don't we’ll") == 1
    assert column("emoji", "fine 🙂") == 1
    assert np.isfinite(style.embed([("", "…"), ("", " \n "), ("", "漢字")])).all()


# -- endpoint ---------------------------------------------------------------------------------------------------------


def endpoint(seen, **settings):
    def answer(request):
        texts = json.loads(request.content)["input"]
        seen.extend(texts)
        rows = [{"index": i, "embedding": [len(text), text.count("a") + 1, 1]} for i, text in enumerate(texts)]
        return httpx.Response(200, json={"data": rows})

    client = {"transport": httpx.MockTransport(answer)}
    return EndpointFeatures(model="m", base_url="http://server.test/v1", client=client, **settings)


def test_endpoint_features_obey_the_contract():
    check_featurizer(
        lambda: endpoint([]), variants=[lambda: endpoint([], prompt=True), lambda: endpoint([], normalise=False)]
    )


def test_endpoint_sends_each_text_once_and_cuts_long_ones():
    seen = []
    endpoint(seen).embed([("p", "one"), ("q", "one"), ("p", "two")])
    assert seen == ["one", "two"]
    seen.clear()
    both = endpoint(seen, prompt=True, max_characters=20)
    both.embed([("P" * 30 + "!", "R" * 30), ("P" * 30 + "!", "(R)"), ("P", "(" + "R" * 30), ("", "r")])
    assert seen == ["P" * 9 + "!\n\n" + "R" * 10, "P" * 16 + "!\n\n(R)", "P\n\n(" + "R" * 18, "r"]


# -- vectors that exist -----------------------------------------------------------------------------------------------


def test_an_array_is_one_row_per_item(dataset):
    array = np.arange(dataset.n_items * 3.0).reshape(-1, 3)
    np.testing.assert_array_equal(featurize(dataset, array).features, array)
    with pytest.raises(InputError, match=f"{dataset.n_items} items for an array of {dataset.n_items - 1} rows"):
        featurize(dataset, array[1:])
    array[2, 1] = np.nan
    with pytest.raises(InputError, match="in 1 rows, the first is row 2"):
        make(array)
    with pytest.raises(InputError, match="prompt_features=True"):
        featurize(dataset, np.ones((dataset.n_items, 1)), prompt_features=True)


def test_vectors_by_response_or_by_pair(dataset):
    by_response = {"a": [1.0, 0], "b": [0, 1.0], "c": [1.0, 1]}
    features = featurize(dataset, by_response).features
    for (_, response), vector in zip(dataset.item_texts(), features, strict=True):
        np.testing.assert_array_equal(vector, by_response[response])
    by_pair = {pair: [float(i)] for i, pair in enumerate(dataset.item_texts())}
    assert featurize(dataset, by_pair).features[:, 0].tolist() == list(range(dataset.n_items))
    with pytest.raises(DataError, match="1 of 3 texts have no vector, such as 'c'") as caught:
        featurize(dataset, {"a": [1.0], "b": [2.0]})
    assert caught.value.problems == ("'c'",)


@pytest.mark.parametrize(
    ("vectors", "line"),
    [
        ({}, "empty"),
        ({"a": [1.0], "b": [1.0, 2.0]}, "one length"),
        ({"a": [1.0], ("p", "b"): [1.0]}, "one kind"),
        ({"a": [np.inf]}, "NaN or infinite"),
        ({"a": 1.0}, "must be numbers"),
        ({"a": ["x"]}, "cannot be stacked"),
    ],
)
def test_mappings_that_cannot_be_used(vectors, line):
    with pytest.raises(InputError, match=line):
        make(vectors)


def test_files_of_vectors(dataset, tmp_path):
    array = np.arange(dataset.n_items * 2.0).reshape(-1, 2).astype(np.float32)
    np.save(tmp_path / "x.npy", array)
    pairs = dataset.item_texts()
    texts = {"prompt": [p for p, _ in pairs], "response": [r for _, r in pairs]}
    pl.DataFrame({**texts, "vector": array.tolist()}).write_parquet(tmp_path / "lists.parquet")
    pl.DataFrame({**texts, "x0": array[:, 0], "x1": array[:, 1]}).write_parquet(tmp_path / "columns.parquet")
    for name in ("x.npy", "lists.parquet", "columns.parquet"):
        np.testing.assert_array_equal(featurize(dataset, str(tmp_path / name)).features, array)


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ({"text": ["a"], "x": [1.0]}, "no column 'response'"),
        ({"response": ["a"]}, "one column of lists or several"),
        ({"response": ["a"], "v": [[1.0]], "x": [1.0]}, "one column of lists or several"),
        ({"response": ["a", None], "x": [1.0, 2.0]}, "null"),
        ({"response": ["a", "a"], "x": [1.0, 2.0]}, "1 texts come twice"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, columns, line):
    pl.DataFrame(columns).write_parquet(tmp_path / "v.parquet")
    with pytest.raises(DataError, match=line):
        make(str(tmp_path / "v.parquet"))


def test_files_that_cannot_be_read(tmp_path):
    np.save(tmp_path / "pickled.npy", np.array([{"x": 1}], object), allow_pickle=True)
    (tmp_path / "odd.npy").write_bytes(b"not numpy")
    (tmp_path / "odd.parquet").write_bytes(b"not parquet")
    for name in ("pickled.npy", "odd.npy", "odd.parquet", "absent.npy"):
        with pytest.raises(InputError, match=name):
            make(str(tmp_path / name))


# -- the items of a data set ------------------------------------------------------------------------------------------


def test_items_carry_keys_prompts_and_features(dataset):
    items = featurize(dataset, Counting(), cache=False, prompt_features=True)
    np.testing.assert_array_equal(items.keys, dataset.item_keys())
    np.testing.assert_array_equal(items.prompt, dataset.item_prompt)
    assert items.features.tolist() == [[len(p), len(r)] for p, r in dataset.item_texts()]
    assert items.prompt_features.tolist() == [[0, len(p)] for p in dataset.prompts]
    assert len(dataset.comparisons(items)) == len(dataset)


def test_without_a_featurizer_only_identity_is_known(dataset):
    items = featurize(dataset)
    assert items.dim == 0 and np.array_equal(items.keys, dataset.item_keys()) and items.base_reward is None


def test_base_rewards_from_an_array_or_a_function(dataset):
    scores = np.arange(dataset.n_items, dtype=np.float64)
    np.testing.assert_array_equal(featurize(dataset, base_reward=scores).base_reward, scores)
    first = featurize(dataset, base_reward=lambda items: [ord(p[0]) + ord(r[0]) for p, r in items]).base_reward
    assert first.tolist() == [ord(p[0]) + ord(r[0]) for p, r in dataset.item_texts()]
    with pytest.raises(InputError, match="base_reward is 1 for all 5 items"):
        featurize(dataset, base_reward=lambda items: [1] * len(items))
    with pytest.raises(InputError, match="base_reward has shape"):
        featurize(dataset, base_reward=scores[1:])
    with pytest.raises(InputError, match="NaN"):
        featurize(dataset, base_reward=scores * np.nan)


def test_base_rewards_from_columns(dataset):
    from dataclasses import replace

    truth = {pair: float(i) for i, pair in enumerate(dataset.item_texts())}
    per_item = np.array(list(truth.values()))
    extra = {"rm_left": per_item[dataset.left], "rm_right": per_item[dataset.right]}
    np.testing.assert_array_equal(featurize(replace(dataset, extra=extra), base_reward="rm").base_reward, per_item)
    contradiction = {**extra, "rm_left": extra["rm_left"] + np.array([0, 1.0, 0, 0])}
    with pytest.raises(InputError, match="1 items have no score or several"):
        featurize(replace(dataset, extra=contradiction), base_reward="rm")
    words = {**extra, "rm_left": np.array(["x"] * 4)}
    with pytest.raises(InputError, match="no number"):
        featurize(replace(dataset, extra=words), base_reward="rm")
    with pytest.raises(InputError, match="no column left_rm and right_rm .* the extra columns are: none"):
        featurize(dataset, base_reward="rm")


# -- conditioned on the person ----------------------------------------------------------------------------------------


def test_conditioned_items_are_one_per_person_and_item(dataset):
    featurizer = Counting()
    rows = conditioned_items(dataset, featurizer, cache=False)
    pairs = {(u, i) for u, i in zip(np.tile(dataset.user, 2), [*dataset.left, *dataset.right], strict=True)}
    assert len(rows.items) == len(pairs) == len(featurizer.asked) > dataset.n_items
    for side, plain in ((rows.left, dataset.left), (rows.right, dataset.right)):
        np.testing.assert_array_equal(rows.items.keys[side], dataset.item_keys()[plain])
        np.testing.assert_array_equal(rows.items.prompt[side], dataset.item_prompt[plain])
        for row, item in enumerate(plain):
            prompt, response = dataset.item_texts()[item]
            expected = (f"User: {dataset.users[dataset.user[row]]}\n\n{prompt}", response)
            assert rows.items.features[side[row]].tolist() == [len(expected[0]), len(expected[1])]
            assert expected in featurizer.asked
    np.testing.assert_array_equal(rows.label, dataset.label)
    assert rows.n_users == dataset.n_users


def test_people_who_are_not_known_share_the_generic_prefix(dataset):
    featurizer = Counting()
    rows = conditioned_items(dataset, featurizer, known=[0], rows=np.array([0, 1, 3]), cache=False)
    prefixes = {prompt.split("\n")[0] for prompt, _ in featurizer.asked}
    assert prefixes == {"User: ann", "User: unknown"}
    assert len(rows) == 3 and len(rows.items) == 2 + 3
    mask = np.array([True, False, False])
    again = conditioned_items(dataset, Counting(), known=mask, rows=np.array([1, 1, 0, 1], bool), cache=False)
    np.testing.assert_array_equal(again.left, rows.left)


def test_featurizers_that_do_not_read_the_prompt_cannot_be_conditioned(dataset):
    for source in ("style", "minilm", None, np.ones((dataset.n_items, 2))):
        with pytest.raises(InputError, match="do not read the prompt"):
            conditioned_items(dataset, source)
    with pytest.raises(InputError, match="a mask must be"):
        conditioned_items(dataset, Counting(), known=np.ones(7, bool))


def test_embedding_nothing_gives_no_rows_of_the_right_width():
    assert embed_items(Counting(), [], cache=False).shape == (0, 2)
