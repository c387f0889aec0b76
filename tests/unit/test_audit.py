"""The whole audit: what it returns, that it decides sensibly, and that odd data get an answer, not a traceback."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from palate.data import PreferenceDataset, load, read
from palate.errors import DataError, InputError
from palate.evaluate.audit import Audit, audit
from palate.simulate import corpus_people, synthetic_world
from palate.types import Items

KEYS = "n_comparisons n_users n_items divergence high_divergence minority_share mv_acc consistency room decision"


def made(user, left, right, label, **more) -> PreferenceDataset:
    n = len(user)
    texts = ([str(text) for text in column] for column in (user, left, right))
    user, left, right = texts
    return PreferenceDataset.from_columns(
        user=user, prompt=["p"] * n, left=left, right=right, label=np.array(label, float), **more
    )


def drawn(n_users: int, rows: int, n_items: int, label: float | None = None) -> PreferenceDataset:
    rng = np.random.default_rng(0)
    m = n_users * rows
    left = rng.integers(n_items, size=m)
    right = (left + rng.integers(1, n_items, size=m)) % n_items
    labels = rng.random(m) < 0.5 if label is None else np.full(m, label)
    return made(np.repeat(np.arange(n_users), rows), left, right, labels)


@pytest.fixture(scope="module")
def differing() -> Audit:
    return audit(corpus_people(150, 60, repeats=0.1, seed=2).dataset, rng=1)


def test_findings_have_the_promised_keys_and_survive_json(differing):
    found = json.loads(json.dumps(differing.to_dict(), allow_nan=False))
    assert set(KEYS.split()) <= set(found)
    assert (found["n_comparisons"], found["n_users"], found["n_items"]) == (9000, 150, 512)
    for name in ("divergence", "high_divergence", "minority_share", "mv_acc", "consistency", "room"):
        assert {"value", "low", "high", "reason"} <= set(found[name]), name


def test_a_table_with_the_better_reply_always_left_has_the_same_room():
    rows = [
        {"user": row["user"], "prompt": row["prompt"], "left": row[chosen], "right": row[other], "label": 1}
        for row in corpus_people(100, 40, seed=2).dataset.to_frame().to_dicts()
        for chosen, other in [("left", "right") if row["label"] == 1 else ("right", "left")]
    ]
    room = audit(read(rows), rng=1).to_dict()["room"]
    assert room["non_personal"]["position"]["value"] == 1.0
    assert room["best_non_personal"]["name"] != "position"
    assert room["upper"]["value"] > room["achievable"]["value"] > 0.0


def test_people_who_differ_are_worth_personalizing(differing):
    found = differing.to_dict()
    assert differing.verdict == "personalize" == found["decision"]["verdict"]
    assert found["decision"]["expected_gain"]["low"] > 0.0
    room = found["room"]
    assert room["value"] == found["decision"]["expected_gain"]["value"]
    assert room["low"] < room["value"] < room["high"] == room["upper"]["value"]
    assert room["best_non_personal"]["value"] < room["personal"]["value"]


def test_the_ceiling_of_consistency_covers_the_oracle():
    world = corpus_people(200, 60, repeats=0.25, seed=3)
    found = audit(world.dataset, max_probe_rows=500).to_dict()["consistency"]  # the probe matters not here
    p = world.probability
    again = (p**2 + (1 - p) ** 2).mean()
    assert found["low"] <= again <= found["high"]
    assert found["ceiling"]["least"] - 0.02 <= world.oracle_accuracy() <= found["ceiling"]["high"]


def test_people_who_are_alike_are_not():
    world = synthetic_world(200, 64, 40, disagreement=0.0, seed=1)
    found = audit(world.dataset)
    assert found.verdict == "don't"
    assert abs(found.to_dict()["room"]["value"]) < 0.01
    assert found.to_dict()["divergence"]["taste_model"]["value"] < 0.2


def test_a_world_too_small_to_tell_asks_for_more():
    found = audit(synthetic_world(40, 300, 8, disagreement=2.0, seed=1).dataset).to_dict()["decision"]
    assert found["verdict"] == "collect"
    assert found["need"]["users"] * found["need"]["answers"] > 40 * 8


def test_features_are_used():
    world = synthetic_world(80, 3000, 20, disagreement=2.0, rank=1, features=8, seed=0)
    keys = world.dataset.item_keys()
    items = Items.of(world.features, keys=keys, prompt=world.dataset.item_prompt)
    with_features = audit(world.dataset, items=items).to_dict()["room"]["value"]
    without = audit(world.dataset).to_dict()["room"]["value"]
    assert with_features > 0.06 > 0.02 > without


def test_more_disagreement_means_more_room():
    rooms = [
        audit(synthetic_world(80, 48, 30, rank=1, disagreement=d, seed=4).dataset).to_dict() for d in (0.0, 1.2, 3.0)
    ]
    values = [found["room"]["value"] for found in rooms]
    assert values[0] < values[1] < values[2] and values[2] > 0.1
    divergences = [found["high_divergence"]["taste_model"]["value"] for found in rooms]
    assert divergences[0] < divergences[1] <= divergences[2]


def test_a_planted_minority_is_found_and_named():
    rng = np.random.default_rng(0)
    quality, n_users, rows = rng.standard_normal(80) * 2, 60, 200
    user = np.repeat(np.arange(n_users), rows)
    four, first = 4 * rng.integers(20, size=len(user)), rng.integers(4, size=len(user))
    left, right = four + first, four + (first + rng.integers(1, 4, size=len(user))) % 4
    sign = np.where(user < 12, -1.0, 1.0)
    sign[(user >= 12) & (user < 20)] = 0.0  # these toss coins
    label = rng.random(len(user)) < 1 / (1 + np.exp(-sign * (quality[left] - quality[right])))
    found = audit(made([f"u{number:03d}" for number in user], left, right, label))
    minority, tossers = ({f"u{number:03d}" for number in numbers} for numbers in (range(12), range(12, 20)))
    assert minority <= set(found.minority_users) <= minority | tossers
    assert len(set(found.minority_users) & tossers) <= 2  # with bad luck a coin is against the majority
    assert found.to_dict()["minority_share"]["count"] == len(found.minority_users)
    assert set(found.noisy_users) <= tossers and len(found.noisy_users) >= 3


def test_same_seed_same_findings_and_sides_do_not_matter():
    data = synthetic_world(40, 40, 25, disagreement=2.0, seed=6).dataset
    first, again = audit(data, rng=3).to_dict(), audit(data, rng=3).to_dict()
    assert first == again
    swapped = PreferenceDataset.from_columns(
        **{name: data.to_frame()[name] for name in ("user", "prompt")},
        left=data.to_frame()["right"],
        right=data.to_frame()["left"],
        label=1 - data.label,
    )
    other = audit(swapped, rng=3).to_dict()
    for name in ("divergence", "high_divergence", "mv_acc"):
        assert other[name]["value"] == first[name]["value"] and other[name]["n"] == first[name]["n"]
    assert other["room"]["value"] == pytest.approx(first["room"]["value"], abs=1e-9)


def test_readable_text_leads_with_the_verdict(differing):
    text = str(differing)
    assert text.index("PERSONALIZE") < text.index("divergence") < text.index("room, achievable")
    assert max(map(len, text.splitlines())) <= 100
    assert "ask some pairs twice" in str(audit(synthetic_world(30, 400, 10, seed=0).dataset))


def test_progress_ends_where_it_said():
    calls = []
    audit(drawn(20, 10, 15), progress=lambda done, total, what="": calls.append((done, total)))
    assert calls[-1][0] == calls[-1][1] and all(done <= total for done, total in calls)


@pytest.mark.parametrize(
    "data,verdict,because",
    [
        (made([0], ["a"], ["b"], [1]), "collect", "only one person"),
        (drawn(1, 50, 20), "collect", "only one person"),
        (drawn(50, 20, 20, label=0.5), "collect", "every answer is a tie"),
        (made([0] * 100, ["a"] * 100, ["b"] * 100, [1] * 100), "collect", "only one person"),
        (made(range(1000), ["a"] * 1000, ["b"] * 1000, [1] * 1000), "don't", "at most 0.00"),
        (made([0, 1, 2] * 10, ["a"] * 30, ["a"] * 30, [1] * 30), "collect", "compares an item with itself"),
        (drawn(5000, 1, 200), "collect", "each of 5,000 people answered once"),
        (drawn(3000, 1, 3000), "collect", "answered once"),
        (drawn(2, 30, 20), "collect", "[-1.000, +1.000]"),
        (made([0, 1], ["x" * 100_000, "y"], ["y", "x" * 100_000], [1, 0]), "collect", "answered once"),
    ],
)
def test_odd_data_get_an_answer(data, verdict, because):
    found = audit(data)
    assert found.verdict == verdict
    assert because in found.to_dict()["decision"]["reason"]
    json.dumps(found.to_dict(), allow_nan=False)
    assert found.verdict.upper() in str(found)


def test_soft_labels_ties_and_missing_times():
    rng = np.random.default_rng(0)
    label = rng.choice([0.0, 0.2, 0.5, 0.9, 1.0], size=600)
    time = np.where(rng.random(600) < 0.5, np.nan, rng.random(600))
    data = made(
        np.repeat(np.arange(30), 20), rng.integers(8, size=600), 8 + rng.integers(8, size=600), label, time=time
    )
    found = audit(data).to_dict()
    assert found["tie_share"] == pytest.approx((label == 0.5).mean())
    json.dumps(found, allow_nan=False)


def test_a_better_side_is_noted():
    assert any("left was preferred in 100%" in note for note in audit(drawn(30, 20, 50, label=1.0)).to_dict()["notes"])
    assert not any("left was" in note for note in audit(drawn(30, 20, 50)).to_dict()["notes"])


def test_large_data_are_sampled_and_say_so():
    found = audit(drawn(60, 20, 30), max_probe_rows=400).to_dict()
    assert found["room"]["n_probe_rows"] <= 400 and found["n_comparisons"] == 1200
    assert any("400 of 1,200 rows (20 of 60 people" in note for note in found["notes"])


@pytest.mark.parametrize(
    "settings", [{"min_raters": 1}, {"worthwhile": 0.0}, {"worthwhile": 0.7}, {"max_probe_rows": 0}]
)
def test_bad_settings_are_named(settings):
    name, value = next(iter(settings.items()))
    with pytest.raises(InputError, match=f"{name}={value}"):
        audit(drawn(3, 3, 5), **settings)


def test_no_rows_is_an_error():
    data = drawn(3, 3, 5)
    with pytest.raises(DataError, match="no comparison"):
        audit(data.subset(np.zeros(0, int)))


def test_items_of_other_data_are_refused():
    data = drawn(3, 3, 5)
    with pytest.raises(InputError, match="featurize this data set"):
        audit(data, items=Items.of(np.zeros((data.n_items, 2)), keys=np.arange(data.n_items)))


real = pytest.mark.skipif("PALATE_DATA" not in os.environ, reason="real people's choices: set PALATE_DATA")


@real
@pytest.mark.slow
def test_convarg_has_little_room():
    data = load("convarg")
    data = data.subset(np.flatnonzero(data.counts()[data.user] >= 20))
    found = audit(data)
    assert found.verdict in ("don't", "collect")
    assert found.to_dict()["room"]["achievable"]["high"] < 0.015
    assert found.to_dict()["mv_acc"]["value"] > 0.75


@real
@pytest.mark.slow
def test_polis_has_real_room_and_a_real_minority():
    found = audit(load("polis_bowling_green"))
    assert found.verdict == "personalize"
    assert found.to_dict()["room"]["achievable"]["low"] > 0.025
    assert found.to_dict()["minority_share"]["low"] > 0 and len(found.minority_users) >= 2
