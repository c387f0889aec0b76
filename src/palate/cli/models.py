"""`palate models`: the language models that come from the package index."""

from __future__ import annotations

from typing import Annotated

import typer

from palate.cli.console import AsJson, emit, progress_bar, show, verb

__all__ = ["models"]

models = typer.Typer(
    help="The small language models that come from the package index.", no_args_is_help=True, rich_markup_mode=None
)


@models.command("list")
@verb
def list_models(as_json: AsJson = False) -> None:
    """The bundled models, and whether they are here. Any Hugging Face name or folder works too."""
    from palate.backends import bundled

    found = [(model, bundled.status(model.name)) for model in bundled.models()]
    if as_json:
        emit(
            [
                {
                    "name": model.name,
                    "title": model.title,
                    "licence": model.licence,
                    "package": model.package,
                    "ready": status.ready,
                    "path": None if status.path is None else str(status.path),
                    "detail": status.detail,
                }
                for model, status in found
            ]
        )
    else:
        show(*(f"{model.name:<10}{model.title:<24}{model.licence:<12}{status.detail}" for model, status in found))


@models.command("get")
@verb
def get_models(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Which one; all of them by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a bundled model from the package index and convert it once; nothing happens where it is ready.

    \b
      palate models get
      palate models get smollm2
    """
    from palate.backends import bundled

    names = [model.name for model in bundled.models()] if name is None else [name]
    paths = {}
    with progress_bar() as progress:
        for wanted in names:
            paths[wanted] = str(bundled.get(wanted, progress=progress))
    if as_json:
        emit(paths)
    else:
        show(*(f"{wanted:<10}{path}" for wanted, path in paths.items()))
