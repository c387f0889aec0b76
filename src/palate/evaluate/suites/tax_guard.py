"""The frontier of gain against tax under a guard, and the strength that other people and other pairs choose.

Chosen is the spread that keeps the most gain among those whose mean tax is at most `MEAN` points and whose interval stays above
-`WORST` points, on validation people and on pairs inside the half that is not measured. Both are changes from the pooled
ranking, which is a spread without end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from palate.evaluate.suites.picture import curves
from palate.evaluate.suites.result import Row, row
from palate.evaluate.suites.tax_exam import Cells, Part, interval
from palate.evaluate.suites.tax_methods import SPREADS, decode
from palate.evaluate.suites.tax_words import MEASURABLE
from palate.statistics import Estimate, two_way

__all__ = ["KEEP", "MEAN", "WORST", "guard"]

MEAN, WORST, KEEP = 1.0, 5.0, 0.9
"""Points of mean tax, points of its upper bound, and share of the gain: what a good guard reaches."""

_NONE, _ALL = str(SPREADS[0]), str(SPREADS[-1])
_VALIDATION = ": validation"
_CHOSEN = "chosen on validation"


@dataclass(frozen=True)
class _Sitting:
    """People and pairs of one or more cells.

    Args:
        right: (people, pairs) by strength.
        accuracy: (people,) by strength.
        category, prompt: (pairs,) of each pair.
        base: (pairs,) whether the base reward is right; empty where the cells do not say.
    """

    right: Mapping[str, np.ndarray]
    accuracy: Mapping[str, np.ndarray]
    category: np.ndarray
    prompt: np.ndarray
    base: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def measurable(self) -> list[str]:
        """Categories that the base reward can tell here; all, where it can tell none."""
        names = list(dict.fromkeys(self.category.tolist()))
        return [name for name in names if self.base[self.category == name].mean() >= MEASURABLE] or names

    def tax(self, strength: str, against: np.ndarray, categories: Sequence[str]) -> Estimate:
        """Change in points over these categories."""
        change = 100.0 * (self.right[strength] - against)
        people, pairs = change.shape
        weight = np.zeros(pairs)
        for name in categories:
            own = self.category == name
            weight[own] = 1.0 / max(int(own.sum()), 1)
        kept = weight > 0
        return two_way(
            change[:, kept].ravel(),
            np.repeat(np.arange(people), int(kept.sum())),
            np.tile(self.prompt[kept], people),
            weight=np.tile(weight[kept], people),
            rng=0,
        )

    def gain(self, strength: str, against: np.ndarray) -> float:
        """Change of accuracy in points."""
        return 100.0 * float((self.accuracy[strength] - against).mean())


def guard(cells: Cells, measurable: Sequence[str]) -> Part:
    """The frontier of every guarded method, the chosen spread, and the other guards."""
    part = Part()
    names = [i["setting"] for i, _ in cells if i["figure"] == "guard" and not i["setting"].endswith(_VALIDATION)]
    for name in dict.fromkeys(names):
        validation = _sitting(cells, "guard", name + _VALIDATION, "spreads")
        chosen = {half: _choose(one, one.measurable()) for half, one in _by_half(cells, name + _VALIDATION).items()}
        tested = _with_chosen(_sitting(cells, "guard", name, "spreads"), _by_half(cells, name), chosen)
        for which, sitting in (("validation", validation), ("test", tested)):
            part.rows += [_told(name, sitting, spread, measurable, where=which) for spread in sitting.right]
        part.rows[-1]["note"] = ", ".join(f"{_named(spread)} for the half {half}" for half, spread in chosen.items())
        nothing, everything = tested.right[_NONE], tested.gain(_ALL, tested.accuracy[_NONE])
        ways = _sitting(cells, "ways", name, "ways")
        for strength in ways.right:
            tax = ways.tax(strength, nothing, measurable)
            gain = ways.gain(strength, tested.accuracy[_NONE])
            part.rows.append(_frontier_row("ways", name, strength, tax, gain, everything))
    if part.rows:
        part.tables = {"guard": _guard_table(part.rows), "ways": _ways_table(part.rows)}
        part.pictures = {"guard": _picture(part.rows)}
    return part


def _by_half(cells: Cells, setting: str) -> dict[str, _Sitting]:
    """The guard's cells, each half for itself."""
    halves = dict.fromkeys(i["half"] for i, _ in cells if i["figure"] == "guard" and i["setting"] == setting)
    return {
        half: _sitting([cell for cell in cells if cell[0].get("half") == half], "guard", setting, "spreads")
        for half in halves
    }


def _with_chosen(whole: _Sitting, parts: Mapping[str, _Sitting], chosen: Mapping[str, str]) -> _Sitting:
    """One strength more: each half under the spread that was chosen for it."""
    right = np.hstack([part.right[chosen[half]] for half, part in parts.items()])
    accuracy = np.mean([part.accuracy[chosen[half]] for half, part in parts.items()], axis=0)
    return replace(
        whole, right=dict(whole.right) | {_CHOSEN: right}, accuracy=dict(whole.accuracy) | {_CHOSEN: accuracy}
    )


def _sitting(cells: Cells, figure: str, setting: str, key: str) -> _Sitting:
    """All halves of a cell side by side, those of further seeds below."""
    blocks = {
        (i["seed"], i["half"]): values[key] | {"about": values}
        for i, values in cells
        if i["figure"] == figure and i["setting"] == setting
    }
    about = {(i["seed"], i["half"]): values for i, values in cells if i["figure"] == "base"}
    seeds, halves = list(dict.fromkeys(seed for seed, _ in blocks)), list(dict.fromkeys(half for _, half in blocks))
    strengths = sorted((name for name in next(iter(blocks.values())) if name != "about"), key=_by_strength)
    right = {
        name: np.vstack([np.hstack([decode(blocks[seed, half][name]["right"]) for half in halves]) for seed in seeds])
        for name in strengths
    }
    accuracy = {
        name: np.concatenate(
            [np.mean([blocks[seed, half][name]["accuracy"] for half in halves], axis=0) for seed in seeds]
        )
        for name in strengths
    }
    own = [blocks[seeds[0], half]["about"] for half in halves]
    own = [one if "prompt" in one else about[seeds[0], half] for one, half in zip(own, halves, strict=True)]
    base = [decode([one["base"]])[0] for one in own if "base" in one]
    category, prompt = (np.concatenate([np.array(one[name]) for one in own]) for name in ("category", "prompt"))
    return _Sitting(right, accuracy, category, prompt, np.concatenate(base) if base else np.zeros(0))


def _by_strength(name: str) -> tuple[str, float]:
    """Kind, then strength: cells are kept as JSON, whose keys stand in the order of the alphabet."""
    kind, _, strength = name.rpartition(" ")
    return kind, float(strength)


def _choose(sitting: _Sitting, measurable: Sequence[str]) -> str:
    nothing, chosen, best = sitting.right[_NONE], _NONE, 0.0
    for spread in map(str, SPREADS):
        tax, gain = sitting.tax(spread, nothing, measurable), sitting.gain(spread, sitting.accuracy[_NONE])
        if tax.value >= -MEAN and not tax.low < -WORST and gain > best:
            chosen, best = spread, gain
    return chosen


def _told(name: str, sitting: _Sitting, spread: str, measurable: Sequence[str], *, where: str) -> Row:
    tax = sitting.tax(spread, sitting.right[_NONE], measurable)
    gain, everything = (sitting.gain(one, sitting.accuracy[_NONE]) for one in (spread, _ALL))
    return _frontier_row("guard", name, spread, tax, gain, everything) | {"where": where}


def _frontier_row(figure: str, name: str, strength: str, tax: Estimate, gain: float, everything: float) -> Row:
    told, share = tax.to_dict(), gain / everything if everything > 0 else None
    return row(
        figure, name, "tax over pooled", told["value"], low=told["low"], high=told["high"],
        strength=strength, gain=gain, kept=share,
        reaches=bool(share is not None and share >= KEEP and tax.value >= -MEAN and tax.low >= -WORST),
    )  # fmt: skip


def _named(strength: str) -> str:
    return "no guard" if strength == _ALL else "pooled" if strength == _NONE else strength


def _guard_table(rows: Sequence[Row]) -> tuple[list[str], list[list[Any]]]:
    body = []
    for told in rows:
        if told["figure"] != "guard" or told["where"] != "test":
            continue
        validated = [
            one for one in rows
            if one["figure"] == "guard" and one["where"] == "validation"
            and (one["setting"], one["strength"]) == (told["setting"], told["strength"])
        ]  # fmt: skip
        seen = [f"{one[what]:+.1f}" for one in validated for what in ("gain", "value")] or ["", ""]
        body.append(
            [
                told["setting"], _named(told["strength"]), f"{told['gain']:+.1f}", _share(told["kept"]),
                f"{told['value']:+.1f}", interval(told), *seen, told["note"] or "",
            ]
        )  # fmt: skip
    return [
        *("method", "spread", "gain", "kept", "tax over pooled", "95 %"),
        *("gain (validation)", "tax (validation)", ""),
    ], body


def _ways_table(rows: Sequence[Row]) -> tuple[list[str], list[list[Any]]]:
    body = [
        [told["setting"], told["strength"], f"{told['gain']:+.1f}", _share(told["kept"]), f"{told['value']:+.1f}",
         interval(told), "reaches both" if told["reaches"] else ""]
        for told in rows
        if told["figure"] == "ways"
    ]  # fmt: skip
    return ["method", "guard and strength", "gain", "kept", "tax over pooled", "95 %", ""], body


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _picture(rows: Sequence[Row]) -> str:
    lines = {
        f"{name}, {where}": [
            (-told["value"], told["gain"])
            for told in rows
            if told["figure"] == "guard"
            and told["setting"] == name
            and told["where"] == where
            and told["strength"] != _CHOSEN
        ][::-1]
        for name in dict.fromkeys(told["setting"] for told in rows if told["figure"] == "guard")
        for where in ("test", "validation")
    }
    return curves(lines, "tax over pooled, points lost", "gain over pooled, points")
