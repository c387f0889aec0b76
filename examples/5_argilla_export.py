"""From an Argilla export to a verdict: every annotator's ranking becomes the pairs it implies.

    python examples/5_argilla_export.py [export.json]

Without a file a small export is made: 30 annotators rank three replies to each of 12 prompts, most want it short, some long.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

import palate
from palate.data import corpus
from palate.integrations import argilla


def export() -> list[dict]:
    """Records as Argilla 2 writes them: fields, and per question what each annotator said."""
    rng = np.random.default_rng(0)
    by_prompt: dict[str, list[str]] = {}
    for row in corpus.replies():
        by_prompt.setdefault(row.prompt, []).append(row.text)
    sign = np.where(np.arange(30) < 22, -1.0, 1.0)
    records = []
    for prompt, replies in list(by_prompt.items())[:12]:
        length = np.array([len(reply.split()) for reply in replies[:3]])
        answers = []
        for annotator in range(30):
            liking = sign[annotator] * np.log(length) + 0.2 * rng.standard_normal(3)
            rank = np.argsort(np.argsort(-liking)) + 1
            value = [{"value": f"reply_{i + 1}", "rank": int(rank[i])} for i in range(3)]
            answers.append({"user_id": f"annotator-{annotator:02}", "status": "submitted", "value": value})
        fields = {"prompt": prompt} | {f"reply_{i + 1}": replies[i] for i in range(3)}
        records.append({"fields": fields, "responses": {"ranking": answers}})
    return records


def main() -> None:
    if len(sys.argv) > 1:
        file = Path(sys.argv[1])
    else:
        file = Path(tempfile.mkdtemp()) / "export.json"
        file.write_text(json.dumps(export()), encoding="utf-8")
    choices = argilla.comparisons(file)
    print(f"{len(choices):,} comparisons of {choices.n_users} annotators")
    print(palate.audit(choices))


if __name__ == "__main__":
    main()
