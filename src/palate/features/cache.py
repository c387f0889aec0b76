"""Vectors on disk, so that no text is embedded twice by the same featurizer.

    <cache>/features/<fingerprint>/<random name>.safetensors       keys (n, 16) uint8, vectors (n, dim) float32

A folder per fingerprint holds shards that are written once, under names of their own, and renamed into place. So writers
need no lock, a killed one leaves nothing half, and there is no index that could disagree with the shards. A shard carries
a checksum of its numbers; one that does not match is dropped and its texts are embedded again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from palate.errors import InputError
from palate.features.base import Featurizer
from palate.files import atomic_path, cache_directory
from palate.progress import Progress, silent

__all__ = ["FeatureCache", "embed_cached", "missing_texts"]

_KEY_BYTES = 16
_MERGE_ABOVE = 64
"""Shards in a folder above which `embed_cached` merges the small ones when it has finished."""
_SMALL_ROWS = 4096
_FLUSH_SECONDS = 10.0
_BLOCK = (16, 8192)
"""Fewest and most texts embedded between two writes."""


class FeatureCache:
    """The vectors of one featurizer.

    Args:
        fingerprint: of the featurizer.
        folder: where the caches of all featurizers lie; default `features` in Palate's cache folder.
    """

    def __init__(self, fingerprint: str, folder: str | os.PathLike[str] | None = None) -> None:
        parent = cache_directory() / "features" if folder is None else Path(folder)
        self.folder = parent / fingerprint

    def read(self) -> tuple[dict[bytes, int], np.ndarray]:
        """Everything that is there.

        Returns:
            the row of each key, and (n, dim) float32 vectors; ({}, (0, 0)) if there is nothing.
        """
        tables = [table for path in self._shards() if (table := _read_shard(path)) is not None]
        if not tables:
            return {}, np.zeros((0, 0), np.float32)
        widths = {vectors.shape[1] for _, vectors in tables}
        if len(widths) > 1:
            raise InputError(f"{self.folder}: vectors of {sorted(widths)} numbers; remove this folder and run again")
        packed = b"".join(keys.tobytes() for keys, _ in tables)
        rows = {packed[at : at + _KEY_BYTES]: at // _KEY_BYTES for at in range(0, len(packed), _KEY_BYTES)}
        return rows, np.concatenate([vectors for _, vectors in tables])

    def write(self, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        """Add vectors, all or none of them.

        Raises:
            StorageError: the disk is full, or the folder cannot be written.
        """
        if not keys:
            return
        table = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), _KEY_BYTES)
        vectors = np.ascontiguousarray(vectors, np.float32)
        blob = save({"keys": table, "vectors": vectors}, {"checksum": _checksum(table, vectors)})
        with atomic_path(self.folder / f"{secrets.token_hex(8)}.safetensors") as temporary:
            temporary.write_bytes(blob)

    def merge(self) -> None:
        """Put small shards into one, where there are many; readers that come between embed a few texts again."""
        paths = self._shards()
        if len(paths) <= _MERGE_ABOVE:
            return
        small = [(path, table) for path in paths if (table := _read_shard(path)) and len(table[0]) < _SMALL_ROWS]
        if len(small) < 2:
            return
        keys = np.concatenate([table[0] for _, table in small])
        vectors = np.concatenate([table[1] for _, table in small])
        keys, first = np.unique(keys, axis=0, return_index=True)
        self.write([key.tobytes() for key in keys], vectors[first])
        for path, _ in small:
            path.unlink(missing_ok=True)

    def _shards(self) -> list[Path]:
        return sorted(self.folder.glob("*.safetensors"))


def embed_cached(
    featurizer: Featurizer,
    items: Sequence[tuple[str, str]],
    *,
    cache: FeatureCache | None = None,
    progress: Progress = silent,
) -> np.ndarray:
    """The vector of every item; each distinct text that the cache does not know is embedded once, and kept.

    What is finished is written about every ten seconds, so a run that is stopped goes on where it was.

    Args:
        featurizer: makes the vectors that are missing.
        items: n pairs of prompt and response.
        cache: where vectors are kept; None keeps nothing.
        progress: called with the number of missing texts that are embedded.

    Returns:
        (n, dim) float32.

    Raises:
        StorageError: the disk is full or the cache cannot be written; pass cache=False to do without it.
        InputError: the featurizer broke its promise (another shape, NaN or infinite numbers).
    """
    keys = [_key(prompt if featurizer.uses_prompt else "", response) for prompt, response in items]
    known, vectors = ({}, np.zeros((0, 0), np.float32)) if cache is None else cache.read()
    missing = {key: item for key, item in zip(keys, items, strict=True) if key not in known}
    # Longest first: the time left is then never underestimated, and blocks hold texts of like length.
    order = sorted(missing, key=lambda key: -sum(map(len, missing[key])))
    parts = [vectors] if len(vectors) else []
    size, done = _BLOCK[0], 0
    while done < len(order):
        block = order[done : done + size]
        started = time.monotonic()
        part = _embed(featurizer, [missing[key] for key in block], done, len(order), progress)
        if cache is not None:
            cache.write(block, part)
        offset = sum(map(len, parts))
        known.update((key, offset + row) for row, key in enumerate(block))
        parts.append(part)
        done += len(block)
        rate = len(block) / max(1e-6, time.monotonic() - started)
        size = int(min(max(rate * _FLUSH_SECONDS, _BLOCK[0]), _BLOCK[1]))
    if cache is not None and done:
        cache.merge()
    if not keys:
        return np.zeros((0, featurizer.dim), np.float32)
    table = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return table[[known[key] for key in keys]]


def missing_texts(
    featurizer: Featurizer, items: Sequence[tuple[str, str]], *, cache: FeatureCache | None = None
) -> int:
    """How many distinct texts `embed_cached` would have to embed.

    Args:
        featurizer: whose vectors they are.
        items: pairs of prompt and response.
        cache: where vectors are kept; by default in Palate's cache folder.
    """
    known, _ = (cache or FeatureCache(featurizer.fingerprint)).read()
    keys = {_key(prompt if featurizer.uses_prompt else "", response) for prompt, response in items}
    return len(keys - known.keys())


def _embed(
    featurizer: Featurizer, items: list[tuple[str, str]], before: int, total: int, progress: Progress
) -> np.ndarray:
    def onward(done: int, _: int, what: str = "") -> None:
        progress(before + done, total, what)

    part = featurizer.embed(items, progress=onward)
    if part.shape != (len(items), featurizer.dim) or not np.isfinite(part).all():
        raise InputError(
            f"{featurizer.name} gave shape {part.shape} for {len(items)} texts, or NaN; it must give finite "
            f"({len(items)}, {featurizer.dim})"
        )
    return part.astype(np.float32, copy=False)


def _key(prompt: str, response: str) -> bytes:
    # The length of the prompt says where it ends, whatever characters the two hold.
    text = f"{len(prompt)}\x1f{prompt}{response}"
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_KEY_BYTES).digest()


def _checksum(keys: np.ndarray, vectors: np.ndarray) -> str:
    digest = hashlib.blake2b(keys.tobytes(), digest_size=16)
    digest.update(vectors.tobytes())
    return digest.hexdigest()


def _read_shard(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Keys and vectors; None for a shard that is gone (merged by another process) or broken (which removes it)."""
    try:
        blob = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        tensors = load(blob)
        header = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
        keys, vectors = tensors["keys"], tensors["vectors"]
        if header["__metadata__"]["checksum"] == _checksum(keys, vectors):
            return keys, vectors
    except (SafetensorError, KeyError, ValueError):
        pass
    with contextlib.suppress(OSError):
        path.unlink()
    return None
