"""TL;DR comparisons: which of two summaries of a Reddit post is better, by the id of the worker who said so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from palate.data.build import gather, listed, short, whole
from palate.data.readers import RawTable
from palate.data.source import Source, hub_parquet
from palate.data.streams import Rows

__all__ = ["SOURCES", "comparisons", "convert"]


def convert(files: Mapping[str, Rows]) -> RawTable:
    """One comparison per row on a Reddit post; rows on news articles are left out and counted."""
    news: list[str] = []
    parts = [
        (rows, partial(comparisons, part=name.removesuffix(".parquet"), news=news)) for name, rows in files.items()
    ]
    table = gather("tldr", parts, needs=("info", "summaries", "choice", "worker"))
    if news:
        table.notes.append(f"{len(news):,} rows are on CNN/DailyMail articles and were left out")
    return table


def comparisons(row: Mapping[str, Any], part: str, news: list[str]) -> Iterator[dict[str, Any]]:
    """The comparison of a row.

    Args:
        row: info (id, post, title, subreddit), summaries (text, policy), choice, worker, batch, split, extra.
        part: "train" or "validation".
        news: ids of articles, to which this row's is added where it is on one.
    """
    info, summaries = row["info"], listed(row["summaries"])
    if not info.get("post"):
        news.append(str(info.get("id")))
        return
    if len(summaries) != 2:
        raise ValueError(f"has {len(summaries)} summaries; a comparison needs two")
    choice = whole(row["choice"])
    if choice not in (0, 1):
        raise ValueError(f"choice {short(row['choice'])} is unknown; there are: 0, 1")
    left, right = summaries
    yield {
        "user": row["worker"],
        "prompt": f"SUBREDDIT: r/{info.get('subreddit')}\nTITLE: {info.get('title')}\nPOST: {info['post']}\nTL;DR:",
        "left": left["text"].strip(),
        "right": right["text"].strip(),
        "label": 1.0 - choice,
        "post_id": info.get("id"),
        "policy_left": left.get("policy"),
        "policy_right": right.get("policy"),
        "batch": row.get("batch"),
        "split": row.get("split"),
        "source_part": part,
        "confidence": (row.get("extra") or {}).get("confidence"),
    }


SOURCES = (
    Source(
        name="tldr",
        title="which of two summaries of a Reddit post is better: up to 179,000 choices with worker ids",
        licence="modified MIT (comparisons), CC BY 4.0 (posts, Syed et al. 2018)",
        attribution="Summarize from Feedback, Stiennon et al. (NeurIPS 2020), OpenAI; posts: Webis-TLDR-17, CC BY 4.0",
        citation="Stiennon et al. (2020). Learning to summarize from human feedback. NeurIPS 2020.",
        home="https://github.com/openai/summarize-from-feedback",
        options={"on_error": "skip"},
        files=tuple(
            hub_parquet("openai/summarize_from_feedback", "comparisons", part) for part in ("train", "validation")
        ),
        convert=convert,
        fields=(
            "info (id, post, title, subreddit), summaries (text, policy), choice, worker, batch, split, extra.confidence",
        ),
        rule=(
            "left is the first summary; choice 0 prefers it, 1 the other; no ties; rows on CNN/DailyMail articles are left "
            "out; P-RLHF keeps rows whose policies both begin with sup: filter policy_left and policy_right"
        ),
        verified=(
            "fields by the publisher's README, licence by its LICENSE; counts (92,858 and 86,086 with articles) by METHODS; "
            "the Parquet address by programs that use it"
        ),
        unverified="the files were not fetched",
    ),
)
