"""The contract of featurizers: texts in, vectors out."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from palate.progress import Progress, silent

__all__ = ["Featurizer", "NoFeatures", "fingerprint_of"]


class Featurizer(ABC):
    """Turns (prompt, response) pairs into vectors; a pure function of the texts.

    The vector of a text does not depend on the texts beside it, beyond rounding. `fingerprint` names everything that
    could change a vector (weights, layer, pooling, template, version of the code), so that the cache never mixes two.
    """

    name: ClassVar[str]
    """How reports and messages call this kind of features."""

    uses_prompt: bool = True
    """False where vectors depend on the response alone; each response is then embedded once for all its prompts."""

    cacheable: bool = True
    """False where looking up a vector would cost as much as computing it."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """32 hex digits; equal fingerprints give equal vectors."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """Width of the vectors."""

    @abstractmethod
    def embed(self, items: Sequence[tuple[str, str]], *, progress: Progress = silent) -> np.ndarray:
        """One vector per item.

        Args:
            items: n pairs of prompt and response.
            progress: called with the number of items done.

        Returns:
            (n, dim) float32, finite, in the order of `items`.
        """


class NoFeatures(Featurizer):
    """No features at all: items are known by their identity alone."""

    name = "none"
    cacheable = False

    @property
    def fingerprint(self) -> str:
        """Always the same."""
        return fingerprint_of("none", 1, {})

    @property
    def dim(self) -> int:
        """0."""
        return 0

    def embed(self, items: Sequence[tuple[str, str]], *, progress: Progress = silent) -> np.ndarray:
        """(n, 0) float32."""
        return np.zeros((len(items), 0), np.float32)


def fingerprint_of(name: str, version: int, settings: Mapping[str, Any]) -> str:
    """32 hex digits fixed by a featurizer's name, the version of its code and its settings."""
    words = json.dumps([name, version, settings], sort_keys=True)
    return hashlib.blake2b(words.encode(), digest_size=16).hexdigest()
