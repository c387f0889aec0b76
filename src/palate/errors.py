"""The exception tree.

    PalateError                    anything Palate raises on purpose; exit code 1
    ├── InputError                 the caller can mend it; exit code 2; also a ValueError
    │   ├── DataError              bad rows, columns, labels or encodings; carries every problem found
    │   ├── ConfigError            an unknown setting, or a value out of its range
    │   ├── SplitError             a split that leaves a cell empty or leaks
    │   ├── FingerprintError       results, states or features that belong to other data or another model
    │   └── VersionError           a file written by a newer Palate
    ├── NotFittedError             a method was used before `fit`
    ├── MissingModelError          a model that is not here and cannot be fetched; the message says how to get it
    ├── MissingDependencyError     an optional package that is not installed; the message says how to get it
    ├── StorageError               the disk is full, or a file cannot be written
    ├── DownloadError              a file could not be fetched; the message says how to put it there by hand
    └── EndpointError              a remote model did not answer, or answered nonsense
        └── RefusalError           it answered without a word: a refusal, or a content filter

Every message is one line that names the value, the rule it broke and the fix.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "ConfigError",
    "DataError",
    "DownloadError",
    "EndpointError",
    "FingerprintError",
    "InputError",
    "MissingDependencyError",
    "MissingModelError",
    "NotFittedError",
    "PalateError",
    "RefusalError",
    "SplitError",
    "StorageError",
    "VersionError",
]


class PalateError(Exception):
    """Base of all errors Palate raises on purpose."""

    exit_code = 1


class InputError(PalateError, ValueError):
    """Something the caller handed over is wrong and the caller can mend it."""

    exit_code = 2


class DataError(InputError):
    """Rows, columns, labels or encodings that cannot be read.

    Args:
        message: one line for the terminal.
        problems: every problem found, each with its line or row number, in file order.
    """

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class ConfigError(InputError):
    """An unknown setting, or a value outside its range."""


class SplitError(InputError):
    """A split that would leave a cell empty, or whose parts overlap."""


class FingerprintError(InputError):
    """Results, states or features that belong to other data or another model."""


class VersionError(InputError):
    """A file written by a newer version of Palate."""


class NotFittedError(PalateError):
    """A method was used before `fit`."""


class MissingModelError(PalateError):
    """A model is not on this machine and cannot be fetched; the message says how to get it."""


class MissingDependencyError(PalateError):
    """An optional package is not installed; the message says how to get it."""


class StorageError(PalateError):
    """The disk is full, or a file cannot be written."""


class DownloadError(PalateError):
    """A file could not be fetched; the message says how to put it there by hand."""


class EndpointError(PalateError):
    """A remote model did not answer, or answered nonsense."""


class RefusalError(EndpointError):
    """A remote model answered without a word: a refusal, or a content filter; the next question may fare better."""
