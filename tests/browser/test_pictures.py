"""The pictures of the report in the docs: they are there, small, and of today's report."""

from __future__ import annotations

import importlib.util
import io
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from palate.report import write_report

IMAGES = Path(__file__).parents[2] / "docs" / "images"
DOCS = IMAGES.parent
LARGEST = 300_000
SAME_SIZE = 0.04
"""Relative: numbers in sentences differ a little between machines, and may break a line elsewhere."""
SAME_LOOK = 9.0
"""Mean difference of 0 … 255 between blurred pictures: another theme is 200, a moved card 15, other numbers 2."""


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_report", IMAGES / "make_report.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blurred(picture: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """(height, width) grey values of a tiny version."""
    return np.asarray(picture.convert("L").resize(size, Image.Resampling.BOX), np.float64)


def test_pictures_are_committed_small_and_shown(maker: ModuleType) -> None:
    pages = " ".join(path.read_text(encoding="utf-8") for path in [DOCS.parent / "README.md", *DOCS.rglob("*.md")])
    shown = set(re.findall(r"images/([\w-]+\.png)", pages))
    for name in maker.NAMES:
        assert (IMAGES / name).stat().st_size < LARGEST, name
        assert name in shown, f"no page shows {name}"
    assert shown <= {path.name for path in IMAGES.glob("*.png")}


@pytest.mark.slow
@pytest.mark.browser
def test_pictures_are_of_todays_report(maker: ModuleType, browser, tmp_path: Path) -> None:
    report = write_report(maker.world(tmp_path), tmp_path / "report.html", title=maker.TITLE)
    for name, made in maker.pictures(browser, report).items():
        now, then = Image.open(io.BytesIO(made)), Image.open(IMAGES / name)
        again = f"{name} is out of date; python docs/images/make_report.py makes it again"
        assert now.width == then.width, again
        assert abs(now.height - then.height) <= SAME_SIZE * then.height, again
        height = min(now.height, then.height)
        crops = [blurred(picture.crop((0, 0, picture.width, height)), (96, 96)) for picture in (now, then)]
        assert np.abs(crops[0] - crops[1]).mean() < SAME_LOOK, again
