"""`palate drift`: does a person's taste move, and would forgetting help?"""

from __future__ import annotations

from typing import Annotated

import typer

from palate.cli.console import AsJson, emit, progress_bar, show, verb
from palate.cli.options import BaseReward, Features, File, Seed, SkipBad, UserColumn, open_data

__all__ = ["drift"]


@verb
def drift(
    file: File,
    features: Features = "minilm",
    method: Annotated[str, typer.Option(help="A method whose people adapt.")] = "hierarchical",
    base_reward: BaseReward = None,
    user_column: UserColumn = None,
    skip_bad: SkipBad = False,
    min_rows: Annotated[int, typer.Option(help="People with fewer choices are left out.")] = 16,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Say whether recent answers predict a person better than old ones, and what forgetting would gain.

    The rows need a time. A half-life that helps goes to palate adapt --half-life.

    \b
      palate drift choices.csv
      palate drift convarg --features none --json
    """
    from palate import api

    dataset = open_data(file, user_column, skip_bad)
    with progress_bar() as progress:
        found = api.drift(
            dataset,
            features=features,
            base_reward=base_reward,
            method=method,
            min_rows=min_rows,
            rng=seed,
            progress=progress,
        )
    if as_json:
        emit(found.to_dict())
    else:
        show(str(found))
