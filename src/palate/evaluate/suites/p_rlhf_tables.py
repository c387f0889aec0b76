"""Tables of the suite `p-rlhf`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from palate.evaluate.suites.p_rlhf_world import PROFILES

__all__ = ["all_tables", "find"]

Cells = Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]
Row = Mapping[str, Any]
Table = tuple[list[str], list[list[Any]]]

_SHARE = "minority over majority"
_METRICS = ("seen people", "unseen people", "majority", "minority")


def all_tables(cells: Cells, rows: Sequence[Row]) -> dict[str, Table]:
    """Figure -> column heads and rows of cells; a figure without rows has none."""
    tables = {
        "replies": _replies(cells),
        **{figure: _accuracy(rows, figure) for figure in ("conflicting", "ablations", "forty", "convarg")},
        "lengths": _lengths(rows),
        "new": _new(rows),
        "curves": _curves(rows),
        "personas": _profiles(rows, "personas"),
        "wins": _profiles(rows, "wins"),
        "runs": _runs(rows),
    }
    return {name: table for name, table in tables.items() if table[1]}


def find(rows: Sequence[Row], figure: str, setting: str, metric: str) -> Row | None:
    """The row of that name, or None."""
    wanted = (figure, setting, metric)
    return next((row for row in rows if (row["figure"], row["setting"], row["metric"]) == wanted), None)


def _settings(rows: Sequence[Row], figure: str) -> list[str]:
    return list(dict.fromkeys(row["setting"] for row in rows if row["figure"] == figure))


def _with_interval(row: Row | None) -> str:
    if row is None or row["value"] is None:
        return ""
    if row["low"] is None:
        return f"{row['value']:.3f}"
    return f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"


def _with_error(row: Row | None, digits: int = 3) -> str:
    if row is None or row["value"] is None:
        return ""
    error = "" if row["deviation"] is None else f" ± {row['deviation']:.{digits}f}"
    return f"{row['value']:.{digits}f}{error}"


def _replies(cells: Cells) -> Table:
    given = [
        numbers for identity, numbers in cells if (identity["figure"], identity["setting"]) == ("personas", "replies")
    ]
    if not given:
        return [], []
    values = given[0]
    said = {name: replies[0] for name, replies in values["own"].items()}
    body = [[name, PROFILES[name], reply["words"], _shown(reply)] for name, reply in said.items()]
    for name, label in (("generic", "nobody in particular"), ("base", "before training")):
        reply = values["other"][name][0]
        body.append([label, "", reply["words"], _shown(reply)])
    return ["who asks", "what they like (never told)", "words", values["prompts"][0]], body


def _shown(reply: Mapping[str, Any]) -> str:
    text = " ".join(reply["text"].split())
    return (text or "(nothing)") + (" …" if reply["cut"] else "")


def _accuracy(rows: Sequence[Row], figure: str) -> Table:
    body = []
    for name in _settings(rows, figure):
        found = [find(rows, figure, name, metric) for metric in _METRICS]
        ours = [_with_interval(row) for row in found[:2]] + [_with_error(row) for row in found[2:]]
        every = _with_error(find(rows, figure, name, "seen people, all pairs"))
        paper = ["" if row["published"] is None else f"{row['published']:.3f}" for row in found]
        body.append([name, *ours, every, *(paper if any(paper) else [])])
    heads = ["policy", *_METRICS, "seen, all pairs"]
    if body and len(body[0]) > len(heads):
        heads += [f"paper: {metric.removesuffix(' people')}" for metric in _METRICS]
    return heads, body


def _lengths(rows: Sequence[Row]) -> Table:
    """Policies across, people down; who has one policy for all has the same number in all columns."""
    settings = [name for name in _settings(rows, "lengths") if find(rows, "lengths", name, "minority")]
    if not settings:
        return [], []
    own = [row for row in rows if row["figure"] == "lengths" and row["setting"] in settings]
    camps = ("majority", "minority")
    people = [who for who in dict.fromkeys(row["metric"] for row in own) if who not in (*camps, "generic", _SHARE)]
    alone = {"before training": ("base", "base"), "vanilla DPO": ("vanilla DPO", "generic")}
    body: list[list[Any]] = []
    for label, (setting, who) in alone.items():
        found = find(rows, "lengths", setting, who)
        if found:
            body.append([label, *[_length(found)] * len(settings)])
    for who in ["generic", *people, *camps, _SHARE]:
        label = {"generic": "nobody in particular", _SHARE: "share"}.get(who, who)
        body.append([label, *(_length(find(rows, "lengths", setting, who)) for setting in settings)])
    return ["words for", *settings], body


def _length(row: Row | None) -> str:
    if row is not None and row["metric"] == _SHARE:
        return "" if row["value"] is None else f"{row['value']:.0%}"
    cut = f", {row['cut']:.0%} cut" if row is not None and row.get("cut") else ""
    return _with_error(row, 1) + cut


def _new(rows: Sequence[Row]) -> Table:
    body = []
    for name in _settings(rows, "new"):
        for camp in ("majority", "minority"):
            chosen = [row for row in rows if (row["figure"], row["setting"], row["metric"]) == ("new", name, camp)]
            body.append([name, camp, chosen[0]["people"], *(_with_interval(row) for row in chosen)])
    answers = sorted({row["answers"] for row in rows if row["figure"] == "new"})
    return ["policy", "camp", "people", *(f"after {count} answers" for count in answers)], body


def _curves(rows: Sequence[Row]) -> Table:
    chosen = [row for row in rows if row["figure"] == "curves"]
    body, parts = [], 0
    for name in _settings(rows, "curves"):
        for metric in ("seen people", "unseen people"):
            points = [row for row in chosen if row["setting"] == name and row["metric"] == metric]
            by_part = {round(10 * row["step"] / row["steps"]): row["value"] for row in points}
            if by_part:
                parts = 10
                body.append(
                    [
                        name,
                        metric,
                        *("" if (value := by_part.get(part)) is None else f"{value:.2f}" for part in range(1, 11)),
                    ]
                )
    return ["policy", "read as", *(f"{10 * part} %" for part in range(1, parts + 1))], body


def _profiles(rows: Sequence[Row], figure: str) -> Table:
    """Profiles down, metrics across, what the paper has in brackets."""
    metrics = list(dict.fromkeys(row["metric"] for row in rows if row["figure"] == figure))
    body = []
    for name in _settings(rows, figure):
        found = [find(rows, figure, name, metric) for metric in metrics]
        cells = ["" if row is None or row["value"] is None else f"{row['value']:.2f}" for row in found]
        told = ["" if row is None or row["published"] is None else f" ({row['published']:.2f})" for row in found]
        body.append([name, *(cell + paper for cell, paper in zip(cells, told, strict=True))])
    return ["profile" if figure == "personas" else "profile (the paper's)", *metrics], body


def _runs(rows: Sequence[Row]) -> Table:
    chosen = [row for row in rows if row["figure"] == "runs"]
    body = [[row["setting"], int(row["value"]), row["steps"], row["note"]] for row in chosen]
    return ["policy", "comparisons", "steps", "device"], body
