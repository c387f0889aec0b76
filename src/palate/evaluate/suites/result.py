"""What a suite found, beside what was published: rows, words, and three files."""

from __future__ import annotations

import html
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palate.files import write_json, write_text
from palate.statistics import Estimate

__all__ = ["Finding", "Row", "SuiteResult", "estimate_row", "row", "table"]

Row = dict[str, Any]

_LONG = 45
"""Characters of a cell beyond which it is text."""

COLUMNS = ("setting", "answers", "value", "deviation", "seeds", "published", "published_deviation", "note")


@dataclass(frozen=True)
class Finding:
    """What came out.

    Args:
        rows: dictionaries of `figure setting answers metric value deviation seeds published published_deviation note`; what
            does not apply is None.
        words: figure -> sentences on what agrees and what does not.
        titles: figure -> title, in the order of the report.
        preface: what a reader must know to read the numbers.
        tables: figure -> column heads and rows of cells, where a table is read more easily than the list of `rows` that is
            shown otherwise.
        pictures: figure -> SVG (`palate.evaluate.suites.picture`), on the page above its table.
    """

    rows: Sequence[Mapping[str, Any]]
    words: Mapping[str, Sequence[str]]
    titles: Mapping[str, str]
    preface: Sequence[str] = ()
    tables: Mapping[str, tuple[Sequence[str], Sequence[Sequence[Any]]]] = field(default_factory=dict)
    pictures: Mapping[str, str] = field(default_factory=dict)

    def table(self, figure: str) -> tuple[list[str], list[list[str]]]:
        """Column heads and cells of a figure as texts."""
        if figure in self.tables:
            heads, body = self.tables[figure]
            return list(heads), [[_cell(value) for value in row] for row in body]
        return table([row for row in self.rows if row["figure"] == figure])


@dataclass(frozen=True)
class SuiteResult:
    """A suite that was run.

    Args:
        suite: its name.
        title: in a line.
        source: what it stands beside.
        finding: rows and words.
        manifest: settings, number of cells, seconds and versions.
    """

    suite: str
    title: str
    source: str
    finding: Finding
    manifest: Mapping[str, Any]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows as plain dictionaries."""
        return [dict(row) for row in self.finding.rows]

    def to_dict(self) -> dict[str, Any]:
        """Everything, JSON-able."""
        return {
            "suite": self.suite,
            "title": self.title,
            "source": self.source,
            "preface": list(self.finding.preface),
            "words": {name: list(lines) for name, lines in self.finding.words.items()},
            "rows": self.rows,
            "manifest": dict(self.manifest),
        }

    def write(self, folder: str | os.PathLike[str]) -> None:
        """`suite.json`, `suite.md` and `suite.html` in a folder, each atomically."""
        folder = Path(folder)
        write_json(folder / "suite.json", self.to_dict())
        write_text(folder / "suite.md", self.to_markdown())
        write_text(folder / "suite.html", self.to_html())

    def to_markdown(self) -> str:
        """A section with a table for each figure, then the words."""
        parts = [f"# {self.title}", *self.finding.preface, *self._about()]
        for figure, title in self.finding.titles.items():
            names, body = self.finding.table(figure)
            if not body:
                continue
            lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (names, *body)]
            lines.insert(1, "|" + "---|" * len(names))
            words = "\n".join(f"- {line}" for line in self.finding.words.get(figure, ()))
            parts += [f"## {title}", "\n".join(lines), *([words] if words else [])]
        return "\n\n".join(parts) + "\n"

    def to_html(self) -> str:
        """The same as one offline page."""
        parts = [f"<h1>{html.escape(self.title)}</h1>"]
        parts += [f"<p>{html.escape(line)}</p>" for line in (*self.finding.preface, *self._about())]
        for figure, title in self.finding.titles.items():
            names, body = self.finding.table(figure)
            if not body:
                continue
            head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in names)
            rows = "".join("<tr>" + "".join(map(_data_cell, row)) + "</tr>" for row in body)
            parts += [f"<h2>{html.escape(title)}</h2>", self.finding.pictures.get(figure, "")]
            parts += [f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>']
            said = "".join(f"<li>{html.escape(line)}</li>" for line in self.finding.words.get(figure, ()))
            parts += [f"<ul>{said}</ul>"] if said else []
        return _PAGE.format(title=html.escape(self.title), body="\n".join(parts))

    def _about(self) -> list[str]:
        seconds = self.manifest["seconds_computing"]
        quick = " A quick run: it shows the form, and its numbers mean little." if self.manifest["quick"] else ""
        return [f"{self.manifest['cells']} cells, {seconds:.0f} s of computing. Published: {self.source}.{quick}"]


def row(figure: str, setting: str, metric: str, value: float | None, **more: Any) -> Row:
    """A row of a finding; what does not apply is None."""
    empty = dict.fromkeys(("answers", "low", "high", "deviation", "seeds", "published", "published_deviation", "note"))
    return {"figure": figure, "setting": setting, "metric": metric, "value": value} | empty | more


def estimate_row(figure: str, setting: str, metric: str, found: Estimate | float, **more: Any) -> Row:
    """The row of an estimate, or of a number that has no interval, to four digits."""
    told = (found if isinstance(found, Estimate) else Estimate(float(found), math.nan, math.nan, 0)).to_dict()
    numbers = {name: None if told[name] is None else round(told[name], 4) for name in ("value", "low", "high")}
    return row(figure, setting, metric, **numbers | more)


def table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Column heads and cells as texts; columns in which nothing stands are left out."""
    used = [name for name in COLUMNS if any(row.get(name) not in (None, "") for row in rows)]
    return [name.replace("_", " ") for name in used], [[_cell(row.get(name)) for name in used] for row in rows]


def _data_cell(text: str) -> str:
    """A cell of the page; what is longer than a number or a name breaks into lines."""
    kind = ' class="text"' if len(text) > _LONG else ""
    return f"<td{kind}>{html.escape(text)}</td>"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }}
p, li {{ max-width: 60rem }}
ul {{ padding-left: 1.25rem }}
h1, h2 {{ line-height: 1.25 }}
.wide {{ overflow-x: auto }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
th, td {{ padding: .25rem .75rem; text-align: left; white-space: nowrap; vertical-align: top }}
td.text {{ white-space: normal; min-width: 16rem; max-width: 44rem }}
th, td {{ border-bottom: 1px solid color-mix(in srgb, currentColor 25%, transparent) }}
svg {{ max-width: 60rem; width: 100%; font-size: 13px; fill: currentColor }}
svg .note {{ opacity: .7; font-size: 12px }}
svg .rule, svg .zero, svg .line, svg .mean {{ fill: none; stroke: currentColor }}
svg .rule {{ opacity: .12 }}
svg .zero {{ opacity: .5 }}
svg .line {{ stroke-width: 1.6 }}
svg .mean {{ stroke-width: 3 }}
svg .dot {{ opacity: .3 }}
</style></head><body>
{body}
</body></html>
"""
