"""How long does a person wait? The next question out of 100,000, and the posterior after an answer.

    OMP_NUM_THREADS=1 python benchmarks/elicit.py            writes benchmarks/results/elicit.json

1. A method of rank 8 and a prepared pool of 100,000 questions (float32): every strategy that is closed form, the freshness of
   questions and the draw among the best, the stopping rule, that is all of what `Session.next` does. The default must take at most 10 ms.
2. A session's posterior after its 2nd to 40th answer, warm-started, as `Session.answer` computes it: at most 1 ms.

Medians over questions, with OMP_NUM_THREADS=1. On a machine with other work to do (see `load_average`) read `thread_ms`, the
time of the thread itself, beside it.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from palate.config import Config
from palate.elicit import STRATEGIES, AskingRewardModel, Session
from palate.elicit.questions import QuestionTable
from palate.files import write_json
from palate.models.base import Traits
from palate.models.linear import LinearMethod
from palate.types import Comparisons, Items

RESULT = Path(__file__).parent / "results" / "elicit.json"
QUESTIONS, PROMPTS, REPLIES, RANK, ANSWERS = 100_000, 2_500, 10, 8, 40
CLOSED = ("v_optimal", "pref", "pref_program", "d_optimal", "thompson", "eubo", "random")


class Space(LinearMethod):
    """People with N(0, I) weights on eight features; nothing is learned, so that only asking is timed."""

    name = "space"
    traits = Traits(linear=True, posterior=True)
    Config = Config

    def _fit(self, comparisons, offset, rng, progress) -> None:
        self.prior_mean_, self.prior_precision_ = np.zeros(RANK), np.eye(RANK)
        self._set_states(comparisons, offset)

    def _basis(self, items: Items) -> np.ndarray:
        return items.features.astype(np.float64)


class Vectors(AskingRewardModel):
    """Texts whose features are drawn, one row after the other."""

    def items(self, texts, *, base_reward=None, progress=None) -> Items:
        rng = np.random.default_rng(0)
        return Items.of(rng.normal(size=(len(texts), RANK)), prompt=np.arange(len(texts)) // REPLIES)


def session(strategy: str) -> Session:
    """On 2,500 prompts with ten replies each, 40 of whose 45 pairs may be asked."""
    rng = np.random.default_rng(1)
    items = Items.of(rng.normal(size=(50, RANK)))
    rows = Comparisons.of(items, np.arange(25), np.arange(25, 50), np.zeros(25, int), np.ones(25))
    model = Vectors(None, Space().fit(rows, rng=0))
    texts = tuple((f"prompt {i // REPLIES}", f"reply {i}") for i in range(PROMPTS * REPLIES))
    first, second = np.triu_indices(REPLIES, 1)
    start = REPLIES * np.arange(PROMPTS)[:, None]
    left, right = ((start + side[: QUESTIONS // PROMPTS]).ravel() for side in (first, second))
    table = QuestionTable(texts, left, right, np.repeat(np.arange(PROMPTS), QUESTIONS // PROMPTS))
    return Session(model, table, strategy=strategy, n_questions=ANSWERS, min_gain=1e-9, narrow=1e-9)


def clock(work: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds on the wall and of this thread."""
    started, own = time.perf_counter(), time.thread_time()
    work()
    return 1e3 * (time.perf_counter() - started), 1e3 * (time.thread_time() - own)


def asked(strategy: str) -> tuple[np.ndarray, np.ndarray]:
    """(n, 2) milliseconds of each question and of each answer of a session, on the wall and of the thread."""
    current, rng = session(strategy), np.random.default_rng(2)
    waits, updates = [], []
    for _ in range(ANSWERS):
        waits.append(clock(current.next))
        choice = "left" if rng.random() < 0.5 else "right"
        updates.append(clock(lambda choice=choice: current.answer(current.opened, choice)))
    return np.array(waits[1:]), np.array(updates[1:])


def told(milliseconds: np.ndarray, limit: float | None = None) -> dict[str, float]:
    numbers = {"median_ms": np.median(milliseconds[:, 0]), "thread_ms": np.median(milliseconds[:, 1])}
    return {name: round(float(number), 3) for name, number in numbers.items()} | (
        {} if limit is None else {"limit_ms": limit}
    )


def main() -> None:
    result = {"questions": QUESTIONS, "rank": RANK, "next_question": {}}
    for strategy in CLOSED:
        assert strategy in STRATEGIES
        waits, updates = asked(strategy)
        result["next_question"][strategy] = told(waits, 10.0 if strategy == "v_optimal" else None)
        if strategy == "v_optimal":
            result["answer"] = told(updates, 1.0)
        print(strategy, result["next_question"][strategy], flush=True)
    result |= {"cores": os.cpu_count(), "machine": platform.machine(), "load_average": round(os.getloadavg()[0], 1)}
    write_json(RESULT, result)
    print(result["answer"])


if __name__ == "__main__":
    main()
