"""`palate bench`: which method, how much better, for whom, after how many answers, at what cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate.cli.console import AsJson, emit, progress_bar, say, show, terminal_width, verb
from palate.cli.options import BaseReward, Features, File, SkipBad, UserColumn, open_data, parse_protocol
from palate.cli.tables import tables
from palate.errors import InputError

__all__ = ["bench"]


@verb
def bench(
    file: File,
    methods: Annotated[
        str,
        typer.Option(metavar="NAMES", help="Comma-separated; settings as factor:rank=4,l2=1 with ; between methods."),
    ] = "pooled,factor,hierarchical",
    protocol: Annotated[
        str, typer.Option(help="known-items, new-items or temporal; several with commas.")
    ] = "new-items",
    features: Features = "minilm",
    base_reward: BaseReward = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many random splits.")] = 3,
    folds: Annotated[int | None, typer.Option(min=2, help="Folds of people instead: everybody is new once.")] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="DIR", help="Results folder; finished cells in it are kept.")
    ] = None,
    tune: Annotated[bool, typer.Option("--tune/--no-tune", help="Choose settings on validation cells.")] = True,
    final: Annotated[bool, typer.Option("--final", help="Score the people set aside, once, at the end.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes; more than one blurs the seconds.")] = 1,
    user_column: UserColumn = None,
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    """Measure methods on the same held-out choices: seen people, and new people after 0 to 40 answers.

    `pooled` always takes part, and so does a scikit-learn baseline. Every number has an interval over people and
    prompts. With -o the folder holds all numbers and report.html; the same command resumes where it stopped.

    \b
      palate bench choices.csv -o results
      palate bench choices.csv --methods pooled,factor,hierarchical --protocol known-items --seeds 3 -o results --json
      palate bench polis_bowling_green --protocol known-items,new-items --features none
    """
    from palate import api

    dataset = open_data(file, user_column, skip_bad)
    with progress_bar() as progress:
        results = api.bench(
            dataset,
            methods=split_methods(methods),
            protocol=split_protocols(protocol),
            features=features,
            base_reward=base_reward,
            seeds=seeds,
            folds=folds,
            out=out,
            tune=tune,
            final=final,
            workers=workers,
            progress=progress,
            notify=lambda line: say(f"note: {line}"),
        )
        if out is not None:
            page = api.write_report(results, out / "report.html")
            say(f"report: {page}")
    if as_json:
        emit(list(results.rows))
    else:
        show(*tables(results, width=terminal_width()))


def split_methods(text: str) -> list[str]:
    """Names between commas; with a semicolon, or a setting, methods are told apart by semicolons."""
    parts = text.split(";") if ";" in text or "=" in text else text.split(",")
    names = [part.strip() for part in parts if part.strip()]
    if not names:
        raise InputError(f"--methods {text!r} names no method; write pooled,hierarchical, say")
    if names == ["all"]:
        from palate.models import available

        return available()
    return names


def split_protocols(text: str) -> list[str]:
    """Protocols between commas, each a known one."""
    return [parse_protocol(part.strip()) for part in text.split(",") if part.strip()] or [parse_protocol(text)]
