"""Is anything better than ours: bounds on the best other, who is surely ahead, and the front of accuracy and seconds."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from test_benchmark import Spy, run, town

from palate.evaluate.rivals import MARGIN, fronts, leads, pareto_front, sittings_of
from palate.evaluate.summary import _ANY, _RANGES
from palate.report import write_report
from palate.statistics import Estimate


class Wrong(Spy):
    """Prefers what nobody prefers, after long thought."""

    name = "wrong"

    def _prefer(self, left, right, states, user_index, offset):
        np.linalg.svd(np.ones((200, 200)))
        return 1.0 - super()._prefer(left, right, states, user_index, offset)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """People who mostly agree on the first feature, which `spy` reads, and `wrong` reads backwards."""
    dataset, features = town(users=80, per=40)
    liked = (features[dataset.left, 0] > features[dataset.right, 0]).astype(float)
    odd = np.random.default_rng(0).random(len(liked)) < 0.2
    dataset, features = town(users=80, per=40, label=np.where(odd, 1 - liked, liked))
    folder = tmp_path_factory.mktemp("rivals")
    found = run(folder, dataset, features, [Spy(), Wrong(), "individual"], baseline=True)
    sittings = sittings_of(found, "town", "new-items")
    return found, sittings


def judged(sittings, ours, **wanted):
    rows = leads(sittings, by_prompt=True, ours=ours)
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def test_the_lead_is_that_of_the_most_accurate_other_on_the_same_rows(results):
    found, sittings = results
    rows = judged(sittings, "spy", people="all", metric="accuracy")
    assert [row["k"] for row in rows] == ["seen", 0, 1, 3, 5]
    for row in rows:
        accuracy = {one["method"]: one["value"] for one in found.select(metric="accuracy", k=row["k"])}
        own = accuracy.pop("spy")
        assert row["best"] == max(accuracy, key=accuracy.get)
        assert row["value"] == pytest.approx(max(accuracy.values()) - own)
        assert row["upper"] >= row["value"] and row["others"] == len(accuracy) == 4
        assert set(row["ahead"]) <= {name for name, value in accuracy.items() if value > own}
    losses = judged(sittings, "spy", people="all", metric="log_loss")
    for row in losses:
        loss = {one["method"]: one["value"] for one in found.select(metric="log_loss", k=row["k"])}
        assert row["value"] == pytest.approx(loss.pop("spy") - min(loss.values()))


def test_who_is_surely_better_is_named_and_who_is_surely_worse_rules_a_lead_out(results):
    _, sittings = results
    for row in judged(sittings, "wrong", people="all", metric="accuracy"):
        assert {"spy", "pooled"} <= set(row["ahead"]) and row["value"] > 0.1 and row["claim"]
    pair = {name: sittings[name] for name in ("spy", "wrong")}
    for row in judged(pair, "spy", people="all", metric="accuracy"):
        assert row["upper"] < 0 and row["ahead"] == row["open"] == []


def test_more_methods_widen_the_bound_and_the_margin_decides_what_is_open(results):
    _, sittings = results
    pair = {name: sittings[name] for name in ("spy", "pooled")}
    few = judged(pair, "spy", people="all", metric="accuracy")
    many = judged(sittings, "spy", people="all", metric="accuracy")
    for alone, together in zip(few, many, strict=True):
        assert together["upper"] >= alone["upper"] - 0.003  # other draws
        assert ("pooled" in alone["open"]) == (alone["upper"] > MARGIN)


def test_without_ours_nothing_is_judged_and_a_variant_stands_for_it(results):
    found, sittings = results
    assert leads(sittings, by_prompt=True) == [] and found.leads == ()
    named = {"hierarchical:rank=2" if name == "spy" else name: own for name, own in sittings.items()}
    assert {row["method"] for row in leads(named, by_prompt=True)} == {"hierarchical:rank=2"}


def test_minorities_are_judged_on_their_own_rows(results):
    _, sittings = results
    some = {
        name: [replace(one, standing=replace(one.standing, minority=np.arange(len(one.standing.minority)) % 2 == 0)) for one in own]
        for name, own in sittings.items()
    }  # fmt: skip
    rows = judged(some, "spy", metric="accuracy")
    seen = {row["people"]: row for row in rows if row["k"] == "seen"}
    assert seen["minority"]["n_users"] < seen["all"]["n_users"]
    assert seen["minority"]["value"] != seen["all"]["value"]


def test_front_holds_what_no_quicker_method_beats(results):
    found, sittings = results
    assert pareto_front({"a": (1, 0.5), "b": (2, 0.6), "c": (2, 0.55), "d": (9, 0.7), "e": (9, 0.7)}) == ["a", "b", "d"]
    rows = [row for row in found.fronts if row["k"] == 5]
    assert {row["method"] for row in rows} == set(sittings)
    front = {row["method"] for row in rows if row["on_front"]}
    assert front == set(pareto_front({row["method"]: (row["seconds"], row["accuracy"]) for row in rows}))
    for row in rows:
        assert (row["method"] in front) == (not row["beaten_by"])
        for other in row["beaten_by"]:
            (theirs,) = [one for one in rows if one["method"] == other]
            assert theirs["seconds"] <= row["seconds"] and theirs["accuracy"] >= row["accuracy"]
    own = fronts(sittings, found.rows, leads(sittings, by_prompt=True, ours="wrong"))
    assert any(row["surely_beaten_by"] for row in own if row["method"] == "wrong")


def test_the_report_and_json_tell_what_was_judged(tmp_path):
    dataset, features = town(users=60, per=30)
    found = run(tmp_path, dataset, features, ["hierarchical:epochs=3", "individual"])
    rows = found.judged()
    assert json.loads(json.dumps(rows)) == rows
    assert {"lead_accuracy", "lead_log_loss", "on_front"} <= {row["metric"] for row in rows}
    page = write_report(found, tmp_path / "report.html").read_text()
    assert "is anything better than hierarchical:epochs=3?" in page
    assert "the front of accuracy and seconds" in page


def test_intervals_of_few_people_end_where_their_metric_does():
    wide = Estimate(0.5, -1.9, 2.9, 2)
    for metric, ends in {"accuracy": (0.0, 1.0), "accuracy_gain": (-1.0, 1.0), "log_loss": (-1.9, 2.9)}.items():
        found = wide.within(*_RANGES.get(metric, _ANY))
        assert (found.low, found.high) == ends and found.value == 0.5
    assert np.isnan(Estimate(0.5, np.nan, np.nan, 1).within(0.0, 1.0).low)
