"""The two figures about gains: the forest of methods, and the learning curve of new people.

Every function takes what is to be shown and returns a `Drawing`; None where there is nothing to draw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from palate.report import words
from palate.report.axes import (
    CARD,
    FAINT,
    INK,
    MUTED,
    RULE,
    SMALL,
    WIDTH,
    columns,
    label_width,
    limits_y,
    name_text,
    points_axis,
    short,
    span,
)
from palate.report.canvas import Drawing, blank, draw, spread
from palate.report.palette import OURS, Look
from palate.report.view import BASELINE, Panel
from palate.statistics import Estimate

__all__ = ["forest", "learning_curve"]


def forest(panel: Panel, looks: Mapping[str, Look], name: str) -> Drawing | None:
    """Gain of every method over pooled, with its interval: seen people, few answers, many answers."""
    levels = _forest_levels(panel)
    methods = [m for m in panel.rivals if any(panel.gain(m, k) for k in levels)]
    if not methods or not levels:
        return None
    ranked = panel.ranked(levels[0])
    methods.sort(key=lambda m: -ranked.index(m) if m in ranked else -len(methods))
    height, left, top = 78 + 32 * len(methods), label_width(methods), 40
    low, high = span([panel.gain(m, k) for m in methods for k in levels])

    def paint(figure: Figure) -> None:
        step = (WIDTH - left) / len(levels)
        for i, k in enumerate(levels):
            axes = blank(figure, (left + i * step, 36, step - 14, height - 36 - top), grid="x")
            _forest_column(axes, panel, looks, methods, k, (low, high))
            axes.set_title(_column_title(k), fontsize=11.5, loc="left", color=INK, pad=8)
            axes.set_yticks(range(len(methods)), [short(m) for m in methods] if i == 0 else [])
            for label, method in zip(axes.get_yticklabels(), methods, strict=False):
                name_text(label, method, looks[method])
        figure.text(left / WIDTH, 5 / height, "gain over pooled, percentage points", color=MUTED, fontsize=SMALL)

    title = f"Gain over pooled: {panel.title}"
    table = columns(
        [(m, k, panel.gain(m, k)) for m in reversed(methods) for k in levels], ("method", "k", "accuracy_gain")
    )
    best = methods[-1]
    description = (
        f"{title}. {len(methods)} methods at {words.listing(map(words.level_name, levels))}. Largest gain for "
        f"{words.level_name(levels[0])}: {best}, {words.points(panel.gain(best, levels[0]))}."
    )
    return Drawing(
        name,
        title,
        description,
        draw(name, (WIDTH, height), paint, description),
        table,
        "Each mark is a method's gain in accuracy over the model that knows nobody, on the same people and the same "
        "held-out choices; the line is its 95 % interval. Right of the zero line is better than pooled. An interval "
        "that crosses zero means that this data cannot tell the two apart. Hollow marks rest on fewer than 20 people; "
        "an arrow at the edge stands for a value off the scale.",
    )


def learning_curve(panel: Panel, looks: Mapping[str, Look], name: str) -> Drawing | None:
    """Gains of new people against the number of their answers, and the level of seen people beside it."""
    metrics = [
        (metric, label)
        for metric, label in (
            ("accuracy_gain", "accuracy, percentage points"),
            ("log_loss_gain", "log-loss, 0.01 nats"),
        )
        if any(panel.get(m, metric, k) for m in panel.rivals for k in panel.levels)
    ]
    if not metrics or not panel.levels:
        return None
    height = 262 * len(metrics)

    def paint(figure: Figure) -> None:
        for i, (metric, label) in enumerate(metrics):
            axes = blank(
                figure,
                (34, height - 262 * (i + 1) + 46, WIDTH - 34 - label_width(panel.methods) - 14, 262 - 46 - 32),
                grid="y",
            )
            _curves(axes, panel, looks, metric)
            figure.text(
                2 / WIDTH, 1 - (262 * i + 15) / height, f"gain over pooled in {label}", color=INK, fontsize=11.5
            )

    title = f"What each answer brings: {panel.title}"
    levels: list[int | str] = [*panel.levels, *(["seen"] if panel.has_seen else [])]
    rows = [(m, k, panel.get(m, metric, k), metric) for metric, _ in metrics for m in panel.rivals for k in levels]
    table = columns([row[:3] for row in rows], ("method", "k", "gain"))
    table = {"metric": [row[3] for row in rows if row[2] is not None], **table}
    description = f"{title}. Gain over pooled at {words.listing(map(str, panel.levels))} answers, with 95 % intervals."
    return Drawing(
        name,
        title,
        description,
        draw(name, (WIDTH, height), paint, description),
        table,
        "From left to right a new person has answered more questions. The heavy line and its band are the method the report "
        "is about; thin lines are the others, bars their 95 % intervals. Marks at the far right are people who took part in training. "
        "The same people and the same nested answers are used for all methods and all points. A number after a "
        "name is a value off the scale.",
    )


def _forest_levels(panel: Panel) -> list[int | str]:
    levels: list[int | str] = ["seen"] if panel.has_seen else []
    if panel.few is not None:
        levels.append(panel.few)
    if panel.levels and panel.levels[-1] not in levels:
        levels.append(panel.levels[-1])
    return levels


def _column_title(k: int | str) -> str:
    return "seen people" if k == "seen" else f"new, {words.answers(int(k))}"


def _forest_column(
    axes: Axes,
    panel: Panel,
    looks: Mapping[str, Look],
    methods: Sequence[str],
    k: int | str,
    limits: tuple[float, float],
) -> None:
    axes.axvline(0, color=FAINT, linewidth=1.2)
    for y, method in enumerate(methods):
        estimate = panel.gain(method, k)
        if estimate is None:
            continue
        colour, ours = looks[method].colour, method == OURS
        if estimate.value < limits[0]:
            edge = limits[0] + 0.04 * (limits[1] - limits[0])
            axes.plot(edge, y, "<", color=colour, markersize=6, markeredgewidth=0)
            place = (edge, y), (6, 0)
            axes.annotate(words.gain(estimate.value), *place, textcoords="offset points", va="center", color=colour)
            continue
        if math.isfinite(estimate.low):
            axes.plot(
                [estimate.low, estimate.high],
                [y, y],
                color=colour,
                linewidth=3 if ours else 1.6,
                solid_capstyle="round",
            )
        axes.plot(
            estimate.value,
            y,
            looks[method].marker,
            color=colour,
            markersize=10 if ours else 8.5,
            markerfacecolor=colour if estimate.claim else CARD,
            markeredgecolor=colour if not estimate.claim else CARD,
            markeredgewidth=1.2 if not estimate.claim else 0.7,
        )
    axes.set(xlim=limits, ylim=(-0.6, len(methods) - 0.4))
    axes.spines["bottom"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: words.gain(value, 0 if limits[1] - limits[0] > 0.03 else 1))
    )


def _curves(axes: Axes, panel: Panel, looks: Mapping[str, Look], metric: str) -> None:
    levels = panel.levels
    place = {k: math.log2(1 + k) for k in levels}
    last = place[levels[-1]]
    width = max(last - place[levels[0]], 1.0)
    seen_at = last + 0.13 * width
    ends: list[tuple[str, float]] = []
    axes.axhline(0, color=looks[BASELINE].colour if BASELINE in looks else FAINT, linewidth=1.4)
    for i, method in enumerate(panel.rivals):
        points = [(place[k], panel.get(method, metric, k)) for k in levels]
        points = [(x, estimate) for x, estimate in points if estimate is not None]
        if points:
            _one_curve(
                axes, points, looks[method], ours=method == OURS, shift=0.006 * width * (i - len(panel.rivals) / 2)
            )
        seen = panel.get(method, metric, "seen")
        if seen is not None:
            x = seen_at + 0.02 * width * (i - (len(panel.rivals) - 1) / 2)
            _whisker(axes, x, seen, looks[method], ours=method == OURS)
        if points or seen:
            ends.append((method, seen.value if seen is not None else points[-1][1].value))
    right = seen_at + 0.08 * width if panel.has_seen else last + 0.03 * width
    axes.set_xlim(place[levels[0]] - 0.03 * width, right)
    limits_y(axes, [panel.get(m, metric, k) for m in panel.rivals for k in [*levels, "seen"]])
    ticks = [place[k] for k in levels] + ([seen_at] if panel.has_seen else [])
    axes.set_xticks(ticks, [str(k) for k in levels] + (["seen"] if panel.has_seen else []))
    axes.annotate(
        "answers of a new person",
        (1, 0),
        (0, -31),
        "axes fraction",
        "offset points",
        ha="right",
        color=MUTED,
        fontsize=SMALL,
    )
    if panel.has_seen:
        axes.axvline((last + seen_at) / 2 - 0.01 * width, color=RULE, linewidth=0.8)
    points_axis(axes)
    _end_labels(axes, [*([(BASELINE, 0.0)] if BASELINE in looks else []), *ends], looks)


def _one_curve(axes: Axes, points: list[tuple[float, Estimate]], look: Look, *, ours: bool, shift: float) -> None:
    x = np.array([place for place, _ in points]) + (0.0 if ours else shift)
    y = np.array([estimate.value for _, estimate in points])
    if ours:
        low, high = (np.array([getattr(estimate, end) for _, estimate in points]) for end in ("low", "high"))
        axes.fill_between(x, low, high, color=look.colour, alpha=0.16, linewidth=0)
    else:
        for place, (_, estimate) in zip(x, points, strict=True):
            if math.isfinite(estimate.low):
                axes.plot([place, place], [estimate.low, estimate.high], color=look.colour, linewidth=0.8, alpha=0.55)
    axes.plot(
        x,
        y,
        color=look.colour,
        marker=look.marker,
        markersize=6.5 if ours else 4.5,
        markeredgewidth=0,
        linewidth=2.6 if ours else 1.3,
        zorder=3 if ours else 2,
    )


def _whisker(axes: Axes, x: float, estimate: Estimate, look: Look, *, ours: bool) -> None:
    if math.isfinite(estimate.low):
        axes.plot([x, x], [estimate.low, estimate.high], color=look.colour, linewidth=1.8 if ours else 0.9)
    axes.plot(x, estimate.value, look.marker, color=look.colour, markersize=7 if ours else 5, markeredgewidth=0)


def _end_labels(axes: Axes, ends: Sequence[tuple[str, float]], looks: Mapping[str, Look]) -> None:
    """Method names at the right edge, at the height of their last point, moved apart where they would touch."""
    bottom, top = axes.get_ylim()
    heights = spread([max(value, bottom) for _, value in ends], 14 / 190 * (top - bottom), bottom, top)
    for (method, value), height in zip(ends, heights, strict=True):
        text = axes.annotate(
            method, (1, height), (5, 0), ("axes fraction", "data"), "offset points", va="center", annotation_clip=False
        )
        name_text(text, method, looks[method], f" {words.gain(value, 0)}" if value < bottom else "")
