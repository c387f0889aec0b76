"""Where the numbers of a training run go: nowhere, a file of JSON lines, or a tracker that accelerate knows."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

from palate.errors import ConfigError, MissingDependencyError, StorageError
from palate.progress import Progress, recording

__all__ = ["TRACKERS", "reporting"]

TRACKERS = ("none", "jsonl", "tensorboard", "trackio", "wandb", "mlflow")
"""What `report_to` may be; all but the first two need the extra of that name."""

_LOG = "log.jsonl"


class _Log(Protocol):
    def write(self, what: str, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


@contextmanager
def reporting(
    report_to: str | None,
    logging_dir: str | PathLike[str] | None,
    settings: Mapping[str, Any],
    progress: Progress,
) -> Iterator[Progress]:
    """Log what is recorded (`palate.progress.record`) inside the block.

    Yields a progress to hand on: methods that record nothing are logged by how far they have come.

    Args:
        report_to: one of `TRACKERS`; None is "none".
        logging_dir: folder of the log, `runs` by default. "jsonl" appends to `log.jsonl` in it, one object a line: first the
            settings, then `time` (seconds since 1970), `what`, `step` and numbers.
        settings: of the run, logged once.
        progress: told as before.

    Raises:
        ConfigError: an unknown name.
        MissingDependencyError: the tracker's library is not installed.
        StorageError: the folder cannot be written.
    """
    if report_to not in (None, *TRACKERS):
        raise ConfigError(f"report_to={report_to!r} is unknown; there are: {', '.join(TRACKERS)}")
    if report_to in (None, "none"):
        yield progress
        return
    folder = Path("runs" if logging_dir is None else logging_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        log: _Log = _JsonLines(folder, settings) if report_to == "jsonl" else _Tracker(report_to, folder, settings)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written ({error.strerror}); choose another logging_dir") from None
    recorded: set[str] = set()

    def recorder(what: str, step: int, values: Mapping[str, float]) -> None:
        recorded.add(what)
        log.write(what, step, values)

    def told(done: int, total: int, what: str = "") -> None:
        if what not in recorded:
            log.write(what, done, {"done": done / max(total, 1)})
        progress(done, total, what)

    try:
        with recording(recorder):
            yield told
    finally:
        log.close()


class _JsonLines:
    """Append-only; a line is written at once, so that a killed run keeps what it logged."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._file = (folder / _LOG).open("a", encoding="utf-8", buffering=1)
        self._line({"settings": dict(settings)})

    def write(self, what: str, step: int, values: Mapping[str, float]) -> None:
        # JSON has no NaN; a loss that is none is null.
        numbers = {name: float(value) if math.isfinite(value) else None for name, value in values.items()}
        self._line({"what": what, "step": step, **numbers})

    def _line(self, entry: Mapping[str, Any]) -> None:
        self._file.write(json.dumps({"time": round(time.time(), 3), **entry}, allow_nan=False, default=str) + "\n")

    def close(self) -> None:
        self._file.close()


class _Tracker:
    """One of accelerate's trackers. Steps count all records, since some trackers refuse a step that is not larger."""

    def __init__(self, name: str, folder: Path, settings: Mapping[str, Any]) -> None:
        modules = ("tensorboard", "tensorboardX") if name == "tensorboard" else (name,)
        if not any(find_spec(module) for module in modules):
            raise MissingDependencyError(
                f"report_to={name!r} needs {name}; run: pip install 'palate[{name}]', or report_to='jsonl', which needs nothing"
            )
        from accelerate import PartialState
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        PartialState()
        kind = LOGGER_TYPE_TO_CLASS[name]
        place = {"logging_dir": str(folder)} if kind.requires_logging_directory else {}
        self._tracker = kind("palate", **place)
        self._tracker.start()
        simple = {
            name: value if isinstance(value, (bool, int, float, str)) else str(value)
            for name, value in settings.items()
        }
        self._tracker.store_init_configuration(simple)
        self._records = 0

    def write(self, what: str, step: int, values: Mapping[str, float]) -> None:
        self._records += 1
        named = {f"{what}/{name}": float(value) for name, value in values.items()}
        self._tracker.log({**named, f"{what}/step": step}, step=self._records)

    def close(self) -> None:
        self._tracker.finish()
