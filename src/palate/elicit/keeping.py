"""A session as a folder: `pool.json`, written once, and `session.json`, written after every answer."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from palate.elicit.questions import QuestionTable
from palate.errors import FingerprintError, InputError, VersionError
from palate.files import read_json, write_json
from palate.progress import Progress

if TYPE_CHECKING:
    from palate.elicit.person import AskingRewardModel
    from palate.elicit.session import Session

__all__ = ["FORMAT_VERSION", "SESSION_FILE", "load_session", "save_session"]

FORMAT_VERSION = 1
"""Version of the saved form; a folder with a higher one is refused."""

SESSION_FILE, _POOL = "session.json", "pool.json"

S = TypeVar("S", bound="Session")


def save_session(session: Session, folder: str | os.PathLike[str]) -> None:
    """Write a session; see `Session.save`.

    Raises:
        StorageError: the folder cannot be written, or the disk is full.
    """
    place = Path(folder)
    if session.kept_in != place.resolve():
        # What another session left here is of other questions; its answers must not meet this pool, not even after a crash.
        (place / SESSION_FILE).unlink(missing_ok=True)
        write_json(place / _POOL, session.table.to_json())
        session.kept_in = place.resolve()
    opened = session.opened
    write_json(
        place / SESSION_FILE,
        {
            "format": FORMAT_VERSION,
            "model": session.model.fingerprint,
            "seed": session.seed,
            "settings": session.config.model_dump(mode="json"),
            "prior": {name: session.prior[name].tolist() for name in ("mean", "covariance")},
            "events": [list(event) for event in session.events],
            "open": opened,
        },
    )


def load_session(cls: type[S], folder: str | os.PathLike[str], model: AskingRewardModel, progress: Progress) -> S:
    """Read a session; see `Session.load`."""
    place = Path(folder)
    kept = _read(place / SESSION_FILE)
    if not isinstance(kept.get("format"), int) or not isinstance(kept.get("model"), str):
        raise InputError(f"{place}: damaged (no format or no model); start anew in another folder")
    if kept["format"] > FORMAT_VERSION:
        raise VersionError(
            f"{place}: format {kept['format']} is newer than this Palate reads ({FORMAT_VERSION}); upgrade palate"
        )
    if kept["model"] != model.fingerprint:
        raise FingerprintError(
            f"{place}: a session with model {kept['model'][:12]}, not with {model.fingerprint[:12]}; "
            "load that model, or start anew in another folder"
        )
    try:
        table = QuestionTable.from_json(_read(place / _POOL))
        session = cls(
            model, table, seed=kept["seed"], prior=_prior(kept["prior"], model), progress=progress, **kept["settings"]
        )
        events = [(int(number), choice) for number, choice in kept["events"]]
        _check_events(place, events, kept["open"], len(table))
        session.replay(events, kept["open"])
    except (KeyError, TypeError, IndexError) as error:
        raise InputError(f"{place}: damaged ({type(error).__name__}: {error}); start anew in another folder") from None
    session.kept_in = place.resolve()
    return session


def _check_events(place: Path, events: list[tuple[int, Any]], opened: int | None, n: int) -> None:
    """Refuse answers to questions that the pool does not have, and two to one."""
    from palate.elicit.session import CHOICES

    numbers = [number for number, _ in events] + ([] if opened is None else [opened])
    if len(set(numbers)) < len(numbers):
        raise InputError(f"{place}: damaged (two answers to one question); start anew in another folder")
    if any(not 0 <= number < n for number in numbers) or any(choice not in CHOICES for _, choice in events):
        raise InputError(f"{place}: damaged (an answer that its pool does not have); start anew in another folder")


def _prior(arrays: dict[str, Any], model: AskingRewardModel) -> Any:
    from dataclasses import replace

    import numpy as np

    from palate.types import UserState

    prior = model.method.prior_
    told = {name: np.array([values], np.float64) for name, values in arrays.items()}
    return UserState(replace(prior, arrays={**prior.arrays, **told}))


def _read(path: Path) -> Any:
    try:
        value = read_json(path)
    except FileNotFoundError:
        raise InputError(
            f"{path.parent}: no session here ({path.name} is missing); start one with Session(…)"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: damaged ({error}); start anew in another folder") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: damaged (not an object); start anew in another folder")
    return value
