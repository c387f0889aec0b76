"""From a matplotlib figure to a small SVG that lives inside the page and follows its theme."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from palate.report.palette import sentinel, sentinels

__all__ = ["Drawing", "blank", "dots", "draw", "spread"]

_STYLE = {
    "svg.fonttype": "none",
    "path.simplify": False,
    "font.family": "DejaVu Sans",
    "font.size": 11.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": sentinel("faint"),
    "axes.linewidth": 0.8,
    "axes.grid": False,
    "axes.axisbelow": True,
    "axes.labelcolor": sentinel("muted"),
    "axes.unicode_minus": True,
    "grid.color": sentinel("rule"),
    "grid.linewidth": 0.8,
    "text.color": sentinel("ink"),
    "xtick.color": sentinel("muted"),
    "ytick.color": sentinel("muted"),
    "xtick.major.pad": 6,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "text.parse_math": False,
}
_NAMESPACE = "{http://www.w3.org/2000/svg}"
_XLINK = "{http://www.w3.org/1999/xlink}href"
_NUMBER = re.compile(r"-?\d+\.\d+")


@dataclass(frozen=True)
class Drawing:
    """One figure of the report.

    Args:
        name: unique in the page; also the name of the files that the reader downloads.
        title: what is shown, in a few words.
        description: what a reader who cannot see it needs to know.
        svg: inline SVG without a pixel size.
        data: the numbers behind it, one list per column.
        how_to_read: one or two sentences.
    """

    name: str
    title: str
    description: str
    svg: str
    data: Mapping[str, Sequence[Any]]
    how_to_read: str


def draw(name: str, size: tuple[float, float], paint: Callable[[Figure], None], description: str) -> str:
    """Let `paint` fill a figure of `size` (width, height in CSS pixels) and return it as inline SVG.

    Args:
        name: salt of the ids inside the drawing; unique in the page, and the same name gives the same bytes.
    """
    with _style(name):
        figure = Figure(figsize=(size[0] / 72, size[1] / 72), dpi=72)
        FigureCanvasSVG(figure)
        figure.patch.set_visible(False)
        paint(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    return _tidy(buffer.getvalue(), name, description)


def blank(figure: Figure, box: tuple[float, float, float, float], *, grid: str = "") -> Axes:
    """Axes in `box` (left, bottom, width, height in CSS pixels) with hairlines across "x" or "y" and no background."""
    width, height = figure.get_size_inches() * 72
    axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
    axes.patch.set_visible(False)
    if grid:
        axes.grid(True, axis=grid)
    return axes


def dots(axes: Axes, x: np.ndarray, y: np.ndarray, *, size: float, colour: str, alpha: float = 1.0) -> None:
    """Round dots as *one* path of zero-length strokes with round caps: thousands cost a few bytes each."""
    if len(x) == 0:
        return
    corners = np.repeat(np.column_stack([x, y]).astype(float), 2, axis=0)
    codes = np.tile([Path.MOVETO, Path.LINETO], len(x))
    axes.add_patch(
        PathPatch(Path(corners, codes), fill=False, edgecolor=colour, linewidth=size, alpha=alpha, capstyle="round")
    )


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions near the `wanted` ones, in their order, at least `gap` apart and, if they fit, inside [low, high].

    Used to keep direct labels from covering each other. Pushes up from below, then back down from above.
    """
    order = np.argsort(np.asarray(wanted, dtype=float), kind="stable")
    placed = np.asarray(wanted, dtype=float)[order]
    gap = min(gap, (high - low) / max(len(placed) - 1, 1))
    for _ in range(20):
        for i in range(1, len(placed)):
            short = gap - (placed[i] - placed[i - 1])
            if short > 0:
                placed[i - 1] -= short / 2
                placed[i] += short / 2
        placed = np.clip(placed, low, high)
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + gap)
    for i in range(len(placed) - 1, -1, -1):
        ceiling = high if i == len(placed) - 1 else placed[i + 1] - gap
        placed[i] = min(placed[i], ceiling)
    result = np.empty_like(placed)
    result[order] = placed
    return result.tolist()


@contextmanager
def _style(name: str) -> Iterator[None]:
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": f"palate-{name}"}):
        yield


def _tidy(text: str, name: str, description: str) -> str:
    """Drop what a page does not need (size, ids, fonts, metadata) and turn stand-in colours into variables."""
    root = ElementTree.fromstring(text)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith("}metadata") or child.tag.endswith("}style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_NAMESPACE)
        element.text = element.text if element.tag in ("text", "tspan") else None
        element.tail = None
        _clean_attributes(element)
    _drop_empty_groups(root)
    body = "".join(ElementTree.tostring(child, encoding="unicode") for child in root)
    for colour, variable in sentinels().items():
        body = body.replace(colour, variable)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{root.get("viewBox")}" role="img" '
        f'aria-labelledby="{name}-desc" stroke-linejoin="round" font-family="system-ui, sans-serif">'
    )
    label = ElementTree.Element("desc", {"id": f"{name}-desc"})
    label.text = description
    return head + ElementTree.tostring(label, encoding="unicode") + body + "</svg>"


def _clean_attributes(element: ElementTree.Element) -> None:
    if element.tag == "g":
        element.attrib.pop("id", None)
    if _XLINK in element.attrib:
        element.set("href", element.attrib.pop(_XLINK))
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    for key in ("d", "x", "y", "width", "height", "transform", "style"):
        if key in element.attrib:
            element.set(key, _short(element.attrib[key]))
    if "style" in element.attrib:
        kept = [rule for rule in element.attrib["style"].split("; ") if not rule.startswith("font-family")]
        element.set("style", ";".join(kept).replace("font-weight: 700", "font-weight: 600").replace(": ", ":"))


def _short(text: str) -> str:
    """One decimal is a tenth of a CSS pixel; line breaks in paths are for people."""
    rounded = _NUMBER.sub(lambda match: f"{float(match.group()):.2f}".rstrip("0").rstrip("."), text)
    return " ".join(rounded.split())


def _drop_empty_groups(root: ElementTree.Element) -> None:
    for parent in list(root.iter()):
        for child in list(parent):
            while child.tag == "g" and not child.attrib and len(child) == 1:
                index = list(parent).index(child)
                parent.remove(child)
                child = child[0]
                parent.insert(index, child)
            if child.tag == "g" and len(child) == 0:
                parent.remove(child)
