"""Randomness by SPEC 7: every function that draws takes `rng=`, and nothing touches global state."""

from __future__ import annotations

import hashlib
from typing import TypeAlias

import numpy as np

__all__ = ["RNGLike", "derive", "hash_fraction", "normalise", "torch_generator"]

RNGLike: TypeAlias = "int | np.random.Generator | np.random.SeedSequence | np.random.BitGenerator | None"
"""Whatever may be passed as `rng=`."""


def normalise(rng: RNGLike) -> np.random.Generator:
    """A NumPy generator from whatever the caller passed.

    Args:
        rng: a seed, a seed sequence, a bit generator, a generator (returned as is) or None (fresh entropy).
    """
    return np.random.default_rng(rng)


def derive(seed: int, *labels: str | int) -> np.random.Generator:
    """A generator that depends only on `seed` and the labels, not on the order of calls.

    Used where people or cells must keep their draws when others are added, removed or reordered.
    """
    digest = hashlib.blake2b(repr((int(seed), *labels)).encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def hash_fraction(text: str, salt: str = "") -> float:
    """A fraction in [0, 1) fixed by the text alone: the same people fall in the same part on every machine."""
    digest = hashlib.blake2b(f"{salt}\x1f{text}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


def torch_generator(rng: np.random.Generator):
    """A torch CPU generator seeded from `rng` (advances `rng` by one draw)."""
    import torch

    generator = torch.Generator()
    generator.manual_seed(int(rng.integers(2**63 - 1)))
    return generator
