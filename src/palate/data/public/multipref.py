"""MultiPref: every pair of replies judged by two crowd workers and two experts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from palate.data.build import gather, iso_time, listed, short
from palate.data.readers import RawTable
from palate.data.source import Source, hub_parquet
from palate.data.streams import Rows

__all__ = ["SOURCES", "comparisons", "convert"]

_LABELS = {
    "A-is-clearly-better": 1.0,
    "A-is-slightly-better": 1.0,
    "Tie": 0.5,
    "B-is-slightly-better": 0.0,
    "B-is-clearly-better": 0.0,
}

_KINDS = {"normal": "normal_worker_annotations", "expert": "expert_worker_annotations"}


def convert(files: Mapping[str, Rows]) -> RawTable:
    """One comparison per annotation."""
    needs = ("text", "completion_a", "completion_b", *_KINDS.values())
    return gather("multipref", [(rows, comparisons) for rows in files.values()], needs=needs)


def comparisons(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The comparisons of a row.

    Args:
        row: text, completion_a, completion_b, normal_worker_annotations and expert_worker_annotations (evaluator,
            overall_pref, timestamp), comparison_id, category, source.
    """
    for kind, column in _KINDS.items():
        for given in listed(row[column]):
            if given["overall_pref"] not in _LABELS:
                raise ValueError(
                    f"overall_pref {short(given['overall_pref'])} is unknown; there are: {', '.join(_LABELS)}"
                )
            yield {
                "user": f"{kind}-{given['evaluator']}",
                "prompt": row["text"],
                "left": row["completion_a"],
                "right": row["completion_b"],
                "label": _LABELS[given["overall_pref"]],
                "time": iso_time(given.get("timestamp")),
                "kind": kind,
                "strength": given["overall_pref"],
                "comparison_id": row.get("comparison_id"),
                "category": row.get("category"),
                "source": row.get("source"),
            }


SOURCES = (
    Source(
        name="multipref",
        title="10,000 pairs of replies, each judged by two crowd workers and two experts: about 40,000 choices",
        licence="ODC-BY 1.0 (not verified here)",
        attribution="MultiPref, Miranda et al. (ACL 2025), Allen Institute for AI",
        citation="Miranda et al. (2025). Hybrid preferences: learning to route instances for human vs. AI feedback. ACL 2025.",
        home="https://huggingface.co/datasets/allenai/multipref",
        options={"on_error": "skip"},
        files=(hub_parquet("allenai/multipref", "default", "train"),),
        convert=convert,
        fields=(
            "text, completion_a, completion_b, comparison_id, category, source",
            "normal_worker_annotations, expert_worker_annotations (evaluator, overall_pref, timestamp)",
        ),
        rule="completion_a is left; clearly and slightly better count alike (strength keeps them apart); Tie is a tie",
        verified="columns by the publisher's card; the annotations' inner fields and words by programs that use them",
        unverified="the licence; the timestamps' form (unknown ones are left empty); the file was not fetched",
    ),
)
