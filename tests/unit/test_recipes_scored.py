"""Recipes whose labels come from scores: what people answer follows from the truth that is written beside it."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from palate.data import corpus, read
from palate.errors import DataError, InputError
from palate.simulate.recipes import (
    STYLES,
    attributes,
    long_short,
    opposing,
    personal_llm,
    reply_pool,
    scorers_of,
)
from palate.simulate.tastes import ATTRIBUTES

REPLIES = [(f"p{number // 4}", "word " * (1 + number % 4) + f"end {number}") for number in range(40)]


@pytest.fixture
def scored(tmp_path):
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "prompt": [prompt for prompt, _ in REPLIES],
            "reply": [reply for _, reply in REPLIES],
            "rm_a": rng.normal(3.0, 2.0, 40),
            "rm_b": rng.normal(-1.0, 0.1, 40),
            "rm_c": rng.normal(0.0, 50.0, 40),
            "controversial": [number % 8 < 4 for number in range(40)],
        }
    )
    frame.write_parquet(tmp_path / "pool.parquet")
    return frame, tmp_path / "pool.parquet"


def score_of(frame, names):
    table = frame.select(names).to_numpy()
    z = (table - table.mean(0)) / table.std(0)
    return {(prompt, reply): row for prompt, reply, row in zip(frame["prompt"], frame["reply"], z, strict=True)}


def test_personalllm_is_the_argument_of_each_persons_own_mixture(scored):
    frame, path = scored
    made = personal_llm(path, 40, (5, 9), alpha=0.3, seed=3)
    z = score_of(frame, ["rm_a", "rm_b", "rm_c"])
    weights = {row["user"]: np.array(list(row["weights"].values())) for row in made.people}
    rows = made.dataset.to_frame()
    for row in rows.iter_rows(named=True):
        gap = weights[row["user"]] @ (z[row["prompt"], row["left"]] - z[row["prompt"], row["right"]])
        assert row["label"] == row["true_probability"] == float(gap > 0)
    counts = rows.group_by("user").len()["len"]
    assert counts.min() >= 5 and counts.max() <= 9 and counts.n_unique() > 2
    for row in made.people:
        assert sum(row["weights"].values()) == pytest.approx(1.0, abs=1e-5)
    assert (
        rows.select("user", pl.min_horizontal("left", "right"), pl.max_horizontal("left", "right").alias("r"))
        .is_unique()
        .all()
    )


def test_alpha_decides_how_one_sided_people_are(scored):
    def largest(alpha):
        people = personal_llm(scored[1], 200, (1, 1), alpha=alpha, seed=0).people
        return np.mean([max(row["weights"].values()) for row in people])

    assert largest(0.01) > 0.97 > 0.7 > largest(1.0) > 0.5 > largest(100.0)


def test_people_keep_their_weights_when_more_are_added(scored):
    few, many = (personal_llm(scored[1], n, (2, 2), seed=5).people for n in (5, 12))
    assert [row["weights"] for row in few] == [row["weights"] for row in many[:5]]


def test_constants_put_new_replies_on_the_same_scale(scored):
    frame, path = scored
    record = {row["name"]: row for row in personal_llm(path, 3, (1, 2)).record["scorers"]}
    for name in ("rm_a", "rm_b", "rm_c"):
        assert record[name]["mean"] == pytest.approx(frame[name].mean())
        assert record[name]["deviation"] == pytest.approx(frame[name].std(ddof=0))
        assert record[name]["from"] == "pool"


def test_a_pool_without_scores_has_statistics():
    made = personal_llm(REPLIES, 20, (3, 3), scorers=["characters", "distinct_words"])
    assert [row["from"] for row in made.record["scorers"]] == ["text", "text"]
    default = [row["name"] for row in personal_llm(REPLIES, 2, (3, 3)).record["scorers"]]
    assert set(default) < set(STYLES) and "characters" in default and "exclamations" not in default  # constant there


def test_long_short_is_seven_to_three():
    made = long_short(REPLIES, 10, 30, seed=1)
    prefers = {row["user"]: row["prefers"] for row in made.people}
    assert sorted(prefers.values()).count("longer") == 7
    for row in made.dataset.to_frame().iter_rows(named=True):
        longer = len(row["left"]) - len(row["right"])
        wanted = 0.5 if longer == 0 else float((longer > 0) == (prefers[row["user"]] == "longer"))
        assert row["label"] == wanted
        share = 0.5 if longer == 0 else (0.7 if longer > 0 else 0.3)
        assert row["consensus_probability"] == pytest.approx(share)


def test_even_a_rare_kind_is_there():
    assert [row["prefers"] for row in long_short(REPLIES, 5, 5, short_share=0.05).people].count("shorter") == 1
    assert {row["prefers"] for row in long_short(REPLIES, 5, 5, short_share=0.0).people} == {"longer"}


def test_attributes_over_the_shipped_replies():
    made = attributes(pairs=60)
    assert made.dataset.n_users == 84 and len(made.dataset) == 84 * 60
    poles = {(row.prompt, row.text): set(row.traits.values()) for row in corpus.replies()}
    opposite = {a: b for pair in ATTRIBUTES.values() for a, b in (pair, pair[::-1])}
    held = {row["user"]: row["traits"] for row in made.people}
    assert len({tuple(traits) for traits in held.values()}) == 84

    def one(traits, prompt, reply):
        shown = poles[prompt, reply]
        return [(pole in shown) - (opposite[pole] in shown) for pole in traits]

    strict = 0
    for row in made.dataset.to_frame().iter_rows(named=True):
        traits = held[row["user"]]
        gaps = np.subtract(one(traits, row["prompt"], row["left"]), one(traits, row["prompt"], row["right"]))
        if np.all(gaps >= 0) and gaps.any():
            strict += row["label"] == 1.0
            assert row["label"] == 1.0
        elif not gaps.any():
            assert row["label"] == 0.5
    assert strict > 500


def test_attributes_of_other_pools_are_told_by_statistics_or_columns():
    replies = [
        ("q", "no!!! please, thanks."),
        ("q", "yes, it's so."),
        ("r", "Really? Perhaps it is so."),
        ("r", "It is."),
    ]
    made = attributes(replies, pairs=5)
    assert "humour" in made.record["settings"]["without"] and made.dataset.n_users == 60
    assert attributes(replies, pairs=2, people=7).dataset.n_users == 7
    with pytest.raises(InputError, match="differ in 1 of the attributes"):
        attributes([("q", "aaa bbb"), ("q", "aaa bbb ccc")], pairs=2)


def test_the_six_are_opposed():
    made = opposing(pairs=80)
    rows = made.dataset.to_frame()
    label = {row["preference"]: rows.filter(pl.col("user") == row["user"])["label"].to_numpy() for row in made.people}
    assert sorted(label) == ["1A", "1B", "2A", "2B", "3A", "3B"]
    for axis in "123":
        np.testing.assert_array_equal(label[f"{axis}A"], 1.0 - label[f"{axis}B"])


def test_noise_is_bradley_terry():
    made = long_short(None, 4, 1200, noise=1.0, seed=2)
    data, truth = made.dataset, made.dataset.extra["true_probability"]
    assert set(np.unique(data.label)) == {0.0, 1.0}
    for low in (0.1, 0.3, 0.5, 0.7):
        rows = (truth >= low) & (truth < low + 0.2)
        assert data.label[rows].mean() == pytest.approx(truth[rows].mean(), abs=0.05)


def test_the_folder_holds_everything(scored, tmp_path):
    made = personal_llm(reply_pool(scored[1], licence="CC BY 4.0"), 6, (3, 4), seed=1)
    files = made.write(tmp_path / "people")
    assert set(files) == {"choices", "people", "recipe"}
    back = read(files["choices"])
    assert back.fingerprint == made.dataset.fingerprint
    np.testing.assert_array_equal(back.extra["true_probability"], made.dataset.extra["true_probability"])
    people = [json.loads(line) for line in files["people"].read_text().splitlines()]
    assert [row["user"] for row in people] == list(made.dataset.users)
    record = json.loads(files["recipe"].read_text())
    assert record["licences"]["texts"] == made.dataset.licence == "CC BY 4.0" and record["seed"] == 1
    assert record["settings"]["alpha"] == 0.05 and record["pool"]["n_items"] == 40


def test_pools_of_all_kinds(scored, tmp_path):
    frame, path = scored
    pool = reply_pool(path)
    assert list(pool.given) == ["rm_a", "rm_b", "rm_c"] and pool.controversial.sum() == 5
    for item in range(pool.n_items):
        row = frame.filter((pl.col("prompt") == pool.prompt(item)) & (pl.col("reply") == pool.reply(item)))
        assert pool.score("rm_a")[item] == row["rm_a"][0]
    choices = personal_llm(path, 4, (9, 9)).dataset
    again = reply_pool(choices)
    assert {(again.prompt(i), again.reply(i)) for i in range(again.n_items)} == set(choices.item_texts())
    assert reply_pool(REPLIES).fingerprint == pool.fingerprint != reply_pool(REPLIES[:20]).fingerprint
    prism = tmp_path / "prism.csv"
    pl.DataFrame(
        {
            "prompt": ["a", "a", "b"],
            "text": ["1x", "2x", "3x"],
            "conversation_type": ["unguided", "unguided", "controversy guided"],
        }
    ).write_csv(prism)
    assert reply_pool(prism).controversial.tolist() == [False, True]


@pytest.mark.parametrize(
    "make,named",
    [
        (lambda: personal_llm(REPLIES, 0), "n_users=0"),
        (lambda: personal_llm(REPLIES, 3, (5, 2)), "comparisons=(5, 2)"),
        (lambda: personal_llm(REPLIES, 3, alpha=0.0), "alpha=0.0"),
        (lambda: personal_llm(REPLIES, 3, noise=-1.0), "noise=-1.0"),
        (lambda: personal_llm(REPLIES, 3, scorers=["nobody"]), "'nobody' is neither"),
        (lambda: personal_llm(REPLIES, 3, scorers=["emoji"]), "'emoji' is the same for all"),
        (lambda: personal_llm(REPLIES, 3, scorers=["characters", "characters"]), "each once"),
        (lambda: long_short(REPLIES, 3, short_share=1.5), "short_share=1.5"),
        (lambda: long_short([("a", "x"), ("b", "yy")], 3), "no prompt has two replies"),
        (lambda: attributes(pairs=0), "pairs=0"),
        (lambda: attributes(people=0), "people=0"),
        (lambda: reply_pool([("a", "x"), ("a", "x")]), "fewer than two different replies"),
        (lambda: reply_pool([("a", "x"), ("a", " ")]), "entry 2"),
        (lambda: reply_pool(["a", "b"]), "(prompt, reply)"),
    ],
)
def test_bad_input_is_one_line(make, named):
    with pytest.raises(InputError) as error:
        make()
    assert named in str(error.value) and "\n" not in str(error.value)


def test_a_missing_score_is_named(tmp_path):
    pl.DataFrame({"prompt": ["a", "a"], "reply": ["x", "yy"], "rm": [1.0, None]}).write_parquet(tmp_path / "p.parquet")
    with pytest.raises(DataError, match="row 2 has no finite rm"):
        reply_pool(tmp_path / "p.parquet")
    (tmp_path / "broken.jsonl").write_text("{not json\n")
    with pytest.raises(DataError, match="cannot be read"):
        reply_pool(tmp_path / "broken.jsonl")


def test_scorers_are_z_scores(scored):
    scorers = scorers_of(reply_pool(scored[1]))
    np.testing.assert_allclose(scorers.values.mean(0), 0.0, atol=1e-12)
    np.testing.assert_allclose(scorers.values.std(0), 1.0)
