"""What a benchmark costs beside its methods: everything but tuning, fitting, adapting and predicting.

    python benchmarks/overhead.py         writes benchmarks/results/overhead.json

The run is the default one of `palate bench` on 400 simulated people × 60 choices with its report, features already in the
cache: imports, splits, exams, files, tables with intervals, audit, report. Must be: at most 10 % of the run. It runs in a
process of its own from the first import on; wall seconds, so give it a core that has nothing else to do (see
`load_average`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from common import RESULTS, spent

from palate.data import write
from palate.evaluate.results import Results
from palate.features import featurize
from palate.files import write_json
from palate.simulate import corpus_people

LIMIT = 0.10
STAGES = """
import sys, time, json
clock, stages = time.perf_counter(), {}
def stage(name):
    global clock
    stages[name], clock = round(time.perf_counter() - clock, 2), time.perf_counter()
import palate
people = palate.read(sys.argv[1])
stage("read")
palate.bench(people, out=sys.argv[2], audited=False)
stage("bench")
results = palate.bench(people, out=sys.argv[2], audited=False)
stage("again")
palate.bench(people, out=sys.argv[2])
stage("audit")
palate.write_report(results, sys.argv[2] + "/report.html")
stage("report")
print(json.dumps(stages))
"""


def main() -> None:
    people = corpus_people(400, 60, seed=0).dataset
    featurize(people, "minilm")
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        file, folder = Path(name) / "people.parquet", Path(name) / "results"
        write(people, file)
        command = [sys.executable, "-c", STAGES, str(file), str(folder)]
        stages = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        methods = spent(Results.load(folder))
    parts = {
        "import and read": stages["read"],
        "splits, exams, cells and tables": stages["bench"] - methods,
        # A bench that finds all its cells does everything else again; the audit is what this one adds to that.
        "audit": stages["audit"] - stages["again"],
        "report": stages["report"],
    }
    total = methods + sum(parts.values())
    found = {
        "methods_seconds": round(methods, 1),
        "overhead_seconds": {part: round(seconds, 1) for part, seconds in parts.items()},
        "share": round(1 - methods / total, 3),
        "limit": LIMIT,
        "cores": os.cpu_count(),
        "load_average": round(load, 1),
    }
    write_json(RESULTS / "overhead.json", found)
    print(found)


if __name__ == "__main__":
    main()
