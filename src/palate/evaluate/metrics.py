"""How well probabilities fit choices: one number per row or per person, then a plain mean over people.

Every summary here is a mean over people of one value per person, so that `palate.statistics` can put an interval on it.
Sides are random, so nothing may depend on which reply stood left: AUC and calibration look at each row from both sides.

    accuracy            y if p > ½, 1 - y if p < ½, ½ if p = ½ (a soft label y counts its expected accuracy)
    log_loss            -y log p - (1 - y) log(1 - p), with p clipped to [1e-6, 1 - 1e-6]
    auc                 P(score of a left win > score of a left loss) + ½ P(equal), over rows and their mirror images
    calibration_error   ECE: Σ_bins |mean confidence - mean outcome| · mass, ten bins of equal mass
    calibration_slope   b in P(left) = σ(b · logit p): below 1 the method is too sure, above 1 not sure enough
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

__all__ = [
    "auc_by_user",
    "calibration_error_by_user",
    "calibration_slope_by_user",
    "correct",
    "log_loss",
    "mean_by_user",
]

_CLIP = 1e-6


def correct(label: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """(m,) expected accuracy of each row; a prediction of exactly ½ counts half."""
    return np.where(probability > 0.5, label, np.where(probability < 0.5, 1.0 - label, 0.5))


def log_loss(label: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """(m,) cross-entropy of each row in nats; at least the label's own entropy."""
    p = np.clip(probability, _CLIP, 1 - _CLIP)
    return -label * np.log(p) - (1 - label) * np.log1p(-p)


def mean_by_user(values: np.ndarray, user: np.ndarray, n_users: int, weight: np.ndarray | None = None) -> np.ndarray:
    """(n_users,) weighted mean of each person's rows; NaN without rows."""
    weight = np.ones(len(values)) if weight is None else weight
    total = np.bincount(user, weight, n_users)
    sums = np.bincount(user, weight * values, n_users)
    return np.divide(sums, total, out=np.full(n_users, np.nan), where=total > 0)


def auc_by_user(
    label: np.ndarray, probability: np.ndarray, user: np.ndarray, n_users: int, weight: np.ndarray | None = None
) -> np.ndarray:
    """Area under the ROC curve of each person's rows and their mirror images.

    With the mirror image (1 - p, 1 - y) beside each row both classes are always present and the area does not depend on
    the sides; PReF's nan-mean over one orientation drops people whose labels happen to be all alike. A soft label counts
    with weight |2y - 1|, so ties count nothing.

    Args:
        label, probability: (m,) in [0, 1].
        user: (m,) in [0, n_users).
        n_users: how many people.
        weight: (m,) or None.

    Returns:
        (n_users,) in [0, 1]; NaN for people without a decided row.
    """
    mass = np.abs(2 * label - 1) * (1.0 if weight is None else weight)
    won = label > 0.5
    score = np.concatenate([probability, 1 - probability])
    who = np.concatenate([user, user])
    positive = np.concatenate([np.where(won, mass, 0.0), np.where(won, 0.0, mass)])
    negative = np.concatenate([np.where(won, 0.0, mass), np.where(won, mass, 0.0)])
    score = np.round(score, 12)  # 1 - (1 - p) is not p in floating point, and ties must stay ties
    order = np.lexsort((score, who))
    who, score, positive, negative = who[order], score[order], positive[order], negative[order]
    if len(who) == 0:
        return np.full(n_users, np.nan)
    fresh = np.r_[True, (np.diff(who) > 0) | (np.diff(score) > 0)]
    tie = np.cumsum(fresh) - 1
    tied = np.bincount(tie, negative)
    owner = who[fresh]
    upto = np.cumsum(tied)
    total = np.bincount(user, mass, n_users)  # of negatives; of positives too, by the mirror images
    before_user = np.cumsum(total) - total
    below = upto - tied - before_user[owner] + tied / 2
    area = np.bincount(owner, np.bincount(tie, positive) * below, n_users)
    return np.divide(area, total**2, out=np.full(n_users, np.nan), where=total > 0)


def calibration_error_by_user(
    label: np.ndarray,
    probability: np.ndarray,
    user: np.ndarray,
    n_users: int,
    weight: np.ndarray | None = None,
    *,
    bins: int = 10,
) -> np.ndarray:
    """Each person's part of the expected calibration error; the mean over people is the error.

    Confidence is max(p, 1 - p) and the outcome whether that side won, so sides do not matter. Bins hold equal mass, with
    each person weighing the same; there are fewer bins where rows are few (50 rows a bin at least).

    Returns:
        (n_users,) whose nan-mean is Σ_bins |confidence - outcome|; NaN for people without rows. A single person's value
        may be negative.
    """
    share = _shares(user, n_users, weight)
    people = max(1, len(np.unique(user)))
    confidence = np.maximum(probability, 1 - probability)
    order = np.argsort(confidence, kind="stable")
    n_bins = max(1, min(bins, len(label) // 50))
    place = np.empty(len(label))
    place[order] = np.cumsum(share[order]) - share[order] / 2
    bin_ = np.minimum((place / people * n_bins).astype(np.int64), n_bins - 1)
    gap = share * (confidence - correct(label, probability))
    sign = np.sign(np.bincount(bin_, gap, n_bins))
    present = np.bincount(user, minlength=n_users) > 0
    return np.where(present, np.bincount(user, sign[bin_] * gap, n_users), np.nan)


def calibration_slope_by_user(
    label: np.ndarray, probability: np.ndarray, user: np.ndarray, n_users: int, weight: np.ndarray | None = None
) -> np.ndarray:
    """Pseudo-values of the logistic recalibration slope b; their nan-mean is b, their spread its uncertainty.

    There is no intercept: seen from both sides it is zero. A person's pseudo-value is b + n · g_u / H with g_u the
    person's score and H the information, the first-order effect of leaving the person in or out.

    Returns:
        (n_users,); all NaN where no slope in [-5, 50] solves the score equation (all probabilities ½, or all right).
    """
    share = _shares(user, n_users, weight)
    p = np.clip(probability, _CLIP, 1 - _CLIP)
    logit = np.log(p) - np.log1p(-p)
    slope = _root(label, logit, share)
    if math.isnan(slope):
        return np.full(n_users, np.nan)
    fitted = expit(slope * logit)
    score = np.bincount(user, share * logit * (label - fitted), n_users)
    information = float(np.sum(share * logit**2 * fitted * (1 - fitted)))
    present = np.bincount(user, minlength=n_users) > 0
    return np.where(present, slope + present.sum() * score / information, np.nan)


def _root(label: np.ndarray, logit: np.ndarray, weight: np.ndarray) -> float:
    """The slope at which the score Σ w · logit · (y - σ(b · logit)) is zero."""

    def score(slope: float) -> float:
        return float(np.sum(weight * logit * (label - expit(slope * logit))))

    low, high = -5.0, 50.0
    if not score(low) > 0 > score(high):
        return math.nan
    return brentq(score, low, high, xtol=1e-8)


def _shares(user: np.ndarray, n_users: int, weight: np.ndarray | None) -> np.ndarray:
    """(m,) weights that sum to one within each person."""
    weight = np.ones(len(user)) if weight is None else weight
    total = np.bincount(user, weight, n_users)
    return np.divide(weight, total[user], out=np.zeros(len(user)), where=total[user] > 0)
