"""What all verbs share: where words, numbers and errors go, and how long work shows itself."""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from palate.cli.wording import for_terminal
from palate.errors import DataError, PalateError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = [
    "INTERRUPTED",
    "AsJson",
    "emit",
    "progress_bar",
    "say",
    "show",
    "terminal_width",
    "verb",
]

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells expect of a program that SIGINT ended."""

PATIENCE = 2.0
"""Seconds of work before a progress bar appears."""

SHOWN_PROBLEMS = 20
"""Bad rows listed one by one; the rest is counted."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output and nothing else there.")]

P = ParamSpec("P")


def verb(command: Callable[P, None]) -> Callable[P, None]:
    """A command whose errors end as one line on standard error and an honest exit code."""

    @functools.wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except PalateError as error:
            _explain(error)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            say("interrupted; run the same command again to resume")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # The reader of our output has left; point stdout elsewhere or Python complains once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            _unexpected(error)
            raise typer.Exit(1) from None

    return guarded


def _explain(error: PalateError) -> None:
    say(f"error: {for_terminal(str(error))}")
    if isinstance(error, DataError) and len(error.problems) > 1:
        for problem in error.problems[:SHOWN_PROBLEMS]:
            say(f"  {for_terminal(problem)}")
        if len(error.problems) > SHOWN_PROBLEMS:
            say(f"  … and {len(error.problems) - SHOWN_PROBLEMS} more")
    if os.environ.get("PALATE_DEBUG"):
        traceback.print_exc()


def _unexpected(error: Exception) -> None:
    if os.environ.get("PALATE_DEBUG"):
        traceback.print_exc()
        return
    words = " ".join(str(error).split())[:300]
    say(f"error: {type(error).__name__}: {words} (set PALATE_DEBUG=1 to see where)")


def say(words: str) -> None:
    """One line on standard error."""
    print(words, file=sys.stderr, flush=True)


def emit(value: Any) -> None:
    """A JSON value on standard output; NaN is refused, because JSON has none."""
    print(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))


def terminal_width() -> int:
    """Columns of the terminal, or `$COLUMNS`; 140 where there is none."""
    return shutil.get_terminal_size((140, 40)).columns


def show(*renderables: str | Table) -> None:
    """Words and tables for people, on standard output; plain where it is not a terminal."""
    from rich.console import Console

    console = Console(width=terminal_width(), highlight=False)
    for renderable in renderables:
        console.print(renderable, markup=False, soft_wrap=isinstance(renderable, str))


@contextmanager
def progress_bar(quiet: bool = False) -> Iterator[Callable[..., None]]:
    """A `Progress` that draws bars on standard error once work has taken two seconds; silent off a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    bars = _Bars(console) if console.is_terminal and not quiet else None
    try:
        yield bars if bars is not None else _nothing
    finally:
        if bars is not None:
            bars.stop()


def _nothing(done: int, total: int, what: str = "") -> None:
    return None


class _Bars:
    """One bar for each thing being worked on, by its name."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._progress: Any = None
        self._tasks: dict[str, Any] = {}

    def __call__(self, done: int, total: int, what: str = "") -> None:
        if time.monotonic() - self._started < PATIENCE:
            return
        if self._progress is None:
            self._progress = _new_progress(self._console)
            self._progress.start()
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what or "working", total=total)
        self._progress.update(self._tasks[what], completed=done, total=total)

    def stop(self) -> None:
        """Leave the terminal as it was."""
        if self._progress is not None:
            self._progress.stop()


def _new_progress(console: Console) -> Any:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True)
