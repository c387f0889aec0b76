"""From your own CSV to a verdict: audit, benchmark of five methods, one report.

    python examples/1_csv_to_verdict.py [choices.csv] [--features minilm] [-o verdict]

Without a file it writes one first: simulated people who choose between the shipped replies.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import palate
from palate.simulate import corpus_people


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", help="user, prompt, chosen, rejected; or user, prompt, left, right, label")
    parser.add_argument("--features", default="minilm", help="minilm, smollm2, style, none, or a Hugging Face name")
    parser.add_argument("--methods", default="pooled,individual,conditional,factor,hierarchical")
    parser.add_argument("--people", type=int, default=200, help="simulated, where no file is given")
    parser.add_argument("-o", "--out", type=Path, default=Path("verdict"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    file = arguments.file or arguments.out / "choices.csv"
    if arguments.file is None:
        corpus_people(arguments.people, 40).dataset.to_frame().write_csv(file)

    choices = palate.read(file)
    print(f"{len(choices):,} choices of {choices.n_users:,} people between {choices.n_items:,} replies")
    print(palate.audit(choices, features=arguments.features))

    results = palate.bench(
        choices,
        methods=arguments.methods,
        features=arguments.features,
        seeds=1,
        tune=False,
        out=arguments.out,
    )
    print("\ngain in accuracy over what suits most people:")
    for row in results.select(metric="accuracy_gain"):
        if row["k"] in ("seen", 0, 10):
            who = "known people" if row["k"] == "seen" else f"new, {row['k']} answers"
            print(f"  {row['method']:14} {who:16} {row['value']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]")
    print("report:", palate.write_report(results, arguments.out / "report.html", title="My people"))


if __name__ == "__main__":
    main()
