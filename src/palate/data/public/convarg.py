"""UKPConvArg1: which of two debate arguments convinces more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from palate.data.build import gather, hashed, iso_time, short
from palate.data.readers import RawTable
from palate.data.source import RemoteFile, Source
from palate.data.streams import Rows

__all__ = ["SOURCES", "comparisons", "convert"]

COMMIT = "ca9d24e41b8805ff2e1d3585d552b49bb64a65f7"

_LABELS = {"a1": 1.0, "a2": 0.0, "equal": 0.5}


def convert(files: Mapping[str, Rows]) -> RawTable:
    """One comparison per assignment of a crowd worker."""
    parts = [(rows, partial(comparisons, topic=_topic(name))) for name, rows in files.items()]
    return gather("convarg", parts, needs=("arg1", "arg2", "mTurkAssignments"))


def comparisons(pair: Mapping[str, Any], topic: str) -> Iterator[dict[str, Any]]:
    """The comparisons of one `annotatedArgumentPair`.

    Args:
        pair: arg1, arg2, debateMetaData, mTurkAssignments.
        topic: name of the debate and side.
    """
    assignments = (pair["mTurkAssignments"] or {}).get("mTurkAssignment") or []
    stance = pair["arg1"].get("stance")
    title = (pair.get("debateMetaData") or {}).get("title") or topic
    for given in assignments if isinstance(assignments, list) else [assignments]:
        if given["value"] not in _LABELS:
            raise ValueError(f"value {short(given['value'])} is unknown; there are: {', '.join(_LABELS)}")
        submitted = str(given.get("assignmentSubmitTime") or "").removesuffix(" UTC")
        yield {
            "user": hashed("convarg", given["turkID"]),
            "prompt": f"{title} — {stance}. Which argument is more convincing?",
            "left": pair["arg1"]["text"],
            "right": pair["arg2"]["text"],
            "label": _LABELS[given["value"]],
            "time": iso_time(submitted.removesuffix(".0")),
            "source_topic": topic,
        }


def _topic(name: str) -> str:
    return name.removesuffix(".xml")


SOURCES = (
    Source(
        name="convarg",
        title="which of two debate arguments convinces more: 84,370 choices of 3,815 crowd workers",
        licence="CC BY 4.0",
        attribution="UKPConvArg1, Habernal and Gurevych (ACL 2016), CC BY 4.0; worker ids replaced by hashes",
        citation="Habernal and Gurevych (2016). Which argument is more convincing? ACL 2016.",
        home="https://github.com/UKPLab/acl2016-convincing-arguments",
        # 75 published rows show one argument twice: nothing can be learned from them.
        options={"on_error": "skip"},
        files=(
            RemoteFile(
                f"acl2016-convincing-arguments-{COMMIT[:7]}.zip",
                f"https://github.com/UKPLab/acl2016-convincing-arguments/archive/{COMMIT}.zip",
                members="data/UKPConvArg1-full-XML/*.xml",
            ),
        ),
        convert=convert,
        fields=(
            "arg1.text",
            "arg2.text",
            "arg1.stance",
            "debateMetaData.title",
            "mTurkAssignment: turkID, value, assignmentSubmitTime",
        ),
        rule="one comparison per crowd worker and pair; value a1: left, a2: right, equal: a tie",
        verified="field names against a file of the publisher's repository; row counts against the data folder's copy",
        unverified=(
            "from the publisher's archive, worker ids are hashed here, so they differ from those of convarg.parquet; "
            "the archive itself was not fetched"
        ),
    ),
)
