"""Win rates: whose replies people prefer, counted by sample and by person.

Source: Li et al. 2024 (P-RLHF), § 5.3 and Table 2. Per sample: the share of samples won. Per person: who wins most of a person's
samples wins the person. A tie counts as won by both sides, as there, so that two equal models have more than one half each; `ties="half"`
gives each side half of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from palate.errors import InputError
from palate.models.personal import History
from palate.progress import Progress, silent
from palate.rng import RNGLike, normalise
from palate.statistics import Estimate, share
from palate.statistics.estimate import multiplicities, percentiles, widening

if TYPE_CHECKING:
    from palate.models.personal import RewardModel
    from palate.policies import Policy

__all__ = ["Sample", "WinRate", "judge_with", "replies_of", "win_rate"]

Ties = Literal["win", "half"]
Judge = Callable[["Sample", str, str], float]
"""1 where the first reply is preferred, 0 where the second is, ½ for a tie."""

_DRAWS = 2000


@dataclass(frozen=True)
class Sample:
    """A held-out prompt of a person.

    Args:
        user: their id.
        prompt: a text, or several turns in the form of `palate.data.conversations`.
        chosen: the reply that the person chose when they were asked; "" where nothing is known.
        user_text: what they say of themselves; a policy reads it.
        judge_text: what a judge is told of them, where that is more.
        history: what a judge may know of their taste: other comparisons of theirs.
        seen: whether the policy was trained on other choices of theirs.
    """

    user: str
    prompt: str
    chosen: str = ""
    user_text: str = ""
    judge_text: str = ""
    history: History = None
    seen: bool = True


@dataclass(frozen=True)
class WinRate:
    """How often the first side won.

    Args:
        per_sample: share of samples, with a bootstrap over people; two samples of one person are no two witnesses.
        per_user: share of people most of whose samples were won, with Wilson's interval.
        samples, ties: how many.
    """

    per_sample: Estimate
    per_user: Estimate
    samples: int
    ties: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "per_sample": self.per_sample.to_dict(),
            "per_user": self.per_user.to_dict(),
            "samples": self.samples,
            "ties": self.ties,
        }


def win_rate(verdict: np.ndarray, user: Sequence[str], *, ties: Ties = "win", rng: RNGLike = 0) -> WinRate:
    """Win rates from verdicts.

    Args:
        verdict: (n,) 1 where the first side won, 0 where the second did, ½ for a tie.
        user: (n,) whose sample it is.
        ties: what a tie counts for the first side: "win" all, "half" half.
        rng: of the bootstrap.

    Raises:
        InputError: no samples, lengths that differ, or a verdict of another value.
    """
    verdict = np.asarray(verdict, np.float64)
    if not len(verdict) or len(verdict) != len(user):
        raise InputError(f"{len(verdict)} verdicts for {len(user)} samples; give one each, and at least one")
    strange = verdict[~np.isin(verdict, (0.0, 0.5, 1.0))]
    if len(strange):
        raise InputError(
            f"verdict {strange[0]}: use 1 where the first reply won, 0 where the second did, 0.5 for a tie"
        )
    if ties not in ("win", "half"):
        raise InputError(f"ties={ties!r}: must be win or half")
    tie = 1.0 if ties == "win" else 0.5
    _, person = np.unique(np.asarray(user, str), return_inverse=True)
    lead = np.bincount(person, verdict - 0.5)
    people = np.where(lead > 0, 1.0, np.where(lead < 0, 0.0, tie))
    counted = np.where(verdict == 0.5, tie, verdict)
    return WinRate(
        _over_people(np.bincount(person, counted), np.bincount(person), normalise(rng)),
        share(float(people.sum()), len(people), unit="users"),
        len(verdict),
        int((verdict == 0.5).sum()),
    )


def _over_people(won: np.ndarray, count: np.ndarray, rng: np.random.Generator) -> Estimate:
    """Share of samples won, people resampled with all their samples."""
    value = float(won.sum() / count.sum())
    if len(won) < 2:
        return Estimate(value, np.nan, np.nan, len(won))
    times = multiplicities(len(won), _DRAWS, rng)
    narrow = np.sqrt(len(won) / (len(won) - 1.0))  # a resample's variance is (n - 1) / n of the unbiased one
    spread = ((won @ times) / (count @ times) - value) * narrow * widening(len(won), 0.95)
    return percentiles(value, spread, len(won), "users", 0.95).within(0.0, 1.0)


def judge_with(model: RewardModel, *, decided: float = 0.0) -> Judge:
    """A judge that stands in each person's place: the model adapts to what is known of them, and prefers.

    Args:
        model: `palate.models.judge.JudgeRewardModel` asks a language model that sees the person's words and other comparisons;
            a fitted reward model judges by what it learned.
        decided: a preference that is less than this away from one half is a tie.
    """

    def judge(sample: Sample, first: str, second: str) -> float:
        if first.strip() == second.strip():
            return 0.5
        person = model.adapt(sample.history, user_text=sample.judge_text or sample.user_text)
        found = float(person.prefer(sample.prompt, first, second))
        return 0.5 if abs(found - 0.5) <= decided else float(found > 0.5)

    return judge


def replies_of(
    policy: Policy, samples: Sequence[Sample], *, rng: RNGLike = 0, progress: Progress = silent, **sampling: Any
) -> list[str]:
    """What a policy answers: as the person where it was trained on them, else as somebody new; their own words in any case.

    Args:
        policy: with its people.
        samples: whose `seen` says who is known.
        rng: of the draws.
        progress: called with the number of answers done.
        sampling: of `palate.policies.Sampling`.

    Raises:
        InputError: somebody who is called seen is not among the policy's people.
    """
    from palate.types import UserStates

    states = [
        policy.person(sample.user, user_text=sample.user_text) if sample.seen else policy.meet(sample.user_text)
        for sample in samples
    ]
    batch = UserStates.concatenate([state.batch for state in states])
    prompts = [sample.prompt for sample in samples]
    return policy.reply_many(prompts, batch, rng=rng, progress=progress, **sampling)
