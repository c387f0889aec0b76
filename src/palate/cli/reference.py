"""`python -m palate.cli.reference FILE`: the help of every verb as one page of the docs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import typer

from palate.files import write_text

__all__ = ["reference", "verbs"]

_WIDTH = "100"

_HEAD = """# Command line

Generated from the program by `make docs`; a test fails when it is not current.

Every verb takes `--json`: then standard output carries JSON and nothing else, and words, progress and errors go to standard
error. Bars appear on work over two seconds, and only on a terminal. Exit codes: 0 done, 1 failed, 2 bad input,
130 interrupted by Ctrl-C (the same command resumes). `PALATE_DEBUG=1` shows tracebacks, `PALATE_CACHE` moves the
cache of models and features, `PALATE_DATA` names a folder with real people's choices.
"""


def verbs() -> Iterator[tuple[str, ...]]:
    """Every verb as the words after `palate`; () is `palate` itself."""
    from palate.cli.app import app

    yield ()
    root = typer.main.get_command(app)
    for name, command in root.commands.items():
        yield (name,)
        for inner in getattr(command, "commands", ()):
            yield name, inner


def reference() -> str:
    """The page: each verb's help, as a terminal of 100 columns shows it."""
    from typer.testing import CliRunner

    from palate.cli.app import app

    parts = [_HEAD]
    for words in verbs():
        shown = CliRunner().invoke(
            app, [*words, "--help"], prog_name="palate", env={"COLUMNS": _WIDTH, "TERMINAL_WIDTH": _WIDTH}
        )
        title = " ".join(("palate", *words))
        body = "\n".join(line.rstrip() for line in shown.output.strip().splitlines())
        parts.append(f"## {title}\n\n```text\n{body}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    write_text(Path(sys.argv[1]), reference())
