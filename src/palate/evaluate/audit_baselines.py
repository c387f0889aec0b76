"""Predictions that know nothing of taste: how far does one get by length, by position, by popularity?

A personal model that does not beat these has learned nothing worth serving. All are accuracies on the answers that are
not ties, per person first, then over people.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from palate.statistics import mean_over_users, two_way

__all__ = ["accuracy_of", "baselines", "credit", "draws_for", "popularity"]

_TWO_WAY_ROWS = 200_000  # beyond, people alone are resampled: with that many rows the prompts' share is small


def credit(margin: np.ndarray, label: np.ndarray) -> np.ndarray:
    """(m,) 1 where the sign of `margin` is the side `label` leans to, ½ where it is 0, NaN where the label is a tie."""
    side = np.sign(np.round(np.asarray(label) - 0.5, 9))
    return np.where(side == 0, np.nan, 0.5 + 0.5 * np.sign(margin) * side)


def accuracy_of(
    right: np.ndarray, user: np.ndarray, prompt: np.ndarray | None, *, rng: np.random.Generator
) -> dict[str, Any]:
    """Mean over people of their mean `right` (m,), NaN rows left out, with an interval, as a dict."""
    kept = ~np.isnan(right)
    right, user = right[kept], user[kept]
    if len(right) == 0:
        return mean_over_users(np.array([]), rng=rng).to_dict()
    counts = np.bincount(user)
    with_rows = counts > 0
    draws = draws_for(int(with_rows.sum()))
    if len(right) <= _TWO_WAY_ROWS:
        found = two_way(right, user, None if prompt is None else prompt[kept], rng=rng, draws=draws)
    else:
        found = mean_over_users(np.bincount(user, right)[with_rows] / counts[with_rows], rng=rng, draws=draws)
    return found.within(0.0, 1.0).to_dict()


def draws_for(n_users: int) -> int:
    """Resamples for an interval: 2,000, fewer with very many people, where the interval is narrow anyway."""
    return int(np.clip(2_000_000 // max(1, n_users), 200, 2_000))


def popularity(left: np.ndarray, right: np.ndarray, user: np.ndarray, label: np.ndarray) -> np.ndarray:
    """(m,) win rate of left minus that of right among *other* people's answers, each with one win and one loss added."""
    m = len(left)
    item, person = np.concatenate([left, right]).astype(np.int64), np.concatenate([user, user]).astype(np.int64)
    won = np.concatenate([label, 1.0 - label])
    _, own = np.unique(person * (int(item.max(initial=0)) + 1) + item, return_inverse=True)
    others_won = np.bincount(item, won)[item] - np.bincount(own, won)[own]
    others = np.bincount(item)[item] - np.bincount(own)[own]
    rate = (1.0 + others_won) / (2.0 + others)
    return np.where(np.abs(rate[:m] - rate[m:]) < 1e-9, 0.0, rate[:m] - rate[m:])


def baselines(
    left: np.ndarray,
    right: np.ndarray,
    user: np.ndarray,
    label: np.ndarray,
    prompt: np.ndarray,
    length: np.ndarray | None,
    *,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Accuracy of preferring the longer, the left, and the more popular side.

    Args:
        left, right, user: (m,) numbers of items and people.
        label: (m,) probability that left is preferred.
        prompt: (m,) prompt of each row.
        length: (n_items,) characters of each response, or None where texts are unknown.
        rng: of the intervals.
    """
    margins = {
        "length": None if length is None else length[left].astype(np.float64) - length[right],
        "position": np.ones(len(left)),
        "popularity": popularity(left, right, user, label),
    }
    return {
        name: None if margin is None else accuracy_of(credit(margin, label), user, prompt, rng=rng)
        for name, margin in margins.items()
    }
