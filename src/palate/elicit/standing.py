"""Where a session stands: what is left to learn, and what a question is still worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate.elicit.pool import PreparedPool, margins
from palate.models.linear import LinearMethod
from palate.types import UserState

__all__ = ["Standing", "freshness", "standing"]


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
    explained = seen.sensitivity * seen.variance
    gain = float(np.max(explained, where=open_, initial=0.0) / (2.0 * np.log(2.0)))
    p = seen.probability
    return Standing(gain, float(np.mean(np.sqrt(explained * p * (1.0 - p)))))


def freshness(
    left: np.ndarray, right: np.ndarray, prompt: np.ndarray, asked: np.ndarray, repetition: float
) -> np.ndarray | float:
    """(n,) what a question is still worth after others about the same texts and the same prompt; 1 for a fresh one.

    One person's answers about one text share what is odd about it, so that the second teaches less than the first, and
    misleads twice where the model misses something. By Kish's design effect the next answer about a text that was shown c
    times is worth 1 / (1 + cρ), as in `palate.models.tastes.design_weights`; a question has the mean worth of its two
    sides, times the same for its prompt.

    Args:
        left, right: (n,) numbers of the texts of n questions.
        prompt: (n,) numbers of their prompts.
        asked: numbers of the questions that were asked.
        repetition: ρ ≥ 0; 0 gives 1 throughout.
    """
    if repetition == 0.0 or len(asked) == 0:
        return 1.0
    shown = np.bincount(np.concatenate([left[asked], right[asked]]), minlength=int(max(left.max(), right.max())) + 1)
    worth = 0.5 / (1.0 + repetition * shown)
    often = np.bincount(prompt[asked], minlength=int(prompt.max()) + 1)
    return (worth[left] + worth[right]) * (1.0 / (1.0 + repetition * often))[prompt]
