"""Figures of an audit: the ladder of accuracies, agreement with the majority, divergence, and power."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, MultipleLocator, NullFormatter

from palate.report import words
from palate.report.axes import FAINT, INK, MUTED, SMALL, WIDTH
from palate.report.canvas import Drawing, blank, draw, spread
from palate.report.palette import sentinel

__all__ = ["divergence_bars", "ladder", "majority_histogram", "power_plot"]

_OURS, _BLUE, _GREY, _GREEN = (
    sentinel(name) for name in ("method-ours", "method-blue", "method-reference", "method-green")
)
_CEILING = "consistency ceiling"
_LABELS = 148
_SHADES = (0.35, 0.5, 0.65, 0.8, 1.0)


def ladder(audit: Mapping[str, Any], name: str) -> Drawing | None:
    """Accuracy from coin toss over null baselines and the pooled model to the personal one and the ceiling."""
    rungs = _rungs(audit)
    if not rungs:
        return None
    height = 62 + 27 * len(rungs)

    def paint(figure: Figure) -> None:
        axes = blank(figure, (_LABELS, 38, WIDTH - _LABELS - 58, height - 38 - 10), grid="x")
        left = min(0.5, *(found["value"] - 0.01 for _, found, _ in rungs))
        for y, (_, found, colour) in enumerate(reversed(rungs)):
            _bar(axes, y, found, colour, left=left, digits=1)
        axes.set_yticks(range(len(rungs)), [label for label, *_ in reversed(rungs)])
        for tick, (_, _, colour) in zip(axes.get_yticklabels(), reversed(rungs), strict=True):
            tick.set(color=colour if colour != _GREY else MUTED, fontweight="bold" if colour == _OURS else "normal")
        axes.set(xlim=(left, 1.0), ylim=(-0.6, len(rungs) - 0.4))
        axes.spines["bottom"].set_visible(False)
        axes.xaxis.set_major_locator(MultipleLocator(0.1))
        axes.xaxis.set_major_formatter(FuncFormatter(_hundreds))
        figure.text(_LABELS / WIDTH, 5 / height, "held-out answers predicted right, %", color=MUTED, fontsize=SMALL)

    rest = (
        "; the step to the ceiling is all that could be gained, because people do not always agree with themselves."
        if any(label == _CEILING for label, *_ in rungs)
        else ". The ceiling is not drawn: how often these people agree with themselves could not be measured."
    )
    listed = words.listing(f"{label} {words.percent(found['value'])}" for label, found, _ in rungs)
    title = "From simple rules to the ceiling"
    data = {"rule": [label for label, *_ in rungs]} | {
        key: [found.get(key) for _, found, _ in rungs] for key in ("value", "low", "high")
    }
    return Drawing(
        name,
        title,
        f"{title}: {listed}.",
        draw(name, (WIDTH, height), paint, f"{title}: {listed}."),
        data,
        "Each bar is how often a rule predicts what a person chose, with its 95 % interval. Grey rules know nobody. The step from "
        f"the best grey bar to the personal one is what a quick personal model gains{rest}",
    )


def majority_histogram(audit: Mapping[str, Any], name: str) -> Drawing | None:
    """How often the majority is right about each person."""
    found = audit.get("mv_acc") or {}
    histogram = found.get("histogram")
    if not histogram or not sum(histogram["people"]):
        return None
    edges, people = np.array(histogram["edges"]), np.array(histogram["people"])
    height = 236

    def paint(figure: Figure) -> None:
        axes = blank(figure, (38, 42, WIDTH - 38 - 12, height - 42 - 34), grid="y")
        colours = [_OURS if end <= 0.5 + 1e-9 else _BLUE for end in edges[1:]]
        axes.bar(edges[:-1], people, np.diff(edges) * 0.9, align="edge", color=colours, alpha=0.85, linewidth=0)
        axes.axvline(0.5, color=INK, linewidth=1)
        first = edges[np.flatnonzero(people)[0]]
        axes.set_xlim(min(0.3, first), 1.0)
        top = axes.get_ylim()[1]
        axes.text(0.493, top, "majority mostly wrong", ha="right", va="bottom", color=_OURS, fontsize=SMALL)
        axes.text(0.507, top, "majority mostly right", va="bottom", color=_BLUE, fontsize=SMALL)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(_hundreds))
        figure.text(2 / WIDTH, 1 - 13 / height, "people", fontsize=11.5)
        figure.text(
            (WIDTH - 12) / WIDTH,
            4 / height,
            "answers of the person that the majority gets right, %",
            ha="right",
            color=MUTED,
            fontsize=SMALL,
        )

    title = "Who is with the majority"
    low = int(people[edges[1:] <= 0.5 + 1e-9].sum())
    description = f"{title}: {words.count(low)} of {words.count(int(people.sum()))} people have a majority-vote accuracy of at most 50 %."
    return Drawing(
        name,
        title,
        description,
        draw(name, (WIDTH, height), paint, description),
        {"from": edges[:-1].tolist(), "to": edges[1:].tolist(), "people": people.tolist()},
        "Each person is placed by how often the others' majority vote agrees with the person's own choices, the own vote left "
        "out. Few answers scatter people widely, so not everybody left of the line is a minority: the share given in the text "
        "counts only those for whom it is sure.",
    )


def divergence_bars(audit: Mapping[str, Any], name: str) -> Drawing | None:
    """Share of pairs with any and with strong dissent, beside what noise alone would give."""
    bars = _divergence_rows(audit)
    if not bars:
        return None
    height = 38 + 25 * (len(bars) + len({group for group, *_ in bars}))

    def paint(figure: Figure) -> None:
        axes = blank(figure, (_LABELS, 38, WIDTH - _LABELS - 58, height - 38), grid="x")
        labels: list[str] = []
        for i, (group, label, found, colour) in enumerate(bars):
            if i == 0 or bars[i - 1][0] != group:
                place = (-_LABELS, 0), ("axes fraction", "data"), "offset points"
                axes.annotate(group, (0, -len(labels)), *place, va="center", fontweight="bold")
                labels.append("")
            _bar(axes, -len(labels), found, colour)
            labels.append(label)
        axes.set_yticks([-i for i in range(len(labels))], labels)
        axes.set(xlim=(0, 1), ylim=(0.5 - len(labels), 0.5))
        axes.spines["bottom"].set_visible(False)
        axes.xaxis.set_major_formatter(FuncFormatter(_hundreds))
        figure.text(_LABELS / WIDTH, 5 / height, "pairs, %", color=MUTED, fontsize=SMALL)

    title = "How often people disagree"
    listed = words.listing(
        f"{group.lower()}, {label} {words.percent(found['value'], 0)}" for group, label, found, _ in bars
    )
    data = {"dissent": [group for group, *_ in bars], "source": [label for _, label, *_ in bars]} | {
        key: [found.get(key) for *_, found, _ in bars] for key in ("value", "low", "high")
    }
    raters = (audit.get("settings") or {}).get("min_raters", 5)
    return Drawing(
        name,
        title,
        f"{title}: {listed}.",
        draw(name, (WIDTH, height), paint, f"{title}: {listed}."),
        data,
        f"Votes are counted on pairs with at least {raters} raters only; strong dissent is 30 % or more against the majority. "
        "Grey bars are what the same raters would show with one taste and their own noise, or by tossing coins: only what "
        "stands above them is taste. Models speak about the pairs with too few raters.",
    )


def power_plot(audit: Mapping[str, Any], name: str) -> Drawing | None:
    """Chance that a study of so many people with so many answers shows a gain."""
    points: Sequence[Mapping[str, Any]] = (audit.get("decision") or {}).get("power_curve") or []
    if not points:
        return None
    levels = sorted({int(point["answers"]) for point in points})[-len(_SHADES) :]
    lines = {k: sorted((point["users"], point["power"]) for point in points if point["answers"] == k) for k in levels}
    height = 282

    def paint(figure: Figure) -> None:
        axes = blank(figure, (38, 40, WIDTH - 38 - 32, height - 40 - 36), grid="y")
        axes.set_xscale("log")
        axes.set(xlim=_people_shown(lines, int(audit.get("n_users") or 0)), ylim=(0, 1.02))
        axes.axhline(0.8, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
        for shade, line in zip(_SHADES[-len(levels) :], lines.values(), strict=True):
            axes.plot(*zip(*line, strict=True), color=_BLUE, alpha=shade, linewidth=1.8)
        _name_lines(axes, lines)
        _mark_people(axes, int(audit.get("n_users") or 0))
        decades = math.log10(axes.get_xlim()[1] / axes.get_xlim()[0])
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if decades > 2.5 else (1.0, 2.0, 5.0), numticks=8))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: words.count(int(value))))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_locator(MultipleLocator(0.2))
        axes.yaxis.set_major_formatter(FuncFormatter(_hundreds))
        figure.text(2 / WIDTH, 1 - 13 / height, "power, %", fontsize=11.5)
        figure.text((WIDTH - 32) / WIDTH, 5 / height, "people", ha="right", color=MUTED, fontsize=SMALL)

    title = "How much data would show it"
    assumes = (audit.get("decision") or {}).get("assumes", "tastes of a reference strength")
    description = (
        f"{title}: power against people, one line per number of answers each ({words.listing(map(str, levels))})."
    )
    keys = ("users", "answers", "expected_gain", "power")
    return Drawing(
        name,
        title,
        description,
        draw(name, (WIDTH, height), paint, description),
        {key: [point.get(key) for point in points] for key in keys},
        "Power is the chance that a study of this size shows a gain whose interval excludes zero; the dashed line is the usual "
        f"80 %. One line per number of answers a person. It assumes {assumes}.",
    )


def _people_shown(lines: Mapping[int, Sequence[tuple[float, float]]], people: int) -> tuple[float, float]:
    """From the fewest people to where every line has arrived, and past the people at hand."""
    first = min(line[0][0] for line in lines.values())
    arrived = [next((users for users, power in line if power >= 0.99), line[-1][0]) for line in lines.values()]
    return first, min(max(*arrived, 2 * people, 10 * first), max(line[-1][0] for line in lines.values()))


def _name_lines(axes: Axes, lines: Mapping[int, Sequence[tuple[float, float]]]) -> None:
    """The number of answers beside each line; names of lines that begin high are moved apart."""
    places = {k: _halfway(line) for k, line in lines.items()}
    first = axes.get_xlim()[0]
    crowd = [k for k, (users, _) in places.items() if users == first]
    heights = dict(zip(crowd, spread([places[k][1] - 0.05 for k in crowd], 0.075, 0.0, 0.93), strict=True))
    for k, (users, power) in places.items():
        text = words.answers(k) if k == min(lines) else str(k)
        place = (users, heights.get(k, power)), (6, -4)
        axes.annotate(text, *place, textcoords="offset points", color=_BLUE, fontsize=SMALL)


def _halfway(line: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Where a rising line of (people, power) first passes one half, on a logarithmic scale; its start if it begins above."""
    for (users, power), (more, later) in pairwise(line):
        if power < 0.5 <= later:
            part = (0.5 - power) / (later - power)
            return users * (more / users) ** part, 0.5
    return line[0] if line[0][1] >= 0.5 else line[-1]


def _mark_people(axes: Axes, people: int) -> None:
    """A line at the number of people at hand, if the axis reaches it."""
    first, last = axes.get_xlim()
    if not first < people < last:
        return
    axes.axvline(people, color=_OURS, linewidth=1.4)
    late = people > math.sqrt(first * last)
    axes.annotate(
        f"these data, {words.count(people)}",
        (people, 1.02),
        (-5 if late else 5, 4),
        textcoords="offset points",
        ha="right" if late else "left",
        color=_OURS,
        fontsize=SMALL,
    )


def _bar(axes: Axes, y: float, found: Mapping[str, Any], colour: str, *, left: float = 0.0, digits: int = 0) -> None:
    """One bar with its interval, and its value at the right edge."""
    axes.barh(y, found["value"] - left, left=left, height=0.52, color=colour, alpha=0.85, linewidth=0)
    if found.get("low") is not None and found.get("high") is not None:
        axes.plot([found["low"], found["high"]], [y, y], color=INK, linewidth=1.4)
    place = (6, 0), ("axes fraction", "data"), "offset points"
    axes.annotate(words.percent(found["value"], digits), (1, y), *place, va="center")


def _hundreds(value: float, _: int) -> str:
    return f"{100 * value:.0f}"


def _rungs(audit: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any], str]]:
    """(label, estimate, colour) from worst to best rule, then the personal model and the ceiling."""
    room = audit.get("room") or {}
    names = {"length": "prefer the longer", "position": "prefer the left", "popularity": "prefer the popular"}
    simple = [
        (names.get(key, key), found, _GREY)
        for key, found in (room.get("non_personal") or {}).items()
        if found and found.get("value") is not None
    ]
    simple.sort(key=lambda rung: rung[1]["value"])
    personal = room.get("personal")
    if personal and personal.get("value") is not None:
        simple.append(("personal model", personal, _OURS))
    ceiling = (audit.get("consistency") or {}).get("ceiling")
    if simple and ceiling and ceiling.get("value") is not None:
        simple.append((_CEILING, ceiling, _GREEN))
    return simple


def _divergence_rows(audit: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any], str]]:
    rows: list[tuple[str, str, Mapping[str, Any], str]] = []
    for key, group in (("divergence", "Any dissent"), ("high_divergence", "Strong dissent")):
        found = audit.get(key) or {}
        sources = [
            ("votes", found, _BLUE),
            ("model of the votes", found.get("votes_model"), _BLUE),
            ("model of tastes", found.get("taste_model"), _OURS),
            ("one taste, own noise", {"value": found.get("noise_expected")}, _GREY),
            ("coins tossed", {"value": found.get("coin_expected")}, _GREY),
        ]
        rows += [(group, label, one, colour) for label, one, colour in sources if one and one.get("value") is not None]
    return rows
