"""`palate demo`: what it says on small data. How long the real one takes is in benchmarks/demo.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from palate.cli import demo
from palate.cli.app import app


def test_the_demo_tells_what_it_found_and_leaves_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PALATE_DATA", raising=False)
    monkeypatch.setattr(demo, "PEOPLE", 60)
    monkeypatch.setattr(demo, "ANSWERS", 25)
    monkeypatch.setattr(demo, "FEATURES", "style")
    monkeypatch.setattr(demo.os, "cpu_count", lambda: 1)
    done = CliRunner().invoke(app, ["demo", "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.stderr
    assert "simulated people: 60 people with two known tastes each" in done.stdout
    assert "real people: left out, because $PALATE_DATA names no folder" in done.stdout
    assert "simulated people: the audit says " in done.stdout
    assert "choosing for 15 new people" in done.stdout
    assert f"report: {tmp_path / 'out' / 'report.html'}" in done.stdout
    assert (tmp_path / "out" / "report.html").stat().st_size > 50_000
    assert (tmp_path / "out" / "model" / "config.json").exists()


def test_the_place_of_a_choice_is_its_true_rank() -> None:
    item_prompt = np.array([0, 0, 0, 1, 1])
    true = np.array([[3.0, 2.0, 1.0, 0.0, 5.0]])
    assert demo._mean_place(true, true, item_prompt) == 1.0
    assert demo._mean_place(-true, true, item_prompt) == (3 + 2) / 2
    both = np.concatenate([true, true])
    assert demo._mean_place(np.concatenate([true, -true]), both, item_prompt) == (1 + 1 + 3 + 2) / 4
