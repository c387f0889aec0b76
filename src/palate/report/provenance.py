"""Where the numbers come from: data, versions, seeds and settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from palate.data.sources import SOURCES
from palate.evaluate.results import Results
from palate.report import words
from palate.report.blocks import Cell, Table

__all__ = ["audit_provenance", "credit", "data_about", "result_provenance", "settings_text"]

_SHOWN = 12  # of a fingerprint


def result_provenance(results: Results, version: str) -> list[Table]:
    """Tables of data sets and of the run."""
    manifest = results.manifest
    names = dict.fromkeys([*(manifest.get("data") or {}), *results.audits])
    about = {name: data_about(name, results) for name in names}
    return [table for table in (_data_table(about), _run_table(manifest, version)) if table.rows]


def audit_provenance(audit: Mapping[str, Any], version: str) -> list[Table]:
    """The same for an audit alone."""
    data = audit.get("data") or {}
    about = {str(data.get("name", "data")): {**data, **{key: audit.get(key) for key in _COUNTS}}}
    return [_data_table(about), _run_table({}, version)]


def settings_text(results: Results) -> str:
    """Settings that each cell was run with, as JSON; cells with the same settings are one entry."""
    groups: dict[str, dict[str, Any]] = {}
    for cell in results.cells:
        if cell.get("settings") is None:
            continue
        place = f"{cell['data']} / {cell['protocol']} / {cell['method']}"
        text = json.dumps(cell["settings"], sort_keys=True)
        entry = groups.setdefault(f"{place}{text}", {"method": place, "seeds": [], "settings": cell["settings"]})
        entry["seeds"].append(cell["seed"])
    return json.dumps(list(groups.values()), indent=1, ensure_ascii=False, sort_keys=True) if groups else ""


_COUNTS = ("n_comparisons", "n_users", "n_items", "n_prompts")


def data_about(name: str, results: Results) -> dict[str, Any]:
    """Sizes, fingerprint and licence of a data set, from the manifest and the audit."""
    audit = results.audits.get(name) or {}
    found = {**(audit.get("data") or {}), **{key: audit.get(key) for key in _COUNTS}}
    return {**found, **((results.manifest.get("data") or {}).get(name) or {})}


def _data_table(about: Mapping[str, Mapping[str, Any]]) -> Table:
    head = ["data", "comparisons", "people", "items", "prompts", "fingerprint", "licence and attribution"]
    rows = [
        [
            Cell(name),
            *(
                Cell(words.count(int(data[key])) if data.get(key) is not None else words.number(None))
                for key in _COUNTS
            ),
            Cell(str(data.get("fingerprint") or words.number(None))[:_SHOWN], tone="mono"),
            Cell(credit(name, data) or "not stated", tone="wrap"),
        ]
        for name, data in about.items()
    ]
    return Table("Data", head, rows)


def credit(name: str, data: Mapping[str, Any]) -> str:
    """The line to keep beside results: the publisher's attribution where the data are known by name, else the licence."""
    source = SOURCES.get(name)
    return source.attribution if source is not None else str(data.get("licence") or "")


def _run_table(manifest: Mapping[str, Any], version: str) -> Table:
    entries: list[tuple[str, str]] = [("Palate", version)]
    entries += [
        (name, str(value)) for name, value in sorted((manifest.get("versions") or {}).items()) if name != "palate"
    ]
    if manifest.get("machine"):
        entries.append(("machine", str(manifest["machine"])))
    samples = manifest.get("samples") or []
    if samples:
        entries.append(("seeds", ", ".join(str(seed) for seed in sorted({seed for seed, _ in samples}))))
        folds = {fold for _, fold in samples if fold >= 0}
        entries.append(("folds of people", str(len(folds)) if folds else "none, one random part is new"))
    if "tuning" in manifest:
        tuning = manifest["tuning"]
        entries.append(("tuning", f"{tuning['configurations']} configurations a method" if tuning else "none"))
    if "final" in manifest:
        entries.append(("scored on", _scored_on(manifest)))
    entries += [("note", str(note)) for note in manifest.get("notes") or []]
    return Table("Run", ["", ""], [[Cell(label), Cell(value, tone="wrap")] for label, value in entries])


def _scored_on(manifest: Mapping[str, Any]) -> str:
    """Whose answers the numbers are about, and who is kept for the final run."""
    shares = {name: about.get("set_aside", 0.0) for name, about in (manifest.get("data") or {}).items()}
    if manifest["final"]:
        return "the people set aside from all ordinary runs (final)"
    kept = [f"{100 * share:.0f} % of the people of {name}" for name, share in shares.items() if share]
    return f"test people; set aside for a final run: {words.listing(kept) or 'nobody'}"
