"""The scikit-learn baseline obeys the method contract and is no straw man."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from palate.errors import InputError
from palate.evaluate.baseline import SklearnBaseline
from palate.testing import check_method
from palate.types import Comparisons, Items


def world(seed=0, items=80, dim=5, users=40, rows=60, features=True, own=1.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(items, dim))
    taste = rng.normal(size=dim) + own * rng.normal(size=(users, dim))
    user = np.repeat(np.arange(users), rows)
    left = rng.integers(items, size=len(user))
    right = (left + 1 + rng.integers(items - 1, size=len(user))) % items
    margin = ((x[left] - x[right]) * taste[user]).sum(axis=1)
    label = (rng.random(len(user)) < expit(margin)).astype(float)
    table = Items.of(x if features else np.zeros((items, 0)), keys=np.arange(items))
    return Comparisons.of(table, left, right, user, label), expit(margin)


def accuracy(method, rows, states, index):
    p = method.prefer(rows.items.take(rows.left), rows.items.take(rows.right), states, index)
    return np.mean((p > 0.5) == (rows.label > 0.5))


@pytest.mark.parametrize("features", [True, False])
def test_learns_people_with_features_and_with_known_items(features):
    everything, _ = world(features=features, items=40, rows=120)
    half = np.arange(len(everything)) % 2 == 0
    train, test = everything.take(half), everything.take(~half)
    method = SklearnBaseline().fit(train, rng=0)
    own = accuracy(method, test, method.states_, test.user)
    shared = accuracy(method, test, method.prior_, np.zeros(len(test), int))
    assert own > shared + 0.05
    again = method.adapt(train)
    assert np.array_equal(again.ragged["weights"].values, method.states_.ragged["weights"].values)


def test_the_prior_is_sklearns_pooled_regression():
    rows, _ = world()
    method = SklearnBaseline(pooled_c=0.5).fit(rows, rng=0)
    scale = rows.items.features.std(axis=0)
    difference = (rows.items.features[rows.left] - rows.items.features[rows.right]) / scale
    both = np.concatenate([difference, -difference])
    labels = np.concatenate([rows.label, 1 - rows.label])
    model = LogisticRegression(C=0.5, fit_intercept=False, tol=1e-8)
    model.fit(both, labels, np.full(len(both), 0.5))
    expected = model.predict_proba(difference)[:, 1]
    found = method.prefer(
        rows.items.take(rows.left), rows.items.take(rows.right), method.prior_, np.zeros(len(rows), int)
    )
    assert found == pytest.approx(expected, abs=1e-3)


def test_people_without_rows_get_the_prior_and_one_sided_answers_are_no_error():
    rows, _ = world()
    method = SklearnBaseline().fit(rows, rng=0)
    few = rows.take(np.flatnonzero((rows.user == 0) & (rows.label == 1))[:2])
    states = method.adapt(few)
    items = rows.items
    reward, prior = method.reward(items, states), method.reward(items, method.prior_)
    assert reward[1:] == pytest.approx(np.repeat(prior, len(states) - 1, axis=0))
    assert not np.allclose(reward[0], prior[0])


def test_preferences_are_the_rewards_difference_and_mirror():
    for features in (True, False):
        rows, _ = world(features=features)
        method = SklearnBaseline().fit(rows, rng=0)
        left, right = rows.items.take(rows.left), rows.items.take(rows.right)
        p = method.prefer(left, right, method.states_, rows.user)
        reward = method.reward(rows.items, method.states_)
        assert p == pytest.approx(expit(reward[rows.user, rows.left] - reward[rows.user, rows.right]))
        assert p + method.prefer(right, left, method.states_, rows.user) == pytest.approx(np.ones(len(rows)))


def test_soft_labels_and_weights():
    rows, probability = world()
    twice = Comparisons.of(
        rows.items,
        np.repeat(rows.left, 2),
        np.repeat(rows.right, 2),
        np.repeat(rows.user, 2),
        np.tile([1.0, 0.0], len(rows)),
        weight=np.column_stack([probability, 1 - probability]).ravel(),
    )
    soft = Comparisons.of(rows.items, rows.left, rows.right, rows.user, probability)
    rewards = [
        (lambda method: method.reward(rows.items, method.states_))(SklearnBaseline().fit(data, rng=0))
        for data in (soft, twice)
    ]
    assert rewards[0] == pytest.approx(rewards[1], abs=0.02)


def test_items_never_seen_are_worth_nothing():
    rows, _ = world(features=False)
    method = SklearnBaseline().fit(rows, rng=0)
    new = Items.of(np.zeros((2, 0)), keys=np.array([-1, 10_000]))
    assert method.reward(new, method.states_) == pytest.approx(np.zeros((40, 2)))


def test_saved_and_loaded(tmp_path):
    for settings, features in (({}, True), ({}, False), ({"own": "svd"}, True)):
        rows, _ = world(features=features)
        method = SklearnBaseline(**settings).fit(rows, rng=0)
        method.save(tmp_path / "model.safetensors")
        back = SklearnBaseline.load(tmp_path / "model.safetensors")
        assert np.array_equal(back.reward(rows.items, back.adapt(rows)), method.reward(rows.items, method.adapt(rows)))


def test_what_the_items_lack_is_told():
    rows, _ = world(features=False)
    with pytest.raises(InputError, match="design=features needs item features"):
        SklearnBaseline(design="features").fit(rows, rng=0)
    bare = Items.of(np.zeros((80, 0)))
    with pytest.raises(InputError, match="neither; choose features="):
        SklearnBaseline().fit(Comparisons.of(bare, rows.left, rows.right, rows.user, rows.label), rng=0)
    unknown = Items.of(np.random.default_rng(0).normal(size=(80, 3)))
    with pytest.raises(InputError, match="own=svd needs known items"):
        SklearnBaseline(own="svd").fit(Comparisons.of(unknown, rows.left, rows.right, rows.user, rows.label), rng=0)


@pytest.mark.slow
def test_keeps_the_method_contract():
    # it is not tuned here, and it does not learn how much people differ: the town's bar is for methods that do
    report = check_method(SklearnBaseline, skip={"recovers_the_town"})
    assert len(report.passed) > 20
