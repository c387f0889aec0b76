"""Make docs/images/report.png: the first screens of a report, as a browser shows them.

    python docs/images/make_report.py RESULTS [--title "…"] [--out docs/images/report.png]

RESULTS is a results folder of `palate bench`. Needs the `dev` extra and Chromium. Keep the attribution of the data that the
page shows.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from palate.evaluate.results import Results
from palate.report import write_report

WIDTH = 1280
LAST = "#data1-majority"  # the picture ends below this figure


def main() -> int:
    """Render the report of a results folder and photograph its top."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--title")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("report.png"))
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("Chromium is not installed; install Debian's chromium and run again", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        report = write_report(Results.load(options.results), Path(folder) / "report.html", title=options.title)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light")
        page.goto(report.as_uri())
        bottom = page.evaluate(f"document.querySelector('{LAST}').getBoundingClientRect().bottom + scrollY")
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": round(bottom) + 24}
        page.screenshot(path=options.out, full_page=True, clip=clip)
        browser.close()
    print(f"{options.out}: {options.out.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
