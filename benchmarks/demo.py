"""How long `palate demo` takes: cold (texts not embedded yet), and with cached features.

    PALATE_DATA=… python benchmarks/demo.py

For two cores that have nothing else to do; the load at the start is written down. Limits: 120 s, 30 s, 4 GB. Writes
benchmarks/results/demo.json.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from palate.backends import bundled
from palate.files import cache_directory, write_json

RESULTS = Path(__file__).parent / "results"


def seconds(folder: Path, out: str, environment: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "palate", "demo", "-o", str(folder / out)], env=environment, check=True)
    return round(time.perf_counter() - started, 1)


def main() -> None:
    bundled.get("smollm2")
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache = folder / "cache"
        cache.mkdir()
        (cache / "models").symlink_to((cache_directory() / "models").resolve())
        environment = {**os.environ, "PALATE_CACHE": str(cache)}
        found = {
            "cold_seconds": seconds(folder, "cold", environment),
            "warm_seconds": seconds(folder, "warm", environment),
        }
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    found |= {"peak_gb": round(peak, 2), "load_at_start": round(load, 1), "cores": os.cpu_count()}
    write_json(RESULTS / "demo.json", found)
    print(found)


if __name__ == "__main__":
    main()
