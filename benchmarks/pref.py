"""PReF's figures on simulated people, beside the paper's: `palate bench --suite pref`, with its rows kept.

    OMP_NUM_THREADS=1 python benchmarks/pref.py       about ten minutes; writes benchmarks/results/pref.json

Nothing must come out: the words in the result say what agrees with the paper and what does not.
Cells are kept in --folder, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from palate.evaluate.suites import run_suite
from palate.files import write_json

RESULT = Path(__file__).parent / "results" / "pref.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("build/benchmarks/pref"), help="where cells are kept")
    arguments = parser.parse_args()
    result = run_suite(
        "pref",
        arguments.folder,
        notify=print,
        progress=lambda done, total, what="": print(f"\r{what} {done}/{total}\033[K", end="", flush=True),
    )
    print()
    for lines in result.finding.words.values():
        print(*lines, sep="\n")
    write_json(RESULT, result.to_dict())


if __name__ == "__main__":
    main()
