"""pol.is Bowling Green: what knowing a person gains on known statements, and on new ones.

    PALATE_DATA=… python benchmarks/polis.py

Known items with the data's own `part`, and new items, each in five folds of people (everybody is new once; 30 % of people
stay set aside for `--final`); with the identity of statements alone, and with content features beside it. Gains are over
`pooled` on the same rows. Writes benchmarks/results/polis.json. Data: pol.is, The Computational Democracy Project, CC BY 4.0.
"""

from __future__ import annotations

from common import keep, options, run, show, spent

from palate.data import load
from palate.evaluate.compare import compare


def main() -> None:
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--features", default="none,minilm", help="featurizers, separated by commas")
    parser.add_argument("--protocols", default="known-items,new-items")
    arguments = parser.parse_args()
    data = load("polis_bowling_green")
    runs, seconds = {}, {}
    for features in arguments.features.split(","):
        protocols = arguments.protocols.split(",")
        if features == "none":
            protocols = [protocol for protocol in protocols if protocol != "new-items"]  # identity says nothing there
        for protocol in protocols:
            name = f"polis-{protocol}-{features}"
            results, wall = run(arguments, data, name=name, protocol=protocol, features=features, seeds=1, folds=5)
            runs[f"{protocol}, features {features}"] = results
            seconds[name] = {"wall": round(wall, 1), "methods": round(spent(results), 1)}
            show(results)
    more = {"seconds": seconds}
    identity = runs.get("known-items, features none")
    for label, results in runs.items():
        if identity is not None and results is not identity and label.startswith("known-items"):
            more[f"gain of content: {label}"] = compare(identity, results)
    keep(arguments, "polis", runs, more)


if __name__ == "__main__":
    main()
