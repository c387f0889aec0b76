"""`guided`: decoding that is steered, token by token, towards what one person likes.

    score(y_t) = log π(y_t | x, y_<t) + w · g_u(x, y_≤t)      over the k likeliest tokens, greedy or sampled

What g_u is, the guide says: a reward of the text so far (`RewardGuide`, ARGS), the value of what will come of it
(`ValueGuide`, VAS), or how much likelier a personal policy finds the token than its reference (`PolicyGuide`, PAD).

Source: Khanov, Burapacheep and Li 2024 (ARGS); Han et al. 2024 (VAS); Chen et al. 2024 (PAD).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
from pydantic import Field

from palate.config import Config
from palate.errors import InputError
from palate.generate.base import Generator, Work
from palate.generate.samplers import LocalSampler
from palate.policies.generation import Sampling, Steer
from palate.progress import Progress
from palate.types import UserState

if TYPE_CHECKING:
    from palate.policies.sequences import Prompt

__all__ = ["Guide", "Guided", "GuidedConfig", "Steering"]


class Steering(Protocol):
    """A guide at work on one reply, token by token."""

    def score(self, tokens: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """(k,) how good each token would be as the next one; only differences matter.

        Args:
            tokens: (k,) candidates.
            logits: (v,) of the plain model at this place.
        """

    def accept(self, token: int) -> None:
        """The reply goes on with this token, one of those last scored."""


class Guide(Protocol):
    """What knows where a person's replies should go."""

    prior: UserState

    def open(self, messages: Prompt, state: UserState, sampler: LocalSampler, room: int) -> Steering:
        """The steering of one reply.

        Args:
            messages: what is answered.
            state: of a person, from this guide's model.
            sampler: whose tokens are scored.
            room: most tokens of the reply.

        Raises:
            InputError: the guide cannot read this sampler's tokens, or not so many.
        """


class GuidedConfig(Config):
    """Settings of `guided`."""

    guidance: float = Field(
        4.0, ge=0, description="w: what a logit of the guide counts against one of the model; 0 is plain."
    )
    top_k: int = Field(10, ge=1, description="k: tokens that the guide chooses from; 1 is the plain model's likeliest.")


class Guided(Generator):
    """A reply that is steered while it is written.

    When not to use it: with endpoints, which give no logits. A reward that was learned on whole replies says little of
    their first words; a value guide is made for them.

    Args:
        sampler: the plain model; it must be local.
        guide: `RewardGuide`, `ValueGuide` or `PolicyGuide`.
        config: the settings; or give them by name.
    """

    name: ClassVar[str] = "guided"
    Config: ClassVar[type[Config]] = GuidedConfig
    config: GuidedConfig

    def __init__(
        self, sampler: LocalSampler, guide: Guide, config: GuidedConfig | None = None, **settings: object
    ) -> None:
        super().__init__(sampler, config, **settings)
        if not isinstance(sampler, LocalSampler):
            raise InputError(
                f"guided decoding needs the model's logits, which a {type(sampler).__name__} does not give; "
                "use a local model, or best_of_n"
            )
        self.guide = guide
        self.prior = guide.prior

    def _write(
        self, messages: Prompt, state: UserState, rng: np.random.Generator, sampling: Sampling, progress: Progress
    ) -> Work:
        if self.config.guidance == 0.0:
            return (yield from self._plain(messages, rng, sampling, "guidance=0"))
        if not self.knows(state):
            return (yield from self._plain(messages, rng, sampling))
        steering = self.guide.open(messages, state, self.sampler, sampling.max_tokens)
        pieces = self.sampler.stream(messages, rng=rng, sampling=sampling, steer=self._steer(steering))
        return (yield from self._said(pieces))

    def _steer(self, steering: Steering) -> Steer:
        def steer(logits: np.ndarray, raw: np.ndarray, said: Sequence[int]) -> np.ndarray:
            if said:
                steering.accept(said[-1])
            tokens = _likeliest(logits, self.config.top_k)
            scores = steering.score(tokens, raw)
            if not np.isfinite(scores).all():
                raise InputError("the guide's scores are NaN or infinite; load its model with dtype='float32'")
            moved = np.full_like(logits, -np.inf)
            # Less their mean, which changes no choice, so that large rewards cost no digits of the logits.
            moved[tokens] = logits[tokens] + self.config.guidance * (scores - scores.mean())
            return moved

        return steer


def _likeliest(logits: np.ndarray, k: int) -> np.ndarray:
    """The k tokens with the largest logits, of equals the lower numbers, likeliest first."""
    if k >= len(logits):
        return np.argsort(-logits, kind="stable")
    least = np.partition(logits, len(logits) - k)[len(logits) - k]
    found = np.flatnonzero(logits >= least)
    return found[np.argsort(-logits[found], kind="stable")][:k]
