"""Linear methods: posterior predictive, draws, variance in chunks, pooled as the method without a person."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from palate.errors import FingerprintError, NotFittedError
from palate.models import linear, make
from palate.models.base import Traits
from palate.models.likelihood import predictive
from palate.models.linear import LinearMethod, logit_variance
from palate.models.shared import SharedReward
from palate.testing import mirror_town
from palate.types import Items


class Plain(LinearMethod):
    """Features are the basis, the first feature is also shared; the prior is N(0, 4 I)."""

    name = "plain"
    traits = Traits(linear=True, posterior=True)

    def _fit(self, comparisons, offset, rng, progress):
        dim = comparisons.items.dim
        self.prior_mean_, self.prior_precision_ = np.zeros(dim), 0.25 * np.eye(dim)
        self._set_states(comparisons, offset)

    def _basis(self, items):
        return items.features.astype(np.float64)

    def _shared(self, items):
        return items.features[:, 0].astype(np.float64)


@pytest.fixture(scope="module")
def world():
    return mirror_town(n_users=12, rows_per_user=10, n_new=5, history_per_user=6, heldout_per_user=8)


@pytest.fixture(scope="module")
def plain(world):
    return Plain().fit(world.train, rng=0)


def test_prefer_is_the_predictive_of_shared_plus_personal(world, plain):
    states, rows = plain.adapt(world.history), world.test
    left, right = rows.items.take(rows.left), rows.items.take(rows.right)
    found = plain.prefer(left, right, states, rows.user)
    for row in range(0, len(rows), 5):
        v = (left.features[row] - right.features[row]).astype(float)
        mean, covariance = states.arrays["mean"][rows.user[row]], states.arrays["covariance"][rows.user[row]]
        expected = predictive(np.array([v[0] + v @ mean]), np.array([v @ covariance @ v]))
        assert found[row] == pytest.approx(expected[0], abs=1e-7)


def test_temper_scales_the_logit_and_its_deviation(world, plain):
    softened = Plain().fit(world.train, rng=0)
    softened.temper_ = 0.5
    states, rows = plain.adapt(world.history), world.test
    left, right = rows.items.take(rows.left), rows.items.take(rows.right)
    v = plain.basis(left) - plain.basis(right)
    logit = v[:, 0] + np.einsum("mr,mr->m", v, states.arrays["mean"][rows.user])
    variance = logit_variance(v, states.arrays["covariance"], rows.user)
    found = softened.prefer(left, right, softened.adapt(world.history), rows.user)
    np.testing.assert_allclose(found, predictive(0.5 * logit, 0.25 * variance), atol=1e-12)


def test_draws_have_the_posterior_mean_and_covariance(world, plain):
    states = plain.adapt(world.history)
    draws = plain.sample(states, 20_000, rng=1)
    assert draws.shape == (20_000, 5, 4)
    np.testing.assert_allclose(draws.mean(0), states.arrays["mean"], atol=0.07)
    for person in range(5):
        np.testing.assert_allclose(np.cov(draws[:, person].T), states.arrays["covariance"][person], atol=0.15)
    np.testing.assert_array_equal(draws[:3], plain.sample(states, 20_000, rng=1)[:3])
    assert not np.array_equal(plain.sample(states, 1, rng=1), plain.sample(states, 1, rng=2))


def test_draws_of_foreign_states_and_before_fit_are_refused(world, plain):
    with pytest.raises(NotFittedError):
        Plain().sample(plain.prior_, 1)
    with pytest.raises(NotFittedError):
        Plain().basis(world.items)
    other = Plain().fit(world.train.take(np.arange(20)), rng=0)
    with pytest.raises(FingerprintError):
        other.sample(plain.prior_, 1)


def test_variance_in_chunks_is_the_quadratic_form(monkeypatch):
    rng = np.random.default_rng(0)
    v, root = rng.normal(size=(50, 3)), rng.normal(size=(7, 3, 3))
    covariance, user = root @ root.transpose(0, 2, 1), rng.integers(7, size=50)
    monkeypatch.setattr(linear, "_CHUNK", 8)
    expected = [v[i] @ covariance[user[i]] @ v[i] for i in range(50)]
    np.testing.assert_allclose(logit_variance(v, covariance, user), expected)


# -- pooled ------------------------------------------------------------------------------------------------------------


def test_pooled_is_the_sigmoid_of_the_shared_reward_for_everybody(world):
    pooled = make("pooled").fit(world.train, rng=0)
    rows = world.test
    left, right = rows.items.take(rows.left), rows.items.take(rows.right)
    found = pooled.prefer(left, right, pooled.adapt(world.history), rows.user)
    shared = SharedReward.from_arrays(pooled.shared_)
    np.testing.assert_array_equal(found, expit(shared.reward(left) - shared.reward(right)))
    np.testing.assert_allclose(pooled.reward(world.items, pooled.states_), np.tile(shared.reward(world.items), (12, 1)))
    assert pooled.basis(world.items).shape == (64, 0)


def test_pooled_settings_reach_the_fit(world):
    strong = make("pooled", l2=1e6).fit(world.train, rng=0)
    rows = world.test
    left, right = rows.items.take(rows.left), rows.items.take(rows.right)
    np.testing.assert_allclose(strong.prefer(left, right, strong.prior_, np.zeros(len(rows), int)), 0.5, atol=1e-3)
    assert len(make("pooled", item_effects=False).fit(world.train).shared_["keys"]) == 0
    assert len(make("pooled").fit(world.train).shared_["keys"]) > 0


def test_pooled_knows_a_key_whatever_its_features(world):
    pooled = make("pooled").fit(world.train, rng=0)
    known = pooled.offset(world.items.take(np.array([5])))
    unknown = pooled.offset(Items.of(world.items.features[[5]]))
    place = int(np.searchsorted(pooled.shared_["keys"], world.items.keys[5]))
    assert known[0] - unknown[0] == pytest.approx(pooled.shared_["effects"][place])
