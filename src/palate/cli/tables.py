"""Results as tables for a terminal: one per data set and protocol, a line per method, a column per number of answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from palate.evaluate.results import Results

__all__ = ["gain_words", "tables"]

MINUS = "−"


def tables(results: Results, *, metric: str = "accuracy_gain", base: str = "pooled") -> Iterator[Table | str]:
    """The accuracy of the base, each method's gain over it in percentage points, and what was left out."""
    places = dict.fromkeys((row["data"], row["protocol"]) for row in results.rows)
    for data, protocol in places:
        rows = results.select(data=data, protocol=protocol)
        yield _table(data, protocol, rows, metric, base)
    for entry in results.skipped:
        yield f"left out: {entry['method']} on {entry['data']} ({entry['protocol']}): {entry['reason']}"


def _table(data: str, protocol: str, rows: Sequence[dict[str, Any]], metric: str, base: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    found = {(row["method"], row["k"], row["metric"]): row for row in rows}
    ks = list(dict.fromkeys(row["k"] for row in rows if row["metric"] == "accuracy"))
    people = {row["n_users"] for row in rows if row["metric"] == "accuracy" and row["k"] != "seen"}
    who = f", {max(people)} new people" if people else ""
    table = Table(
        title=f"{data}, {protocol}{who}: accuracy of {base}, and gains over it in points [95 % interval]",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("method")
    for k in ks:
        table.add_column("seen" if k == "seen" else f"k = {k}", justify="right", no_wrap=True)
    names = list(dict.fromkeys(row["method"] for row in rows))
    for name in sorted(names, key=lambda name: name != base):
        cells = [_accuracy(found.get((name, k, "accuracy"))) for k in ks]
        if name != base:
            cells = [_gain(found.get((name, k, metric))) for k in ks]
        table.add_row(name, *cells)
    return table


def _accuracy(row: dict[str, Any] | None) -> str:
    return "" if row is None or row["value"] is None else f"{100 * row['value']:.1f}"


def _gain(row: dict[str, Any] | None) -> str:
    if row is None or row["value"] is None:
        return ""
    if row["low"] is None:
        return _signed(row["value"])
    return f"{_signed(row['value'])}\n[{_signed(row['low'])} {_signed(row['high'])}]"


def _signed(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", MINUS)


def gain_words(row: dict[str, Any] | None) -> str:
    """A gain in points on one line: `+4.9 [+2.7, +7.5]`."""
    if row is None or row["value"] is None:
        return "none"
    span = "" if row["low"] is None else f" [{_signed(row['low'])}, {_signed(row['high'])}]"
    return f"{_signed(row['value'])}{span}"
