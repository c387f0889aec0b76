"""The audit's quick model: it finds tastes that are there, none where there are none, and does not cheat."""

from __future__ import annotations

import numpy as np
import pytest

from palate.evaluate.audit_room import consensus, cross_fit, fold_of_sides, sample_people
from palate.evaluate.probe import compress, fit
from palate.simulate import synthetic_world
from palate.types import Comparisons, Items


def rows_of(world, features=None) -> Comparisons:
    data = world.dataset
    columns = np.zeros((data.n_items, 0)) if features is None else features
    return data.comparisons(Items.of(columns, keys=data.item_keys(), prompt=data.item_prompt))


def hits(world, fitted, fresh) -> float:
    truth = world.truth.probability(fresh.left, fresh.right, fresh.user)
    return float(np.where(fitted.probability(fresh.left, fresh.right, fresh.user) > 0.5, truth, 1 - truth).mean())


@pytest.fixture(scope="module")
def town():
    return synthetic_world(150, 160, 50, rank=1, disagreement=2.0, seed=3)


def test_tastes_are_found_by_identity(town):
    rows, fresh = rows_of(town), town.fresh(40, rng=0)
    pooled, personal = fit(rows, compress(rows), rank=4, rounds=12, rng=np.random.default_rng(0))
    assert hits(town, personal, fresh) - hits(town, pooled, fresh) > 0.06
    # the truth is 4; what 50 answers a person do not show stays out
    assert 1.0 < personal.taste_variance(fresh.left, fresh.right).mean() < 4.4


def test_tastes_are_found_by_features_where_identity_tells_nothing():
    world = synthetic_world(100, 4000, 40, rank=1, disagreement=2.0, features=10, seed=1)
    rows, fresh = rows_of(world, world.features), world.fresh(30, rng=0)
    pooled, personal = fit(rows, compress(rows), rank=4, rounds=12, rng=np.random.default_rng(0))
    bare = rows_of(world)
    _, blind = fit(bare, compress(bare), rank=4, rounds=12, rng=np.random.default_rng(0))
    assert hits(world, personal, fresh) - hits(world, pooled, fresh) > 0.08
    assert hits(world, personal, fresh) - hits(world, blind, fresh) > 0.08


def test_where_all_are_alike_tastes_are_switched_off():
    world = synthetic_world(150, 160, 50, disagreement=0.0, seed=2)
    rows = rows_of(world)
    pooled, personal = fit(rows, compress(rows), rank=4, rounds=40, rng=np.random.default_rng(0))
    assert personal.taste_variance(rows.left, rows.right).mean() < 0.02
    sides = rows.left, rows.right, rows.user
    np.testing.assert_allclose(personal.probability(*sides), pooled.probability(*sides), atol=0.05)


def test_sides_and_row_order_do_not_matter(town):
    rows = rows_of(town)
    order = np.random.default_rng(1).permutation(len(rows))
    sides = rows.left[:200], rows.right[:200], rows.user[:200]
    results = [
        fit(some, compress(some), rank=2, rounds=8, rng=np.random.default_rng(0))[1].probability(*sides)
        for some in (rows, rows.swapped(), rows.take(order))
    ]
    np.testing.assert_allclose(results[1], results[0], atol=1e-6)
    np.testing.assert_allclose(results[2], results[0], atol=1e-6)
    fitted = fit(rows, compress(rows), rank=2, rounds=8, rng=np.random.default_rng(0))[1]
    left, right, user = sides
    np.testing.assert_allclose(fitted.probability(left, right, user) + fitted.probability(right, left, user), 1.0)


def test_a_row_of_weight_two_is_two_rows(town):
    rows = rows_of(town)
    twice = rows.take(np.r_[np.arange(len(rows)), np.arange(100)])
    weighted = Comparisons.of(
        rows.items,
        rows.left,
        rows.right,
        rows.user,
        rows.label,
        n_users=rows.n_users,
        weight=1.0 + (np.arange(len(rows)) < 100),
    )
    fits = [
        fit(some, np.zeros((160, 0)), rank=2, rounds=6, rng=np.random.default_rng(0))[1] for some in (twice, weighted)
    ]
    np.testing.assert_allclose(fits[0].mean, fits[1].mean, atol=1e-6)


def test_more_directions_than_people_is_no_error():
    rows = Comparisons.of(Items.of(np.zeros((4, 0))), [0, 1, 2], [1, 2, 3], [0, 1, 1], [1.0, 0.0, 1.0])
    _, personal = fit(rows, compress(rows), rank=6, rounds=3, rng=np.random.default_rng(0))
    assert personal.rank <= 6 and np.isfinite(personal.probability(rows.left, rows.right, rows.user)).all()


@pytest.mark.parametrize("prompts", [1, 20])
def test_held_out_rows_share_no_item_with_the_persons_training_rows(prompts):
    world = synthetic_world(30, 80, 80, replies_per_prompt=80 // prompts, seed=5)
    rows = rows_of(world)
    left, right = fold_of_sides(rows, 5, np.random.default_rng(0))
    for fold in range(5):
        held = (left == fold) & (right == fold)
        kept = (left != fold) & (right != fold)
        for person in range(30):
            mine = rows.user == person
            tested = set(rows.left[held & mine]) | set(rows.right[held & mine])
            trained = set(rows.left[kept & mine]) | set(rows.right[kept & mine])
            assert not tested & trained
    if prompts == 20:
        assert (left == right).all()  # whole prompts go together, nothing is lost
    else:
        assert 0.1 < (left == right).mean() < 0.4  # linked items are dealt out one by one


def test_a_memoriser_gains_nothing_from_the_cross_fit():
    """People with idiosyncratic votes on items: a random split would show a gain, the known-items rule must not."""
    rng = np.random.default_rng(0)
    n_users, n_items, k = 200, 60, 40
    vote = rng.standard_normal((n_users, n_items)) * 3  # no two items are alike to anybody
    user = np.repeat(np.arange(n_users), k)
    left = rng.integers(n_items, size=n_users * k)
    right = (left + rng.integers(1, n_items, size=len(left))) % n_items
    label = (vote[user, left] > vote[user, right]).astype(float)
    rows = Comparisons.of(Items.of(np.zeros((n_items, 0))), left, right, user, label)
    held = cross_fit(rows, rank=6, rounds=12, rng=rng)
    truth = rows.label[held.rows]
    gain = ((held.personal > 0.5) == truth).mean() - ((held.pooled > 0.5) == truth).mean()
    assert abs(gain) < 0.03 and len(held.rows) > 500


def test_sampling_keeps_people_whole():
    user = np.repeat(np.arange(50), 10)
    rows = Comparisons.of(Items.of(np.zeros((2, 0))), np.zeros(500), np.ones(500), user, np.ones(500))
    kept = rows.take(sample_people(rows, 120, np.random.default_rng(0)))
    assert len(kept) == 120 and set(kept.counts()) == {0, 10}
    assert len(sample_people(rows, 500, np.random.default_rng(0))) == 500
    one = Comparisons.of(Items.of(np.zeros((2, 0))), np.zeros(500), np.ones(500), np.zeros(500), np.ones(500))
    assert len(sample_people(one, 120, np.random.default_rng(0))) == 120


def test_consensus_is_that_of_the_others():
    # 19 people prefer 0 to 1; the 20th says the opposite a hundred times
    user = np.r_[np.repeat(np.arange(19), 10), np.full(100, 19)]
    label = np.r_[np.ones(190), np.zeros(100)]
    rows = Comparisons.of(Items.of(np.zeros((2, 0))), np.zeros(290), np.ones(290), user, label)
    shared = consensus(rows, rounds=8, rng=np.random.default_rng(0))
    assert shared[user == 19].min() > 0.8
    alone = rows.take(user == 19)
    assert np.isnan(consensus(alone, rounds=8, rng=np.random.default_rng(0))).all()
