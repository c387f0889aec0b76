"""Models on the Hugging Face hub: what is on the disk first, then one question to the hub, and one line if it fails.

The hub's library asks again for half a minute when nobody answers, and says so each time; a machine without a network
should learn in a second that it has none.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from palate.backends import bundled
from palate.errors import InputError, MissingModelError, PalateError, StorageError

__all__ = ["bundled_names", "hub_file", "load_locally_first"]

_PATIENCE = 10.0
"""Seconds until a hub that does not answer counts as out of reach."""


def bundled_names() -> str:
    """The names of the bundled models, for messages."""
    return ", ".join(model.name for model in bundled.models())


def hub_file(name: str, file: str) -> Path | None:
    """A file of a model on the hub by its path in the repository; None if it has none.

    A model that is here in part, on a machine that cannot reach the hub, has no more files than those that are here.

    Raises:
        InputError: there is no such model, or it may not be read.
        MissingModelError: nothing of it is on this machine, and the hub cannot be reached.
    """
    from huggingface_hub import errors, hf_hub_download

    found = _here(name, file)
    if found is not None or _here(name, file, known_lacking=True):
        return found
    try:
        with _one_line(name):
            _ask(name)
            return Path(hf_hub_download(name, file))
    except MissingModelError:
        if _here(name, "config.json") is None:
            raise
        return None
    except InputError as error:
        if isinstance(error.__cause__, errors.EntryNotFoundError):
            return None
        raise


def load_locally_first(name: str, where: str, load: Callable[..., Any]) -> Any:
    """What `load(where, local_files_only=…)` gives: from the disk if all of it is there, else through the hub.

    Args:
        name: of the model, for messages.
        where: its folder, or its name on the hub.
        load: a `from_pretrained` of transformers.

    Raises:
        InputError: there is no such model, it may not be read, or transformers cannot load it.
        MissingModelError: it is not on this machine, and the hub cannot be reached.
        StorageError: the disk is full.
    """
    if not Path(where).is_dir():
        try:
            with _one_line(name):
                return load(where, local_files_only=True)
        except (InputError, MissingModelError):
            with _one_line(name):
                _ask(name)
    with _one_line(name):
        return load(where, local_files_only=Path(where).is_dir())


def _here(name: str, file: str, *, known_lacking: bool = False) -> Any:
    """The file in the hub's cache, or None; with `known_lacking`, whether the cache knows that there is none."""
    from huggingface_hub import try_to_load_from_cache

    with _one_line(name):
        found = try_to_load_from_cache(name, file)
    if known_lacking:
        return found is not None and not isinstance(found, str)
    return Path(found) if isinstance(found, str) else None


@cache
def _ask(name: str) -> None:
    """Return if the hub has the model, and raise what the hub says, or that nobody answers."""
    from huggingface_hub import HfApi, errors

    try:
        HfApi().model_info(name, timeout=_PATIENCE)
    except errors.HFValidationError:
        raise
    except Exception as error:  # what a dead line raises differs with the HTTP library that the hub's version uses
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is not None and status < 500:
            raise
        why = "offline mode is on" if isinstance(error, errors.OfflineModeIsEnabled) else " ".join(str(error).split())
        raise MissingModelError(
            f"{name}: not on this machine, and the hub cannot be reached ({why[:80]}); connect, set HF_ENDPOINT to a "
            f"mirror, give a model folder, or use a bundled model: {bundled_names()}"
        ) from None


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Turn what transformers and the hub raise into one line that says what to do, and keep them from printing more."""
    from huggingface_hub import errors as hub

    from palate.backends.conversion import quiet

    try:
        with quiet():
            yield
    except PalateError:
        raise
    except Exception as error:
        chain = _chain(error)
        if any(getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT) for cause in chain):
            raise StorageError(f"{name}: the disk is full; free some space or set HF_HOME to another disk") from error
        if isinstance(error, (OSError, ValueError, KeyError, ImportError, hub.HfHubHTTPError)):
            raise InputError(f"{name}: {_diagnosis(chain)}") from error
        raise


def _diagnosis(chain: list[BaseException]) -> str:
    from huggingface_hub import errors as hub

    if any(isinstance(cause, hub.GatedRepoError) for cause in chain):
        return "its authors ask for an agreement first; accept it on the hub and set HF_TOKEN"
    if any(isinstance(cause, (hub.RepositoryNotFoundError, hub.HFValidationError)) for cause in chain):
        return f"no such model on the hub, and no such folder; bundled are: {bundled_names()}"
    words = " ".join(str(chain[0]).split())[:160]
    return f"cannot be loaded ({words}); it must be a model that transformers knows, with safetensors weights"


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    return chain
