"""PReF's blinded study of people: learn from chosen questions, then test the personal pick against a baseline.

The person is asked `n_learn` questions that are chosen to learn from, and then, without knowing that anything changed,
`n_test` questions on other prompts: the reply that suits most people against the one that this person's model prefers,
sides drawn. "Neither" is a tie. No prompt comes twice in the test, and none of the test was used to learn.

Source: Shenfeld et al. 2025 (PReF), § 5.4 and appendix D: 28 volunteers, 15 + 15 questions, 67 % [57.4, 76.6].
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from palate.elicit.questions import QuestionTable, all_pairs
from palate.elicit.session import CHOICES, Choice, Session
from palate.errors import DataError, InputError
from palate.files import atomic_path
from palate.progress import Progress, silent
from palate.rng import derive
from palate.statistics import Estimate, mean_over_users, share

if TYPE_CHECKING:
    pass

__all__ = [
    "Duel",
    "StudyResult",
    "StudyPlan",
    "duels",
    "plan_study",
    "read_studies",
    "study_rows",
    "study_summary",
    "write_study",
]

Baseline = Literal["average", "random"]

_COLUMNS = ("person", "phase", "number", "prompt", "left", "right", "choice", "personal_side", "score")


@dataclass(frozen=True)
class StudyPlan:
    """Which prompts are learned from, and which are tested on.

    Args:
        learn: questions for the `Session`.
        test: prompts in the order in which they are tested, and their replies.
        seed: fixes the plan, sides and draws.
    """

    learn: QuestionTable
    test: tuple[tuple[str, tuple[str, ...]], ...]
    seed: int


@dataclass(frozen=True)
class Duel:
    """A test question: the baseline's reply against the personal pick.

    Args:
        prompt, left, right: as shown.
        personal_side: "left" or "right"; "" where both picked the same reply, which is a tie that nobody is asked about.
    """

    prompt: str
    left: str
    right: str
    personal_side: str


def plan_study(texts: Sequence[tuple[str, str]], *, seed: int = 0) -> StudyPlan:
    """Half of the prompts to learn from, half to test on, drawn by `seed`.

    Args:
        texts: (prompt, reply) pairs; every prompt with at least two replies takes part.
        seed: one per person, so that people see different halves.

    Raises:
        InputError: fewer than four prompts with two replies.
    """
    replies: dict[str, dict[str, None]] = {}
    for prompt, reply in texts:
        replies.setdefault(prompt, {})[reply] = None
    prompts = [prompt for prompt, own in replies.items() if len(own) > 1]
    if len(prompts) < 4:
        raise InputError(f"{len(prompts)} prompts with two or more replies; a study needs at least 4, better 60")
    order = derive(seed, "study prompts").permutation(len(prompts))
    half = len(prompts) // 2
    learn = [(prompts[i], reply) for i in order[:half] for reply in replies[prompts[i]]]
    test = tuple((prompts[i], tuple(replies[prompts[i]])) for i in order[half:])
    return StudyPlan(QuestionTable.of(all_pairs(learn)), test, seed)


def duels(
    session: Session, plan: StudyPlan, *, n: int = 15, baseline: Baseline = "average", progress: Progress = silent
) -> list[Duel]:
    """The test questions of a person, once the session has learned.

    Args:
        session: with the person's answers.
        plan: whose test prompts are used, in order.
        n: questions to ask; duels of a reply with itself come on top.
        baseline: "average", the reply with the highest reward for somebody unknown; or "random", any reply.
        progress: called while texts are embedded.
    """
    method = session.model.method
    items = session.model.items([(p, reply) for p, replies in plan.test for reply in replies], progress=progress)
    usual = method.reward(items, method.prior_)[0]
    own = method.reward(items, session.state.batch)[0]
    rng = derive(plan.seed, "study sides")
    found: list[Duel] = []
    start = asked = 0
    for prompt, replies in plan.test:
        if asked == n:
            break
        here = slice(start, start + len(replies))
        start += len(replies)
        base = int(rng.integers(len(replies))) if baseline == "random" else int(np.argmax(usual[here]))
        pick = int(np.argmax(own[here]))
        on_left = bool(rng.random() < 0.5)
        if base == pick:
            found.append(Duel(prompt, replies[pick], replies[pick], ""))
            continue
        asked += 1
        left, right = (pick, base) if on_left else (base, pick)
        found.append(Duel(prompt, replies[left], replies[right], "left" if on_left else "right"))
    return found


def study_rows(person: str, session: Session, tested: Sequence[tuple[Duel, Choice]]) -> pl.DataFrame:
    """One person's study as rows: what was asked and answered, and the score of each test (1 won, 0.5 tie, 0 lost).

    Skipped tests have no score. A duel of a reply with itself is a tie.
    """
    rows: list[tuple[Any, ...]] = []
    for number, choice in session.events:
        asked = session.shown(number)
        rows.append((person, "learn", len(rows), asked.prompt, asked.left, asked.right, choice, "", None))
    for duel, choice in tested:
        label = CHOICES[choice] if duel.personal_side else 0.5
        score = label if label is None or duel.personal_side != "right" else 1.0 - label
        given = choice if duel.personal_side else "same"
        rows.append((person, "test", len(rows), duel.prompt, duel.left, duel.right, given, duel.personal_side, score))
    types = dict.fromkeys(_COLUMNS, pl.String) | {"number": pl.Int64, "score": pl.Float64}
    return pl.DataFrame(rows, schema=types, orient="row")


def write_study(rows: pl.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write one person's rows as Parquet, atomically."""
    with atomic_path(path) as temporary:
        rows.write_parquet(temporary)


def read_studies(folder: str | os.PathLike[str]) -> pl.DataFrame:
    """The rows of all people whose Parquet files lie in a folder.

    Raises:
        DataError: there is none, or one is no study.
    """
    files = sorted(Path(folder).glob("*.parquet"))
    if not files:
        raise DataError(f"{folder}: no study here; run palate study MODEL -o {folder}")
    frames = []
    for file in files:
        try:
            frame = pl.read_parquet(file)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(
                f"{file}: cannot be read ({type(error).__name__}); remove it or run that person again"
            ) from None
        if set(frame.columns) != set(_COLUMNS):
            raise DataError(f"{file}: not a study of Palate; move it out of {folder}")
        frames.append(frame.select(_COLUMNS))
    return pl.concat(frames)


@dataclass(frozen=True)
class StudyResult:
    """How often the personal pick was preferred to the baseline.

    Args:
        people: by person, over the questions that were asked: wins plus half the ties, with Wilson's interval.
        overall: mean over people of these shares, with a bootstrap over people.
        with_same: the same when duels of a reply with itself count as ties: what personalizing changes in all.
        n_asked, n_ties, n_same: tests answered, of them ties, and prompts on which both picked the same reply.
    """

    people: dict[str, Estimate]
    overall: Estimate
    with_same: Estimate
    n_asked: int
    n_ties: int
    n_same: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: the numbers of a report section."""
        return {
            "overall": self.overall.to_dict(),
            "with_same": self.with_same.to_dict(),
            "people": {person: estimate.to_dict() for person, estimate in self.people.items()},
            "n_asked": self.n_asked,
            "n_ties": self.n_ties,
            "n_same": self.n_same,
        }


def study_summary(rows: pl.DataFrame, *, seed: int = 0) -> StudyResult:
    """Win rates of one study or of many, from `study_rows` or `read_studies`.

    Raises:
        DataError: no test was answered.
    """
    scored = rows.filter((pl.col("phase") == "test") & pl.col("score").is_not_null())
    asked = scored.filter(pl.col("choice") != "same")
    if asked.is_empty():
        raise DataError("no test question was answered; finish a study first")
    people = {
        person: share(own["score"].sum(), len(own))
        for (person,), own in sorted(asked.group_by("person"), key=lambda group: group[0])
    }
    return StudyResult(
        people=people,
        overall=mean_over_users(np.array([estimate.value for estimate in people.values()]), rng=seed),
        with_same=mean_over_users(
            scored.group_by("person").agg(pl.col("score").mean()).sort("person")["score"].to_numpy(), rng=seed
        ),
        n_asked=len(asked),
        n_ties=int((asked["choice"] == "tie").sum()),
        n_same=len(scored) - len(asked),
    )
