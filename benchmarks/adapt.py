"""How fast does a person become a posterior? Batched Newton against a loop of scikit-learn's LogisticRegression.

    python benchmarks/adapt.py            writes benchmarks/results/adapt.json

1. 100,000 people × 20 answers at rank 8, in one process with scikit-learn's `LogisticRegression(tol=1e-10)` one person at
   a time. The loop is timed on every 50th person (2,000 in all) and scaled by 50. Must be at least 200 times faster and
   equal to scikit-learn's optimum within 1e-5 (largest difference of any weight of those 2,000 people).
2. 1,000,000 people × 20 answers in a process of its own; seconds are those of `adapt_users`, memory is the peak of the
   whole process, data and result included. Must be at most 12 s and 4 GB on two cores.

The two sides are timed in turns, three times each, and the fastest of each counts. On a machine with other work to do
(see `load_average`) read `cpu_seconds`, the time of all threads, beside it.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from palate.files import write_json
from palate.models.likelihood import adapt_users

RESULT = Path(__file__).parent / "results" / "adapt.json"
ANSWERS, RANK, EVERY = 20, 8, 50


def people(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(count * 20, 8) features, labels drawn from true weights N(0, I), and whose row it is."""
    rng = np.random.default_rng(0)
    v = rng.standard_normal((count * ANSWERS, RANK))
    label = np.empty(len(v))
    for start in range(0, count, 10_000):
        stop = min(start + 10_000, count)
        rows = slice(start * ANSWERS, stop * ANSWERS)
        taste = np.repeat(rng.standard_normal((stop - start, RANK)), ANSWERS, axis=0)
        label[rows] = rng.random(len(taste)) < expit(np.einsum("mr,mr->m", v[rows], taste))
    return v, label, np.repeat(np.arange(count, dtype=np.int32), ANSWERS)


def batched(v: np.ndarray, label: np.ndarray, user: np.ndarray, count: int) -> tuple[np.ndarray, float, float]:
    """The modes, seconds and CPU seconds of all people at once."""
    weight = np.ones(len(v))
    start, cpu = time.perf_counter(), time.process_time()
    mode, _ = adapt_users(v, label, weight, user, count, mean=np.zeros(RANK), precision=np.eye(RANK))
    return mode, time.perf_counter() - start, time.process_time() - cpu


def loop(v: np.ndarray, label: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, float, float]:
    """The optimum of scikit-learn for some people, one at a time, the same penalty (C = 1 is precision I)."""
    found = np.empty((len(chosen), RANK))
    start, cpu = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        # At this tolerance its line search sometimes ends on rounding error and says so.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for place, person in enumerate(chosen):
            rows = slice(person * ANSWERS, (person + 1) * ANSWERS)
            model = LogisticRegression(tol=1e-10, fit_intercept=False, max_iter=1000)
            found[place] = model.fit(v[rows], label[rows]).coef_
    return found, time.perf_counter() - start, time.process_time() - cpu


def against_sklearn(count: int = 100_000) -> dict[str, float]:
    v, label, user = people(count)
    # scikit-learn refuses people whose answers are all the same; they are not in its sample.
    answers = label.reshape(count, ANSWERS).mean(1)
    chosen = np.flatnonzero((answers > 0) & (answers < 1))[::EVERY]
    rounds = []
    for _ in range(3):
        mode, seconds, cpu = batched(v, label, user, count)
        optimum, loop_seconds, loop_cpu = loop(v, label, chosen)
        rounds.append((seconds, cpu, loop_seconds, loop_cpu))
    seconds, cpu, loop_seconds, loop_cpu = np.min(rounds, axis=0)
    scale = count / len(chosen)
    return {
        "people": count,
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu, 3),
        "loop_sample": len(chosen),
        "loop_seconds_scaled": round(loop_seconds * scale, 1),
        "loop_cpu_seconds_scaled": round(loop_cpu * scale, 1),
        "times_faster": round(loop_seconds * scale / seconds),
        "times_faster_cpu": round(loop_cpu * scale / cpu),
        "limit_times_faster": 200,
        "largest_difference": float(np.abs(mode[chosen] - optimum).max()),
        "limit_difference": 1e-5,
    }


def million(count: int = 1_000_000) -> dict[str, float]:
    v, label, user = people(count)
    rounds = [batched(v, label, user, count)[1:] for _ in range(3)]
    seconds, cpu = np.min(rounds, axis=0)
    return {
        "people": count,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
        "limit_seconds": 12,
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "limit_gb": 4,
    }


def main() -> None:
    if sys.argv[1:] == ["million"]:
        print(json.dumps(million()))
        return
    apart = subprocess.run([sys.executable, __file__, "million"], check=True, capture_output=True, text=True)
    result = {
        "answers": ANSWERS,
        "rank": RANK,
        "against_sklearn": against_sklearn(),
        "million": json.loads(apart.stdout),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "load_average": round(os.getloadavg()[0], 1),
    }
    write_json(RESULT, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
