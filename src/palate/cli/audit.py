"""`palate audit`: is there anything to personalize here?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate.cli.console import AsJson, emit, progress_bar, say, show, verb
from palate.cli.options import BaseReward, Features, File, Seed, SkipBad, UserColumn, open_data, output_file
from palate.errors import InputError

__all__ = ["audit"]


@verb
def audit(
    file: File,
    features: Features = "none",
    base_reward: BaseReward = None,
    user_column: UserColumn = None,
    skip_bad: SkipBad = False,
    min_raters: Annotated[int, typer.Option(help="Pairs with fewer raters do not count for divergence.")] = 5,
    worthwhile: Annotated[float, typer.Option(help="The smallest gain in accuracy worth having.")] = 0.01,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="Also write the findings: .json, or .html.")
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Say whether personalization can help on these choices, for whom, and how sure that is.

    Divergence between people, majority and minority, consistency, what simple baselines reach, the room that is
    left, and a decision: personalize, don't, or collect this much more first.

    \b
      palate audit choices.csv
      palate audit choices.jsonl --features minilm -o audit.html
      palate audit polis_bowling_green --json
    """
    from palate import api

    if out is not None and output_file(out).suffix not in (".json", ".html"):
        raise InputError(f"-o {out}: an audit is written as .json or .html; choose one of them")
    dataset = open_data(file, user_column, skip_bad)
    with progress_bar() as progress:
        found = api.audit(
            dataset,
            features=features,
            base_reward=base_reward,
            min_raters=min_raters,
            worthwhile=worthwhile,
            rng=seed,
            progress=progress,
        )
    if out is not None:
        api.write_audit(found, out)
        say(f"written: {out}")
    if as_json:
        emit(found.to_dict())
    else:
        show(str(found))
