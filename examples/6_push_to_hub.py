"""Publish a model with its card, and nobody's rows: here to a local folder that stands in for the Hub.

    python examples/6_push_to_hub.py [--to owner/name] [--features minilm]

With a real name and a token (huggingface-cli login) the same call uploads.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import palate
from palate.simulate import corpus_people


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", help="owner/name on the Hub; by default a local folder")
    parser.add_argument("--features", default="minilm")
    parser.add_argument("--people", type=int, default=120)
    arguments = parser.parse_args()

    people = corpus_people(arguments.people, 40, seed=4).dataset
    results = palate.bench(people, methods=["pooled", "hierarchical"], features=arguments.features, seeds=1, tune=False)
    model = palate.fit(people, features=arguments.features)

    target = arguments.to or f"{tempfile.mkdtemp()}/palate-model"
    where = model.push_to_hub(target, results=results)
    print("pushed to", where)
    if arguments.to is None:
        folder = Path(target)
        print(*(f"  {file.name:24} {file.stat().st_size:9,} bytes" for file in sorted(folder.iterdir())), sep="\n")
        written = b"".join(file.read_bytes() for file in folder.iterdir())
        assert not any(user.encode() in written for user in people.users), "a user's id was published"
        again = palate.load_model(folder)
        prompt = people.prompts[0]
        print("somebody unknown:", again.adapt().prefer(prompt, "Yes.", "Yes, with the greatest of pleasure!"))


if __name__ == "__main__":
    main()
