"""What `palate bench` shows besides running: what can be named, what is in a folder, what would run, what changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate.cli.tables import gain_words

if TYPE_CHECKING:
    from rich.table import Table

    from palate.evaluate.forecast import Forecast

__all__ = [
    "choices",
    "comparison_tables",
    "duration",
    "folder_cells",
    "forecast_tables",
    "name_tables",
    "status_tables",
]

_BASES = {
    "done": "all cells are finished; only the tables and the report would be made",
    "measured": "measured: earlier cells of these methods on these data, in this folder",
    "scaled": "scaled from the seconds of other cells in this folder",
    "typical": "a rough guess from typical speeds, right within a factor of three; a first cell in -o makes it better",
}


def choices() -> dict[str, list[dict[str, Any]]]:
    """Methods, protocols and data sets that can be named."""
    from palate.api import known_data
    from palate.data import PROTOCOLS
    from palate.evaluate.contenders import BASELINE, REFERENCE
    from palate.models import registry

    names = dict.fromkeys([*registry.available(), BASELINE])
    always = {
        REFERENCE: "; always takes part, gains are over it",
        BASELINE: "what one writes by hand; always takes part",
    }
    return {
        "methods": [{"name": name, "what": f"{_what(name)}{always.get(name, '')}"} for name in names],
        "protocols": [{"name": name, "what": _PROTOCOLS.get(name, "")} for name in PROTOCOLS],
        "data": known_data(),
    }


_PROTOCOLS = {
    "new-items": "held-out choices are about prompts (or items) that nobody saw in training",
    "known-items": "items stay the same; a held-out choice shares no item with the person's training",
    "temporal": "each person's later choices are held out",
}


def _what(method: str) -> str:
    """The first line of a method's documentation."""
    from palate.models import registry

    if method not in registry.available():
        return ""
    text = (registry.get(method).__doc__ or "").strip().splitlines()
    return text[0].rstrip(".") if text else ""


def name_tables(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[Table]:
    """`choices` for people."""
    for title, entries in found.items():
        rows = [[entry["name"], entry["what"]] for entry in entries]
        yield _table(title, ["name", "what"], rows)


def folder_cells(folder: Path) -> list[dict[str, Any]]:
    """The cells of a results folder: `data protocol method seed fold status seconds reason`, finished or not."""
    from palate.errors import InputError
    from palate.evaluate.results import read_manifest
    from palate.files import read_json

    manifest = read_manifest(folder)
    if manifest is None:
        raise InputError(f"{folder}: no results here (no manifest.json); run palate bench -o {folder} first")
    found = []
    wanted = {*manifest.get("cells", ()), *manifest.get("size_cells", ())}
    for path in sorted((folder / "cells").glob("*.json")):
        try:
            cell = read_json(path)
            size = cell.get("size")
            found.append(
                {
                    **{name: cell[name] for name in ("data", "protocol", "method", "seed", "fold", "status")},
                    "size": f"{size[0]}={size[1]}" if size else None,
                    "seconds": _seconds(cell) if cell["status"] == "done" else None,
                    "reason": cell.get("reason"),
                    "in_tables": path.stem in wanted,
                }
            )
        except (OSError, ValueError, KeyError, TypeError):
            found.append({"key": path.stem, "status": "damaged"})
    return found


def _seconds(cell: Mapping[str, Any]) -> float:
    seconds = cell["seconds"]
    return round(
        seconds["tune"] + seconds["fit"] + sum(seconds["adapt"].values()) + sum(seconds["predict"].values()), 3
    )


def status_tables(cells: Sequence[Mapping[str, Any]], folder: Path) -> Iterator[Table | str]:
    """`folder_cells` for people."""
    rows = []
    for cell in cells:
        if cell["status"] == "damaged":
            rows.append([cell["key"], "", "", "", "damaged; it will be computed again", ""])
            continue
        method = cell["method"] if cell["size"] is None else f"{cell['method']}, {cell['size']}"
        seed = str(cell["seed"]) if cell["fold"] < 0 else f"{cell['seed']}/{cell['fold']}"
        status = cell["status"] if cell["in_tables"] else f"{cell['status']}, of another run"
        seconds = "" if cell["seconds"] is None else duration(cell["seconds"])
        rows.append([cell["data"], cell["protocol"], method, seed, status, seconds])
    yield _table(f"cells in {folder}", ["data", "protocol", "method", "seed", "status", "took"], rows)
    total = sum(cell.get("seconds") or 0.0 for cell in cells)
    yield f"{len(cells)} cells, {duration(total)} in all"


def forecast_tables(expected: Forecast) -> Iterator[Table | str]:
    """What would run, one line per method, and how long it would take."""
    groups: dict[tuple[str, str, str], list[Any]] = {}
    for cell in expected.cells:
        groups.setdefault((cell.data, cell.protocol, cell.method), []).append(cell)
    rows = []
    for place, cells in groups.items():
        left = [cell for cell in cells if not cell.done]
        each = sum(cell.seconds for cell in left) / len(left) if left else 0.0
        basis = max((cell.basis for cell in left), default="done", key=list(_BASES).index)
        count = f"{len(left)} of {len(cells)}"
        rows.append([*place, count, duration(each) if left else "", duration(each * len(left)) if left else "", basis])
    yield _table("would run", ["data", "protocol", "method", "cells to do", "each", "together", "from"], rows)
    if expected.texts:
        yield f"first {expected.texts:,} texts would be embedded, which is not in the time below"
    yield f"expected time: {duration(expected.seconds)} ({_BASES[expected.basis]})"


def comparison_tables(rows: Sequence[Mapping[str, Any]]) -> Iterator[Table | str]:
    """Paired gains of one folder over another."""
    yield "accuracy and log-loss gained by the second folder over the first, same cells and rows, 95 % intervals"
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["data"], row["protocol"]), []).append(row)
    for (data, protocol), own in groups.items():
        lines = []
        for method, k in dict.fromkeys((row["method"], row["k"]) for row in own):
            found = {row["metric"]: row for row in own if (row["method"], row["k"]) == (method, k)}
            accuracy, loss = found["accuracy_gain"], found["log_loss_gain"]
            who = "known" if k == "seen" else f"new, {k}"
            took = f"{duration(accuracy['before_seconds'])} \u2192 {duration(accuracy['after_seconds'])}"
            lines.append([method, who, gain_words(accuracy), gain_words(loss), str(accuracy["n_users"]), took])
        head = ["method", "people, answers", "accuracy, points", "log-loss, 0.01 nats", "people", "a run took"]
        yield _table(f"{data}, {protocol}", head, lines)


def duration(seconds: float) -> str:
    """Seconds as a person would say them."""
    if seconds < 0.95:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name in head:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
