"""`palate bench --suite NAME`: a published protocol, beside its published numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from palate.cli.console import emit, progress_bar, say, show
from palate.cli.options import output_folder
from palate.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from palate.evaluate.suites import SuiteResult

__all__ = ["run_named_suite"]

_SETTINGS = ("seeds", "replies", "judge", "judge_model", "pairs", "everything")
_OPTIONS = {key: key.replace("_", "-") for key in ("features", *_SETTINGS)} | {"everything": "all"}
"""Settings of suites as they are written on the command line."""
_TAKEN = {"suite", "quick", "out", "as_json", "features", *_SETTINGS}


def run_named_suite(
    context: typer.Context, name: str, out: Path | None, *, file: str | None, quick: bool, as_json: bool
) -> None:
    """Run a suite with what was written on the command line: `--features` (with commas), `--seeds`, `--replies`,
    `--judge`, `--judge-model`, `--pairs` and `--all` are its settings.

    Raises:
        InputError: a FILE or an option that suites do not take.
    """
    from palate.evaluate.suites import open_suite, run_suite

    suite = open_suite(name)
    if file is not None:
        raise InputError(f"{file}: a suite brings its own data; leave FILE out, or --suite")
    written = _written(context)
    strange = sorted(set(written) - _TAKEN)
    if strange:
        raise InputError(
            f"--{strange[0].replace('_', '-')}: not with --suite, which takes --features, --seeds, --quick, --replies, --judge, "
            "--judge-model, --pairs and --all"
        )
    settings: dict[str, Any] = {key: written[key] for key in _SETTINGS if key in written}
    unknown = next((key for key in (*settings, *written) if key in _OPTIONS and key not in suite.settings), None)
    if unknown is not None:
        taken = ", ".join(f"--{_OPTIONS[key]}" for key in suite.settings) or "none of these"
        raise InputError(f"--{_OPTIONS[unknown]}: not with --suite {suite.name}, which takes {taken}")
    if "features" in written:
        settings["features"] = tuple(part.strip() for part in written["features"].split(",") if part.strip())
    if out is not None:
        output_folder(out)
    with progress_bar() as progress:
        result = run_suite(
            suite, out, quick=quick, progress=progress, notify=lambda line: say(f"note: {line}"), **settings
        )
    if out is not None:
        say(f"report: {out / 'suite.html'}")
    if as_json:
        return emit(result.to_dict())
    return show(*_tables(result))


def _written(context: typer.Context) -> dict[str, Any]:
    """Options that were given, not left at their defaults."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {
        name: context.params[name]
        for name, source in sources.items()
        if source is not None and source.name == "COMMANDLINE"
    }


def _tables(result: SuiteResult) -> list[str | Table]:
    from rich.table import Table

    shown: list[str | Table] = [result.title, *result.finding.preface]
    if result.manifest["quick"]:
        shown.append("A quick run: it shows the form, and its numbers mean little.")
    for figure, title in result.finding.titles.items():
        names, body = result.finding.table(figure)
        if not body:
            continue
        grid = Table(title=title, title_justify="left")
        for column in names:
            grid.add_column(column)
        for row in body:
            grid.add_row(*row)
        shown += ["", grid, *result.finding.words.get(figure, ())]
    return shown
