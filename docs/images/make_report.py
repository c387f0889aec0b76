"""Make the pictures of the report in docs/images: its first screen, a figure by night, and the same on a phone.

    python docs/images/make_report.py [--results DIR] [--out docs/images]

Without `--results` it benchmarks a small simulated world first (the shipped replies, CC0; a minute or two), so that the
same code gives the same pictures; `tests/browser/test_pictures.py` makes them again and compares. With real data, keep the
attribution that the page shows. Needs the `dev` extra and Chromium.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from palate import api
from palate.evaluate.results import Results
from palate.report import write_report
from palate.simulate import corpus_people

HERE = Path(__file__).parent
TITLE = "Personal preferences in simulated people"
NAMES = ("report.png", "report-answers.png", "report-phone.png")


def world(folder: Path) -> Results:
    """The benchmark behind the pictures: 240 simulated people with known tastes over the shipped replies."""
    people = corpus_people(240, 60, world="continuous", seed=3)
    return api.bench(
        people.dataset,
        methods=["pooled", "factor", "hierarchical"],
        features="style",
        seeds=1,
        tune=False,
        sizes="users=30,60,120",
        out=folder,
    )


def pictures(browser: Browser, report: Path) -> dict[str, bytes]:
    """The three pictures of a report, as PNG."""
    return {
        "report.png": _picture(browser, report, {"width": 1280, "height": 900}, "light", ".masthead", ".verdict"),
        "report-answers.png": _picture(
            browser, report, {"width": 1280, "height": 900}, "dark", "#answers", "#data1-1-answers"
        ),
        "report-phone.png": _picture(
            browser, report, {"width": 360, "height": 800}, "light", ".masthead", ".glance", scale=1.5
        ),
    }


def _picture(browser: Browser, report: Path, size: Any, scheme: Any, first: str, last: str, scale: float = 1) -> bytes:
    """From the top of one element to the bottom of another, over the whole width."""
    page = browser.new_page(viewport=size, color_scheme=scheme, device_scale_factor=scale)
    page.goto(report.as_uri())
    edges = "([a, b]) => [a, b].map((name) => document.querySelector(name).getBoundingClientRect())"
    top, bottom = page.evaluate(
        f"(names) => ({edges})(names).map((box, i) => (i ? box.bottom : box.top) + scrollY)", [first, last]
    )
    start = max(0, round(top) - 24)
    clip = {"x": 0, "y": start, "width": size["width"], "height": round(bottom) + 24 - start}
    shot = Image.open(io.BytesIO(page.screenshot(full_page=True, clip=clip))).convert("RGB")
    page.close()
    small = io.BytesIO()
    shot.save(small, "PNG", optimize=True)
    return small.getvalue()


def main() -> int:
    """Render a report and photograph it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, help="a results folder, instead of the simulated world")
    parser.add_argument("--title")
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("Chromium is not installed; install Debian's chromium and run again", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        results = Results.load(options.results) if options.results else world(Path(folder))
        title = options.title or (None if options.results else TITLE)
        report = write_report(results, Path(folder) / "report.html", title=title)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, picture in pictures(browser, report).items():
            (options.out / name).write_bytes(picture)
            print(f"{options.out / name}: {len(picture) / 1000:.0f} kB")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
