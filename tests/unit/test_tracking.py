"""Where the numbers of a fit go: nowhere by default, JSON lines, accelerate's trackers."""

from __future__ import annotations

import json
import sys
import types

import pytest
from typer.testing import CliRunner

import palate
from palate.backends import tracking
from palate.cli.app import app
from palate.data import read
from palate.errors import ConfigError, MissingDependencyError, StorageError
from palate.progress import record, recording


def rows(n_users=6, each=6):
    return [
        {"user": f"u{u}", "prompt": "p", "left": "a" * (i + 2), "right": "b" * (each - i + 1), "label": (u + i) % 2}
        for u in range(n_users)
        for i in range(each)
    ]


def lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def fit(method="conditional", **options):
    steps = {"steps": 30} if method in ("conditional", "gpo") else {}
    return palate.fit(read(rows(), name="d"), features="style", method=method, **steps, **options)


def test_losses_of_a_training_loop(tmp_path):
    fit(report_to="jsonl", logging_dir=tmp_path / "runs")
    settings, *found = lines(tmp_path / "runs")
    assert settings["settings"]["method"] == "conditional" and settings["settings"]["steps"] == 30
    assert [entry["step"] for entry in found] == list(range(1, 31))
    assert all(entry["what"] == "conditional" and entry["loss"] > 0 and entry["learning_rate"] >= 0 for entry in found)
    assert "done" not in found[0], "progress stands beside the loss of the same step"


def test_held_out_losses(tmp_path):
    palate.fit(
        rows(), features="style", method="conditional", steps=None, epochs=3, heldout=0.3,
        report_to="jsonl", logging_dir=tmp_path,
    )  # fmt: skip
    assert sum("heldout_loss" in entry for entry in lines(tmp_path)) == 3


def test_rounds_of_a_method_that_records_nothing(tmp_path):
    fit("hierarchical", epochs=2, report_to="jsonl", logging_dir=tmp_path)
    found = [entry for entry in lines(tmp_path) if entry.get("what") == "hierarchical"]
    assert found and found[-1].get("done", 1.0) == 1.0


def test_runs_are_appended_and_nothing_is_logged_unasked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit()
    fit(report_to="none")
    assert not list(tmp_path.iterdir())
    fit(report_to="jsonl")
    once = len(lines(tmp_path / "runs"))
    fit(report_to="jsonl")
    assert len(lines(tmp_path / "runs")) == 2 * once


def test_logging_changes_no_number(tmp_path):
    assert fit(report_to="jsonl", logging_dir=tmp_path).fingerprint == fit().fingerprint


def test_a_failed_run_keeps_what_it_logged_and_stops_recording(tmp_path):
    progress = lambda *words: None  # noqa: E731
    with pytest.raises(RuntimeError), tracking.reporting("jsonl", tmp_path, {}, progress):
        record("x", 1, loss=float("nan"), other=2.0)
        raise RuntimeError
    record("x", 2, loss=1.0)
    assert lines(tmp_path)[1:] == [
        {"time": lines(tmp_path)[1]["time"], "what": "x", "step": 1, "loss": None, "other": 2.0}
    ]


def test_recorders_nest():
    seen = []
    with recording(lambda *entry: seen.append(("outer", *entry))):
        with recording(lambda *entry: seen.append(("inner", *entry))):
            record("a", 1, x=1.0)
        record("a", 2, x=2.0)
    record("a", 3, x=3.0)
    assert seen == [("inner", "a", 1, {"x": 1.0}), ("outer", "a", 2, {"x": 2.0})]


def test_trackers_of_accelerate_get_every_number(tmp_path, monkeypatch):
    """A stand-in for TensorBoard's writer, under accelerate's own tracker."""
    calls = []

    class SummaryWriter:
        def __init__(self, folder, **options):
            calls.append(("open", folder))

        def add_scalar(self, name, value, global_step=None, **options):
            calls.append((name, value, global_step))

        def add_hparams(self, values, metric_dict):
            calls.append(("settings", values["method"]))

        def flush(self):
            pass

        def close(self):
            calls.append(("close",))

    module = types.ModuleType("tensorboardX")
    module.SummaryWriter = SummaryWriter
    module.__spec__ = types.SimpleNamespace(name="tensorboardX")
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setattr(tracking, "find_spec", lambda name: object() if name == "tensorboardX" else None)
    fit(report_to="tensorboard", logging_dir=tmp_path)
    assert calls[0] == ("open", str(tmp_path / "palate")) and calls[-1] == ("close",)
    assert ("settings", "conditional") in calls
    losses = [call for call in calls if call[0] == "conditional/loss"]
    assert [step for _, _, step in losses] == list(range(1, 31)) and all(value > 0 for _, value, _ in losses)


def test_what_cannot_be_logged(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="there are: none, jsonl, tensorboard"):
        fit(report_to="excel")
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    for name in ("tensorboard", "trackio", "wandb", "mlflow"):
        with pytest.raises(MissingDependencyError, match=rf"pip install 'palate\[{name}\]'"):
            fit(report_to=name, logging_dir=tmp_path)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="another logging_dir"):
        fit(report_to="jsonl", logging_dir=tmp_path / "file")


def test_command_line(tmp_path):
    data = tmp_path / "c.jsonl"
    data.write_text("\n".join(map(json.dumps, rows())))
    words = ["fit", str(data), "-o", str(tmp_path / "m"), "--features", "style", "--method", "conditional"]
    words += ["--set", "steps=5", "--report-to", "jsonl", "--logging-dir", str(tmp_path / "log")]
    run = CliRunner().invoke(app, words)
    assert run.exit_code == 0, run.output
    assert len(lines(tmp_path / "log")) == 6
