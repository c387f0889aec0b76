"""Frozen numbers of independent libraries, and agreement with them where they are installed."""

from __future__ import annotations

import choix
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from palate.models.likelihood import adapt_users, fit_weights, objective, predictive

CHOICES = [(0, 1), (0, 1), (1, 2), (2, 0), (3, 1), (3, 2), (0, 3), (1, 0), (2, 3), (3, 2), (0, 2)]
"""(winner, loser) of four items."""

CHOIX = {
    0.05: [0.4545310111, -0.1804083300, -0.4545310111, 0.1804083300],
    0.5: [0.3154186384, -0.1393536942, -0.3154186384, 0.1393536942],
}
"""choix 0.4.1, `opt_pairwise(4, CHOICES, alpha=…, method="Newton-CG", tol=1e-14)`; its penalty is alpha·‖w‖²."""

V = np.array([[1, 0.5, -0.2], [-0.3, 1.2, 0.8], [0.7, -0.9, 0.4], [0.1, 0.2, -1.5], [1.4, -0.6, 0.3], [-1.1, 0.8, 0.9]])
LABEL = np.array([1, 0, 0.5, 0.8, 0, 1])
WEIGHT = np.array([1, 2, 0.5, 1, 3, 1])
OFFSET = np.array([0.2, -0.1, 0, 0.4, -0.3, 0.5])
PRECISION = np.array([[1, 0.3, 0], [0.3, 2, 0.1], [0, 0.1, 0.5]])
MEAN = np.array([0.5, -0.2, 0.1])


@pytest.mark.parametrize("alpha", CHOIX)
def test_choix(alpha):
    v = np.zeros((len(CHOICES), 4))
    for row, (winner, loser) in enumerate(CHOICES):
        v[row, winner], v[row, loser] = 1.0, -1.0
    ones = np.ones(len(CHOICES))
    found = fit_weights(v, ones, ones, l2=2 * alpha)
    np.testing.assert_allclose(found, CHOIX[alpha], atol=1e-8)
    np.testing.assert_allclose(found, choix.opt_pairwise(4, CHOICES, alpha=alpha, tol=1e-12), atol=1e-6)
    np.testing.assert_allclose(objective(found, v, ones, ones), -choix.log_likelihood_pairwise(CHOICES, found))


def test_scipy_minimise():
    """SciPy 1.17: `minimize(f, method="Nelder-Mead")` refined by BFGS, f written out with logaddexp."""
    prior = {"precision": PRECISION, "mean": MEAN}
    assert objective(np.array([0.3, -0.4, 0.2]), V, LABEL, WEIGHT, OFFSET, **prior) == pytest.approx(
        6.0890580962, abs=1e-9
    )
    found = fit_weights(V, LABEL, WEIGHT, OFFSET, **prior)
    np.testing.assert_allclose(found, [-0.3675571991, 0.0400803688, -0.8016299908], atol=1e-7)
    assert objective(found, V, LABEL, WEIGHT, OFFSET, **prior) == pytest.approx(4.4690770627, abs=1e-9)


@pytest.mark.parametrize(
    ("mean", "variance", "expected"),
    [(0.7, 0.5, 0.6526115318), (-2, 4, 0.2247997546), (1, 100, 0.5391962667), (5, 25, 0.8267296280)],
)
def test_scipy_quad(mean, variance, expected):
    assert predictive(np.array([mean]), np.array([variance]))[0] == pytest.approx(expected, abs=3e-7)


def test_scikit_learn():
    """Equal to LogisticRegression(tol=1e-10) within 1e-5 for every person."""
    rng = np.random.default_rng(0)
    n_users, answers, rank = 60, 20, 8
    v = rng.normal(size=(n_users * answers, rank))
    user = np.repeat(np.arange(n_users), answers)
    label = (rng.random(len(v)) < 1 / (1 + np.exp(-v @ rng.normal(size=rank)))) * 1.0
    mode, _ = adapt_users(v, label, np.ones(len(v)), user, n_users, mean=np.zeros(rank), precision=np.eye(rank))
    for person in range(n_users):
        own = user == person
        model = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-10, max_iter=10_000, solver="newton-cholesky")
        np.testing.assert_allclose(mode[person], model.fit(v[own], label[own]).coef_[0], atol=1e-5)
