"""A session: question after question to one person, until asking on is not worth it; it can stop and go on elsewhere."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import numpy as np
from pydantic import Field

from palate.config import Config
from palate.elicit.acquisition import draw_best, strategy
from palate.elicit.pool import Pool, PreparedPool, prepare
from palate.elicit.questions import QuestionTable
from palate.elicit.standing import Standing, freshness, standing
from palate.elicit.update import one_person
from palate.errors import InputError
from palate.models.linear import LinearMethod
from palate.models.personal import Question
from palate.progress import Progress, silent
from palate.rng import derive
from palate.types import Comparisons, UserState

if TYPE_CHECKING:
    from palate.elicit.person import AskablePerson, AskingRewardModel

__all__ = ["CHOICES", "Asked", "Choice", "Session", "SessionConfig"]

Choice = Literal["left", "right", "tie", "skip"]

CHOICES: dict[str, float | None] = {"left": 1.0, "right": 0.0, "tie": 0.5, "skip": None}
"""What a person may answer, and the label it stands for; None teaches nothing."""


class SessionConfig(Config):
    """Settings of a `Session`."""

    n_questions: int = Field(
        15, ge=1, description="Answers after which a session ends; skipped questions do not count."
    )
    strategy: str = Field("v_optimal", description="How questions are chosen, a name of `palate.elicit.STRATEGIES`.")
    min_gain: float = Field(
        0.005,
        ge=0,
        description="End when no question is expected to tell more than this about the person, in bits; 0 never does.",
    )
    narrow: float = Field(
        0.03,
        ge=0,
        description="End when the pool's preferences are known this well: mean posterior standard deviation of a probability.",
    )
    repetition: float = Field(
        0.5,
        ge=0,
        description=(
            "How much less a question is worth when its texts or its prompt were shown (Kish's ρ): 0 does not care, 0.5 "
            "counts the second question on a prompt two thirds."
        ),
    )


@dataclass(frozen=True)
class Asked:
    """A question as the person sees it.

    Args:
        number: which one of the pool; give it back with the answer.
        prompt, left, right: the texts, on the sides where they are shown.
    """

    number: int
    prompt: str
    left: str
    right: str


class Session:
    """Asks one person; holds answers, and the posterior after each.

    The same seed asks the same questions on the same sides, in whatever process. Nothing is asked twice.

    Args:
        model: a fitted reward model with a Gaussian posterior per person.
        pool: (prompt, left, right) triples that may be asked.
        seed: fixes sides and draws.
        prior: what is known of the person beforehand; by default what is known of anybody.
        progress: called while texts are embedded.
        settings: of `SessionConfig`.

    Attributes:
        config: the settings.
        prior: what was known of the person beforehand.
        table: the questions as texts and numbers.
        pool: the same for the model.
        events: (number, choice) in the order they came.
        kept_in: the folder that holds this session's pool; None before the first `save`.

    Raises:
        InputError: the pool has fewer than two questions, a question has two replies that are the same or is no triple
            of texts, the replies are all the same to the model, or the model has no posterior.
        ConfigError: an unknown setting or strategy.
    """

    def __init__(
        self,
        model: AskingRewardModel,
        pool: Sequence[Question] | QuestionTable,
        *,
        seed: int = 0,
        prior: UserState | None = None,
        progress: Progress = silent,
        **settings: Any,
    ) -> None:
        self.config = SessionConfig(**settings)
        self._strategy = strategy(self.config.strategy)
        self.model, self.seed = model, int(seed)
        self.table = pool if isinstance(pool, QuestionTable) else QuestionTable.of(pool)
        self.events: list[tuple[int, Choice]] = []
        self.kept_in: Path | None = None
        self._method = _askable(model)
        self.prior = model.method.prior_[0] if prior is None else prior
        self.prior.batch.require(self._method.name, model.fingerprint)
        self._precision = np.linalg.inv(self.prior["covariance"])
        items = model.items(self.table.texts, progress=progress)
        sides = Pool(items.take(self.table.left), items.take(self.table.right))
        self.pool: PreparedPool = prepare(sides, self._method, dtype=np.float32)
        if not self.pool.v.any():
            raise InputError("all replies of the pool are the same to this model; write replies that differ more")
        self._items = items
        self._sides: dict[int, bool] = {}
        self._current: int | None = None
        self._states = [self.prior]
        self._standing: Standing | None = None

    # -- asking -------------------------------------------------------------------------------------------------------

    def next(self) -> Asked | None:
        """The question to ask now; the same one until it is answered. None when the session is over; see `stopped`."""
        if self._current is None and self.stopped is None:
            self._current = self._choose()
        return None if self._current is None else self.shown(self._current)

    def answer(self, number: int, choice: Choice) -> None:
        """Take the person's answer to the current question.

        Args:
            number: of the question, as `next` gave it.
            choice: "left", "right", "tie", or "skip", by the sides that were shown.

        Raises:
            InputError: the question was not asked, or has its answer already, or the choice is none of the four.
        """
        if choice not in CHOICES:
            raise InputError(f"answer {choice!r}: use left, right, tie or skip")
        if number != self._current:
            if number in self.numbers():
                raise InputError(f"question {number} has its answer already; undo() takes the last one back")
            waiting = "call next() for one" if self._current is None else f"the open one is {self._current}"
            raise InputError(f"question {number} was not asked; {waiting}")
        self.events.append((number, choice))
        self._current, self._standing = None, None
        self._states.append(self._states[-1] if choice == "skip" else self._adapt(self._states[-1]))

    def undo(self) -> Asked:
        """Take the last answer, or skip, back; its question is open again.

        Raises:
            InputError: there is nothing to take back.
        """
        if not self.events:
            raise InputError("nothing to undo; no question was answered yet")
        self._current, _ = self.events.pop()
        self._states.pop()
        self._standing = None
        return self.shown(self._current)

    def shown(self, number: int) -> Asked:
        """A question of the pool on the sides where this session shows it."""
        prompt, left, right = self.table[number]
        return Asked(number, prompt, right, left) if self._flipped(number) else Asked(number, prompt, left, right)

    # -- what is known ------------------------------------------------------------------------------------------------

    @property
    def state(self) -> UserState:
        """What is known about the person by now."""
        return self._states[-1]

    @property
    def person(self) -> AskablePerson:
        """The reward model of the person by now."""
        return self.model.with_state(self.state)

    @property
    def opened(self) -> int | None:
        """Number of the question that waits for its answer."""
        return self._current

    @property
    def n_answers(self) -> int:
        """Answers so far, skips left out."""
        return sum(choice != "skip" for _, choice in self.events)

    @property
    def standing(self) -> Standing:
        """How well the person is known, and what the best question left would tell."""
        if self._standing is None:
            self._standing = standing(self.state, self.pool, self._method, self._open())
        return self._standing

    @property
    def stopped(self) -> str | None:
        """Why the session is over, in words; None while it goes on."""
        if self._current is not None:
            return None
        if self.n_answers >= self.config.n_questions:
            return f"{self.n_answers} questions were answered, as many as were wanted"
        if not self._open().any():
            return f"all {len(self.table)} questions of the pool were asked"
        if self.n_answers == 0 or self.config.min_gain == self.config.narrow == 0:
            return None
        now = self.standing
        if now.gain < self.config.min_gain:
            return f"the best question left would tell {now.gain:.3f} bits, less than {self.config.min_gain:g}"
        if now.spread < self.config.narrow:
            return f"preferences are known to ±{now.spread:.3f} on average, closer than {self.config.narrow:g}"
        return None

    def numbers(self) -> list[int]:
        """Numbers of the questions that were answered or skipped, in order."""
        return [number for number, _ in self.events]

    def history(self) -> list[dict[str, Any]]:
        """The answers as rows (`prompt`, `left`, `right`, `label`), on the sides shown; for `adapt`, or to be stored."""
        rows = []
        for number, choice in self.events:
            if (label := CHOICES[choice]) is not None:
                asked = self.shown(number)
                rows.append({"prompt": asked.prompt, "left": asked.left, "right": asked.right, "label": label})
        return rows

    def predictions(self, n: int = 3) -> list[tuple[Asked, float]]:
        """Up to n questions about texts that were never shown, and the probability that the person prefers left.

        They are on different prompts where the pool allows it, drawn by the session's seed.
        """
        asked = self.numbers()
        if self._current is not None:
            asked.append(self._current)
        counts = self._counts(asked)
        unseen = np.flatnonzero((counts[self.table.left] == 0) & (counts[self.table.right] == 0))
        unseen = derive(self.seed, "predictions").permutation(unseen)
        prompts, first = np.unique(self.table.prompt[unseen], return_index=True)
        ordered = [*unseen[np.sort(first)], *np.delete(unseen, first)] if len(prompts) else []
        chosen = [self.shown(int(number)) for number in ordered[:n]]
        if not chosen:
            return []
        told = self.model.prefer([(asked.prompt, asked.left, asked.right) for asked in chosen], self.state.batch)
        return list(zip(chosen, told.tolist(), strict=True))

    # -- keeping it ---------------------------------------------------------------------------------------------------

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the session as a folder, atomically file by file; the pool only once. `Session.load` goes on with it."""
        from palate.elicit.keeping import save_session

        save_session(self, folder)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], model: AskingRewardModel, *, progress: Progress = silent) -> Self:
        """The session that `save` wrote, in this or another process.

        Raises:
            InputError: there is none in the folder, or a file of it is damaged.
            FingerprintError: it is of another model.
        """
        from palate.elicit.keeping import load_session

        return load_session(cls, folder, model, progress)

    def replay(self, events: Sequence[tuple[int, Choice]], current: int | None) -> None:
        """Take over the events of a saved session."""
        self.events = [(int(number), choice) for number, choice in events]
        everything, self._states = self.events, [self.prior]
        for count, (_, choice) in enumerate(everything, 1):
            self.events = everything[:count]
            before = self._states[-1]
            self._states.append(before if choice == "skip" else self._adapt(before))
        self.events, self._current, self._standing = everything, current, None

    # -- inside -------------------------------------------------------------------------------------------------------

    def _flipped(self, number: int) -> bool:
        if number not in self._sides:
            self._sides[number] = bool(derive(self.seed, "side", number).random() < 0.5)
        return self._sides[number]

    def _open(self) -> np.ndarray:
        """(n,) questions that were not asked."""
        open_ = np.ones(len(self.table), bool)
        open_[self.numbers()] = False
        return open_

    def _counts(self, numbers: Sequence[int]) -> np.ndarray:
        """How often each text was shown."""
        ends = np.concatenate([self.table.left[list(numbers)], self.table.right[list(numbers)]])
        return np.bincount(ends, minlength=len(self.table.texts))

    def _choose(self) -> int:
        rng = derive(self.seed, "question", len(self.events))
        scores = self._strategy(self.state, self.pool, self._method, rng=rng)
        table, asked = self.table, np.array(self.numbers(), np.int64)
        worth = freshness(table.left, table.right, table.prompt, asked, self.config.repetition)
        return draw_best((scores - min(0.0, scores.min())) * worth, rng, self._open())

    def _adapt(self, before: UserState) -> UserState:
        """The posterior given all answers, from the mode before the last one."""
        answered = [(number, CHOICES[choice]) for number, choice in self.events if choice != "skip"]
        numbers = np.array([number for number, _ in answered], np.int64)
        # The pool's own sides, not the shown ones: the label turns with them.
        label = np.array([1.0 - label if self._flipped(number) else label for number, label in answered])
        rows = Comparisons.of(
            self._items, self.table.left[numbers], self.table.right[numbers], np.zeros(len(numbers), np.int32), label
        )
        mode, covariance = one_person(
            self.pool.v[numbers].astype(np.float64),
            label,
            self._method.worth(rows),
            self.pool.offset[numbers].astype(np.float64),
            mean=self.prior["mean"],
            precision=self._precision,
            start=before["mean"],
        )
        arrays = {"mean": mode[None], "covariance": covariance[None]}
        return UserState(replace(before.batch, arrays={**before.batch.arrays, **arrays}))


def _askable(model: AskingRewardModel) -> LinearMethod:
    method = model.method
    if not (method.traits.linear and method.traits.posterior):
        raise InputError(
            f"{method.name} has no posterior over a person's weights, so no question is better than another; "
            "fit hierarchical or factor"
        )
    return cast(LinearMethod, method)
