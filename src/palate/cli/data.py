"""`palate data`: data sets by name, converting files, looking at splits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palate.cli.console import AsJson, emit, show, verb
from palate.cli.options import File, Seed, SkipBad, UserColumn, open_data, parse_protocol
from palate.errors import InputError

if TYPE_CHECKING:
    from palate.data import PreferenceDataset

__all__ = ["data"]

data = typer.Typer(
    help="Data sets by name, converting files, looking at splits.", no_args_is_help=True, rich_markup_mode=None
)


@data.command("list")
@verb
def list_data(as_json: AsJson = False) -> None:
    """The data sets that Palate knows by name, and which of them are here."""
    from palate import api

    known = api.known_data()
    if as_json:
        emit(known)
    else:
        for entry in known:
            show(
                f"{entry['name']:<24}{'here' if entry['here'] else 'not here':<10}{entry['what']} ({entry['licence']})"
            )


@data.command("get")
@verb
def get_data(
    name: Annotated[str, typer.Argument(metavar="NAME", help="See palate data list.")], as_json: AsJson = False
) -> None:
    """Find a data set under $PALATE_DATA or get it from its home, and say what is in it."""
    _describe(open_data(name), as_json)


@data.command("convert")
@verb
def convert_data(
    file: File,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="A .parquet file.")],
    user_column: UserColumn = None,
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    """Check every row of a file and write it in Palate's own columns.

    \b
      palate data convert choices.jsonl -o choices.parquet
    """
    if out.suffix != ".parquet":
        raise InputError(f"-o {out}: only .parquet is written; name it {out.with_suffix('.parquet')}")
    dataset = open_data(file, user_column, skip_bad)
    dataset.write_parquet(out)
    _describe(dataset, as_json, written=out)


@data.command("split")
@verb
def split_data(
    file: File,
    protocol: Annotated[str, typer.Option(help="known-items, new-items or temporal.")] = "new-items",
    seed: Seed = 0,
    user_column: UserColumn = None,
    as_json: AsJson = False,
) -> None:
    """Show the cells of a split, and the proof that nothing leaks between them."""
    from palate.data import split

    found = split(open_data(file, user_column), parse_protocol(protocol), seed=seed)
    cells, proof = found.sizes(), {name: int(shared) for name, shared in found.proof.items()}
    if as_json:
        emit({"protocol": protocol, "seed": seed, "cells": cells, "proof": proof})
        return
    for name, rows in cells.items():
        show(f"{name:<24}{rows:>10,}")
    show("", "shared between cells that must share nothing:")
    for check, overlap in proof.items():
        show(f"{overlap:>6}  {check}")
    show(*(f"note: {note}" for note in found.notes))


def _describe(dataset: PreferenceDataset, as_json: bool, written: Path | None = None) -> None:
    facts = {
        "name": dataset.name,
        "n_comparisons": len(dataset),
        "n_users": dataset.n_users,
        "n_items": dataset.n_items,
        "n_prompts": dataset.n_prompts,
        "fingerprint": dataset.fingerprint,
        "licence": dataset.licence,
    }
    if written is not None:
        facts["written"] = str(written)
    if as_json:
        emit(facts)
    else:
        show(
            *(
                f"{name:<16}{value:,}" if isinstance(value, int) else f"{name:<16}{value}"
                for name, value in facts.items()
            )
        )
