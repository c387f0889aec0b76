"""Metrics by hand, and against scikit-learn and SciPy."""

import math

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from palate.evaluate.metrics import (
    auc_by_user,
    calibration_error_by_user,
    calibration_slope_by_user,
    correct,
    log_loss,
    mean_by_user,
)


def world(seed=0, m=3000, users=50, slope=0.5):
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1.5, m)
    probability = np.round(expit(z), 2)
    label = (rng.random(m) < expit(slope * logit(np.clip(probability, 0.001, 0.999)))).astype(float)
    return label, probability, rng.integers(users, size=m)


def test_accuracy_by_hand():
    label = np.array([1, 0, 1, 0, 0.5, 0.8, 0.8])
    probability = np.array([0.9, 0.9, 0.5, 0.5, 0.7, 0.7, 0.3])
    assert correct(label, probability) == pytest.approx([1, 0, 0.5, 0.5, 0.5, 0.8, 0.2])


def test_log_loss_equals_sklearn_and_stays_finite():
    label, probability, _ = world()
    inside = np.clip(probability, 0.01, 0.99)
    assert log_loss(label, inside).mean() == pytest.approx(sklearn_log_loss(label, inside))
    assert log_loss(np.array([1.0, 0.5]), np.array([0.0, 0.5])) == pytest.approx([-math.log(1e-6), math.log(2)])


def test_mean_by_user_weighs_rows_and_leaves_people_without_rows_open():
    found = mean_by_user(np.array([1.0, 0.0, 1.0]), np.array([0, 0, 2]), 3, np.array([3.0, 1.0, 1.0]))
    assert found[0] == 0.75 and math.isnan(found[1]) and found[2] == 1.0


def test_auc_equals_sklearn_on_rows_and_their_mirror_images():
    label, probability, user = world()
    found = auc_by_user(label, probability, user, 50)
    for person in range(50):
        y, p = label[user == person], probability[user == person]
        both = roc_auc_score(np.r_[y, 1 - y], np.round(np.r_[p, 1 - p], 12))
        assert found[person] == pytest.approx(both, abs=1e-12)


def test_auc_does_not_depend_on_sides_and_needs_no_second_class():
    label, probability, user = world()
    flip = np.random.default_rng(1).random(len(label)) < 0.5
    turned = np.where(flip, 1 - label, label), np.where(flip, 1 - probability, probability)
    assert auc_by_user(*turned, user, 50) == pytest.approx(auc_by_user(label, probability, user, 50))
    alike = auc_by_user(np.ones(3), np.array([0.9, 0.8, 0.4]), np.zeros(3, int), 2)
    # wins .9 .8 .4 against mirror losses .1 .2 .6: 8 of the 9 pairs except .4 < .6
    assert alike[0] == pytest.approx(8 / 9) and math.isnan(alike[1])


def test_auc_ignores_ties_and_a_constant_predictor_has_one_half():
    label, probability, user = np.array([1, 0, 0.5]), np.array([0.9, 0.3, 0.01]), np.zeros(3, int)
    assert auc_by_user(label, probability, user, 1)[0] == 1.0
    assert auc_by_user(label, np.full(3, 0.5), user, 1)[0] == 0.5
    assert math.isnan(auc_by_user(np.array([0.5]), np.array([0.7]), np.zeros(1, int), 1)[0])


def test_auc_weight_two_is_two_rows():
    label, probability, user = world(m=200, users=5)
    weight = np.random.default_rng(0).integers(1, 4, 200)
    twice = [np.repeat(column, weight) for column in (label, probability, user)]
    assert auc_by_user(label, probability, user, 5, weight.astype(float)) == pytest.approx(auc_by_user(*twice, 5))


def test_calibration_error_by_hand_in_one_bin():
    # confidences .9 .9 .6 .6, right 1 0 1 1: |.75 - .75| = 0 ; then all wrong: .75
    probability, user = np.array([0.9, 0.1, 0.6, 0.4]), np.array([0, 0, 1, 1])
    label = np.array([1.0, 1.0, 1.0, 0.0])
    assert np.nanmean(calibration_error_by_user(label, probability, user, 2)) == pytest.approx(0.0)
    wrong = np.array([0.0, 1.0, 0.0, 1.0])
    assert np.nanmean(calibration_error_by_user(wrong, probability, user, 3)) == pytest.approx(0.75)


def test_calibration_error_of_equal_mass_bins_weighs_people_alike():
    label, probability, user = world(m=4000, users=20)
    confidence, right = np.maximum(probability, 1 - probability), correct(label, probability)
    share = 1 / np.bincount(user)[user] / 20
    order = np.argsort(confidence, kind="stable")
    bin_ = np.minimum(((np.cumsum(share[order]) - share[order] / 2) * 10).astype(int), 9)
    expected = sum(abs((share * (confidence - right))[order][bin_ == b].sum()) for b in range(10))
    found = calibration_error_by_user(label, probability, user, 20)
    assert np.mean(found) == pytest.approx(expected)


def test_calibration_slope_equals_sklearns_recalibration():
    label, probability, user = world(slope=0.5)
    x = logit(np.clip(probability, 1e-6, 1 - 1e-6))[:, None]
    share = 1 / np.bincount(user)[user]
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(x, label, share)
    found = calibration_slope_by_user(label, probability, user, 50)
    assert np.mean(found) == pytest.approx(model.coef_[0, 0], abs=1e-5)
    assert 0.4 < np.mean(found) < 0.6


def test_calibration_slope_pseudo_values_have_the_spread_of_a_bootstrap_over_people():
    label, probability, user = world(users=60)
    pseudo = calibration_slope_by_user(label, probability, user, 60)
    rng, slopes = np.random.default_rng(0), []
    by_user = [np.flatnonzero(user == person) for person in range(60)]
    for _ in range(300):
        drawn = rng.integers(60, size=60)
        rows = np.concatenate([by_user[person] for person in drawn])
        who = np.repeat(np.arange(60), [len(by_user[person]) for person in drawn])
        slopes.append(np.mean(calibration_slope_by_user(label[rows], probability[rows], who, 60)))
    assert pseudo.std(ddof=1) / math.sqrt(60) == pytest.approx(np.std(slopes), rel=0.15)


def test_calibration_slope_is_open_where_nothing_is_predicted_or_all_is_right():
    user = np.zeros(4, int)
    assert np.isnan(calibration_slope_by_user(np.array([1.0, 0, 1, 0]), np.full(4, 0.5), user, 1)).all()
    assert np.isnan(calibration_slope_by_user(np.ones(4), np.full(4, 0.9), user, 1)).all()
