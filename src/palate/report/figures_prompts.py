"""Which prompts personalization helps: every prompt with its shrunken gain, from the least to the most."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from palate.report import words
from palate.report.axes import FAINT, INK, MUTED, SMALL, WIDTH
from palate.report.canvas import Drawing, blank, draw
from palate.report.palette import sentinel
from palate.report.view import Panel

__all__ = ["FEWEST_SHOWN", "prompts_of", "prompts_plot"]

FEWEST_SHOWN = 3
"""With fewer prompts there is nothing to sort."""

_HEIGHT = 272
_LEFT, _RIGHT = 40, 56
_DRAWN = 120
_GOOD, _BAD = sentinel("good"), sentinel("bad")


def prompts_of(panel: Panel, method: str) -> pl.DataFrame:
    """The prompts of one method, from the largest gain to the smallest; of equal ones that with more people first."""
    found = panel.prompts.filter((pl.col("method") == method) & pl.col("gain").is_finite())
    return found.sort("gain", "n_users", "number", descending=[True, True, False])


def prompts_plot(panel: Panel, method: str, prompts: pl.DataFrame, name: str) -> Drawing | None:
    """A line per prompt, sorted; those whose interval clears zero have a colour."""
    if len(prompts) < FEWEST_SHOWN:
        return None
    kind = prompts["kind"][0]
    typical = float(prompts["mean"][0])

    def paint(figure: Figure) -> None:
        axes = blank(figure, (_LEFT, 40, WIDTH - _LEFT - _RIGHT, _HEIGHT - 40 - 34), grid="y")
        drawn = prompts.reverse()
        if len(drawn) > _DRAWN:
            drawn = drawn[np.linspace(0, len(drawn) - 1, _DRAWN).round().astype(int)]
        _lines(axes, drawn)
        axes.axhline(0, color=FAINT, linewidth=1.2)
        axes.axhline(typical, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        for line, text in ((1, "typical"), (-12, words.gain(typical))):
            place = (1, typical), (5, line), ("axes fraction", "data"), "offset points"
            axes.annotate(text, *place, color=INK, fontsize=SMALL, annotation_clip=False)
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: words.gain(value, 0 if high - low > 0.04 else 1)))
        figure.text(
            2 / WIDTH, 1 - 15 / _HEIGHT, f"gain over pooled with {method}, percentage points", color=INK, fontsize=11.5
        )
        figure.text(_LEFT / WIDTH, 10 / _HEIGHT, f"{kind}s, least gain", color=MUTED, fontsize=SMALL)
        figure.text(1 - _RIGHT / WIDTH, 10 / _HEIGHT, f"{kind}s, most gain", ha="right", color=MUTED, fontsize=SMALL)

    title = f"Gain {kind} by {kind}: {panel.title}"
    surely = int((prompts["low"] > 0).sum())
    description = (
        f"{title}. {method} surely gains on {surely} of {len(prompts)} {kind}s and surely loses on "
        f"{int((prompts['high'] < 0).sum())}."
    )
    thinned = f" Every {len(prompts) / _DRAWN:.0f}th is drawn." if len(prompts) >= 2 * _DRAWN else ""
    return Drawing(
        name,
        title,
        description,
        draw(name, (WIDTH, _HEIGHT), paint, description),
        _data(prompts),
        f"Each stroke is one {kind}: the gain in accuracy on it, and its 95 % interval. A {kind} has only a few people "
        f"(here {words.number(prompts['n_users'].median(), 0)} in the middle), so its own mean is pulled towards the typical one, the "
        "more the fewer they are: what still stands apart is more than luck. Green: surely a gain; red: surely a loss."
        f"{thinned}",
    )


def _lines(axes: Axes, prompts: pl.DataFrame) -> None:
    wide = 2.6 if len(prompts) <= 60 else 1.6
    for x, (value, low, high) in enumerate(prompts.select("gain", "low", "high").iter_rows()):
        colour = _GOOD if low > 0 else _BAD if high < 0 else MUTED
        axes.plot([x, x], [low, high], color=colour, linewidth=wide, alpha=0.4, solid_capstyle="round")
        axes.plot(x, value, "o", color=colour, markersize=4.4 if wide > 2 else 3, markeredgewidth=0)
    axes.set_xlim(-1, len(prompts))


def _data(prompts: pl.DataFrame) -> Mapping[str, list]:
    names = {"number": "number", "text": "text", "people": "n_users", "raw_gain": "raw", "gain": "gain"}
    return {name: prompts[column].to_list() for name, column in {**names, "low": "low", "high": "high"}.items()}
