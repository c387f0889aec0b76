"""Features that somebody else computed: an array beside the items, or vectors by text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from palate.errors import DataError, InputError
from palate.features.base import Featurizer
from palate.progress import Progress, silent
from palate.types import array_digest

__all__ = ["AlignedFeatures", "TextVectors"]

_SHOWN = 5


class AlignedFeatures(Featurizer):
    """One row per item of one data set, in the order of its `item_texts()`.

    Args:
        vectors: (n_items, d) numbers.

    Raises:
        InputError: not two-dimensional, or NaN or infinite somewhere.
    """

    name = "array"
    cacheable = False

    def __init__(self, vectors: np.ndarray) -> None:
        self._vectors = _checked(vectors, "the array of features")

    @property
    def fingerprint(self) -> str:
        """Of the numbers."""
        return array_digest({"vectors": self._vectors}, self.name)

    @property
    def dim(self) -> int:
        """Columns of the array."""
        return self._vectors.shape[1]

    def embed(self, items: Sequence[tuple[str, str]], *, progress: Progress = silent) -> np.ndarray:
        """The array itself, if there are as many items as rows.

        Raises:
            InputError: another number of items: rows can then not be told apart.
        """
        if len(items) not in (0, len(self._vectors)):
            raise InputError(
                f"{len(items)} items for an array of {len(self._vectors)} rows; give one row per item, or a mapping "
                "from text to vector"
            )
        return self._vectors[: len(items)].copy()


class TextVectors(Featurizer):
    """Vectors by text.

    Args:
        vectors: response -> vector, or (prompt, response) -> vector; one kind of key, one width.

    Raises:
        InputError: empty, mixed keys, different widths, NaN or infinite numbers.
    """

    name = "vectors"
    cacheable = False

    def __init__(self, vectors: Mapping[str, np.ndarray] | Mapping[tuple[str, str], np.ndarray]) -> None:
        if not vectors:
            raise InputError("the mapping of vectors is empty; give one vector per text")
        pairs = {isinstance(key, tuple) for key in vectors}
        if len(pairs) > 1:
            raise InputError("the mapping has both responses and (prompt, response) pairs as keys; use one kind")
        self.uses_prompt = pairs.pop()
        try:
            table = np.stack([np.asarray(vector, np.float32) for vector in vectors.values()])
        except ValueError as error:
            raise InputError(f"the vectors cannot be stacked ({error}); all must have one length") from None
        self._table = _checked(table, "the mapping of vectors")
        self._row = {key: row for row, key in enumerate(vectors)}

    @classmethod
    def read(cls, path: str | Path) -> TextVectors:
        """Vectors from a Parquet file: `response` (and `prompt`, if it matters), and one list column or number columns.

        Raises:
            DataError: no `response` column, no numbers, null or repeated texts.
        """
        import polars as pl

        try:
            frame = pl.read_parquet(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise DataError(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]})") from None
        keys = [name for name in ("prompt", "response") if name in frame.columns]
        if "response" not in keys:
            raise DataError(f"{path}: no column 'response'; it has: {', '.join(frame.columns)}")
        lists = [name for name, kind in frame.schema.items() if isinstance(kind, (pl.List, pl.Array))]
        numbers = [name for name, kind in frame.schema.items() if kind.is_numeric()]
        if len(lists) > 1 or bool(lists) == bool(numbers):
            raise DataError(
                f"{path}: give one column of lists or several columns of numbers, besides {', '.join(keys)}"
            )
        if frame.select(keys).null_count().row(0) != (0,) * len(keys):
            raise DataError(f"{path}: a text is null; every row needs its {' and '.join(keys)}")
        texts = frame.get_column("response").to_list() if keys == ["response"] else frame.select(keys).rows()
        if len(set(texts)) < len(texts):
            raise DataError(f"{path}: {len(texts) - len(set(texts))} texts come twice; keep one row per text")
        rows = frame.get_column(lists[0]).to_list() if lists else frame.select(numbers).to_numpy()
        return cls(dict(zip(texts, rows, strict=True)))

    @property
    def fingerprint(self) -> str:
        """Of the texts and the numbers."""
        return array_digest({"vectors": self._table}, self.name, *map(repr, self._row))

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return self._table.shape[1]

    def embed(self, items: Sequence[tuple[str, str]], *, progress: Progress = silent) -> np.ndarray:
        """(n, dim) float32.

        Raises:
            DataError: texts without a vector; the error carries them all.
        """
        keys = [(prompt, response) if self.uses_prompt else response for prompt, response in items]
        missing = list(dict.fromkeys(key for key in keys if key not in self._row))
        if missing:
            shown = "; ".join(repr(key)[:60] for key in missing[:_SHOWN])
            raise DataError(
                f"{len(missing)} of {len(set(keys))} texts have no vector, such as {shown}; add them",
                [repr(key) for key in missing],
            )
        return self._table[[self._row[key] for key in keys]].reshape(len(items), self.dim)


def _checked(vectors: np.ndarray, what: str) -> np.ndarray:
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.number):
        raise InputError(f"{what} has shape {vectors.shape} and type {vectors.dtype}; it must be numbers, (n, d)")
    wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(wrong):
        raise InputError(f"{what} has NaN or infinite numbers in {len(wrong)} rows, the first is row {wrong[0]}")
    return np.ascontiguousarray(vectors, np.float32)
