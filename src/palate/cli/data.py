"""`palate data`: data sets by name, converting files, looking at splits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.console import AsJson, emit, say, show, verb
from palate.cli.options import File, Seed, SkipBad, UserColumn, open_data, parse_protocol

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
                f"{entry['name']:<28}{'here' if entry['here'] else 'not here':<10}{entry['what']} ({entry['licence']})"
            )


@data.command("get")
@verb
def get_data(
    name: Annotated[str, typer.Argument(metavar="NAME", help="See palate data list.")], as_json: AsJson = False
) -> None:
    """Find a data set under $PALATE_DATA and say what is in it, or where to get it."""
    from palate.data import SOURCES, load_votes, locate

    if name in SOURCES and SOURCES[name].kind == "votes":
        votes = load_votes(name)
        facts: dict[str, Any] = {"name": name, "n_votes": len(votes), "n_users": len(votes.users)}
        facts |= {"n_statements": len(votes.statements), "licence": votes.source.licence, "file": str(locate(name))}
        _print(facts, as_json)
    else:
        _describe(open_data(name), as_json, {"file": str(locate(name))} if name in SOURCES else None)


@data.command("convert")
@verb
def convert_data(
    file: File,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="A .parquet, .jsonl or .csv file.")],
    trl: Annotated[
        bool, typer.Option("--trl", help="Write prompt, chosen, rejected, user_id; ties are left out.")
    ] = False,
    user_column: UserColumn = None,
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    """Check every row of a file and write it in Palate's own columns, or in TRL's.

    \b
      palate data convert choices.jsonl -o choices.parquet
      palate data convert convarg -o convarg.jsonl --trl
    """
    from palate.data import write, write_trl

    dataset = open_data(file, user_column, skip_bad)
    written = (write_trl if trl else write)(dataset, out)
    if written.left_out:
        say(f"note: {written.left_out:,} ties left out; TRL's columns have none")
    _describe(dataset, as_json, {"written": str(written.path), "rows_written": written.rows})


@data.command("split")
@verb
def split_data(
    file: File,
    protocol: Annotated[str, typer.Option(help="known-items, new-items or temporal.")] = "new-items",
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="DIR", help="Also write each cell as a Parquet file.")
    ] = None,
    final: Annotated[bool, typer.Option("--final", help="Set the final 30 % of people aside.")] = False,
    seed: Seed = 0,
    user_column: UserColumn = None,
    as_json: AsJson = False,
) -> None:
    """Show the cells of a split, and the proof that nothing leaks between them.

    \b
      palate data split choices.csv --protocol known-items
      palate data split choices.csv -o cells
    """
    from palate.data import split, write_split

    dataset = open_data(file, user_column)
    found = split(dataset, parse_protocol(protocol), seed=seed, final=final)
    if out is not None:
        write_split(dataset, found, out)
        say(f"written: {out}")
    cells, proof = found.sizes(), {name: int(shared) for name, shared in found.proof.items()}
    if as_json:
        emit({"protocol": protocol, "seed": seed, "cells": cells, "proof": proof, "notes": list(found.notes)})
        return
    show(*(f"{name:<24}{rows:>10,}" for name, rows in cells.items()))
    show("", "shared between cells that must share nothing:")
    show(*(f"{overlap:>6}  {check}" for check, overlap in proof.items()))
    show(*(f"note: {note}" for note in found.notes))


def _describe(dataset: PreferenceDataset, as_json: bool, more: Mapping[str, Any] | None = None) -> None:
    facts = {
        "name": dataset.name,
        "n_comparisons": len(dataset),
        "n_users": dataset.n_users,
        "n_items": dataset.n_items,
        "n_prompts": dataset.n_prompts,
        "fingerprint": dataset.fingerprint,
        "licence": dataset.licence,
        **(more or {}),
    }
    _print(facts, as_json)


def _print(facts: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        emit(dict(facts))
    else:
        show(
            *(
                f"{name:<16}{value:,}" if isinstance(value, int) else f"{name:<16}{value}"
                for name, value in facts.items()
            )
        )
