"""Learning curves in training data: nested parts, the same questions, and the last point is the benchmark itself."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from test_benchmark import run, town

from palate.errors import ConfigError
from palate.evaluate.planning import plan
from palate.evaluate.sizes import Size, levels_asked, parse_sizes, part_of_exam, sizes_of


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (None, {}),
        ("users=50,100,all", {"users": (50, 100)}),
        (["users=100,50", "comparisons"], {"users": (50, 100), "comparisons": ()}),
        ({"comparisons": [4000, 1000]}, {"comparisons": (1000, 4000)}),
        ("users=all", {"users": ()}),
    ],
)
def test_sizes_are_read_in_every_form(wanted, found):
    assert parse_sizes(wanted) == found


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ("people=3", "sizes of 'people' are unknown"),
        ("users=many", "users=many is not a number of at least 2"),
        ("users=1", "users=1 is not a number of at least 2"),
        ("comparisons=-5", "comparisons=-5 is not a number of at least 20"),
    ],
)
def test_sizes_that_mean_nothing_are_refused(wanted, says):
    with pytest.raises(ConfigError, match=says):
        parse_sizes(wanted)


def test_sizes_are_smaller_than_all_and_parts_halve():
    whole = {"users": 80, "comparisons": 2000}
    assert sizes_of(whole, {"users": (20, 80, 500)}) == [Size("users", 20)]
    assert [size.n for size in sizes_of(whole, {"comparisons": ()})] == [250, 500, 1000]


def test_smaller_models_are_asked_at_the_fewest_about_five_and_the_most():
    assert levels_asked((0, 1, 3, 5, 10, 40)) == (0, 5, 40)
    assert levels_asked((3,)) == (3,)


@pytest.mark.parametrize("axis", ["users", "comparisons"])
def test_parts_are_nested_and_ask_the_same(axis):
    dataset, features = town()
    cell = plan(dataset, features=features, methods=["pooled"], seeds=1, baseline=False)[0]
    exam = cell.course.exam(cell.sample)
    sizes = (5, 10, 20) if axis == "users" else (60, 120, 240)
    parts = [part_of_exam(exam, cell.course.everything, Size(axis, n), seed=0) for n in sizes]
    for small, large in zip(parts, [*parts[1:], exam], strict=True):
        assert set(small.train_rows) < set(large.train_rows)
        assert set(small.train_users) <= set(large.train_users)
    for part, n in zip(parts, sizes, strict=True):
        assert len(part.train_users if axis == "users" else part.train) == n
        assert part.train.n_users == len(part.train_users)
        assert part.train.counts().min() > 0
        assert len(part.seen) == 0
        assert part.new is exam.new
        for k, rows in part.prefix_rows.items():
            assert np.array_equal(rows, exam.prefix_rows[k])
        assert set(cell.course.everything.user[part.train_rows]) == set(part.train_users)


def test_curves_end_in_the_benchmark_and_resume(tmp_path):
    dataset, features = town(users=80)
    settings = {"methods": ["individual"], "seeds": 2, "sizes": "users=10,20", "baseline": False}
    results = run(tmp_path, dataset, features, **settings)
    curve = [row for row in results.sizes if (row["method"], row["metric"], row["k"]) == ("individual", "accuracy", 5)]
    sizes = [row["train_users"] for row in curve]
    assert sizes[:2] == [10, 20]
    assert sizes[2] > 20
    assert [row["train_comparisons"] for row in curve] == sorted(row["train_comparisons"] for row in curve)
    (whole,) = results.select(method="individual", metric="accuracy", k=5)
    assert (curve[-1]["value"], curve[-1]["low"]) == (whole["value"], whole["low"])
    assert {row["k"] for row in results.sizes} <= {0, 5, max(results.manifest["courses"][0]["ks"])}
    assert len(results.manifest["size_cells"]) == 2 * 2 * 2  # methods, seeds, sizes
    assert not {cell["key"] for cell in results.cells} & set(results.manifest["size_cells"])

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "results" / "cells").iterdir()}
    again = run(tmp_path, dataset, features, **settings)
    assert again.sizes == results.sizes
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "results" / "cells").iterdir()} == before
    more = run(tmp_path, dataset, features, **(settings | {"sizes": "users=10,20,30"}))
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "results" / "cells").iterdir()}
    assert before.items() < after.items()
    assert len(after) - len(before) == 2 * 2 * 2  # two files for each method and seed
    assert {row["train_users"] for row in more.sizes} > {10, 20, 30}


def test_curve_cells_were_fitted_to_that_much(tmp_path):
    dataset, features = town(users=60)
    results = run(tmp_path, dataset, features, ["pooled"], sizes={"comparisons": [100]}, seeds=1, baseline=False)
    (key,) = results.manifest["size_cells"]
    assert "-comparisons=100-s0-" in key
    frame = pl.read_parquet(results.folder / "cells" / f"{key}.parquet")
    assert (frame["k"] >= 0).all()
    whole = results.predictions(method="pooled").filter(pl.col("k") == 5)
    assert frame.filter(pl.col("k") == 5)["row"].equals(whole["row"])
    assert not frame.filter(pl.col("k") == 5)["probability"].equals(whole["probability"])
