"""One colour and one marker per method, the same in every figure, in light and in dark.

Figures are drawn with sentinel colours (hex values nobody would choose) and those become CSS variables in the page, so
that one drawing serves both themes and the reader's print-out. The hues are spaced for the three common kinds of
colour blindness, all have a contrast of at least 3:1 on their background, and a marker shape repeats what the colour says.

Source: hues after M. Okabe and K. Ito, "Color Universal Design", 2008, darkened or lightened per theme.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["OURS", "THEME", "Look", "css_variables", "looks", "sentinel", "sentinels"]

OURS = "hierarchical"
"""The method that Palate brings; drawn heavier wherever it takes part."""

THEME: dict[str, tuple[str, str]] = {
    # name: (light, dark)
    "paper": ("#fcfbf8", "#15171b"),
    "card": ("#ffffff", "#1c1f25"),
    "ink": ("#1d1f24", "#e9e7e2"),
    "muted": ("#5c616b", "#a4a9b3"),
    "faint": ("#8b909a", "#7d838e"),
    "rule": ("#dedbd3", "#343942"),
    "wash": ("#f3f1eb", "#22262d"),
    "link": ("#14598f", "#7fbdf0"),
    "good": ("#1b7a4b", "#56c78d"),
    "warn": ("#8f5b00", "#e2b04c"),
    "bad": ("#b3341f", "#ff8a72"),
    "method-reference": ("#6a707b", "#a2a9b4"),
    "method-ours": ("#cc4710", "#ff8a55"),
    "method-blue": ("#1f66b0", "#6fb1f5"),
    "method-green": ("#0b8060", "#45c79b"),
    "method-pink": ("#b0508a", "#ea95c5"),
    "method-violet": ("#6f55bd", "#ac99f7"),
    "method-ochre": ("#93700a", "#dcb24c"),
    "method-sky": ("#16738f", "#68c9e6"),
    "method-olive": ("#66791a", "#b4c95c"),
    "method-brown": ("#8a5a3c", "#cf9f80"),
}
"""All colours of the page and of the figures."""

_FIXED = {
    "pooled": ("method-reference", "s"),
    OURS: ("method-ours", "o"),
    "factor": ("method-blue", "^"),
    "individual": ("method-green", "v"),
    "conditional": ("method-pink", "D"),
    "gpo": ("method-violet", "P"),
    "sklearn": ("method-ochre", "X"),
    "judge": ("method-sky", "<"),
    "oracle": ("muted", "_"),
    "consensus": ("muted", "_"),
}
_SPARE = (
    ("method-sky", ">"),
    ("method-olive", "h"),
    ("method-brown", "d"),
    ("method-pink", "p"),
    ("method-violet", "*"),
    ("method-blue", "8"),
)


@dataclass(frozen=True)
class Look:
    """How one method is drawn: a sentinel colour for matplotlib, the CSS variable behind it, and a marker."""

    colour: str
    css: str
    marker: str


def sentinel(name: str) -> str:
    """The stand-in hex colour to draw with; `canvas` turns it into `var(--name)`."""
    return f"#fe00{list(THEME).index(name):02x}"


def sentinels() -> Mapping[str, str]:
    """From stand-in colour to CSS variable, for the post-processing of a drawing."""
    return {sentinel(name): f"var(--{name})" for name in THEME}


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """One look per method: fixed for the built-in ones, spare ones in alphabetical order for the others."""
    methods = list(methods)
    strangers = sorted(method for method in methods if method not in _FIXED)
    taken = dict(_FIXED) | {name: _SPARE[i % len(_SPARE)] for i, name in enumerate(strangers)}
    return {name: Look(sentinel(taken[name][0]), f"var(--{taken[name][0]})", taken[name][1]) for name in methods}


def css_variables(theme: str) -> str:
    """The declarations of one theme, "light" or "dark"."""
    column = {"light": 0, "dark": 1}[theme]
    return " ".join(f"--{name}: {values[column]};" for name, values in THEME.items())
