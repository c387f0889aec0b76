"""The figures of the taste atlas: how many axes, where people lie, one person."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from palate.evaluate.interpret import Axis, Interpretation, PersonCard
from palate.report import words
from palate.report.axes import CARD, FAINT, INK, MUTED, RULE, SMALL, WIDTH
from palate.report.canvas import Drawing, blank, dots, draw
from palate.report.palette import sentinel

__all__ = ["COLOURS", "axis_title", "lanes", "person_forest", "spectrum", "taste_map"]

DRAWN = 600
"""At most so many people are drawn; medians and shares are of all."""

COLOURS = (
    *("method-blue", "method-green", "method-violet", "method-ochre"),
    *("method-pink", "method-sky", "method-olive", "method-brown"),
)
"""Of groups, in their order."""

_OURS = sentinel("method-ours")
_REACH = 3.0
_LANE = 62


def axis_title(axis: Axis, number: int) -> str:
    """ "2. longer / shorter"."""
    return f"{number}. {axis.name.text}"


def spectrum(found: Interpretation) -> Drawing:
    """Shares of the principal components, with the elbow."""
    shares, elbow = found.space.spectrum[:24], found.space.suggested_rank
    height = 210

    def paint(figure: Figure) -> None:
        axes = blank(figure, (44, 44, WIDTH - 56, height - 66), grid="y")
        places = np.arange(1, len(shares) + 1)
        kept = places <= (elbow or len(shares))
        axes.bar(places[kept], 100 * shares[kept], width=0.62, color=_OURS, linewidth=0)
        axes.bar(places[~kept], 100 * shares[~kept], width=0.62, color=FAINT, linewidth=0)
        axes.set(xlim=(0.3, max(len(shares), 4) + 0.7), xticks=places[:: 1 if len(shares) < 16 else 2])
        top = 100 * float(shares[0]) * 1.22
        axes.set_ylim(0, top)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0f} %")
        if elbow is not None and elbow < len(shares):
            axes.plot([elbow + 0.5] * 2, [0, top * 0.86], color=INK, linewidth=1.2)
            right = elbow < 0.6 * len(shares)
            axes.text(elbow + (0.6 if right else 0.4), top * 0.9, f"rank {elbow}", ha="left" if right else "right")
        figure.text(44 / WIDTH, 8 / height, "principal component", color=MUTED, fontsize=SMALL)

    title = "How many axes there are"
    description = f"Share of the variance that tastes cause, by principal component: {_percents(shares)}."
    return Drawing(
        "spectrum",
        title,
        description,
        draw("spectrum", (WIDTH, height), paint, description),
        {"component": list(range(1, len(shares) + 1)), "share": [float(share) for share in shares]},
        "Each bar is a direction in which tastes differ, and how much of all difference over the pool it holds. Where the bars "
        "fall off, more directions tell nothing. Bars of nearly equal height have no order of their own, which is why the axes "
        "below are turned (varimax) until each reply lies on few of them.",
    )


def lanes(found: Interpretation) -> Drawing:
    """One lane per axis: every person a dot between its two ends."""
    rows = _drawn(found)
    place, minority = found.space.people[found.people][rows], found.agreement.minority[rows]
    count = len(found.axes)
    height = 46 + _LANE * count + 20

    def paint(figure: Figure) -> None:
        axes = blank(figure, (10, 40, WIDTH - 20, height - 40 - 24))
        axes.set(xlim=(-_REACH, _REACH), ylim=(-0.45, count - 0.45), xticks=[-2, -1, 0, 1, 2], yticks=[])
        axes.spines["bottom"].set_visible(False)
        axes.xaxis.set_major_formatter(lambda value, _: words.number(value, 0))
        for x in (-2, -1, 1, 2):
            axes.axvline(x, color=RULE, linewidth=0.8)
        axes.axvline(0, color=FAINT, linewidth=1.0)
        for k, axis in enumerate(found.axes):
            _lane(axes, place[:, k], minority, count - 1 - k, axis, k + 1)
        figure.text(10 / WIDTH, 6 / height, "standard deviations of people", color=MUTED, fontsize=SMALL)
        _key(figure, height, bool(minority.any()))

    quantiles = np.quantile(found.space.people[found.people], [0.1, 0.5, 0.9], axis=0)
    description = "People on each axis, tenth, median and ninetieth percentile: " + "; ".join(
        f"{axis.name.text} {', '.join(words.number(value, 1) for value in quantiles[:, k])}"
        for k, axis in enumerate(found.axes)
    )
    return Drawing(
        "people-lanes",
        "Everybody on every axis",
        description + ".",
        draw("people-lanes", (WIDTH, height), paint, description),
        {f"axis {k + 1}": [round(float(x), 4) for x in place[:, k]] for k in range(count)}
        | {"minority": [bool(x) for x in minority]},
        "Each dot is a person, at the mean of what the model believes; the further out, the more that person cares. Zero is the "
        "average person. Beliefs are drawn towards zero where answers are few, so people spread more than their dots."
        + _sampled(found, rows),
    )


def _lane(axes: Axes, x: np.ndarray, minority: np.ndarray, y: int, axis: Axis, number: int) -> None:
    x = np.clip(x, -0.985 * _REACH, 0.985 * _REACH)
    heights = y - 0.12 + 0.2 * _jitter(x)
    dots(axes, x[~minority], heights[~minority], size=4.0, colour=_OURS, alpha=0.45)
    _diamonds(axes, x[minority], heights[minority], (WIDTH - 20) / (2 * _REACH), _LANE)
    axes.text(-_REACH, y + 0.22, _end(axis.name.low, number, "low"), color=INK)
    axes.text(_REACH, y + 0.22, _end(axis.name.high, number, "high"), color=INK, ha="right")


def taste_map(found: Interpretation) -> Drawing:
    """People on the two strongest axes, by group, minorities marked."""
    rows = _drawn(found)
    place, minority = found.space.people[found.people][rows][:, :2], found.agreement.minority[rows]
    label = found.groups.label[rows]
    height, box = 530, (45, 34, WIDTH - 90, WIDTH - 90)
    first, second = found.axes[0], found.axes[1]
    reach = min(_REACH, max(1.5, float(np.quantile(np.abs(place), 0.995)) * 1.1))

    def paint(figure: Figure) -> None:
        axes = blank(figure, box)
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[])
        axes.spines["bottom"].set_visible(False)
        for radius in (1, 2):
            turn = np.linspace(0, 2 * np.pi, 120)
            axes.plot(radius * np.cos(turn), radius * np.sin(turn), color=RULE, linewidth=0.9)
        axes.axhline(0, color=FAINT, linewidth=0.9)
        axes.axvline(0, color=FAINT, linewidth=0.9)
        x, y = np.clip(place, -0.985 * reach, 0.985 * reach).T
        for group in np.unique(label):
            here = (label == group) & ~minority
            dots(axes, x[here], y[here], size=5.0, colour=_group_colour(int(group)), alpha=0.7)
        _diamonds(axes, x[minority], y[minority], box[2] / (2 * reach), box[3] / (2 * reach))
        middle = (box[0] + box[2] / 2) / WIDTH
        top = (box[1] + box[3] + 6) / height
        figure.text(middle, top, _end(second.name.high, 2, "high"), ha="center", va="bottom")
        figure.text(middle, (box[1] - 6) / height, _end(second.name.low, 2, "low"), ha="center", va="top")
        level = (box[1] + box[3] / 2 + 5) / height
        figure.text(8 / WIDTH, level, _end(first.name.low, 1, "low", 18), va="bottom")
        figure.text(1 - 8 / WIDTH, level, _end(first.name.high, 1, "high", 18), ha="right", va="bottom")
        _key(figure, height, bool(minority.any()), len(found.groups), top=16)

    description = (
        f"People on the two strongest axes, {first.name.text} across and {second.name.text} upwards; "
        f"{words.percent(float(found.agreement.minority.mean()), 0)} of them are minorities."
    )
    return Drawing(
        "taste-map",
        "People on the two strongest axes",
        description,
        draw("taste-map", (WIDTH, height), paint, description),
        {
            "axis 1": [round(float(value), 4) for value in place[:, 0]],
            "axis 2": [round(float(value), 4) for value in place[:, 1]],
            "group": [int(value) + 1 if value >= 0 else None for value in label],
            "minority": [bool(value) for value in minority],
        },
        "Each dot is a person; the circles are one and two standard deviations of people. A minority person sides with most "
        "others on less than half of the pairs of the pool, as the model sees it. Two axes of "
        f"{len(found.axes)} are shown: groups that overlap here may lie apart on the others." + _sampled(found, rows),
    )


def person_forest(card: PersonCard, axes: Sequence[Axis]) -> Drawing:
    """One person's place on each axis with its 90 % interval."""
    count = len(axes)
    height = 40 + 48 * count + 8
    reach = max(2.0, float(np.abs([card.low, card.high]).max()) * 1.05)

    def paint(figure: Figure) -> None:
        panel = blank(figure, (14, 40, WIDTH - 28, height - 48))
        panel.set(
            xlim=(-reach, reach), ylim=(-0.5, count - 0.5), yticks=[], xticks=np.arange(-int(reach), int(reach) + 1)
        )
        panel.spines["bottom"].set_visible(False)
        panel.xaxis.set_major_formatter(lambda value, _: words.number(value, 0))
        panel.axvline(0, color=FAINT, linewidth=1.0)
        for k, axis in enumerate(axes):
            y = count - 1 - k
            sure = card.low[k] > 0 or card.high[k] < 0
            colour = _OURS if sure else FAINT
            panel.plot([card.low[k], card.high[k]], [y - 0.14] * 2, color=colour, linewidth=2.2, solid_capstyle="round")
            panel.plot([card.place[k]], [y - 0.14], "o", color=colour, markersize=8, markeredgecolor=CARD)
            low, high = _end(axis.name.low, k + 1, "low"), _end(axis.name.high, k + 1, "high")
            panel.text(-reach, y + 0.14, low, color=INK if card.high[k] < 0 else MUTED)
            panel.text(reach, y + 0.14, high, color=INK if card.low[k] > 0 else MUTED, ha="right")
        figure.text(14 / WIDTH, 6 / height, "standard deviations of people", color=MUTED, fontsize=SMALL)

    description = f"{card.title} on each axis with 90 % intervals: " + "; ".join(
        f"{axis.name.text} {words.number(card.place[k], 1)} ({words.number(card.low[k], 1)} to {words.number(card.high[k], 1)})"
        for k, axis in enumerate(axes)
    )
    return Drawing(
        "person",
        card.title,
        description + ".",
        draw("person", (WIDTH, height), paint, description),
        {
            "axis": [axis.name.text for axis in axes],
            "place": [float(x) for x in card.place],
            "low": [float(x) for x in card.low],
            "high": [float(x) for x in card.high],
        },
        "The dot is what the model believes, the bar holds 90 % of its doubt. Coloured where the bar does not touch the average "
        "person at zero; grey where the answers do not tell on which side this person is.",
    )


def _end(name: str, number: int, end: str, longest: int = 30) -> str:
    """An axis' end as figures write it: cut where it would meet the other one."""
    name = name or f"axis {number}, {end}"
    return name if len(name) <= longest else f"{name[: longest - 1]}\u2026"


def _drawn(found: Interpretation) -> np.ndarray:
    count = len(found.people)
    return np.arange(count) if count <= DRAWN else np.sort(np.random.default_rng(0).choice(count, DRAWN, replace=False))


def _sampled(found: Interpretation, rows: np.ndarray) -> str:
    return (
        f" A random {len(rows)} of {words.count(found.n_people)} people are drawn."
        if len(rows) < found.n_people
        else ""
    )


def _group_colour(group: int) -> str:
    return _OURS if group < 0 else sentinel(COLOURS[group % len(COLOURS)])


def _diamonds(axes: Axes, x: np.ndarray, y: np.ndarray, across: float, up: float) -> None:
    """Diamonds of 4 pixels, where a unit is `across` and `up` pixels."""
    for a, b in zip(x, y, strict=True):
        corners = np.array([[0, 4.2], [3.6, 0], [0, -4.2], [-3.6, 0]]) / [across, up] + [a, b]
        axes.fill(*corners.T, facecolor=INK, edgecolor=CARD, linewidth=0.6)


def _jitter(x: np.ndarray) -> np.ndarray:
    """(n,) offsets in [-1, 1]: neighbours in `x` far apart, wider where people are dense."""
    if len(x) == 0:
        return x
    ranks = np.argsort(np.argsort(x, kind="stable"), kind="stable")
    turn = 2 * np.modf((ranks + 0.5) * 0.6180339887)[0] - 1
    counts, edges = np.histogram(x, bins=min(41, max(5, len(x) // 6)))
    density = counts[np.clip(np.searchsorted(edges, x, side="right") - 1, 0, len(counts) - 1)]
    return turn * np.sqrt(density / density.max())


def _key(figure: Figure, height: float, minority: bool, groups: int = 0, top: float = 14) -> None:
    axes = blank(figure, (10, height - top - 8, WIDTH - 20, 16))
    axes.axis("off")
    axes.set(xlim=(0, WIDTH - 20), ylim=(-8, 8))
    names = [f"group {group + 1}" for group in range(groups)] if groups and groups <= 4 else []
    entries = [(_group_colour(group), name) for group, name in enumerate(names)] or [
        (MUTED if groups else _OURS, "a person")
    ]
    if groups > 4:
        entries = [(MUTED, f"a person; {groups} colours for {groups} groups")]
    x = 4.0
    for colour, name in entries:
        dots(axes, np.array([x]), np.array([0.0]), size=5.5, colour=colour)
        axes.text(x + 8, 0, name, va="center", color=MUTED, fontsize=SMALL)
        x += 26 + 6.4 * len(name)
    if minority:
        _diamonds(axes, np.array([x]), np.array([0.0]), 1.0, 1.0)
        axes.text(x + 8, 0, "minority", va="center", color=MUTED, fontsize=SMALL)


def _percents(shares: np.ndarray) -> str:
    return ", ".join(words.percent(float(share), 0) for share in shares[:12])
