"""How long work tells the caller where it is, without knowing whether anybody looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

__all__ = ["Progress", "Recorder", "record", "recording", "silent"]


class Progress(Protocol):
    """Called now and then with what is done, out of how much, and a word on what it is."""

    def __call__(self, done: int, total: int, what: str = "") -> None:
        """`done` of `total` steps of `what` are finished."""


def _silent(done: int, total: int, what: str = "") -> None:
    return None


silent: Callable[..., None] = _silent
"""The progress that says nothing; the default everywhere outside the CLI."""


Recorder = Callable[[str, int, Mapping[str, float]], None]
"""Takes what is being learned, the step, and named numbers such as the loss."""

_recorder: ContextVar[Recorder | None] = ContextVar("recorder", default=None)


@contextmanager
def recording(recorder: Recorder) -> Iterator[None]:
    """Let `record` reach `recorder` inside the block, in this thread and context."""
    token = _recorder.set(recorder)
    try:
        yield
    finally:
        _recorder.reset(token)


def record(what: str, step: int, **values: float) -> None:
    """Tell whoever is recording the numbers of a step; costs nothing where nobody is.

    Args:
        what: what is being learned ("conditional", say).
        step: steps done, from 1.
        values: finite numbers by name.
    """
    recorder = _recorder.get()
    if recorder is not None:
        recorder(what, step, values)
