"""Minorities and the worst tenth are chosen by the rows a method may learn from, with the own vote left out."""

import numpy as np
import pytest
from scipy.special import expit

from palate.evaluate.standing import consensus_scores, standing
from palate.types import Comparisons, Items


def camps(seed=0, majority=40, minority=10, noisy=0, rows=40, items=12, sharpness=4.0):
    """A majority with one taste, a minority with the opposite one, and people who toss coins."""
    rng = np.random.default_rng(seed)
    score = np.linspace(-1, 1, items)
    sign = np.repeat([1.0, -1.0, 0.0], [majority, minority, noisy])
    user = np.repeat(np.arange(len(sign)), rows)
    left = rng.integers(items, size=len(user))
    right = (left + 1 + rng.integers(items - 1, size=len(user))) % items
    label = (rng.random(len(user)) < expit(sharpness * sign[user] * (score[left] - score[right]))).astype(float)
    table = Items.of(np.zeros((items, 0)), keys=np.arange(items))
    return Comparisons.of(table, left, right, user, label), sign


def test_minority_noisy_and_worst_are_found():
    comparisons, sign = camps(noisy=10, rows=400, items=100)
    rows = np.arange(len(comparisons))
    found = standing(comparisons, rows, rows[:0])
    assert found.minority[sign < 0].all() and not found.minority[sign > 0].any()
    assert found.noisy.any() and not found.noisy[sign != 0].any()  # only who is surely noisy
    assert found.worst_tenth.sum() == 6 and (sign[found.worst_tenth] < 0).all()
    assert (found.n_train == 400).all()


def test_new_people_are_judged_by_the_training_people():
    comparisons, sign = camps()
    new = comparisons.user % 5 == 0
    found = standing(comparisons, np.flatnonzero(~new), np.flatnonzero(new))
    assert (found.minority == (sign < 0)).mean() > 0.95
    assert found.worst_tenth[::5].sum() == 1  # a tenth of the ten new people


def test_rows_that_are_not_learned_from_change_nothing():
    comparisons, _ = camps()
    learned = np.flatnonzero(np.random.default_rng(1).random(len(comparisons)) < 0.5)
    train, history = learned[comparisons.user[learned] % 5 > 0], learned[comparisons.user[learned] % 5 == 0]
    label = comparisons.label.copy()
    rest = np.setdiff1d(np.arange(len(label)), learned)
    label[rest] = 1 - label[rest]
    other = Comparisons.of(comparisons.items, comparisons.left, comparisons.right, comparisons.user, label)
    a, b = standing(comparisons, train, history), standing(other, train, history)
    for name in ("agreement", "minority", "noisy", "worst_tenth", "n_train"):
        assert np.array_equal(getattr(a, name), getattr(b, name), equal_nan=name == "agreement"), name


def test_the_own_vote_is_left_out_of_the_majority():
    # one pair, six people, 3 against 3: without the own vote everybody is against a 3 : 2 majority
    items = Items.of(np.zeros((2, 0)), keys=np.arange(2))
    label = np.array([1, 1, 1, 0, 0, 0.0])
    votes = Comparisons.of(items, np.zeros(6, int), np.ones(6, int), np.arange(6), label)
    found = standing(votes, np.arange(6), np.arange(0))
    assert (found.agreement < 0.5).all()


def test_people_without_decided_rows_stand_nowhere():
    items = Items.of(np.zeros((2, 0)), keys=np.arange(2))
    label = np.array([1, 1, 1, 1, 0.5])
    votes = Comparisons.of(items, np.zeros(5, int), np.ones(5, int), np.arange(5), label, n_users=6)
    found = standing(votes, np.arange(5), np.arange(0))
    assert np.isnan(found.agreement[4:]).all() and not found.minority[4:].any() and not found.worst_tenth[4:].any()


def test_consensus_scores_are_the_ridge_optimum():
    from sklearn.linear_model import LogisticRegression

    comparisons, _ = camps(items=5)
    design = np.zeros((len(comparisons), 5))
    design[np.arange(len(design)), comparisons.left] = 1
    design[np.arange(len(design)), comparisons.right] -= 1
    model = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-10).fit(design, comparisons.label)
    assert consensus_scores(comparisons) == pytest.approx(model.coef_[0], abs=1e-3)
