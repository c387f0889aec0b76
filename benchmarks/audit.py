"""How long does an audit of a million comparisons take, and how much memory?

    python benchmarks/audit.py            writes benchmarks/results/audit.json

1,000,000 synthetic comparisons of 20,000 people over 50,000 items, no features. The audit runs in a process of its own
that has already read the data; seconds are those of `audit`, memory is the peak of the whole process, data included.
Must be: at most 20 s and 3 GB on two cores. On a machine with other work to do (see `load_average`) read
`cpu_seconds`, the time of all threads, beside it.
"""

from __future__ import annotations

import os
import platform
import resource
import time
from pathlib import Path

from palate.evaluate.audit import audit
from palate.files import write_json
from palate.simulate import synthetic_world

RESULT = Path(__file__).parent / "results" / "audit.json"


def main() -> None:
    world = synthetic_world(20_000, 50_000, 50, rank=2, disagreement=1.5, repeats=0.04, seed=1)
    before = _peak_gb()
    start, cpu = time.perf_counter(), time.process_time()
    found = audit(world.dataset, rng=0).to_dict()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    result = {
        "comparisons": found["n_comparisons"],
        "users": found["n_users"],
        "items": found["n_items"],
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
        "peak_gb": round(_peak_gb(), 2),
        "peak_gb_before": round(before, 2),
        "limit_seconds": 20,
        "limit_gb": 3,
        "verdict": found["decision"]["verdict"],
        "gain": found["room"]["achievable"],
        "notes": found["notes"],
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "load_average": round(os.getloadavg()[0], 1),
    }
    write_json(RESULT, result)
    print(result)


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
