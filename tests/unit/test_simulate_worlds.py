"""The five worlds of simulated readers: what they are said to be, and what a benchmark is told of them."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from palate.cli.app import app
from palate.data import corpus, read, split, write, write_trl
from palate.errors import ConfigError, SplitError
from palate.evaluate.benchmark import benchmark
from palate.evaluate.ceilings import Ceiling, KnownProbability, ceilings
from palate.evaluate.metrics import auc_by_user
from palate.simulate import WORLDS, corpus_people
from palate.simulate.tastes import ATTRIBUTES, HIDDEN, NEW_PAIRS, TOPICS, shows, topic_of


@pytest.mark.parametrize("world", WORLDS)
def test_the_oracle_is_right_in_85_percent_of_every_world(world):
    found = [corpus_people(world=world, seed=seed).oracle_accuracy() for seed in range(4)]
    assert np.mean(found) == pytest.approx(0.85, abs=0.003)
    assert found == pytest.approx([0.85] * 4, abs=0.005)


@pytest.mark.parametrize("world,share", [("pairs", 0.275), ("sparse", 0.32), ("topic", 0.41), ("hidden", 0.28)])
def test_many_pairs_differ_in_nothing_a_person_cares_about(world, share):
    made = corpus_people(world=world)
    assert made.indifferent_share() == pytest.approx(share, abs=0.015)
    data = made.dataset
    cares = made.truth.matters(data.left, data.right, data.user)
    # There the person is the average person: the true logit is that of what everybody likes.
    shared = made.truth.shared[data.left] - made.truth.shared[data.right]
    logit = made.truth.logit(data.left, data.right, data.user)
    np.testing.assert_allclose(logit[~cares], shared[~cares], atol=1e-12)


def test_ceilings_are_what_the_answers_give_on_average():
    made = corpus_people(300, 100)
    expected, data = made.ceilings(), made.dataset
    for name, told in (("oracle", made.probability), ("consensus", made.consensus)):
        right = np.where(told > 0.5, data.label, 1 - data.label).mean()
        loss = -np.log(np.where(data.label == 1, told, 1 - told)).mean()
        assert right == pytest.approx(expected[name]["accuracy"], abs=0.01)
        assert loss == pytest.approx(expected[name]["log_loss"], abs=0.015)
    assert expected["oracle"]["auc"] > 0.9 > 0.75 > expected["consensus"]["auc"] > 0.6
    each = auc_by_user(data.label, made.probability, data.user, data.n_users)
    assert expected["oracle"]["auc"] == pytest.approx(each.mean(), abs=0.01)


def test_weights_are_normal_or_few():
    everywhere = corpus_people(2000, 1, world="continuous").truth.people
    assert everywhere.shape == (2000, 7)
    assert everywhere.mean() == pytest.approx(0, abs=0.03) and everywhere.std() == pytest.approx(1, abs=0.03)
    few = corpus_people(2000, 1, world="sparse").truth.people
    cares = (few != 0).sum(axis=1)
    assert cares.min() == 1 and cares.mean() == pytest.approx(2.1, abs=0.1)
    assert few[few != 0].std() == pytest.approx(1, abs=0.03)


def test_topics_are_the_eight_blocks_of_the_corpus():
    numbers = [topic_of(reply) for reply in corpus.replies()]
    assert len(TOPICS) == 8 and np.array_equal(np.bincount(numbers), np.full(8, 64))
    prompts = {reply.prompt: TOPICS[topic_of(reply)] for reply in corpus.replies()}
    assert prompts["What is a black hole?"] == "science"
    assert prompts["Plan a one-day visit to Lisbon for me."] == "travel and leisure"
    assert prompts["What is compound interest?"] == "money and devices"


def test_in_the_world_of_topics_one_trait_of_two_matters_on_four_topics():
    people = corpus_people(200, 1, world="topic").truth.people.reshape(200, 7, 8)
    on = np.sort(np.abs(people).sum(axis=2), axis=1)
    assert (on[:, -1] == 8).all() and (on[:, -2] == 4).all() and (on[:, :-2] == 0).all()
    assert all(len(set(own[own != 0])) == 1 for person in people for own in person if own.any())  # never turned round


def test_the_hidden_attribute_is_dealt_anew_inside_each_prompt():
    plain, hidden = corpus_people(50, 1), corpus_people(50, 1, world="hidden")
    place, item_prompt = list(ATTRIBUTES).index(HIDDEN), plain.dataset.item_prompt
    before, after = plain.truth.loadings / WORLDS["pairs"].scale, hidden.truth.loadings / WORLDS["hidden"].scale
    np.testing.assert_array_equal(np.delete(before, place, 1), np.delete(after, place, 1))
    for prompt in range(64):
        own = item_prompt == prompt
        np.testing.assert_array_equal(np.sort(before[own, place]), np.sort(after[own, place]))
    assert abs(np.corrcoef(before[:, place], after[:, place])[0, 1]) < 0.12  # 512 items: two standard errors are .09
    words = {trait for traits in hidden.truth.traits for trait in traits}
    assert {"hidden +", "hidden −"} <= words and not words & set(ATTRIBUTES[HIDDEN])


def test_shows_follows_the_corpus():
    replies = corpus.replies()[:3]
    assert shows(replies).shape == (3, 7)
    for reply, row in zip(replies, shows(replies), strict=True):
        assert {name for name, value in zip(ATTRIBUTES, row, strict=True) if value} == set(reply.traits)


def test_new_people_answer_as_often_as_asked():
    data = corpus_people(40, 10, new_share=0.25, new_comparisons=30).dataset
    np.testing.assert_array_equal(data.counts(), [10] * 30 + [30] * 10)


def test_an_unknown_world_is_named():
    with pytest.raises(ConfigError, match="world='flat': there are pairs, continuous"):
        corpus_people(world="flat")


# -- the split ---------------------------------------------------------------------------------------------------------


def test_folds_test_every_prompt_once_on_the_same_new_people():
    made = corpus_people(200, 60)
    parts = [split(made.dataset, seed=0, fold=(number, 5)) for number in range(5)]
    tested: list[int] = []
    for part in parts:
        np.testing.assert_array_equal(part.new_users, np.flatnonzero(made.truth.new))
        pairs = {made.truth.traits[user] for user in part.new_users}
        trained = {made.truth.traits[user] for user in np.concatenate([part.train_users, part.validation_users])}
        assert pairs <= NEW_PAIRS and not pairs & trained
        tested += np.unique(made.dataset.item_prompt[made.dataset.left[part.new_test]]).tolist()
    assert sorted(tested) == list(range(64))


def test_new_people_are_drawn_where_the_column_is_not_one_of_truth_values():
    made = corpus_people(60, 10).dataset
    frame = made.to_frame().with_columns(new_person=pl.lit("no idea"))
    part = split(read(frame), seed=0)
    assert len(part.new_users) and set(part.new_users) != set(range(45, 60))


def test_a_person_who_is_new_in_some_rows_only_is_refused():
    frame = corpus_people(60, 10).dataset.to_frame().with_row_index("row")
    mixed = frame.with_columns(new_person=pl.col("new_person") | (pl.col("row") == 0)).drop("row")
    with pytest.raises(SplitError, match="new_person is true in some rows of 'person-00' only"):
        split(read(mixed), seed=0)
    with pytest.raises(SplitError, match="new_person is true for everybody"):
        split(read(frame.drop("row").with_columns(new_person=pl.lit(True))), seed=0)


# -- the truth in files and in benchmarks -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("trl", [False, True])
def test_the_truth_survives_files(tmp_path, kind, trl):
    made = corpus_people(30, 10, seed=2)
    path = (write_trl if trl else write)(made.dataset, tmp_path / f"people.{kind}").path
    back = read(path)
    assert back.extra["new_person"].dtype == bool and back.extra["new_person"].sum() == 80
    expected = np.sort(np.where(made.dataset.label == 1, made.probability, 1 - made.probability))
    told = back.extra["true_probability"]
    np.testing.assert_allclose(np.sort(np.where(back.label == 1, told, 1 - told)), expected, atol=1e-6)
    assert [ceiling.label for ceiling in ceilings(back)] == ["oracle", "consensus"]


def test_a_column_of_something_else_is_no_truth():
    frame = corpus_people(30, 10).dataset.to_frame()
    for strange in (pl.lit("high"), pl.lit(7.5), pl.lit(None)):
        found = ceilings(read(frame.with_columns(true_probability=strange)))
        assert [ceiling.label for ceiling in found] == ["consensus"]


@pytest.fixture(scope="module")
def results():
    made = corpus_people(120, 40, seed=1)
    return made, benchmark(made.dataset, methods=["pooled"], features="style", seeds=1, tune=False, baseline=False)


def test_the_oracle_stands_in_every_table(results):
    made, found = results
    data = made.dataset
    for k in ("seen", 0, 5):
        part = split(data, seed=0)
        rows = part.seen_test if k == "seen" else part.new_test
        truth = made.truth.probability(data.left[rows], data.right[rows], data.user[rows])
        right = (truth > 0.5) == (data.label[rows] == 1)
        people = [right[data.user[rows] == person].mean() for person in np.unique(data.user[rows])]
        (row,) = found.select(method="oracle", k=k, metric="accuracy")
        assert row["value"] == pytest.approx(np.mean(people)) and row["low"] < row["value"] < row["high"]
    assert found.select(method="oracle", k=5, metric="auc")[0]["value"] > 0.85
    gain = [found.select(method=name, k=5, metric="log_loss_gain")[0]["value"] for name in ("pooled", "oracle")]
    assert gain[0] == 0 and gain[1] > 0.2


def test_a_ceiling_knows_all_rows_or_none():
    made = corpus_people(60, 40)
    wrong = Ceiling("mine", KnownProbability(np.full(7, 0.5)))
    found = benchmark(made.dataset, methods=[wrong], features="style", seeds=1, tune=False, baseline=False)
    assert found.skipped[0]["method"] == "mine" and "knows 7 rows of data with 2,400" in found.skipped[0]["reason"]


# -- the command line --------------------------------------------------------------------------------------------------


def invoke(*arguments: str):
    return CliRunner().invoke(app, ["simulate", "corpus", *arguments])


def test_simulate_corpus_writes_what_the_function_makes(tmp_path):
    out, people = tmp_path / "people.parquet", tmp_path / "tastes.csv"
    done = invoke(
        *["--world", "hidden", "--users", "40", "--comparisons", "5", "--seed", "3", "--json", "-o"],
        str(out),
        "--people",
        str(people),
    )
    assert done.exit_code == 0, done.output
    facts, made = json.loads(done.stdout), corpus_people(40, 5, world="hidden", seed=3)
    assert facts["fingerprint"] == made.dataset.fingerprint == read(out).fingerprint
    assert facts["licence"] == "CC0-1.0" and facts["n_new"] == 10
    assert facts["ceilings"]["oracle"]["accuracy"] == pytest.approx(made.oracle_accuracy())
    tastes = pl.read_csv(people)
    assert tastes.height == 40 and tastes.columns[:3] == ["user", "new_person", "taste"]
    np.testing.assert_array_equal(tastes.select(pl.selectors.starts_with("weight of ")).to_numpy(), made.truth.people)


def test_simulate_corpus_shows_ceilings_and_licence():
    done = invoke("--users", "40", "--comparisons", "5")
    assert done.exit_code == 0 and "licence of texts and answers: CC0-1.0" in done.stdout
    assert "who knows every taste" in done.stdout and "differ in nothing the person cares about" in done.stdout
    assert "nothing written" in done.stderr


@pytest.mark.parametrize(
    "arguments,named",
    [
        (("--world", "flat"), "world='flat'"),
        (("--users", "0"), "n_users=0"),
        (("--new-share", "1.5"), "new_share=1.5"),
        (("--new-comparisons", "0"), "rows_per_user=0"),
        (("-o", "people.xml"), "cannot write '.xml'"),
        (("-o", "a.csv", "--people", "a.csv"), "given for both"),
    ],
)
def test_bad_arguments_are_one_line(arguments, named):
    done = invoke("--comparisons", "2", *arguments)
    assert done.exit_code == 2 and named in done.stderr and done.stderr.count("\n") == 1
