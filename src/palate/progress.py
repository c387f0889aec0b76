"""How long work tells the caller where it is, without knowing whether anybody looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["Progress", "silent"]


class Progress(Protocol):
    """Called now and then with what is done, out of how much, and a word on what it is."""

    def __call__(self, done: int, total: int, what: str = "") -> None:
        """`done` of `total` steps of `what` are finished."""


def _silent(done: int, total: int, what: str = "") -> None:
    return None


silent: Callable[..., None] = _silent
"""The progress that says nothing; the default everywhere outside the CLI."""
