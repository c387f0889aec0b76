"""Paired differences that hold together, and gains by prompt shrunken towards the typical one."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy import stats
from test_benchmark import run, town

from palate.evaluate.differences import levels_judged
from palate.evaluate.metrics import correct
from palate.evaluate.prompts import excerpt, shrink
from palate.evaluate.results import PER_PROMPT, SEEN


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    dataset, features = town(users=80, per=40)
    folder = tmp_path_factory.mktemp("town")
    return dataset, run(folder, dataset, features, ["individual", "factor"], baseline=True)


def test_levels_judged_are_seen_few_and_most():
    assert levels_judged([SEEN, 0, 1, 3, 5, 10, 40]) == [SEEN, 5, 40]
    assert levels_judged([0]) == [0]
    assert levels_judged([0, 2]) == [2]


def test_differences_are_those_of_the_rows_with_wider_intervals(results):
    _, found = results
    judged = [row for row in found.differences if row["reference"] == "pooled"]
    assert {row["method"] for row in judged} == {"sklearn", "individual", "factor"}
    for row in judged:
        (gain,) = found.select(method=row["method"], metric="accuracy_gain", k=row["k"])
        assert row["value"] == pytest.approx(gain["value"])
        assert row["n_users"] == gain["n_users"]
    ratios = [
        (row["high"] - row["low"]) / (gain["high"] - gain["low"])
        for row in judged
        for gain in found.select(method=row["method"], metric="accuracy_gain", k=row["k"])
    ]
    assert np.mean(ratios) > 1.05, ratios  # three methods that are alike: a little wider, and some chance of the draws


def test_the_best_is_the_other_reference(results):
    _, found = results
    for k in dict.fromkeys(row["k"] for row in found.differences):
        accuracy = {row["method"]: row["value"] for row in found.select(metric="accuracy", k=k)}
        best = max(accuracy, key=accuracy.get)
        others = [row for row in found.differences if (row["k"], row["reference"]) == (k, best)]
        assert len(others) == len(accuracy) - 1
        assert all(row["value"] <= 1e-12 for row in others)


def test_prompts_are_averaged_by_person_first_and_paired_with_pooled(results):
    dataset, found = results
    frame = found.per_prompt
    assert frame.schema == pl.Schema(PER_PROMPT)
    assert set(frame["method"]) == {"sklearn", "individual", "factor"}
    assert set(frame["kind"]) == {"prompt"}
    both = found.predictions(method="factor").join(
        found.predictions(method="pooled").select("seed", "k", "row", base="probability"), on=["seed", "k", "row"]
    )
    both = both.filter(pl.col("k") == SEEN)
    gain = correct(both["label"].to_numpy(), both["probability"].to_numpy()) - correct(
        both["label"].to_numpy(), both["base"].to_numpy()
    )
    means = (
        both.with_columns(gain=pl.Series(gain)).group_by("group", "user").agg(pl.col("gain").mean())
        .group_by("group").agg(pl.col("gain").mean(), pl.len()).sort("group")
    )  # fmt: skip
    mine = frame.filter(pl.col("method") == "factor").sort("number")
    assert mine["number"].to_list() == means["group"].to_list()
    assert mine["raw"].to_numpy() == pytest.approx(means["gain"].to_numpy())
    assert mine["n_users"].to_list() == means["len"].to_list()
    assert mine["text"][0] == dataset.prompts[mine["number"][0]]


def invented(rng, spread, prompts=200, people=8):
    truth = 0.05 + spread * rng.normal(size=prompts)
    prompt = np.repeat(np.arange(prompts), people)
    return truth, truth[prompt] + 0.3 * rng.normal(size=len(prompt)), prompt


def test_shrinking_finds_the_spread_and_is_nearer_the_truth():
    truth, gain, prompt = invented(np.random.default_rng(0), 0.1)
    found = shrink(gain, prompt, len(truth))
    assert found.spread == pytest.approx(0.1, abs=0.02)
    assert found.mean == pytest.approx(0.05, abs=0.03)
    assert np.mean((found.value - truth) ** 2) < 0.6 * np.mean((found.raw - truth) ** 2)
    covered = np.mean((found.low <= truth) & (truth <= found.high))
    assert 0.9 < covered < 0.985
    assert found.chance < 1e-6


def test_prompts_that_are_alike_are_shrunken_to_one_value():
    chances = [shrink(*invented(np.random.default_rng(seed), 0.0)[1:], 200).chance for seed in range(40)]
    assert stats.kstest(chances, "uniform").pvalue > 0.01
    found = shrink(*invented(np.random.default_rng(3), 0.0)[1:], 200)
    assert np.ptp(found.value) < 0.25 * np.ptp(found.raw)


def test_a_prompt_with_more_people_is_shrunken_less():
    rng = np.random.default_rng(1)
    truth, gain, prompt = invented(rng, 0.15)
    kept = (prompt >= 100) | (np.arange(len(prompt)) % 8 < 2)  # the first hundred keep two people
    found = shrink(gain[kept], prompt[kept], 200)
    pulled = np.abs(found.value - found.raw) / np.abs(found.raw - found.mean)
    assert np.median(pulled[:100]) > 1.5 * np.median(pulled[100:])


def test_one_person_a_prompt_says_nothing_and_breaks_nothing():
    found = shrink(np.array([0.0, 1.0, 0.0, -1.0]), np.arange(4), 4)
    assert np.isfinite(found.value).all()
    assert np.isnan(found.chance)


def test_excerpts_end_between_words():
    assert excerpt("  two\nlines ") == "two lines"
    long = excerpt("word " * 100)
    assert long.endswith("word\u2026")
    assert len(long) <= 281
