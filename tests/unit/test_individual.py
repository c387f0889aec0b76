"""A reward per person: the small problem in the span of the rows is the large one, with and without features."""

from __future__ import annotations

import numpy as np
import pytest

from palate.models import make, span
from palate.models.likelihood import fit_weights, objective
from palate.models.shared import SharedReward, pair_scale
from palate.testing import identity_town, lone_people
from palate.types import Comparisons, Items


def wide(n_users=6, n_items=40, dim=30, seed=0):
    """More features than rows: people with 1 to 60 rows."""
    rng = np.random.default_rng(seed)
    counts = np.array([1, 2, 7, 20, 45, 60])[:n_users]
    user = rng.permutation(np.repeat(np.arange(n_users), counts))
    left, right = rng.integers(n_items, size=(2, len(user)))
    items = Items.of(rng.normal(size=(n_items, dim)), keys=np.arange(n_items))
    return Comparisons.of(items, left, right, user, rng.random(len(user)), weight=0.5 + rng.random(len(user)))


@pytest.mark.parametrize("cells", [1 << 22, 100])
def test_each_person_is_their_own_logistic_regression(monkeypatch, cells):
    monkeypatch.setattr(span, "_CELLS", cells)
    rows = wide()
    method = make("individual", l2=2.5).fit(rows)
    x = rows.items.features / pair_scale(rows)
    for person in range(6):
        own = rows.user == person
        v = x[rows.left[own]] - x[rows.right[own]]
        expected = fit_weights(v, rows.label[own], rows.weight[own], l2=2.5)
        np.testing.assert_allclose(method.states_.arrays["weights"][person], expected, atol=1e-5)


def test_shrinking_to_pooled_starts_from_the_pooled_reward():
    rows = wide()
    method = make("individual", prior="pooled", l2=1.0).fit(rows)
    shared = SharedReward.from_arrays(method.shared_)
    x = rows.items.features / pair_scale(rows)
    own = rows.user == 4
    v = x[rows.left[own]] - x[rows.right[own]]
    expected = fit_weights(v, rows.label[own], rows.weight[own], shared.margin(rows)[own], l2=1.0)
    np.testing.assert_allclose(method.states_.arrays["weights"][4], expected, atol=1e-5)
    np.testing.assert_allclose(method.reward(rows.items, method.prior_)[0], shared.reward(rows.items), atol=1e-12)


def test_without_features_people_have_effects_of_the_items_they_met():
    world = identity_town(n_users=10, rows_per_user=12, n_new=4, history_per_user=5)
    method = make("individual", l2=1.0).fit(world.train)
    reward = method.reward(world.items, method.states_)
    for person in range(10):
        own = world.train.user == person
        onehot = np.eye(len(world.items))
        v = onehot[world.train.left[own]] - onehot[world.train.right[own]]
        expected = fit_weights(v, world.train.label[own], np.ones(own.sum()), l2=1.0)
        np.testing.assert_allclose(reward[person], expected, atol=1e-6)
        met = np.union1d(world.train.left[own], world.train.right[own])
        np.testing.assert_array_equal(method.keys_[method.states_[person]["items"]], met)
    strangers = Items.of(np.zeros((3, 0)), keys=np.array([-1, 10_000, -1]))
    np.testing.assert_array_equal(method.reward(strangers, method.states_), np.zeros((10, 3)))


def test_no_answers_is_indifference():
    world = identity_town(n_users=6, n_new=3)
    method = make("individual").fit(world.train)
    rows = world.test
    found = method.prefer(rows.items.take(rows.left), rows.items.take(rows.right), method.prior_.repeat(3), rows.user)
    np.testing.assert_array_equal(found, np.full(len(rows), 0.5))


def test_learned_precision_is_the_one_that_made_the_people():
    """People drawn with w ~ N(0, I / l2) on features of unit pair spread: l2 comes back, biased upwards by Laplace."""
    rng = np.random.default_rng(3)
    features = rng.normal(size=(200, 5)) / np.sqrt(2)
    for l2 in (2.0, 8.0):
        taste = rng.normal(size=(300, 5)) / np.sqrt(l2)
        user = np.repeat(np.arange(300), 40)
        left, right = rng.integers(200, size=(2, len(user)))
        margin = np.einsum("md,md->m", features[left] - features[right], taste[user])
        label = (rng.random(len(user)) < 1 / (1 + np.exp(-margin))) * 1.0
        method = make("individual").fit(Comparisons.of(Items.of(features), left, right, user, label))
        assert 0.9 * l2 < method.l2_ < 1.6 * l2


def test_learned_precision_is_close_to_the_best_given_one():
    world = lone_people(n_users=15, rows_per_user=60, n_new=5)

    def loss(method):
        rows, margin = world.heldout, world.margins("heldout")
        chance = method.prefer(rows.items.take(rows.left), rows.items.take(rows.right), method.states_, rows.user)
        eta = np.log(chance) - np.log1p(-chance)
        return float(np.mean(np.logaddexp(0, eta) - eta / (1 + np.exp(-margin))))

    best = min(loss(make("individual", l2=l2).fit(world.train)) for l2 in (0.03, 0.1, 0.3, 1.0, 3.0, 10.0))
    assert loss(make("individual").fit(world.train)) <= best + 0.01


def test_people_who_do_not_differ_from_pooled_are_left_there():
    world = lone_people(n_users=20, rows_per_user=40, n_new=2)
    train = world.train
    rng = np.random.default_rng(1)
    margin = (train.items.features[train.left] - train.items.features[train.right])[:, 0]
    label = (rng.random(len(train)) < 1 / (1 + np.exp(-margin))) * 1.0
    same = Comparisons.of(train.items, train.left, train.right, train.user, label)
    assert make("individual", prior="pooled").fit(same).l2_ > 30.0


def test_optimum_beats_its_neighbours():
    rows = wide()
    method = make("individual", l2=0.3).fit(rows)
    x = rows.items.features / pair_scale(rows)
    own = rows.user == 5
    data = (x[rows.left[own]] - x[rows.right[own]], rows.label[own], rows.weight[own])
    found = method.states_.arrays["weights"][5]
    best = objective(found, *data, precision=0.3)
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert objective(found + 0.01 * rng.normal(size=30), *data, precision=0.3) > best
