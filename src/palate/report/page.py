"""The report as one file: sections laid out by a template, with its style, script and data inside."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version as installed_version
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from palate.errors import InputError
from palate.evaluate.results import Results
from palate.files import write_text
from palate.report import words
from palate.report.audit_section import room_section
from palate.report.blocks import Section
from palate.report.citation import bibtex, methods_paragraph
from palate.report.palette import css_variables, looks
from palate.report.people import reliability
from palate.report.provenance import audit_provenance, credit, data_about, result_provenance, settings_text
from palate.report.sections import Scene, benchmark_sections
from palate.report.verdicts import verdict_of
from palate.report.view import Panel, panels

__all__ = ["write_audit_report", "write_page", "write_report"]


def write_report(results: Results, path: str | os.PathLike[str], *, title: str | None = None) -> Path:
    """Write the report of a benchmark: one HTML file that needs no network.

    It opens with a verdict per data set and then answers, in words, figures and tables: is there room, what works, for
    whom, after how many answers, at what cost, how sure.

    Args:
        results: of `palate.evaluate.benchmark`, or `Results.load(folder)`.
        path: the file to write; it is replaced at once, never half written.
        title: of the page; the data sets by default.

    Returns:
        The path.

    Raises:
        InputError: the results have neither a row nor an audit.
        StorageError: the file cannot be written.
    """
    if not results.rows and not results.audits:
        raise InputError("the results have no rows and no audit, so there is nothing to report; run palate bench first")
    shown = panels(results)
    names = list(dict.fromkeys([*(panel.data for panel in shown), *results.audits]))
    slugs = {name: f"data{i + 1}" for i, name in enumerate(names)}
    sections = [room_section([(name, slugs[name], results.audits.get(name)) for name in names])]
    sections += benchmark_sections(_scenes(results, shown, slugs)) if shown else []
    version = installed_version("palate")
    context = {
        "title": title or f"Personal preferences in {words.listing(names)}",
        "subtitle": "final scores" if results.manifest.get("final") else "benchmark report",
        "lead": _lead(shown),
        "verdicts": [
            verdict_of(
                name,
                results.audits.get(name),
                [panel for panel in shown if panel.data == name],
                credit(name, data_about(name, results)),
            )
            for name in names
        ],
        "sections": sections,
        "methods_text": methods_paragraph(results, shown, version) if shown else "",
        "bibtex": bibtex(results, shown, version),
        "provenance": result_provenance(results, version),
        "settings": settings_text(results),
    }
    return write_page(path, context, version)


def write_audit_report(audit: Any, path: str | os.PathLike[str], *, title: str | None = None) -> Path:
    """Write the report of an audit alone: the verdict and the first question.

    Args:
        audit: a `palate.evaluate.Audit`, or its dict.
        path: the file to write.
        title: of the page; the data set by default.

    Returns:
        The path.
    """
    findings: Mapping[str, Any] = audit if isinstance(audit, Mapping) else audit.to_dict()
    name = str((findings.get("data") or {}).get("name") or "these data")
    version = installed_version("palate")
    context = {
        "title": title or f"Is there anything to personalize in {name}?",
        "subtitle": "audit",
        "lead": "",
        "verdicts": [verdict_of(name, findings, [], credit(name, findings.get("data") or {}))],
        "sections": [room_section([(name, "data1", findings)])],
        "methods_text": "",
        "bibtex": "",
        "provenance": audit_provenance(findings, version),
        "settings": "",
    }
    return write_page(path, context, version)


def _scenes(results: Results, shown: Sequence[Panel], slugs: Mapping[str, str]) -> list[Scene]:
    found = looks(method for panel in shown for method in (*panel.methods, *panel.ceilings))
    scenes = []
    for number, panel in enumerate(shown, start=1):
        skipped = {
            entry["method"]: str(entry["reason"])
            for entry in results.skipped
            if (entry["data"], entry["protocol"]) == (panel.data, panel.protocol)
        }
        slug = f"{slugs[panel.data]}-{number}"
        scenes.append(Scene(panel, found, slug, _curves(results, panel), list(skipped.items())))
    return scenes


def _curves(results: Results, panel: Panel) -> dict[str, Mapping[str, Any]]:
    """Reliability of each method at the panel's reference level, where predictions were kept."""
    if results.folder is None or panel.reference is None:
        return {}
    curves = {}
    for method in panel.methods:
        found = results.predictions(data=panel.data, protocol=panel.protocol, method=method)
        curve = reliability(found, panel.reference)
        if curve is not None:
            curves[method] = curve
    return curves


def _lead(shown: Sequence[Panel]) -> str:
    if not shown:
        return ""
    methods = {method for panel in shown for method in panel.methods}
    seeds = {cell["seed"] for panel in shown for cell in panel.cells if "seed" in cell}
    runs = f" over {words.plural(len(seeds), 'seed')}" if seeds else ""
    return (
        f"{words.plural(len(methods), 'method')} measured on held-out choices{runs}. Gains are over the pooled model, "
        "which knows nobody, in percentage points of accuracy, with 95 % intervals in brackets."
    )


def write_page(path: str | os.PathLike[str], context: Mapping[str, Any], version: str) -> Path:
    """Lay out a page in the style of the report: its values by the names of the template; see `write_audit_report`."""
    folder = files("palate.report") / "templates"
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    template = environment.from_string((folder / "report.html.jinja").read_text(encoding="utf-8"))
    text = template.render(
        **context,
        version=version,
        minus=words.MINUS,
        light=css_variables("light"),
        dark=css_variables("dark"),
        css=_lean((folder / "report.css").read_text(encoding="utf-8")),
        script=(folder / "report.js").read_text(encoding="utf-8"),
        data=_embedded(context["sections"]),
    )
    # a name with a lone surrogate (a file name in another encoding) must not keep the report from being written
    write_text(path, text.encode("utf-8", "replace").decode("utf-8"))
    return Path(path)


def _embedded(sections: Sequence[Section]) -> str:
    """The numbers of all figures as JSON that no name can break out of."""
    data = {
        drawing.name: {key: [_plain(value) for value in column] for key, column in drawing.data.items()}
        for section in sections
        for block in section.blocks
        for drawing in block.drawings
    }
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plain(value: Any) -> Any:
    """A number rounded to six digits, None for what is not a number, and everything else as it is."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def _lean(css: str) -> str:
    return re.sub(r"\n\s*", "\n", css)
