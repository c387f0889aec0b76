"""`factor` on the simplex (LoRe) against plain Python loops: loss, one gradient step, new people and their covariance."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from palate.errors import ConfigError
from palate.models import make
from palate.models.factor import PRESETS, Factor
from palate.models.factor_network import factor_loss
from palate.models.training import Rows, TableEncoder, train, weights_of
from palate.testing import check_method, gain_over, mixed_town
from palate.types import Comparisons, Items

DIM, PEOPLE, RANK = 3, 4, 3


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    items = Items.of(rng.normal(size=(9, DIM)))
    left = rng.integers(0, 9, 12)
    right = (left + rng.integers(1, 9, 12)) % 9
    label = np.array([0, 1, 0.5, 1, 0.3, 0, 1, 1, 0, 0.5, 1, 0])
    weight = np.array([1, 2, 0.5, 1, 1, 0.3, 1, 3, 1, 1, 1, 1.0])
    return Comparisons.of(items, left, right, np.arange(12) % 3, label, n_users=PEOPLE, weight=weight)


def softmax(w):
    top = max(w)
    total = sum(math.exp(x - top) for x in w)
    return [math.exp(x - top) / total for x in w]


def axes(weight, x):
    return [sum(x[i] * weight[i][k] for i in range(DIM)) / math.sqrt(DIM) for k in range(RANK)]


def margin(weight, left, right, w):
    share, first, second = softmax(w), axes(weight, left), axes(weight, right)
    return sum(share[k] * (first[k] - second[k]) for k in range(RANK))


def log_loss(s, y):
    return -y * math.log(1 / (1 + math.exp(-s))) - (1 - y) * math.log(1 / (1 + math.exp(s)))


def objective(weights, rows, offset, l2, item_l2):
    """Weighted mean loss plus ½ l2 Σ‖w‖² and ½ item_l2 ‖W‖² over the total weight."""
    total, observations = 0.0, 0.0
    for i in range(len(rows)):
        left, right = rows.items.features[rows.left[i]], rows.items.features[rows.right[i]]
        s = margin(weights["weight"], left, right, weights["people.weight"][rows.user[i]]) + offset[i]
        total += rows.weight[i] * log_loss(s, rows.label[i])
        observations += rows.weight[i]
    total += 0.5 * l2 * sum(x * x for w in weights["people.weight"] for x in w)
    total += 0.5 * item_l2 * sum(x * x for w in weights["weight"] for x in w)
    return total / observations


def test_loss_and_one_gradient_step(rows):
    step = {"optimizer": "sgd", "schedule": "constant", "clip": 0.0, "steps": 1, "batch_size": 99, "learning_rate": 1.0}
    method = Factor.preset("lore", rank=RANK, l2=0.7, item_l2=0.4, **step)
    network = method.module(DIM, PEOPLE, 0)
    before = {name: array.astype(np.float64) for name, array in weights_of(network).items()}
    offset = np.linspace(-0.4, 0.4, len(rows))
    place = np.zeros(9, np.int64)
    loss = factor_loss(
        network,
        TableEncoder(rows.items.features),
        Rows.of(rows, offset),
        torch.from_numpy(place),
        method.config.penalty,
        0.0,
    )
    record = train(network, loss, len(rows), method.config, rng=np.random.default_rng(0))
    assert record.losses[0] == pytest.approx(objective(before, rows, offset, 0.7, 0.4), abs=1e-6)
    after = weights_of(network)
    for name in ("weight", "people.weight"):
        for index in np.ndindex(before[name].shape):
            value, sides = before[name][index], []
            for step in (1e-5, -1e-5):
                before[name][index] = value + step
                sides.append(objective(before, rows, offset, 0.7, 0.4))
            before[name][index] = value
            assert after[name][index] == pytest.approx(value - (sides[0] - sides[1]) / 2e-5, abs=5e-6), (name, index)


def fitted(rows, **changes):
    return Factor.preset(
        "lore", rank=RANK, **({"l2": 0.5, "item_l2": 0.5, "steps": 60, "learning_rate": 0.1} | changes)
    )


def own_objective(method, rows, person, w):
    total = 0.5 * method.config.l2 * sum(x * x for x in w)
    features = rows.items.features / method.scale_
    for i in np.flatnonzero(rows.user == person):
        s = margin(method.weight_, features[rows.left[i]], features[rows.right[i]], w)
        total += rows.weight[i] * log_loss(s, rows.label[i])
    return total


def test_new_people_stand_at_the_posterior_mode_on_the_simplex(rows):
    method = fitted(rows).fit(rows, rng=0)
    states = method.adapt(rows)
    assert np.allclose(states.arrays["mean"].sum(1), 1.0) and states.arrays["mean"].min() > 0
    np.testing.assert_allclose(states.arrays["mean"][3], 1 / RANK)  # no row: the prior
    for person in range(3):
        best = minimize(
            lambda w, person=person: own_objective(method, rows, person, w),
            np.zeros(RANK),
            method="Nelder-Mead",
            options={"xatol": 1e-9, "fatol": 1e-13, "maxiter": 4000},
        )
        assert states.arrays["mean"][person] == pytest.approx(softmax(best.x), abs=1e-5)


def test_covariance_is_the_gauss_newton_one_carried_through_the_softmax(rows):
    method = fitted(rows).fit(rows, rng=0)
    states = method.adapt(rows)
    features = rows.items.features / method.scale_
    for person in range(PEOPLE):
        share = states.arrays["mean"][person]
        w = np.log(share)
        curvature = 0.5 * np.eye(RANK)
        for i in np.flatnonzero(rows.user == person):
            pair = features[rows.left[i]], features[rows.right[i]]
            slope = np.array(
                [(margin(method.weight_, *pair, w + e) - margin(method.weight_, *pair, w - e)) / 2e-6
                 for e in 1e-6 * np.eye(RANK)]
            )  # fmt: skip
            chance = 1 / (1 + math.exp(-margin(method.weight_, *pair, w)))
            curvature += rows.weight[i] * chance * (1 - chance) * np.outer(slope, slope)
        turn = np.array([(np.array(softmax(w + e)) - softmax(w - e)) / 2e-6 for e in 1e-6 * np.eye(RANK)])
        expected = turn.T @ np.linalg.inv(curvature) @ turn
        np.testing.assert_allclose(states.arrays["covariance"][person], expected, atol=1e-7)


def test_published_settings_keep_the_table_and_have_no_posterior(rows):
    method = fitted(rows, l2=0.0).fit(rows, rng=0)
    assert not method.states_.arrays["covariance"].any()
    assert np.allclose(method.states_.arrays["mean"].sum(1), 1.0)
    lore = Factor.preset("lore").config
    assert (lore.weights, lore.rank, lore.learning_rate, lore.steps, lore.optimizer) == (
        "simplex",
        5,
        0.5,
        1000,
        "adam",
    )
    assert lore.l2 == lore.item_l2 == 0.0 and lore.balanced and lore.batch_size >= 10**9
    assert PRESETS["rfm"] == {"init": "random"}


def test_balanced_people_count_the_same(rows, monkeypatch):
    """Weighing one person ten times as much changes nothing when everybody counts the same."""
    monkeypatch.setattr("palate.models.factor.pair_scale", lambda given: np.ones(DIM))  # it weighs rows as they come
    heavy = replace(rows, weight=np.where(rows.user == 1, 10.0, 1.0) * rows.weight)
    free = {"item_l2": 0.0, "l2": 0.0}  # a prior counts against all weights together, which did grow
    for balanced in (True, False):
        fits = [fitted(rows, balanced=balanced, **free).fit(given, rng=0).weight_ for given in (rows, heavy)]
        assert (np.abs(fits[0] - fits[1]).max() < 1e-3) == balanced


def test_needs_a_random_start_in_batches():
    with pytest.raises(ConfigError, match="weights='simplex' needs init='random'"):
        make("factor", weights="simplex")


def test_meets_the_contract_and_wins_in_a_world_of_mixtures():
    settings = {"l2": 0.3, "item_l2": 4.0, "learning_rate": 0.1, "refit": True}
    # Its prior is on the simplex, where the people of that check are not.
    skip = {"posterior_covers_the_truth"}
    report = check_method(
        lambda: Factor.preset("lore", steps=300, **settings),
        quick=lambda: Factor.preset("lore", steps=40, **settings),
        skip=skip,
    )
    assert set(report.skipped) == skip
    assert gain_over(Factor.preset("lore", steps=300), make("pooled"), mixed_town()) >= 0.1
