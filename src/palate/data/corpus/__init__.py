"""Palate's own texts (CC0): 64 prompts with eight replies of known style each, and the tax suite.

The files are shipped as they were written, apart from the methods that are measured on them; `fingerprint` is checked
by a test. README.md beside them says how they were made and what they are not good for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

__all__ = ["FINGERPRINTS", "Reply", "TaxPair", "fingerprint", "replies", "tax"]

FINGERPRINTS: Mapping[str, str] = {
    "replies.jsonl": "f3ec5debf0e50068967fad78685cac0cbecd32abc13db2e8adbf706b11d08f92",
    "tax.jsonl": "35957c74db6cbecfc1fea1ef0e6e398090836f9bc530997655d7b1c941039a3a",
}
"""SHA-256 of the files as they were written."""


@dataclass(frozen=True)
class Reply:
    """One reply, written to express two poles of seven attributes and to be neutral in the others.

    Args:
        id: "p00r0", say.
        prompt_id: "p00", say; eight replies share one.
        prompt: what was asked.
        text: the reply.
        traits: attribute to pole, two of them (`{"length": "concise", "humour": "serious"}`).
    """

    id: str
    prompt_id: str
    prompt: str
    text: str
    traits: Mapping[str, str]


@dataclass(frozen=True)
class TaxPair:
    """Two replies of which one is better for everybody, whatever the taste.

    Args:
        id: unique name.
        category: chat, chat-hard, reasoning or safety.
        subcategory: a finer kind.
        half: train or measure; guards are fitted on one half and judged on the other.
        prompt: what was asked.
        better: the better reply.
        worse: the worse reply; some contain bad advice on purpose and must never be shown as an answer.
        why: the reason in a few words.
    """

    id: str
    category: str
    subcategory: str
    half: str
    prompt: str
    better: str
    worse: str
    why: str


@cache
def replies() -> tuple[Reply, ...]:
    """The 512 replies, in file order (eight after eight share a prompt)."""
    return tuple(
        Reply(row["id"], row["prompt_id"], row["prompt"], row["reply"], MappingProxyType(row["traits"]))
        for row in _rows("replies.jsonl")
    )


@cache
def tax() -> tuple[TaxPair, ...]:
    """The 360 pairs of the tax suite, in file order."""
    return tuple(TaxPair(**row) for row in _rows("tax.jsonl"))


def fingerprint(name: str) -> str:
    """SHA-256 of a shipped file as it lies on this machine; compare with `FINGERPRINTS`."""
    return hashlib.sha256(files(__name__).joinpath(name).read_bytes()).hexdigest()


def _rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in files(__name__).joinpath(name).read_text("utf-8").splitlines() if line]
