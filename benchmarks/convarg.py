"""ConvArg, people with at least 20 votes: little room, and nobody may lose against pooled.

    PALATE_DATA=… python benchmarks/convarg.py

New items and known items, three seeds, with MiniLM features. Writes benchmarks/results/convarg.json.
Data: UKPConvArg1 (Habernal and Gurevych 2016), CC BY 4.0.
"""

from __future__ import annotations

import numpy as np
from common import keep, options, run, show, spent

from palate.data import load


def main() -> None:
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--features", default="minilm")
    parser.add_argument("--protocols", default="new-items,known-items")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    data = load("convarg")
    data = data.subset(np.flatnonzero(data.counts()[data.user] >= 20))
    runs, seconds = {}, {}
    for protocol in arguments.protocols.split(","):
        name = f"convarg-{protocol}-{arguments.features}"
        results, wall = run(
            arguments, data, name=name, protocol=protocol, features=arguments.features, seeds=arguments.seeds
        )
        runs[f"{protocol}, features {arguments.features}"] = results
        seconds[name] = {"wall": round(wall, 1), "methods": round(spent(results), 1)}
        show(results)
    keep(arguments, "convarg", runs, {"seconds": seconds})


if __name__ == "__main__":
    main()
