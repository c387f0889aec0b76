"""Acquisition against quadrature by another rule, Monte Carlo, and its limits."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import entr, expit

from palate.config import Config
from palate.elicit import STRATEGIES, Pool, bald, best_question, random, strategy, v_optimal
from palate.errors import ConfigError, FingerprintError, InputError
from palate.models.base import Method, Traits
from palate.models.linear import LinearMethod
from palate.types import Comparisons, Items, UserState, UserStates


class Gaussian(LinearMethod):
    """People with N(mean, precision⁻¹) weights on the features themselves; nothing is learned."""

    name = "gaussian"
    traits = Traits(linear=True, posterior=True)
    Config = Config

    def _fit(self, comparisons, offset, rng, progress) -> None:
        self.prior_mean_ = np.array([0.5, -0.2])
        self.prior_precision_ = np.array([[1.0, 0.4], [0.4, 0.5]])
        self._set_states(comparisons, offset)

    def _basis(self, items: Items) -> np.ndarray:
        return items.features.astype(np.float64)

    def _shared(self, items: Items) -> np.ndarray:
        return items.features[:, 0] * 0.3

    def _reward(self, items: Items, states: UserStates) -> np.ndarray:
        return states.arrays["mean"] @ self._basis(items).T + self._shared(items)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def fitted(rng: np.random.Generator) -> Gaussian:
    items = Items.of(rng.normal(size=(20, 2)))
    left, right = rng.integers(20, size=(2, 40))
    rows = Comparisons.of(items, left, right, rng.integers(4, size=40), rng.integers(2, size=40).astype(float))
    return Gaussian().fit(rows, rng=0)


def pool_of(rng: np.random.Generator, n: int, scale: float = 1.0) -> Pool:
    return Pool(Items.of(scale * rng.normal(size=(n, 2))), Items.of(scale * rng.normal(size=(n, 2))))


def coin_entropy(p: float) -> float:
    return float(entr(p) + entr(1 - p))


def margin(method: Gaussian, state: UserState, pool: Pool, i: int) -> tuple[float, float]:
    v = (pool.left.features[i] - pool.right.features[i]).astype(np.float64)
    return float(v @ state["mean"] + 0.3 * v[0]), float(np.sqrt(v @ state["covariance"] @ v))


@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0, 30.0])
def test_bald_is_the_mutual_information_by_adaptive_quadrature(fitted: Gaussian, rng, scale: float) -> None:
    state, pool = fitted.prior_[0], pool_of(rng, 12, scale)
    found = bald(state, pool, fitted)
    for i in range(len(pool)):
        mean, deviation = margin(fitted, state, pool, i)

        def over(function, mean=mean, deviation=deviation) -> float:
            def integrand(z: float) -> float:
                return float(function(expit(mean + deviation * z)) * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi))

            return quad(integrand, -9, 9, limit=400, points=[-mean / deviation] if abs(mean) < 9 * deviation else None)[
                0
            ]

        expected = coin_entropy(over(lambda p: p)) - over(coin_entropy)
        assert found[i] == pytest.approx(expected, abs=2e-6)


def test_bald_agrees_with_drawn_people(fitted: Gaussian, rng) -> None:
    state, pool = fitted.states_[0], pool_of(rng, 5)
    weights = fitted.sample(state.batch, 200_000, rng=1)[:, 0]
    v = (pool.left.features - pool.right.features).astype(np.float64)
    p = expit(weights @ v.T + 0.3 * v[:, 0])
    expected = [coin_entropy(m) for m in p.mean(0)] - (entr(p) + entr(1 - p)).mean(0)
    np.testing.assert_allclose(bald(state, pool, fitted), expected, atol=2e-3)


def test_bald_is_zero_for_a_pair_of_the_same_item_and_within_bounds(fitted: Gaussian, rng) -> None:
    items = Items.of(rng.normal(size=(6, 2)))
    assert np.all(bald(fitted.prior_[0], Pool(items, items), fitted) < 1e-12)
    scores = bald(fitted.prior_[0], pool_of(rng, 100, 50.0), fitted)
    assert np.all(scores >= 0) and np.all(scores <= np.log(2))


def test_bald_does_not_see_sides_or_the_order_of_the_pool(fitted: Gaussian, rng) -> None:
    state, pool = fitted.prior_[0], pool_of(rng, 30)
    scores = bald(state, pool, fitted)
    order = rng.permutation(30)
    np.testing.assert_allclose(bald(state, pool.take(order), fitted), scores[order], atol=1e-12)
    np.testing.assert_allclose(bald(state, Pool(pool.right, pool.left), fitted), scores, atol=1e-12)


def test_bald_falls_as_the_person_becomes_known(fitted: Gaussian, rng) -> None:
    pool = pool_of(rng, 10)
    prior = fitted.prior_[0]
    sure = UserState(
        UserStates(
            prior.method,
            prior.fingerprint,
            1,
            {"mean": prior.batch.arrays["mean"], "covariance": 0.01 * prior.batch.arrays["covariance"]},
        )
    )
    assert np.all(bald(sure, pool, fitted) < bald(prior, pool, fitted))


def test_bald_counts_the_base_reward(rng) -> None:
    items = Items.of(rng.normal(size=(20, 2)), base_reward=rng.normal(size=20))
    left, right = rng.integers(20, size=(2, 60))
    keep = left != right
    label = (items.base_reward[left] > items.base_reward[right]).astype(float)
    rows = Comparisons.of(items, left[keep], right[keep], np.zeros(keep.sum(), int), label[keep])
    method = Gaussian().fit(rows, rng=0)
    pool = Pool(items.take(left[keep][:8]), items.take(right[keep][:8]))
    mean = method.base_scale_ * (pool.left.base_reward - pool.right.base_reward)
    assert method.base_scale_ > 0.1
    without = Pool(
        Items.of(pool.left.features, base_reward=np.zeros(8)), Items.of(pool.right.features, base_reward=np.zeros(8))
    )
    surer = np.abs(mean) > 8
    assert surer.any()
    assert np.all(bald(method.prior_[0], pool, method)[surer] < bald(method.prior_[0], without, method)[surer])


def test_a_method_without_a_posterior_is_refused_by_name() -> None:
    plain = SimpleNamespace(name="plain", traits=Traits(), fingerprint_="f")
    state = UserState(UserStates("plain", "f", 1))
    with pytest.raises(InputError, match="plain has no Gaussian posterior.*strategy='random'"):
        bald(state, Pool(Items.of(np.zeros((1, 2))), Items.of(np.zeros((1, 2)))), plain)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_a_state_of_another_fit_is_refused(fitted: Gaussian, rng, name: str) -> None:
    stranger = UserState(UserStates("gaussian", "another", 1, dict(fitted.prior_.arrays)))
    with pytest.raises(FingerprintError):
        strategy(name)(stranger, pool_of(rng, 3), fitted, rng=0)


def test_random_is_reproducible_and_uniform(fitted: Gaussian, rng) -> None:
    pool, state = pool_of(rng, 4), fitted.prior_[0]
    np.testing.assert_array_equal(random(state, pool, fitted, rng=3), random(state, pool, fitted, rng=3))
    generator = np.random.default_rng(0)
    chosen = [best_question(state, pool, fitted, by="random", rng=generator) for _ in range(4000)]
    assert np.all(np.abs(np.bincount(chosen) / 4000 - 0.25) < 0.03)


def test_best_question_has_the_highest_utility_and_equals_are_drawn_from(fitted: Gaussian, rng) -> None:
    state, pool = fitted.prior_[0], pool_of(rng, 50)
    assert best_question(state, pool, fitted) == int(np.argmax(v_optimal(state, pool, fitted)))
    assert best_question(state, pool, fitted, by="bald") == int(np.argmax(bald(state, pool, fitted)))
    same = pool.take(np.zeros(3, int))
    generator = np.random.default_rng(0)
    assert {best_question(state, same, fitted, rng=generator) for _ in range(50)} == {0, 1, 2}


def test_a_strategy_of_ones_own() -> None:
    def last(state: UserState, pool: Pool, method: Method, *, rng=None) -> np.ndarray:
        return np.arange(len(pool), dtype=float)

    pool = Pool(Items.of(np.zeros((4, 2))), Items.of(np.zeros((4, 2))))
    assert best_question(None, pool, None, by=last) == 3


def test_bad_questions_are_refused(fitted: Gaussian) -> None:
    nothing = Items.of(np.zeros((0, 2)))
    with pytest.raises(InputError, match="no question"):
        best_question(fitted.prior_[0], Pool(nothing, nothing), fitted)
    with pytest.raises(InputError, match="2 left and 1 right"):
        Pool(Items.of(np.zeros((2, 2))), Items.of(np.zeros((1, 2))))
    with pytest.raises(ConfigError, match="unknown strategy 'magic'; there are: random, pref"):
        strategy("magic")
