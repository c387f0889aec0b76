"""What makes two texts the same: stable keys, and the normal form that leak checks compare."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl

__all__ = ["fractions", "mix", "normal_form", "pair_keys", "text_keys"]

_NOT_A_WORD = r"[^\p{L}\p{M}\p{N}]+"


def text_keys(texts: Iterable[str]) -> np.ndarray:
    """A number for each text, the same on every machine and in every version.

    Args:
        texts: n texts.

    Returns:
        (n,) int64 ≥ 0, the first 63 bits of BLAKE2b.
    """
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return (np.frombuffer(digests, "<u8") >> np.uint64(1)).astype(np.int64)


def mix(keys: np.ndarray, salt: str) -> np.ndarray:
    """Scatter keys over 64 bits, differently for each salt.

    Args:
        keys: (n,) integers.
        salt: anything; the same salt gives the same numbers.

    Returns:
        (n,) uint64, the finaliser of splitmix64 (Steele, Lea and Flood 2014) on the salted keys.
    """
    start = np.frombuffer(hashlib.blake2b(salt.encode(), digest_size=8).digest(), "<u8")[0]
    z = keys.astype(np.uint64) ^ start
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def pair_keys(prompt_keys: np.ndarray, response_keys: np.ndarray) -> np.ndarray:
    """(n,) int64 ≥ 0, the key of each prompt and reply together, from the keys (n,) of both."""
    both = mix(prompt_keys, "prompt") ^ mix(response_keys, "response")
    return (mix(both, "item") >> np.uint64(1)).astype(np.int64)


def fractions(keys: np.ndarray, salt: str) -> np.ndarray:
    """(n,) float64 in [0, 1), uniform over salts and fixed by key and salt alone."""
    return (mix(keys, salt) >> np.uint64(11)).astype(np.float64) / 2.0**53


def normal_form(texts: Sequence[str]) -> pl.Series:
    """Texts with everything taken away that does not make them different texts to a reader.

    Unicode NFKC, case folding, and every run of spaces and punctuation as one space. A text of punctuation only
    keeps it, so that "?" and "!" stay two texts.

    Args:
        texts: n texts.

    Returns:
        n strings.
    """
    folded = pl.Series(
        [(text if text.isascii() else unicodedata.normalize("NFKC", text)).casefold() for text in texts],
        dtype=pl.String,
    )
    words = folded.str.replace_all(_NOT_A_WORD, " ").str.strip_chars()
    return words.zip_with(words.str.len_bytes() > 0, folded.str.strip_chars())
