"""Chatbot Arena: people talk with two hidden models at once and say which did better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from palate.data.build import gather, listed, short
from palate.data.conversations import as_messages, shared_messages
from palate.data.readers import RawTable
from palate.data.source import Source, hub_file
from palate.data.streams import Rows

__all__ = ["SOURCES", "comparisons", "convert"]

_LABELS = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5, "tie (bothbad)": 0.5}


def convert(files: Mapping[str, Rows]) -> RawTable:
    """One comparison per vote."""
    parts = [(rows, comparisons) for rows in files.values()]
    return gather("chatbot_arena", parts, needs=("winner", "judge", "conversation_a", "conversation_b"))


def comparisons(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The comparison of a vote.

    The prompt is what both conversations begin with; where there are several turns, each side is all that follows.

    Args:
        row: winner, judge, conversation_a, conversation_b, tstamp, language, turn, model_a, model_b.
    """
    if row["winner"] not in _LABELS:
        raise ValueError(f"winner {short(row['winner'])} is unknown; there are: {', '.join(_LABELS)}")
    sides = (as_messages(listed(row[name])) for name in ("conversation_a", "conversation_b"))
    prompt, left, right = shared_messages(*sides)
    yield {
        "user": row["judge"],
        "prompt": prompt,
        "left": left,
        "right": right,
        "label": _LABELS[row["winner"]],
        "time": row.get("tstamp"),
        "winner": row["winner"],
        "language": row.get("language"),
        "turns": row.get("turn"),
        "model_left": row.get("model_a"),
        "model_right": row.get("model_b"),
    }


SOURCES = (
    Source(
        name="chatbot_arena",
        title="which of two hidden models did better: 33,000 votes of 13,383 people in 96 languages",
        licence="CC BY 4.0 for prompts, CC BY-NC 4.0 for model replies",
        noncommercial=True,
        gated=True,
        attribution="Chatbot Arena Conversations, Zheng et al. (NeurIPS 2023), LMSYS, CC BY 4.0 and CC BY-NC 4.0 (replies)",
        citation="Zheng et al. (2023). Judging LLM-as-a-judge with MT-Bench and Chatbot Arena. NeurIPS 2023.",
        home="https://huggingface.co/datasets/lmsys/chatbot_arena_conversations",
        options={"on_error": "skip"},
        files=(
            hub_file(
                "lmsys/chatbot_arena_conversations",
                "data/train-00000-of-00001-cced8514c7ed782a.parquet",
                "train.parquet",
                revision="1b6335d42a1d2c7e34870c905d03ab964f7f2bd8",
                sha256="3726a6352e9bfc34e206460646f6e5e99bb837751966a671ddd30c7f64e5b06e",
            ),
        ),
        convert=convert,
        megabytes=41.6,
        fields=("winner, judge, conversation_a, conversation_b, tstamp, language, turn, model_a, model_b",),
        rule=(
            "model_a is left; tie and tie (bothbad) are ties; the prompt is what both talks begin with, a side is all that "
            "follows; most people voted once or twice"
        ),
        verified="fields, counts and consent by the publisher's card; revision and digest by three public projects' records",
        unverified="the licence, which is stated as it is commonly quoted; the file was not fetched (it is gated)",
    ),
)
