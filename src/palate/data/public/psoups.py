"""P-SOUPS: six one-sided persons, played by GPT-4, choose between replies to Alpaca instructions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from palate.data.build import gather
from palate.data.readers import RawTable
from palate.data.source import RemoteFile, Source
from palate.data.streams import Rows
from palate.errors import DataError

__all__ = ["PREFERENCES", "SOURCES", "comparisons", "convert"]

PREFERENCES: Mapping[str, str] = {
    "P1A": "Generate a response that can be easily understood by an elementary school student.",
    "P1B": "Generate a response that only a PhD Student in that specific field could understand.",
    "P2A": "Generate a response that is concise and to the point, without being verbose.",
    "P2B": "Generate a response that is very informative, without missing any background information.",
    "P3A": "Generate a response that is friendly, witty, funny, and humorous, like a close friend.",
    "P3B": "Generate a response (that answers) in an unfriendly manner.",
}
"""What each of the six persons wants (P-RLHF, table 7)."""


def convert(files: Mapping[str, Rows]) -> RawTable:
    """One comparison per row and person; rows that repeat an earlier one are left out, as P-RLHF does."""
    persons = {name.removesuffix(".json"): rows for name, rows in files.items()}
    missing = [name for name in PREFERENCES if name not in persons]
    if missing:
        raise DataError(
            f"psoups: no file {', '.join(f'{name}.json' for name in missing)}; one for each person is needed"
        )
    seen: Counter[tuple[str, ...]] = Counter()
    parts = [(persons[name], partial(comparisons, person=name, seen=seen)) for name in PREFERENCES]
    table = gather("psoups", parts, needs=("user_input", "completion_a", "completion_b"))
    repeats = seen.total() - len(seen)
    if repeats:
        table.notes.append(f"{repeats:,} rows repeat an earlier one and were left out")
    return table


def comparisons(row: Mapping[str, Any], person: str, seen: Counter[tuple[str, ...]]) -> Iterator[dict[str, Any]]:
    """The comparison of a row; none where `seen` has it already.

    Args:
        row: user_input, completion_a (the preferred one), completion_b.
        person: a key of `PREFERENCES`.
        seen: how often each row came so far; this one is counted.
    """
    prompt = _without_preference(row["user_input"], person)
    key = (person, prompt, row["completion_a"], row["completion_b"])
    seen[key] += 1
    if seen[key] > 1:
        return
    yield {
        "user": person,
        "prompt": prompt,
        "chosen": row["completion_a"],
        "rejected": row["completion_b"],
        "user_text": PREFERENCES[person],
    }


def _without_preference(prompt: str, person: str) -> str:
    """The instruction alone: where the person's wish stands behind it, the prompt would name the person."""
    return prompt.strip().removesuffix(PREFERENCES[person]).strip()


SOURCES = (
    Source(
        name="psoups",
        title="six one-sided persons (two poles of expertise, length, tone) choose between replies: about 53,000 pairs",
        licence="none stated by the publisher; labels and instructions by GPT-4",
        attribution="Personalized Soups, Jang et al. (2023); labels by GPT-4",
        citation=(
            "Jang et al. (2023). Personalized Soups: personalized large language model alignment via post-hoc parameter "
            "merging. arXiv:2310.11564."
        ),
        home="https://github.com/joeljang/RLPHF",
        options={"on_error": "skip"},
        files=(
            RemoteFile(
                "data.zip",
                "https://storage.googleapis.com/personalized-soups/data.zip",
                members="data/rm_training/P??.json",
            ),
        ),
        convert=convert,
        fields=("rm_training/P1A.json … P3B.json: user_input, completion_a, completion_b",),
        rule="completion_a is the preferred one; the six files are six people; exact repeats are left out; no ties",
        verified=(
            "the address by the publisher's README; the fields, and that completion_a is preferred, by the publisher's "
            "training program; people and counts by P-RLHF, table 7"
        ),
        unverified=(
            "the archive was not fetched: its size, and whether user_input holds the preference sentence (it is cut off)"
        ),
    ),
)
