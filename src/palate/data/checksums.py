"""Digests of fetched files, recorded when they are first used and checked ever after."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from palate.errors import DataError
from palate.files import read_json, write_json

__all__ = ["RECORD", "check", "digest"]

RECORD = "checksums.json"
"""The file beside the data that holds their digests."""


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(path: Path, *, expected: str = "", about: dict[str, Any] | None = None) -> str:
    """Check a file against what is recorded beside it, or record it where nothing is.

    Args:
        path: of the file.
        expected: the digest that is known from elsewhere; "" where none is.
        about: what else to record (where the file came from).

    Returns:
        Its digest.

    Raises:
        DataError: it is another file than the recorded or expected one; the message names both digests.
    """
    record = path.parent / RECORD
    known = _known(record)
    found = digest(path)
    wanted = known.get(path.name, {}).get("sha256") or expected
    if wanted and found != wanted:
        whence = f"recorded in {record}" if path.name in known else "its publisher's"
        raise DataError(
            f"{path}: its SHA-256 is {found}, {whence} is {wanted}; it was changed or damaged: delete it and fetch it "
            f"again{f', or, if you changed it on purpose, delete its entry in {RECORD}' if path.name in known else ''}"
        )
    if path.name not in known:
        write_json(record, {**known, path.name: {"sha256": found, "bytes": path.stat().st_size, **(about or {})}})
    return found


def _known(record: Path) -> dict[str, dict[str, Any]]:
    if not record.exists():
        return {}
    try:
        known = read_json(record)
    except ValueError:
        known = None
    if not isinstance(known, dict) or not all(isinstance(entry, dict) for entry in known.values()):
        raise DataError(f"{record}: no record of digests; delete it, and the files beside it are recorded anew")
    return known
