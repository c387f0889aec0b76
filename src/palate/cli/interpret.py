"""`palate interpret`: what people's tastes differ in, as words, numbers and a page."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from palate.cli.console import AsJson, emit, progress_bar, say, show, verb
from palate.cli.options import Seed, output_file
from palate.cli.reward import Model
from palate.errors import InputError

__all__ = ["interpret"]


@verb
def interpret(
    model: Model,
    pool: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Replies to read the model over (prompt and reply a row), or choices; by default the 512 shipped replies.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="Also write the taste atlas: .html, or .json.")
    ] = None,
    axes: Annotated[
        int | None, typer.Option(help="How many axes; by default as many as the spectrum suggests.")
    ] = None,
    user: Annotated[str | None, typer.Option(metavar="ID", help="The training person whose card is wanted.")] = None,
    state: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Or the person whose state palate adapt wrote.")
    ] = None,
    chat: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL@URL",
            help="A chat endpoint that names the axes; it is sent replies of the pool. The key is $PALATE_API_KEY.",
        ),
    ] = None,
    sparse: Annotated[bool, typer.Option("--sparse", help="Also learn sparse features of replies (WIMHF).")] = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Read a reward model: the axes of taste with names and replies, where people lie, and one person's card.

    Needs a method with a basis (hierarchical, factor). The page shows people as points, without ids, and one card:
    treat it as personal data.

    \b
      palate interpret model -o atlas.html
      palate interpret model --pool choices.csv --user ann -o atlas.html
      palate interpret model --pool replies.jsonl --chat qwen2.5@http://localhost:11434/v1 --json
    """
    from palate import api

    if out is not None and output_file(out).suffix not in (".html", ".json"):
        raise InputError(f"-o {out}: an atlas is written as .html or .json; choose one of them")
    if user is not None and state is not None:
        raise InputError("--user and --state both given; say whose card in one way")
    with ExitStack() as stack:
        client = None if chat is None else stack.enter_context(_client(chat))
        loaded = api.load_model(model)
        person = None if state is None else loaded.load_person(state)
        progress = stack.enter_context(progress_bar())
        found = api.interpret(
            loaded,
            pool,
            axes=axes,
            user=user,
            person=person,
            chat=client,
            sparse=sparse,
            seed=seed,
            progress=progress,
        )
    if out is not None:
        api.write_atlas(found, out)
        say(f"written: {out}")
    if as_json:
        emit(found.to_dict())
    else:
        show(str(found))


def _client(where: str):
    from palate.backends.openai import ChatClient

    model, at, url = where.rpartition("@")
    if not at or not model or not url.startswith(("http://", "https://")):
        raise InputError(f"--chat {where}: not MODEL@URL; write --chat qwen2.5@http://localhost:11434/v1, say")
    return ChatClient(model=model, base_url=url)
