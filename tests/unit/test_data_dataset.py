"""The data set itself, writing it, the known sets and the shipped corpus."""

import os
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from palate.data import (
    corpus,
    find_repeats,
    get_source,
    load,
    load_votes,
    pair_codes,
    read,
    split,
    trl_frame,
    write,
    write_split,
    write_trl,
)
from palate.data.text import fractions, normal_form, text_keys
from palate.errors import ConfigError, DataError, FingerprintError, InputError, StorageError
from palate.types import Items

needs_data = pytest.mark.skipif("PALATE_DATA" not in os.environ, reason="set PALATE_DATA to the folder of real data")

ROWS = [
    {"user": "ann", "prompt": "Tea?", "left": "Yes.", "right": "No.", "label": 1, "part": "history"},
    {"user": "bob", "prompt": "Tea?", "left": "No.", "right": "Yes.", "label": 0.25, "part": "heldout"},
    {"user": "ann", "prompt": "Why?", "left": "Because.", "right": "No.", "label": 0.5, "part": "history"},
    {"user": "cem", "prompt": "Why?", "left": "No.", "right": "Because.", "label": 0, "part": "history"},
]
TEXT_KEYS = [6510301506637419378, 5215804289418769117, 4802194065024997870]
ITEM_KEYS = [6162998731137970990, 4641526163499448201, 1288351875940798558, 5743455534520227836]
FINGERPRINT = "3e285a94aa15806adb36610097d187ed"


def items_of(dataset, dim=2):
    return Items.of(np.zeros((dataset.n_items, dim)), keys=dataset.item_keys(), prompt=dataset.item_prompt)


# -- keys and fingerprints ------------------------------------------------------------------------------------------


def test_text_keys_are_frozen():
    """These numbers are in caches and saved models: they may never change."""
    assert text_keys(["", "tea", "Tée"]).tolist() == TEXT_KEYS
    assert read(ROWS).item_keys().tolist() == ITEM_KEYS
    assert read(ROWS).fingerprint == FINGERPRINT


def test_keys_depend_on_the_texts_alone():
    dataset = read(ROWS)
    whole = dict(zip(dataset.item_texts(), dataset.item_keys(), strict=True))
    part = dataset.subset(np.array([3]))
    assert {text: whole[text] for text in part.item_texts()} == dict(
        zip(part.item_texts(), part.item_keys(), strict=True)
    )
    assert len(set(whole.values())) == dataset.n_items
    assert dataset.item_keys().min() >= 0
    swapped = read([{**ROWS[0], "prompt": "No.", "left": "Tea?", "right": "x"}])
    assert not set(swapped.item_keys()) & set(whole.values())


@pytest.mark.parametrize(
    "change",
    [
        {"user": "eve"},
        {"prompt": "Tea"},
        {"left": "yes."},
        {"label": 0.9},
        {"weight": 2},
        {"time": 1},
        {"user_text": "x"},
        {"part": "heldout"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_fingerprint_sees_every_change(change):
    rows = [{**row, "weight": 1} for row in ROWS]
    assert read([{**rows[0], **change}, *rows[1:]]).fingerprint != read(ROWS).fingerprint


def test_the_fingerprint_sees_order_but_not_names_or_widths():
    dataset = read(ROWS)
    assert read(ROWS[::-1]).fingerprint != dataset.fingerprint
    assert read(ROWS, name="other", licence="CC0").fingerprint == dataset.fingerprint
    narrow = pl.DataFrame(ROWS, strict=False).with_columns(pl.col("label").cast(pl.Float32), other=pl.lit(1))
    assert read(narrow).fingerprint == dataset.fingerprint


def test_fractions_are_uniform_and_salted():
    keys = np.arange(20_000)
    first, second = fractions(keys, "a"), fractions(keys, "b")
    np.testing.assert_allclose(np.quantile(first, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.02)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.03


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("Tea, please!", " tea  please", True),
        ("ﬁne", "fine", True),
        ("Straße", "STRASSE", True),
        ("e\u0301", "é", True),
        ("tea", "teas", False),
        ("?", "!", False),
        ("नमस्ते", "नमसत", False),
    ],
)
def test_normal_form(a, b, same):
    first, second = normal_form([a, b])
    assert (first == second) is same


# -- views ----------------------------------------------------------------------------------------------------------


def test_values_are_frozen():
    dataset = read(ROWS)
    with pytest.raises(ValueError, match="read-only"):
        dataset.label[0] = 0
    with pytest.raises(FrozenInstanceError):
        dataset.name = "x"


def test_comparisons_keep_all_people():
    dataset = read([{**row, "time": i} for i, row in enumerate(ROWS)])
    items = items_of(dataset)
    all_rows = dataset.comparisons(items)
    assert (len(all_rows), all_rows.n_users) == (4, 3)
    some = dataset.comparisons(items, rows=np.array([3, 0]))
    assert some.n_users == 3
    assert some.user.tolist() == [2, 0]
    assert some.label.tolist() == [0.0, 1.0]
    assert some.time.tolist() == [3.0, 0.0]
    masked = dataset.comparisons(items, rows=np.array([True, False, False, False]))
    assert masked.left.tolist() == dataset.left[:1].tolist()
    all_rows.label[0] = 0.0
    assert dataset.label[0] == 1.0


def test_items_of_other_data_are_refused():
    dataset, other = read(ROWS), read([{**row, "prompt": row["prompt"] + "!"} for row in ROWS])
    with pytest.raises(InputError, match="3 items for data with 4"):
        dataset.comparisons(items_of(dataset).take(np.arange(3)))
    with pytest.raises(FingerprintError, match="featurize this data set"):
        dataset.comparisons(items_of(other))
    unknown = Items.of(np.zeros((4, 2)))
    assert len(dataset.comparisons(unknown)) == 4


def test_a_subset_has_only_what_its_rows_use():
    dataset = read([{**row, "user_text": f"about {row['user']}", "time": 1} for row in ROWS], licence="CC0", name="tea")
    part = dataset.subset(np.array([3, 2]))
    assert part.users == ("ann", "cem")
    assert part.prompts == ("Why?",)
    assert part.responses == ("Because.", "No.")
    assert part.user_text == ("about ann", "about cem")
    assert part.to_frame().equals(dataset.to_frame()[[3, 2]])
    assert (part.name, part.licence) == ("tea", "CC0")
    assert part.fingerprint == read(part.to_frame()).fingerprint
    assert dataset.subset(dataset.user == 1).users == ("bob",)
    assert len(dataset.subset(np.array([], int))) == 0


def test_repr_says_how_much_there_is():
    assert repr(read(ROWS)) == "PreferenceDataset('data': 4 comparisons, 3 users, 4 items, 2 prompts)"


def test_wrong_lengths_are_refused():
    dataset = read(ROWS)
    with pytest.raises(InputError, match="label has shape"):
        type(dataset).from_columns(user=["a"], prompt=["p"], left=["l"], right=["r"], label=np.ones(2))
    with pytest.raises(DataError, match="a text is null"):
        type(dataset).from_columns(user=[None], prompt=["p"], left=["l"], right=["r"], label=np.ones(1))


# -- repeats --------------------------------------------------------------------------------------------------------


def test_repeats_are_counted_whatever_the_sides():
    row = ROWS[0]
    swapped = {**row, "left": row["right"], "right": row["left"]}
    rows = [row, {**swapped, "label": 0}, {**swapped, "label": 1}, row, {**row, "user": "bob"}, {**row, "label": 0.5}]
    dataset = read(rows)
    found = find_repeats(dataset)
    assert (found.duplicates, found.repeated_pairs, found.contradicted_pairs) == (1, 1, 1)
    codes = pair_codes(dataset)
    assert len({*codes[[0, 1, 2, 3, 5]]}) == 1
    assert codes[4] != codes[0]


# -- writing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", [".csv", ".jsonl", ".parquet"])
def test_written_data_comes_back(tmp_path, extension):
    rows = [
        {**row, "weight": i + 0.5, "time": 1.5e9 + i, "user_text": f'says "{row["user"]}",\n ok'}
        for i, row in enumerate(ROWS)
    ]
    dataset = read(rows)
    written = write(dataset, tmp_path / f"new folder/a{extension}")
    assert (written.rows, written.left_out) == (4, 0)
    back = read(written.path)
    assert back.fingerprint == dataset.fingerprint
    assert back.to_frame().select(dataset.to_frame().columns).equals(dataset.to_frame())
    assert sorted(path.name for path in written.path.parent.iterdir()) == [f"a{extension}"]


def test_write_parquet(tmp_path):
    dataset = read(ROWS)
    dataset.write_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet").fingerprint == dataset.fingerprint


@pytest.mark.parametrize("extension", [".csv", ".jsonl", ".parquet"])
def test_trl_columns_keep_who_preferred_what(tmp_path, extension):
    dataset = read(ROWS)
    written = write_trl(dataset, tmp_path / f"a{extension}")
    assert (written.rows, written.left_out) == (3, 1)
    frame = trl_frame(dataset)
    assert frame.columns == ["prompt", "chosen", "rejected", "user_id", "part"]
    assert frame.rows()[1] == ("Tea?", "Yes.", "No.", "bob", "heldout")
    back = read(written.path)
    assert sorted(trl_frame(back).rows()) == sorted(frame.rows())


def test_writing_goes_wrong(tmp_path, monkeypatch):
    dataset = read(ROWS)
    with pytest.raises(DataError, match="cannot write '.xlsx'; use .csv, .jsonl, .parquet"):
        write(dataset, tmp_path / "a.xlsx")
    with pytest.raises(DataError, match="ties"):
        write_trl(dataset.subset(np.array([2])), tmp_path / "a.csv")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    with pytest.raises(StorageError, match="disk is full"):
        write(dataset, tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_split_is_written_as_one_file_per_cell(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        {"user": f"u{i % 20}", "prompt": f"p{rng.integers(40)}", "left": f"l{i}", "right": f"r{i}", "label": 1}
        for i in range(800)
    ]
    dataset = read(rows)
    cells = split(dataset, seed=0)
    files = write_split(dataset, cells, tmp_path)
    assert {written.path.name for written in files} == {f"{n}.parquet" for n, size in cells.sizes().items() if size}
    train = read(tmp_path / "train.parquet")
    assert train.fingerprint == dataset.subset(cells.train).fingerprint
    with pytest.raises(FingerprintError, match="other data"):
        write_split(read(ROWS), cells, tmp_path)


# -- known sets -----------------------------------------------------------------------------------------------------


@needs_data
def test_convarg():
    dataset = load("convarg")
    assert (len(dataset), dataset.n_users, dataset.n_items, dataset.n_prompts) == (84_370, 3_815, 1_038, 32)
    assert len(dataset.left_out) == 75
    assert all("same text" in problem for problem in dataset.left_out)
    assert dataset.licence == "CC BY 4.0"
    assert np.isfinite(dataset.time).all()
    assert int(np.sum(dataset.counts() >= 50)) >= 230


@needs_data
def test_polis():
    dataset = load("polis_bowling_green")
    assert (len(dataset), dataset.n_users, dataset.n_items, dataset.n_prompts) == (57_244, 961, 607, 1)
    assert {*dataset.extra["part"].tolist()} == {"history", "heldout"}
    votes = load_votes()
    assert (len(votes), len(votes.users), len(votes.statements)) == (225_040, 2_010, 607)
    assert {*votes.vote.tolist()} == {-1, 0, 1}
    assert {*dataset.users} <= {*votes.users}
    cast = {
        (votes.users[u], votes.statements[s]): v
        for u, s, v in zip(votes.user.tolist(), votes.statement.tolist(), votes.vote.tolist(), strict=True)
    }
    for row in dataset.to_frame().head(200).iter_rows(named=True):
        agreed, disagreed = (row["left"], row["right"]) if row["label"] == 1 else (row["right"], row["left"])
        assert (cast[row["user"], agreed], cast[row["user"], disagreed]) == (1, -1)


def test_known_sets_that_cannot_be_loaded(monkeypatch, tmp_path):
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ConfigError, match="unknown data set 'prsm'; there are: convarg"):
        load("prsm")
    with pytest.raises(ConfigError, match="use palate.data.load_votes"):
        load("polis_bowling_green_votes")
    with pytest.raises(ConfigError, match=r"use palate.data.load\("):
        load_votes("convarg")
    monkeypatch.setenv("PALATE_DATA", str(tmp_path))
    with pytest.raises(DataError, match="convarg.parquet is not in .PALATE_DATA"):
        load("convarg")
    pl.DataFrame({"user": ["a"], "vote": [1]}).write_parquet(tmp_path / "polis_bowling_green_votes.parquet")
    with pytest.raises(DataError, match="no column statement"):
        load_votes()
    monkeypatch.delenv("PALATE_DATA")
    with pytest.raises(DataError, match="PALATE_DATA is not set"):
        load("convarg")


def test_every_known_set_says_whose_it_is():
    for name in ("convarg", "polis_bowling_green", "polis_bowling_green_votes"):
        source = get_source(name)
        assert source.licence == "CC BY 4.0"
        assert source.licence in source.attribution
        assert source.home.startswith("https://")


# -- the shipped corpus ---------------------------------------------------------------------------------------------


def test_the_corpus_is_as_it_was_written():
    assert {name: corpus.fingerprint(name) for name in corpus.FINGERPRINTS} == dict(corpus.FINGERPRINTS)


def test_replies():
    replies = corpus.replies()
    assert len(replies) == len({reply.id for reply in replies}) == 512
    assert len({reply.prompt for reply in replies}) == len({reply.prompt_id for reply in replies}) == 64
    poles = [pole for reply in replies for pole in reply.traits.items()]
    assert len(poles) == 1024
    assert {poles.count(pole) for pole in poles} <= {72, 73, 74, 75}
    words = {
        pole: [len(r.text.split()) for r in replies if r.traits.get("length") == pole]
        for pole in ("verbose", "concise")
    }
    assert min(words["verbose"]) >= 90
    assert max(words["concise"]) <= 26
    with pytest.raises(TypeError):
        replies[0].traits["length"] = "verbose"


def test_tax():
    pairs = corpus.tax()
    counts = {c: sum(pair.category == c for pair in pairs) for c in {pair.category for pair in pairs}}
    assert counts == {"chat": 60, "chat-hard": 60, "reasoning": 120, "safety": 120}
    assert sum(pair.half == "train" for pair in pairs) == 180
    assert all(pair.better != pair.worse for pair in pairs)
    assert Path(corpus.__file__).with_name("README.md").is_file()
