"""The conformance kit for featurizers: pure functions from texts to vectors, whatever the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from palate.testing.subject import ensure, ensure_close

if TYPE_CHECKING:
    from palate.features import Featurizer

__all__ = ["check_featurizer"]

TEXTS = (
    ("Name a colour.", "Blue."),
    ("Name a colour.", "There are many; for example blue, green, and - my favourite - a deep, warm red."),
    ("", "No question was asked."),
    ("What is 2 + 2?", "4"),
    ("Écris un mot.", "Voilà: naïveté 🙂"),
    ("Name a colour.", "blue, " * 60),
)


def check_featurizer(
    factory: Callable[[], Featurizer],
    *,
    variants: Sequence[Callable[[], Featurizer]] = (),
    texts: Sequence[tuple[str, str]] = TEXTS,
    tolerance: float = 1e-4,
) -> None:
    """Try a featurizer on everything the rest of Palate relies on.

    Args:
        factory: returns the featurizer; called twice.
        variants: the same featurizer with other options, each of which must have a fingerprint of its own.
        texts: at least three distinct (prompt, response) pairs.
        tolerance: how much a vector may move with its batch, relative to the largest number in it (rounding).

    Raises:
        CheckFailed: with what is not as it must be.
    """
    featurizer = factory()
    vectors = featurizer.embed(list(texts))
    _right_form(featurizer, vectors, len(texts))
    scale = max(1e-12, float(np.abs(vectors).max()))
    backwards = featurizer.embed(list(texts)[::-1])[::-1]
    ensure_close(vectors / scale, backwards / scale, "vectors of texts in another order", tolerance)
    alone = np.concatenate([featurizer.embed([text]) for text in texts])
    ensure_close(vectors / scale, alone / scale, "vectors of texts embedded alone and in a batch", tolerance)
    twice = featurizer.embed([texts[1], texts[0], texts[1]])
    ensure_close(twice[0] / scale, twice[2] / scale, "vectors of the same text twice in a batch", tolerance)
    distinct = len(np.unique(np.round(vectors / scale, 5), axis=0))
    ensure(distinct > 1, "all texts have the same vector")
    again = factory()
    ensure(again.fingerprint == featurizer.fingerprint, "the same options give another fingerprint")
    ensure_close(again.embed([texts[0]]) / scale, alone[:1] / scale, "vectors of a second featurizer", tolerance)
    _fingerprints_differ([featurizer, *(variant() for variant in variants)])


def _right_form(featurizer: Featurizer, vectors: np.ndarray, count: int) -> None:
    """(count, dim) finite float32, (0, dim) for no text, and a fingerprint that is a text."""
    dim = featurizer.dim
    ensure(vectors.shape == (count, dim), f"{count} texts give shape {vectors.shape}; expected {(count, dim)}")
    ensure(vectors.dtype == np.float32, f"vectors are {vectors.dtype}; expected float32")
    ensure(bool(np.isfinite(vectors).all()), "a vector is not finite")
    none = featurizer.embed([])
    ensure(none.shape == (0, dim) and none.dtype == np.float32, f"no text gives {none.dtype} {none.shape}")
    fingerprint = featurizer.fingerprint
    ensure(isinstance(fingerprint, str) and fingerprint != "", f"the fingerprint is {fingerprint!r}; expected a text")


def _fingerprints_differ(featurizers: Sequence[Featurizer]) -> None:
    """Other options, another fingerprint: the cache would mix them up otherwise."""
    fingerprints = [featurizer.fingerprint for featurizer in featurizers]
    ensure(
        len(set(fingerprints)) == len(fingerprints), f"other options leave the fingerprint unchanged: {fingerprints}"
    )
