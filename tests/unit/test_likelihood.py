"""Objective, derivatives, the batched Newton solver and the predictive integral."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit

from palate.errors import InputError
from palate.models.likelihood import adapt_users, fit_weights, gradient, hessian, objective, predictive, similar_people


def rows(rng, m, r, spread=1.0):
    """Random comparisons with soft labels, weights and offsets."""
    return spread * rng.normal(size=(m, r)), rng.random(m), rng.random(m) * 3, rng.normal(size=m)


def positive_definite(rng, r):
    root = rng.normal(size=(r, r))
    return root @ root.T + np.eye(r)


@pytest.mark.parametrize("kind", ["number", "diagonal", "matrix"])
def test_gradient_and_hessian_are_finite_differences(kind):
    rng = np.random.default_rng(1)
    v, label, weight, offset = rows(rng, 12, 4)
    precision = {"number": 0.7, "diagonal": rng.random(4), "matrix": positive_definite(rng, 4)}[kind]
    mean, at, step = rng.normal(size=4), rng.normal(size=4), 1e-5
    slopes, bends = [], []
    for direction in np.eye(4):
        ends = [at + sign * step * direction for sign in (1, -1)]
        values = [objective(w, v, label, weight, offset, precision=precision, mean=mean) for w in ends]
        slopes.append((values[0] - values[1]) / (2 * step))
        sides = [gradient(w, v, label, weight, offset, precision=precision, mean=mean) for w in ends]
        bends.append((sides[0] - sides[1]) / (2 * step))
    found = gradient(at, v, label, weight, offset, precision=precision, mean=mean)
    np.testing.assert_allclose(found, slopes, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(hessian(at, v, weight, offset, precision=precision), bends, rtol=1e-7, atol=1e-7)


def test_objective_and_gradient_survive_huge_logits():
    v, ones = np.array([[1e3], [-1e3]]), np.ones(2)
    assert objective(np.array([5.0]), v, ones, ones) == pytest.approx(5e3)
    assert np.isfinite(gradient(np.array([5.0]), v, ones, ones)).all()


def test_every_person_is_at_the_optimum_with_the_inverse_hessian():
    rng = np.random.default_rng(2)
    n_users, r = 40, 5
    user = rng.integers(n_users, size=900) ** 2 // n_users  # unequal numbers of rows, unsorted
    v, label, weight, offset = rows(rng, 900, r, spread=2.0)
    mean = rng.normal(size=(n_users, r))
    precision = np.array([positive_definite(rng, r) for _ in range(n_users)])
    mode, covariance = adapt_users(v, label, weight, user, n_users, mean=mean, precision=precision, offset=offset)
    silent = np.setdiff1d(np.arange(n_users), user)
    assert len(silent) > 0
    np.testing.assert_array_equal(mode[silent], mean[silent])
    np.testing.assert_allclose(covariance[silent], np.linalg.inv(precision[silent]), atol=1e-12)
    for person in np.unique(user):
        own = user == person
        own_rows = (v[own], label[own], weight[own], offset[own])
        slope = gradient(mode[person], *own_rows, precision=precision[person], mean=mean[person])
        assert np.abs(slope).max() < 1e-6
        bend = hessian(mode[person], v[own], weight[own], offset[own], precision=precision[person])
        np.testing.assert_allclose(covariance[person] @ bend, np.eye(r), atol=1e-3)
    np.testing.assert_array_equal(covariance, covariance.transpose(0, 2, 1))


def test_shared_prior_and_repeated_prior_are_the_same():
    rng = np.random.default_rng(3)
    v, label, weight, offset = rows(rng, 60, 3)
    user, precision, mean = np.repeat(np.arange(6), 10), positive_definite(rng, 3), rng.normal(size=3)
    shared = adapt_users(v, label, weight, user, 7, mean=mean, precision=precision, offset=offset)
    each = adapt_users(
        v, label, weight, user, 7, mean=np.tile(mean, (7, 1)), precision=np.tile(precision, (7, 1, 1)), offset=offset
    )
    for one, other in zip(shared, each, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_neither_row_order_nor_company_nor_threads_matter(monkeypatch):
    rng = np.random.default_rng(4)
    v, label, weight, offset = rows(rng, 400, 4)
    user = rng.integers(30, size=400)
    settings = {"mean": np.zeros(4), "precision": np.eye(4)}
    together = adapt_users(v, label, weight, user, 30, offset=offset, **settings)
    order = rng.permutation(400)
    shuffled = adapt_users(v[order], label[order], weight[order], user[order], 30, offset=offset[order], **settings)
    monkeypatch.setattr("palate.models.likelihood._CHUNK_CELLS", 64)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    chunked = adapt_users(v, label, weight, user, 30, offset=offset, **settings)
    for one, other, third in zip(together, shuffled, chunked, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)
        np.testing.assert_allclose(one, third, atol=1e-9)
    own = user == 7
    alone, _ = adapt_users(v[own], label[own], weight[own], user[own] - 7, 1, offset=offset[own], **settings)
    np.testing.assert_allclose(alone[0], together[0][7], atol=1e-9)


def test_weights_count_rows_and_weightless_rows_are_nothing():
    rng = np.random.default_rng(5)
    v, label, _, _ = rows(rng, 20, 3)
    settings = {"mean": np.zeros(3), "precision": np.eye(3)}
    user = np.zeros(20, int)
    double, _ = adapt_users(v, label, np.full(20, 2.0), user, 1, **settings)
    twice, _ = adapt_users(np.tile(v, (2, 1)), np.tile(label, 2), np.ones(40), np.zeros(40, int), 1, **settings)
    np.testing.assert_allclose(double, twice, atol=1e-9)
    nothing, covariance = adapt_users(v, label, np.zeros(20), user, 1, **settings)
    np.testing.assert_array_equal(nothing, np.zeros((1, 3)))
    np.testing.assert_allclose(covariance[0], np.eye(3), atol=1e-12)


@pytest.mark.parametrize("l2", [1e-8, 1e-3, 1.0])
@pytest.mark.parametrize("spread", [1e-3, 1.0, 1e3, 1e6])
def test_separable_answers_converge_from_anywhere(l2, spread):
    v = spread * np.array([[1.0, 0.2], [0.5, 1.0], [2.0, -0.1]])
    start = np.array([-50.0, 80.0]) / spread
    found = fit_weights(v, np.ones(3), np.ones(3), l2=l2, mean=start)
    slope = gradient(found, v, np.ones(3), np.ones(3), precision=l2, mean=start)
    bend = hessian(found, v, np.ones(3), precision=l2)
    # In posterior standard deviations; a probability within 1e-16 of 1 leaves this much.
    assert np.sqrt(slope @ np.linalg.solve(bend, slope)) < 1e-4


def test_steps_never_raise_the_objective(monkeypatch):
    """With one step more allowed each time the objective falls or stays, also where a plain Newton step overshoots."""
    rng = np.random.default_rng(6)
    v, label = 4.0 * rng.normal(size=(15, 3)), (rng.random(15) < 0.5) * 1.0
    mean = np.array([30.0, -40.0, 20.0])
    values = [objective(mean, v, label, np.ones(15), precision=0.01, mean=mean)]
    for steps in range(1, 15):
        monkeypatch.setattr("palate.models.newton._MAX_STEPS", steps)
        found = fit_weights(v, label, np.ones(15), l2=0.01, mean=mean)
        values.append(objective(found, v, label, np.ones(15), precision=0.01, mean=mean))
    assert np.all(np.diff(values) <= 1e-9)
    assert values[-1] == pytest.approx(values[-2], abs=1e-9) and values[-1] < 0.1 * values[0]


def test_float32_features_are_enough():
    rng = np.random.default_rng(7)
    v, label, weight, _ = rows(rng, 50, 3)
    user, settings = np.arange(50) % 5, {"mean": np.zeros(3), "precision": np.eye(3)}
    exact, _ = adapt_users(v, label, weight, user, 5, **settings)
    single, _ = adapt_users(v.astype(np.float32), label, weight, user, 5, **settings)
    assert single.dtype == np.float64
    np.testing.assert_allclose(single, exact, atol=1e-5)


def test_no_dimensions_and_no_rows():
    mode, covariance = adapt_users(
        np.zeros((4, 0)), np.ones(4), np.ones(4), np.arange(4), 5, mean=np.zeros(0), precision=np.zeros((0, 0))
    )
    assert mode.shape == (5, 0) and covariance.shape == (5, 0, 0)
    none = np.zeros(0)
    mode, _ = adapt_users(np.zeros((0, 2)), none, none, none.astype(int), 3, mean=np.ones(2), precision=np.eye(2))
    np.testing.assert_array_equal(mode, np.ones((3, 2)))


def test_bad_priors_are_refused():
    v, one = np.ones((2, 2)), np.ones(2)
    with pytest.raises(InputError, match="positive definite"):
        fit_weights(v, one, one, precision=-np.eye(2))
    with pytest.raises(InputError, match="finite features"):
        fit_weights(v * np.nan, one, one, l2=1.0)
    with pytest.raises(InputError, match="exactly one"):
        fit_weights(v, one, one)
    with pytest.raises(InputError, match="exactly one"):
        fit_weights(v, one, one, l2=1.0, precision=np.eye(2))
    with pytest.raises(InputError, match="positive definite"):
        adapt_users(v, one, one, np.zeros(2, int), 2, mean=np.zeros(2), precision=np.zeros((2, 2)))


def test_batches_of_similar_people_are_a_partition_with_little_padding():
    counts = np.random.default_rng(8).integers(0, 60, size=500)
    batches = similar_people(counts, 4, 2000)
    people = np.concatenate(batches)
    np.testing.assert_array_equal(np.sort(people), np.flatnonzero(counts))
    for batch in batches:
        sizes = counts[batch]
        assert sizes.max() <= sizes.min() + sizes.min() // 4
        assert len(batch) == 1 or sizes.max() * len(batch) * 4 <= 2000


# -- the predictive ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", [1e-6, 0.01, 0.5, 1.0, 2.9, 3.1, 10.0, 100.0, 1e4])
def test_predictive_is_the_integral(variance):
    mean = np.array([-40.0, -7.0, -2.0, -0.3, 0.0, 0.4, 1.0, 3.0, 12.0])
    deviation = np.sqrt(variance)

    def integral(m):
        def integrand(z):
            return expit(m + deviation * z) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)

        middle = float(np.clip(-m / deviation, -11, 11))
        return quad(integrand, -12, 12, points=[middle], epsabs=1e-11, limit=500)[0]

    found = predictive(mean, np.full(len(mean), variance))
    np.testing.assert_allclose(found, [integral(m) for m in mean], atol=1e-6)


def test_predictive_without_variance_is_the_sigmoid_exactly():
    mean = np.linspace(-800, 800, 41)
    np.testing.assert_array_equal(predictive(mean, np.zeros(41)), expit(mean))


def test_predictive_is_symmetric_monotone_and_a_probability():
    mean = np.linspace(-60, 60, 301)
    for variance in (0.0, 1e-3, 2.0, 3.5, 50.0):
        chance = predictive(mean, np.full(301, variance))
        np.testing.assert_allclose(chance + chance[::-1], 1.0, atol=1e-12)
        assert np.all((chance >= 0) & (chance <= 1)) and np.all(np.diff(chance) >= -1e-12)
    # Uncertainty moves a preference towards ½, never across it.
    spread = predictive(np.full(5, 1.0), np.array([0.0, 0.5, 2.0, 8.0, 1e6]))
    assert np.all(np.diff(spread) < 0) and spread[-1] > 0.5


def test_negative_variance_is_refused():
    with pytest.raises(InputError, match="negative"):
        predictive(np.zeros(2), np.array([0.1, -0.1]))
