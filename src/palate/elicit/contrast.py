"""Questions that are made, not picked: the pair of replies that differ most along what is unknown about a person."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from palate.errors import InputError
from palate.models.base import Method
from palate.models.linear import LinearMethod
from palate.progress import Progress, silent
from palate.rng import RNGLike, normalise
from palate.types import Items, UserState

if TYPE_CHECKING:
    from palate.models.personal import Question
    from palate.models.reward_model import FeatureRewardModel

__all__ = ["Sampler", "contrasting_pair", "generated_question", "uncertain_direction"]

Sampler = Callable[[str, int], Sequence[str]]
"""(prompt, n) -> n replies to it, from whatever writes replies."""


def uncertain_direction(state: UserState) -> tuple[np.ndarray, float]:
    """The direction in which a person's weights are least known.

    Args:
        state: of one person, with a `covariance` (r, r).

    Returns:
        (r,) unit vector, the eigenvector of H⁻¹ with the largest eigenvalue, its largest entry positive; and that
        eigenvalue, the variance of the weights along it.

    Raises:
        InputError: the state has no covariance.

    Source: Shenfeld et al. 2025 (PReF), eq. 9.
    """
    if "covariance" not in state.batch.arrays:
        raise InputError(f"the state of {state.method} has no covariance; use a method with a Gaussian posterior")
    values, vectors = np.linalg.eigh(state["covariance"])
    direction = vectors[:, -1]
    return direction * np.sign(direction[np.argmax(np.abs(direction))]), float(values[-1])


def contrasting_pair(state: UserState, replies: Items, method: Method) -> tuple[int, int]:
    """Which two of n replies to one prompt differ most along the least known direction: the best and the worst of n.

    The published algorithm steers a language model towards the direction for one reply and away from it for the other;
    the best and the worst of n replies under the same reward approach that as n grows, with any source of replies.

    Args:
        state: of one person, from `method`.
        replies: n ≥ 2 items with the same prompt.
        method: fitted, with a linear reward and a Gaussian posterior.

    Returns:
        Places of the reply highest along `uncertain_direction` and of the lowest.

    Raises:
        InputError: fewer than two replies, replies to several prompts, replies that do not differ along the direction,
            or a method without a posterior.

    Source: Shenfeld et al. 2025 (PReF), algorithm 2.
    """
    if not method.traits.linear:
        raise InputError(f"{method.name} has no Gaussian posterior over a person's weights; use hierarchical or factor")
    linear = cast(LinearMethod, method)
    state.batch.require(linear.name, linear.fingerprint_)
    if len(replies) < 2:
        raise InputError(f"{len(replies)} replies; a question needs at least two to one prompt")
    if len(np.unique(replies.prompt)) > 1:
        raise InputError("the replies answer several prompts; give the replies to one prompt")
    direction, _ = uncertain_direction(state)
    along = linear.basis(replies) @ direction
    best, worst = int(np.argmax(along)), int(np.argmin(along))
    if along[best] - along[worst] <= 1e-9 * max(1.0, np.abs(along).max()):
        raise InputError("the replies are the same to this model; write replies that differ more")
    return best, worst


def generated_question(
    model: FeatureRewardModel,
    state: UserState,
    prompt: str,
    replies: Sequence[str] | Sampler,
    *,
    n: int = 16,
    rng: RNGLike = None,
    progress: Progress = silent,
) -> Question:
    """PReF's generated question: two replies to a prompt whose difference points where the person is least known.

    Args:
        model: a reward model with a Gaussian posterior.
        state: of one person, from `model`.
        prompt: what to ask about.
        replies: the replies to choose from, or a sampler that writes them.
        n: how many the sampler is asked for.
        rng: decides which side the two replies stand on.
        progress: called while texts are embedded.

    Returns:
        (prompt, left, right).

    Raises:
        InputError: see `contrasting_pair`.
    """
    texts = list(dict.fromkeys(replies(prompt, n) if callable(replies) else replies))
    items = model.items([(prompt, text) for text in texts], progress=progress)
    best, worst = contrasting_pair(state, items, model.method)
    left, right = (best, worst) if normalise(rng).random() < 0.5 else (worst, best)
    return prompt, texts[left], texts[right]
