"""Results as tables for a terminal: one per data set and protocol, a line per number of answers, a column per method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from palate.evaluate.results import Results

__all__ = ["gain_words", "group_tables", "tables"]

MINUS = "−"

_LABEL, _CELL = 28, 25
"""Widths, in characters, of the first two columns, and of a gain with its interval on one line."""


def tables(results: Results, *, base: str = "pooled", width: int = 140) -> Iterator[Table | str]:
    """The accuracy of the base, each method's gain over it in percentage points, and what was left out.

    Args:
        results: of a benchmark.
        base: what gains are over.
        width: of the terminal; where it is too narrow, intervals go below their number.
    """
    if results.rows:
        yield f"accuracy of {base} in percent, and points gained over it with 95 % intervals"
    for data, protocol in dict.fromkeys((row["data"], row["protocol"]) for row in results.rows):
        title = f"{data}, {protocol}" + (", final" if results.manifest.get("final") else "")
        yield _table(title, results.select(data=data, protocol=protocol), base, width)
    for entry in results.skipped:
        yield f"left out: {entry['method']} on {entry['data']} ({entry['protocol']}): {entry['reason']}"


def _table(title: str, rows: Sequence[dict[str, Any]], base: str, width: int) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    found = {(row["method"], row["k"], row["metric"]): row for row in rows}
    others = [name for name in dict.fromkeys(row["method"] for row in rows) if name != base]
    between = " " if _LABEL + _CELL * len(others) <= width else "\n"
    people = {row["n_users"] for row in rows if row["metric"] == "accuracy" and row["k"] != "seen"}
    who = f", {max(people)} new people" if people else ""
    table = Table(
        title=f"{title}{who}",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("people")
    for name in [base, *others]:
        table.add_column(name, justify="right", overflow="fold")
    for k in dict.fromkeys(row["k"] for row in rows if row["metric"] == "accuracy"):
        gains = [gain_words(found.get((name, k, "accuracy_gain")), between) for name in others]
        label = "known" if k == "seen" else f"new, {k} answer{'' if k == 1 else 's'}"
        table.add_row(label, _accuracy(found.get((base, k, "accuracy"))), *gains)
    return table


def _accuracy(row: dict[str, Any] | None) -> str:
    return "" if row is None or row["value"] is None else f"{100 * row['value']:.1f}"


def _signed(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", MINUS)


def gain_words(row: dict[str, Any] | None, between: str = " ") -> str:
    """A gain in points with its interval: `+4.9 [+2.7, +7.5]`; `between` may be a line break."""
    if row is None or row["value"] is None:
        return "none"
    span = "" if row["low"] is None else f"{between}[{_signed(row['low'])}, {_signed(row['high'])}]"
    return f"{_signed(row['value'])}{span}"


def group_tables(groups: Sequence[dict[str, Any]]) -> Iterator[Table]:
    """Points gained over pooled by group of people, at the most answers that were measured; one table per attribute.

    Args:
        groups: of `Results.groups`.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    for place in dict.fromkeys((row["data"], row["protocol"], row["column"]) for row in groups):
        rows = [row for row in groups if (row["data"], row["protocol"], row["column"]) == place]
        most = max((row["k"] for row in rows if row["k"] != "seen"), default="seen")
        who = "people seen in training" if most == "seen" else f"new people, {most} answers"
        table = Table(title=f"{', '.join(place)}: {who}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        methods = list(dict.fromkeys(row["method"] for row in rows))
        for name in (place[2], "people", *methods):
            table.add_column(name, justify="left" if name == place[2] else "right", overflow="fold")
        shown = {(row["group"], row["method"]): row for row in rows if row["k"] == most}
        for group in dict.fromkeys(row["group"] for row in rows if row["k"] == most):
            cells = [_group_words(shown.get((group, method))) for method in methods]
            people = max(row["n_users"] for (name, _), row in shown.items() if name == group)
            table.add_row(group, str(people), *cells)
        yield table


def _group_words(row: dict[str, Any] | None) -> str:
    """A group's gain; without a claim where it has too few people for one."""
    if row is not None and not row["claim"]:
        return "too few people"
    return gain_words(None if row is None else row | {"value": row["gain"]})
