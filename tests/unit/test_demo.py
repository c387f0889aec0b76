"""`palate demo`: what it says on small data, and how long the real one takes."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from palate.cli import demo
from palate.cli.app import app
from palate.files import cache_directory


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


@pytest.mark.slow
@pytest.mark.timed
@pytest.mark.model
@pytest.mark.timeout(900)
def test_the_demo_is_quick_cold_and_warm(tmp_path: Path) -> None:
    """At most 120 s after installation, 30 s with cached features, 4 GB; for two cores that have nothing else to do."""
    models = cache_directory() / "models"
    if not models.exists():
        pytest.skip("the bundled models are not converted yet; run: palate models get")
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "models").symlink_to(models.resolve())
    environment = {**os.environ, "PALATE_CACHE": str(cache)}

    def run(out: str) -> float:
        started = time.monotonic()
        command = [sys.executable, "-m", "palate", "demo", "-o", str(tmp_path / out), "--json"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["verdicts"]["simulated people"] == "personalize"
        return time.monotonic() - started

    # Other work on the machine makes seconds meaningless; a busy one is told by its load before we begin.
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    cold, warm = run("cold"), run("warm")
    print(f"cold {cold:.0f} s, warm {warm:.0f} s, busy {busy:.1f}")
    assert cold <= 120 * busy
    assert warm <= 30 * busy
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss <= 4_000_000
