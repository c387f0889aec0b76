"""Forgetting: what a person answered long ago counts for less.

    weight ← weight · 2^(−age / half_life),     age = the person's latest time (or `now`) − time of the row

so that an answer loses half its weight in every half-life, and a person's state follows a taste that moves.

Source: the exponential forgetting of recursive least squares (Ljung and Söderström 1983, §2.6).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from palate.errors import InputError
from palate.types import Comparisons

__all__ = ["fade"]


def fade(comparisons: Comparisons, half_life: float, now: float | None = None) -> Comparisons:
    """The same rows, older ones weighing less.

    Args:
        comparisons: rows with `time`, in any unit.
        half_life: in the unit of `time`, > 0; infinity forgets nothing.
        now: the time at which all people are asked; by default each person's own latest row.

    Returns:
        Comparisons with new weights, each between 0 and the old one.

    Raises:
        InputError: no times, a half-life that is not positive, or a row later than `now`.
    """
    if not half_life > 0:
        raise InputError(f"half_life={half_life}: a half-life must be positive; leave it out to forget nothing")
    if np.isinf(half_life) or len(comparisons) == 0:
        return comparisons
    time = comparisons.time
    if time is None or np.isnan(time).any():
        missing = "no times" if time is None else f"{np.isnan(time).sum():,} rows without a time"
        raise InputError(f"half_life={half_life}: forgetting needs the time of every answer, and there are {missing}")
    latest = np.full(comparisons.n_users, -np.inf)
    np.maximum.at(latest, comparisons.user, time)
    if now is not None:
        if latest.max() > now:
            raise InputError(f"now={now}, but an answer is from {latest.max()}; now must not lie before an answer")
        latest[:] = now
    age = latest[comparisons.user] - time
    return replace(comparisons, weight=comparisons.weight * np.exp2(-age / half_life))
