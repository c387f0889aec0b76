"""Gain by group of people: the right people, the right means, no claim for the few."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import palate
from palate.cli.app import app
from palate.data import read
from palate.errors import InputError
from palate.evaluate.groups import GROUP_KEYS, gain_by_group
from palate.evaluate.results import PER_USER, Results


def results_of(gains, seeds=(0, 1)):
    """Results in which person i gains `gains[i]` over a pooled accuracy of 0.6, a little more and less by seed."""
    rows = []
    for seed in seeds:
        wobble = 0.01 * (seed - np.mean(seeds))
        for user, gain in enumerate(gains):
            for method, accuracy in (("pooled", 0.6), ("ours", 0.6 + gain + wobble)):
                rows.append(
                    {
                        "data": "d",
                        "protocol": "new-items",
                        "method": method,
                        "seed": seed,
                        "fold": -1,
                        "k": 5,
                        "user": user,
                    }
                    | {"accuracy": accuracy}
                )
    return Results(rows=(), manifest={}, per_user=pl.DataFrame(rows, schema=PER_USER))


def test_means_and_claims():
    rng = np.random.default_rng(0)
    country = np.array(["North"] * 40 + ["South"] * 25 + ["Island"] * 5 + [""] * 10)
    gains = np.where(country == "North", 0.10, np.where(country == "South", -0.05, 0.3)) + 0.02 * rng.normal(size=80)
    found = gain_by_group(results_of(gains), {"d": {"country": country.tolist()}})
    assert [(row["group"], row["n_users"]) for row in found] == [("North", 40), ("South", 25), ("Island", 5)]
    assert all(tuple(row) == GROUP_KEYS and row["method"] == "ours" and row["k"] == 5 for row in found)
    north, south, island = found
    assert north["gain"] == pytest.approx(gains[country == "North"].mean()) and north[
        "pooled_accuracy"
    ] == pytest.approx(0.6)
    error = gains[country == "South"].std(ddof=1) / 5
    assert south["high"] < 0 and south["gain"] - south["low"] == pytest.approx(2 * error, rel=0.35)
    assert (north["claim"], south["claim"], island["claim"]) == (True, True, False)


def test_a_person_counts_once_however_many_seeds():
    gains = np.linspace(-0.1, 0.1, 30)
    one, three = (gain_by_group(results_of(gains, seeds), {"d": {"g": ["x"] * 30}})[0] for seeds in ((0,), (0, 1, 2)))
    assert one["n_users"] == three["n_users"] == 30
    assert one["low"] == pytest.approx(three["low"], abs=1e-9)


def test_values_of_other_people_are_refused():
    with pytest.raises(InputError, match="values for 2 people, the results have 4"):
        gain_by_group(results_of(np.zeros(4)), {"d": {"g": ["x", "y"]}})
    assert gain_by_group(results_of(np.zeros(4)), {"other": {"g": ["x", "y"]}}) == []


def rows(n_users=60, each=14):
    """In the North people like exclamation marks, in the South they do not; there are more people in the North."""
    rng = np.random.default_rng(0)
    found = []
    for user in range(n_users):
        north = user % 3 > 0
        for _ in range(each):
            texts = [
                f"{word}{'!' * mark}"
                for word, mark in zip(rng.choice(list("abcdefgh"), 2), rng.choice(5, 2, False), strict=True)
            ]
            label = int((texts[0].count("!") > texts[1].count("!")) == north)
            row = {"user": f"u{user:02}", "prompt": f"Greet {rng.integers(3)}", "left": texts[0], "right": texts[1]}
            found.append(row | {"label": label, "country": "North" if north else "South"})
    return found


def test_in_a_benchmark_and_its_folder(tmp_path):
    settings = {"methods": ["individual"], "features": "style", "protocol": "known-items", "seeds": 2, "tune": False}
    settings |= {"baseline": False, "ks": [0, 5], "audited": False}
    found = palate.bench(read(rows(), name="d"), out=tmp_path / "r", group_columns=["country"], **settings)
    again = Results.load(tmp_path / "r")
    assert again.groups == found.groups and json.loads((tmp_path / "r" / "groups.json").read_text())
    seen = {row["group"]: row for row in found.groups if row["k"] == "seen"}
    assert seen["South"]["gain"] > seen["North"]["gain"] + 0.2, "pooled serves the majority"
    assert seen["North"]["n_users"] + seen["South"]["n_users"] <= 60
    plain = palate.bench(read(rows(), name="d"), **settings)
    assert plain.groups == ()
    with pytest.raises(InputError, match="'planet' is not there; the extra columns are: country"):
        palate.bench(read(rows(), name="d"), group_columns=["planet"], **settings)


def test_command_line_shows_groups(tmp_path):
    data = tmp_path / "c.jsonl"
    data.write_text("\n".join(map(json.dumps, rows())))
    words = ["bench", str(data), "--methods", "individual", "--protocol", "known-items", "--features", "style"]
    words += ["--seeds", "1", "--no-tune", "--group-column", "country"]
    run = CliRunner().invoke(app, words, env={"COLUMNS": "140"})
    assert run.exit_code == 0, run.output
    table = run.stdout[run.stdout.index("country") :]
    assert "North" in table and ("too few people" in table or "+" in table)
