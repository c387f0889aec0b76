"""The report in a real browser: headless Chromium, no network."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from report_world import invented_results

from palate.report import write_report

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    results = invented_results(
        folder,
        data=("town votes", "A much longer name of a data set </script><b>x</b>"),
        methods=["pooled", "factor", "hierarchical", "a-plugin:rank=16,l2=0.001"],
        skipped=[("judge", "judge: no endpoint was given; pass judge:endpoint=URL")],
    )
    return write_report(results, folder / "report.html")


@pytest.fixture
def visit(browser, report: Path) -> Iterator[Callable]:
    """Open the report; every message on the console and every request is written down, and none is allowed."""
    complaints: list[str] = []
    contexts = []

    def opened(width: int = 1280, scheme: str = "light"):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("request", lambda request: complaints.append(request.url) if request.url != report.as_uri() else None)
        page.goto(report.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [line for line in complaints if not line.startswith(("data:", "blob:"))] == []


def background(page) -> str:
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_opens_quickly_and_quietly(visit: Callable) -> None:
    started = time.perf_counter()
    page = visit()
    page.wait_for_selector("#provenance")
    loaded = page.evaluate("performance.getEntriesByType('navigation')[0].domComplete")
    assert loaded < 2000, f"{loaded:.0f} ms in the browser, {time.perf_counter() - started:.1f} s in all"
    assert page.locator("figure svg").count() == 18
    assert page.locator("h2").count() >= 7


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_never_scrolls_sideways(visit: Callable, width: int) -> None:
    page = visit(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = page.evaluate(
        """() => [...document.querySelectorAll("h1, h2, h3, p, figure, article, pre, .table")]
            .filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && e.getClientRects().length)
            .map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert outside == []


@pytest.mark.parametrize("width", [360, 1280])
def test_figure_texts_stay_inside_their_figures(visit: Callable, width: int) -> None:
    page = visit(width)
    cut = page.evaluate(
        """() => [...document.querySelectorAll("figure svg text")].filter((text) => {
            const box = text.getBoundingClientRect(), frame = text.closest("figure").getBoundingClientRect();
            return box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1;
        }).map((text) => `${text.closest("figure").id}: ${text.textContent}`)"""
    )
    assert cut == []


def test_theme_follows_the_system_and_the_button(visit: Callable) -> None:
    light, dark = visit(), visit(scheme="dark")
    day, night = background(light), background(dark)
    assert day != night
    line = "getComputedStyle(document.querySelector('#data1-1-answers svg text')).fill"
    assert light.evaluate(line) != dark.evaluate(line)
    light.click("#theme")
    assert background(light) == night
    light.reload()
    assert background(light) == night, "the choice is kept"
    light.click("#theme")
    assert background(light) == day


def test_prints_in_ink_on_white_also_from_a_dark_screen(visit: Callable) -> None:
    page = visit(scheme="dark")
    page.emulate_media(media="print")
    assert background(page) == "rgb(255, 255, 255)"
    assert page.locator("nav").is_hidden()
    assert page.locator("#theme").is_hidden()
    assert page.locator(".downloads").first.is_hidden()


def download(page, figure: str, kind: str) -> str:
    with page.expect_download() as started:
        page.click(f'[data-figure="{figure}"][data-as="{kind}"]')
    assert started.value.suggested_filename == f"{figure}.{kind}"
    return Path(started.value.path()).read_text(encoding="utf-8")


def test_every_figure_downloads_as_svg_csv_and_json(visit: Callable) -> None:
    page = visit()
    names = page.evaluate("[...document.querySelectorAll('figure')].map((figure) => figure.id)")
    for name in names:
        assert page.locator(f'[data-figure="{name}"]').count() == 3
    drawing = download(page, "data1-1-gains", "svg")
    root = ElementTree.fromstring(drawing)
    assert float(root.get("width")) == 520
    assert "var(--" not in drawing
    assert drawing.count("#cc4710") > 2  # the colour of our method, resolved
    columns = json.loads(download(page, "data1-1-gains", "json"))
    lines = download(page, "data1-1-gains", "csv").strip().split("\n")
    assert lines[0] == "method,k,accuracy_gain,low,high,n_users"
    assert len(lines) == 1 + len(columns["method"])
    assert lines[1].startswith(f"{columns['method'][0]}," if "," not in columns["method"][0] else '"')


def test_contents_lead_to_the_sections(visit: Callable) -> None:
    page = visit()
    page.click("nav a[href='#sure']")
    page.wait_for_function("Math.abs(document.querySelector('#sure').getBoundingClientRect().top) < 120")
    page.wait_for_selector("nav a[href='#sure'][aria-current]")
    assert page.locator("nav a[aria-current]").count() == 1


def test_everything_has_a_name_for_those_who_cannot_see(visit: Callable) -> None:
    page = visit()
    assert page.evaluate("[...document.querySelectorAll('button')].every((b) => (b.ariaLabel || b.textContent).trim())")
    assert page.evaluate(
        """[...document.querySelectorAll("figure svg")].every(
            (svg) => document.getElementById(svg.getAttribute("aria-labelledby")).textContent.length > 20)"""
    )
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map((h) => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert all(later <= earlier + 1 for earlier, later in zip(levels, levels[1:], strict=False))
