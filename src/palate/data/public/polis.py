"""pol.is open data, American Assembly Bowling Green: votes on statements, and pairs made from them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from palate.data.build import gather, hashed, short, whole
from palate.data.readers import RawTable
from palate.data.source import RemoteFile, Source
from palate.data.streams import Rows

__all__ = ["SOURCES", "convert_pairs", "convert_votes", "pairs"]

PROMPT = (
    "What do you believe should change in Bowling Green / Warren County to make it a better place to live, "
    "work and spend time?"
)

AT_MOST = {"history": 40, "heldout": 20}
"""Pairs per person and part."""

AT_LEAST = 6
"""Pairs that each part of a person needs."""

_SHARE_HISTORY = 2 / 3


def convert_votes(files: Mapping[str, Rows]) -> RawTable:
    """Each person's last vote on each statement that the moderators let in: `user, statement, vote`."""
    statements = _statements(files["comments.csv"])
    last: dict[tuple[str, str], tuple[int, int]] = {}

    def take(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        vote, when = whole(row["vote"]), whole(row["timestamp"]) or 0
        if vote not in (1, 0, -1):
            raise ValueError(f"vote {short(row['vote'])} is unknown; there are: 1, 0, -1")
        key = (str(row["voter-id"]), str(row["comment-id"]))
        if key[1] in statements and when >= last.get(key, (0, 0))[0]:
            last[key] = when, vote
        return iter(())

    walked = gather("votes.csv", [(files["votes.csv"], take)], needs=("timestamp", "comment-id", "voter-id", "vote"))
    rows = [
        {"user": hashed("polis", voter), "statement": statements[comment], "vote": vote}
        for (voter, comment), (_, vote) in last.items()
    ]
    table = gather("pol.is votes", [(Rows.of(rows), lambda row: [row])])
    table.problems = walked.problems
    return table


def convert_pairs(files: Mapping[str, Rows]) -> RawTable:
    """Pairs of a statement agreed with and one disagreed with (see `pairs`)."""
    votes = convert_votes(files)
    by_user: dict[str, dict[int, list[str]]] = defaultdict(lambda: {1: [], -1: []})
    columns = (votes.columns[name] for name in ("user", "statement", "vote"))
    for user, statement, vote in zip(*columns, strict=True):
        if vote:
            by_user[user][vote].append(statement)
    people = [{"user": user, "agreed": chosen[1], "disagreed": chosen[-1]} for user, chosen in sorted(by_user.items())]
    table = gather("pol.is pairs", [(Rows.of(people), lambda row: pairs(**row))])
    table.problems = votes.problems
    return table


def pairs(user: str, agreed: Sequence[str], disagreed: Sequence[str]) -> list[dict[str, Any]]:
    """One person's pairs; the same ones every time.

    Two thirds of the person's statements belong to `history`, the others to `heldout`, so that the parts share none. From
    each part up to 40 (20) different pairs of a statement agreed with and one disagreed with are drawn, sides at
    random. A person without six pairs in both parts is left out.
    """
    rng = np.random.default_rng(int(hashed("polis pairs", user), 16))
    made: list[dict[str, Any]] = []
    chosen = {name: rng.permutation(np.array(sorted(side), object)) for name, side in (("a", agreed), ("d", disagreed))}
    cuts = {name: round(len(side) * _SHARE_HISTORY) for name, side in chosen.items()}
    for part in AT_MOST:
        liked, disliked = (
            side[: cuts[name]] if part == "history" else side[cuts[name] :] for name, side in chosen.items()
        )
        n = min(AT_MOST[part], len(liked) * len(disliked))
        if n < AT_LEAST:
            return []
        for cell, swapped in zip(
            rng.choice(len(liked) * len(disliked), n, replace=False), rng.random(n) < 0.5, strict=True
        ):
            good, bad = liked[cell // len(disliked)], disliked[cell % len(disliked)]
            left, right = (bad, good) if swapped else (good, bad)
            made.append(
                {
                    "user": user,
                    "prompt": PROMPT,
                    "left": left,
                    "right": right,
                    "label": float(not swapped),
                    "part": part,
                }
            )
    return made


def _statements(rows: Rows) -> dict[str, str]:
    """Texts of the moderated-in statements by their number."""
    found: dict[str, str] = {}

    def take(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        if whole(row["moderated"]) == 1 and str(row["comment-body"] or "").strip():
            found[str(row["comment-id"])] = str(row["comment-body"]).strip()
        return iter(())

    gather("comments.csv", [(rows, take)], needs=("comment-id", "comment-body", "moderated"))
    return found


_BASE = "https://raw.githubusercontent.com/compdemocracy/openData/master/american-assembly.bowling-green"

_ABOUT = {
    "licence": "CC BY 4.0",
    "attribution": "pol.is open data, American Assembly Bowling Green, The Computational Democracy Project, CC BY 4.0",
    "citation": "Small et al. (2021). Polis: scaling deliberation by mapping high dimensional opinion spaces.",
    "home": "https://github.com/compdemocracy/openData",
    "folder": "polis_bowling_green",
    "files": (RemoteFile("comments.csv", f"{_BASE}/comments.csv"), RemoteFile("votes.csv", f"{_BASE}/votes.csv")),
    "fields": (
        "comments.csv: comment-id, moderated, comment-body",
        "votes.csv: timestamp, comment-id, voter-id, vote",
    ),
    "verified": (
        "comments.csv of this conversation and votes.csv of another one, in the publisher's repository; "
        "row counts against the data folder's copy"
    ),
}

SOURCES = (
    Source(
        name="polis_bowling_green",
        title="a statement agreed with against one disagreed with: 57,244 pairs from the votes of 961 people",
        convert=convert_pairs,
        rule=(
            "pairs of a statement agreed with and one disagreed with, drawn by a fixed generator: up to 40 a person from two "
            "thirds of their statements (history), up to 20 from the others (heldout); no ties"
        ),
        unverified=(
            "from the publisher's votes, the pairs are drawn anew and are not those of polis_bowling_green.parquet; "
            "its votes.csv was not fetched"
        ),
        **_ABOUT,
    ),
    Source(
        name="polis_bowling_green_votes",
        title="the votes behind them: 225,040 of 2,010 people on 607 statements about a town",
        kind="votes",
        convert=convert_votes,
        rule="the last vote of each person on each statement that the moderators let in: 1 agree, -1 disagree, 0 pass",
        unverified="from the publisher's votes, ids are hashed here and differ; its votes.csv was not fetched",
        **_ABOUT,
    ),
)
