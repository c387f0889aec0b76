"""Fetching one file over https: resumed where it was cut, never half there, and every failure one line that helps."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from palate.data.source import HUB
from palate.errors import DownloadError, StorageError
from palate.files import read_json, write_json
from palate.progress import Progress, silent

try:
    import fcntl
except ImportError:  # Windows: two processes that fetch the same file at once are then not told apart.
    fcntl = None

__all__ = ["address", "fetch", "offline"]

ATTEMPTS = 4
"""Tries in all while the connection is cut or the server is busy."""

PAUSE = 1.0
"""Seconds before the second try; doubled before each further one."""

_CHUNK = 1 << 18
_LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_TIMEOUT = httpx.Timeout(30.0, connect=15.0)


class _CutError(Exception):
    """The connection ended before the file did, or the server was busy; trying again may help."""


@dataclass(frozen=True)
class _Part:
    """What is there of a file, and which version of it.

    Args:
        path: the unfinished file.
        about: beside it, the address and the validator (ETag or date) that the bytes belong to.
    """

    path: Path
    about: Path

    @classmethod
    def of(cls, target: Path) -> _Part:
        """The part that belongs to a file."""
        return cls(target.with_name(target.name + ".part"), target.with_name(target.name + ".part.json"))

    def resumes(self, url: str) -> tuple[int, str]:
        """Bytes that may be kept, and their validator; (0, "") where the file must be fetched from its start."""
        try:
            known = read_json(self.about)
            size = self.path.stat().st_size
        except (OSError, ValueError):
            return 0, ""
        validator = known.get("validator") if isinstance(known, dict) and known.get("url") == url else None
        return (size, validator) if size and validator else (0, "")

    def remove(self) -> None:
        """Forget it."""
        self.path.unlink(missing_ok=True)
        self.about.unlink(missing_ok=True)


def offline() -> bool:
    """Whether the user asked for silence (`$HF_HUB_OFFLINE`)."""
    return os.environ.get("HF_HUB_OFFLINE", "").strip().lower() not in ("", "0", "false", "no", "off")


def address(url: str) -> str:
    """Where a file is fetched from: the mirror that `$HF_ENDPOINT` names takes the hub's place."""
    mirror = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    return mirror + url.removeprefix(HUB) if mirror and url.startswith(HUB + "/") else url


def fetch(url: str, target: Path, *, by_hand: str, home: str = "", progress: Progress = silent) -> dict[str, Any]:
    """Fetch a file; what an earlier try left of it is kept where the server says that it is still the same file.

    Args:
        url: https; plain http only to this machine.
        target: where the file goes, by renaming once it is complete.
        by_hand: how to get the file without this function, the end of every message.
        home: the publisher's page, for messages about consent.
        progress: called with the bytes so far.

    Returns:
        What is known of the file: `url` and, where the server tells, its `etag`.

    Raises:
        DownloadError: no network, no such file, no right to it, or the connection was cut again and again.
        StorageError: the disk is full or the folder cannot be written.
    """
    place = httpx.URL(address(url))
    if place.scheme != "https" and place.host not in _LOCAL:
        raise DownloadError(f"{place}: only https addresses are fetched; {by_hand}")
    if offline() and place.host not in _LOCAL:
        raise DownloadError(f"{place} is not fetched, because HF_HUB_OFFLINE is set; unset it, or {by_hand}")
    trouble = ""
    headers = {"Accept-Encoding": "identity"}
    with _alone(target), httpx.Client(timeout=_TIMEOUT, follow_redirects=True, headers=headers) as client:
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(PAUSE * 2 ** (attempt - 1))
            try:
                return _once(client, place, target, by_hand=by_hand, home=home, progress=progress)
            except (_CutError, httpx.TransportError) as error:
                trouble = str(error) or type(error).__name__
                if isinstance(error, httpx.ConnectError) and attempt:
                    break  # Nobody there, twice: more patience is of no use.
            except httpx.HTTPError as error:
                raise DownloadError(f"{place}: {error}; {by_hand}") from None
    kept = _Part.of(target).resumes(str(place))[0]
    resume = f" ({kept:,} bytes are kept; the same command goes on from there)" if kept else ""
    raise DownloadError(f"{place} cannot be fetched: {trouble[:200]}{resume}; {by_hand}")


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Keep other processes from fetching the same file into the same place meanwhile.

    Raises:
        DownloadError: one of them does.
        StorageError: the folder cannot be written.
    """
    lock = target.with_name(target.name + ".part.lock")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    except OSError as error:
        raise StorageError(f"{target}: cannot be written ({error.strerror}); choose another folder") from error
    with file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise DownloadError(f"{target} is being fetched by another process; wait until it is done") from None
        yield
        with suppress(OSError):
            lock.unlink()


def _once(
    client: httpx.Client, place: httpx.URL, target: Path, *, by_hand: str, home: str, progress: Progress
) -> dict[str, Any]:
    part = _Part.of(target)
    start, validator = part.resumes(str(place))
    headers = {**_token(place), **({"Range": f"bytes={start}-", "If-Range": validator} if start else {})}
    with client.stream("GET", place, headers=headers) as response:
        if response.status_code == 416:
            part.remove()
            raise _CutError("the file has become shorter on the server")
        if response.status_code in _BUSY:
            raise _CutError(f"the server is busy (HTTP {response.status_code})")
        if response.status_code not in (200, 206):
            raise DownloadError(_refused(response, place, home, by_hand))
        if response.headers.get("content-encoding", "identity") != "identity":
            raise DownloadError(f"{place}: the server insists on sending it compressed; {by_hand}")
        if response.status_code == 206 and _first_byte(response.headers) != start:
            part.remove()
            raise _CutError("the server sent another part of the file than asked for")
        start = start if response.status_code == 206 else 0
        total = _total(response.headers, start)
        if total is not None:
            _need_room(target, total - start)
        if not start:
            # Bytes of an older version must not be taken for this one's by a run that is killed in between.
            part.path.unlink(missing_ok=True)
        known = {"url": str(place), "validator": _validator(response.headers)}
        write_json(part.about, known)
        _write(response, part.path, start, total, target.name, progress)
    os.replace(part.path, target)
    part.remove()
    return {"url": str(place), **({"etag": known["validator"]} if known["validator"] else {})}


def _write(response: httpx.Response, path: Path, start: int, total: int | None, name: str, progress: Progress) -> None:
    """The rest of a file behind its first `start` bytes.

    Raises:
        _CutError: fewer bytes came than were announced.
    """
    done = start
    try:
        with path.open("r+b" if start else "wb") as file:
            file.seek(start)
            file.truncate()
            for chunk in response.iter_raw(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                progress(done, total or done, name)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror}); free some space and run again") from error
    if total is not None and done != total:
        raise _CutError(f"the connection was cut after {done:,} of {total:,} bytes")


def _token(place: httpx.URL) -> dict[str, str]:
    """The user's token, for the hub only."""
    token = os.environ.get("HF_TOKEN", "").strip()
    return {"Authorization": f"Bearer {token}"} if token and place.host == httpx.URL(address(HUB + "/")).host else {}


def _refused(response: httpx.Response, place: httpx.URL, home: str, by_hand: str) -> str:
    status = response.status_code
    if status in (401, 403):
        given = "the token in $HF_TOKEN has no right to it" if os.environ.get("HF_TOKEN") else "no $HF_TOKEN is set"
        return (
            f"{place} is gated (HTTP {status}) and {given}: accept the publisher's conditions at {home or place.host} "
            f"and set HF_TOKEN to a token of that account; or {by_hand}"
        )
    if status in (404, 410):
        return f"{place} is not there (HTTP {status}): its publisher moved it, see {home or place.host}; {by_hand}"
    return f"{place} answered HTTP {status}; {by_hand}"


def _validator(headers: Mapping[str, str]) -> str:
    """What proves that a file is the same: a strong ETag, else its date, else nothing."""
    etag = headers.get("etag", "")
    return headers.get("last-modified", "") if not etag or etag.startswith("W/") else etag


def _first_byte(headers: Mapping[str, str]) -> int | None:
    first = headers.get("content-range", "").removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdigit() else None


def _total(headers: Mapping[str, str], start: int) -> int | None:
    """Bytes of the whole file; None where the server does not say."""
    whole = headers.get("content-range", "").rpartition("/")[2]
    if whole.isdigit():
        return int(whole)
    rest = headers.get("content-length", "")
    return start + int(rest) if rest.isdigit() else None


def _need_room(target: Path, size: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if size > free:
        raise StorageError(
            f"{target}: needs {size / 1e6:,.0f} MB and {free / 1e6:,.0f} MB are free; "
            "free some, or set PALATE_CACHE to a folder on another disk"
        )
