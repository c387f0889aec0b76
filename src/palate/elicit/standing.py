"""Where a session stands: what is left to learn, and which questions are fresh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate.elicit.acquisition import sensitivity
from palate.elicit.pool import PreparedPool, margins
from palate.elicit.questions import QuestionTable
from palate.models.linear import LinearMethod
from palate.types import UserState

__all__ = ["Standing", "fresh_questions", "standing"]


@dataclass(frozen=True)
class Standing:
    """How well a person is known.

    Args:
        gain: what the most telling question left would tell about the person, in bits, to second order.
        spread: mean over the pool of the posterior standard deviation of the probability that left is preferred.
    """

    gain: float
    spread: float


def standing(state: UserState, pool: PreparedPool, method: LinearMethod, open_: np.ndarray) -> Standing:
    """How well a person is known by a pool of questions, of which those in `open_` (n,) may still be asked."""
    seen = margins(state, pool, method)
    # Half the squared correlation of the answer with the person's logit: their mutual information while it is small.
    weight = sensitivity(seen)
    explained = weight * seen.variance
    gain = float(np.max(explained, where=open_, initial=0.0) / (2.0 * np.log(2.0)))
    shrink = 1.0 / (1.0 + np.pi / 8.0 * (seen.variance + seen.noise))
    p = 0.5 + 0.5 * np.tanh(0.5 * np.sqrt(shrink) * seen.mean)
    return Standing(gain, float(np.mean(np.sqrt(explained * p * (1.0 - p)))))


def fresh_questions(table: QuestionTable, shown: np.ndarray, prompts: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """(n,) the allowed questions whose texts were shown least, and of these the ones whose prompts were.

    One person's answers about one text share what is odd about it, so that the second teaches less (see
    `palate.models.tastes.design_weights`) and misleads twice where the model misses something.

    Args:
        table: n questions.
        shown: how often each text was shown.
        prompts: how often each prompt was.
        allowed: (n,) mask.
    """
    if not shown.any() or not allowed.any():
        return allowed
    worst = np.maximum(shown[table.left], shown[table.right])
    allowed = allowed & (worst == worst[allowed].min())
    often = prompts[table.prompt]
    return allowed & (often == often[allowed].min())
