"""A person in words: named axes of taste with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from palate.errors import InputError
from palate.features.style import StyleFeatures
from palate.models.base import Method
from palate.models.linear import LinearMethod
from palate.types import Items, UserState

__all__ = ["Axis", "Taste", "axis_names", "profile"]

_TOLD = 0.25
"""Share of a statistic's variance that the model's axes must explain before a person's taste is told in its words."""

_ALIKE = 0.7
"""Directions whose cosine is above this are one axis, told by the better explained one."""

_Z90 = 1.6448536269514722

_WORDS = {
    "log_words": ("short replies", "long replies"),
    "log_word_length": ("short words", "long words"),
    "log_sentence_length": ("short sentences", "long sentences"),
    "exclamations": ("calm replies", "exclamation marks"),
    "questions": ("no questions back", "questions back"),
    "digits": ("few numbers", "numbers"),
    "list_lines": ("running text", "lists"),
    "markup": ("plain text", "bold and headings"),
    "emoji": ("no emoji", "emoji"),
    "contractions": ("formal wording", "contractions"),
    "hedging_minus_certainty": ("certainty", "hedging"),
    "politeness": ("blunt replies", "polite words"),
    "second_minus_first_person": ("“I” and “we”", "“you”"),
}
"""Style statistic -> what less of it, and what more of it, is called."""


@dataclass(frozen=True)
class Axis:
    """One direction of taste.

    Args:
        less, more: what the two ends are called.
        direction: (r,) how a person's weights change the reward of one standard deviation more.
        shared: what everybody gives for one standard deviation more, in logits.
        told: share of the statistic's variance, within prompts, that the model's axes explain; NaN for a bare axis.
    """

    less: str
    more: str
    direction: np.ndarray
    shared: float
    told: float


@dataclass(frozen=True)
class Taste:
    """What a person gives for one standard deviation more along an axis, in logits, with a 90 % interval.

    Args:
        axis: which one.
        value: posterior mean.
        low, high: ends of the interval.
    """

    axis: Axis
    value: float
    low: float
    high: float

    @property
    def sure(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        """In words, turned so that what the person likes more counts as positive."""
        if self.value >= 0:
            return f"{self.axis.more} {self.value:+.2f} ({self.low:+.2f} to {self.high:+.2f})"
        return f"{self.axis.less} {-self.value:+.2f} ({-self.high:+.2f} to {-self.low:+.2f})"


def axis_names(method: Method, items: Items, texts: Sequence[tuple[str, str]], *, most: int = 6) -> list[Axis]:
    """Axes of taste that can be told in words of style, and bare numbered axes where none fits.

    For each statistic of style, compared within prompts, the axes' basis is regressed on it; what a person gives for more
    of it is then the slope of their reward. Statistics that the basis does not explain are left out: the model could not
    see a taste for them.

    Args:
        method: fitted, with a linear reward.
        items: n replies.
        texts: n (prompt, reply) texts of the same replies.
        most: axes returned.

    Returns:
        Up to `most` axes, best explained first. Where no statistic is explained: the method's principal axes over the items,
        called "axis 1 −" and "axis 1 +", with their own standard deviation as unit.

    Raises:
        InputError: as many texts as items are needed, or the method has no linear reward.
    """
    if not method.traits.linear:
        raise InputError(f"{method.name} has no axes of taste; use hierarchical or factor")
    if len(items) != len(texts):
        raise InputError(f"{len(items)} items and {len(texts)} texts; give one text per item")
    linear = cast(LinearMethod, method)
    prompt = np.unique([prompt for prompt, _ in texts], return_inverse=True)[1]
    basis = _within(linear.basis(items), prompt)
    shared = linear.offset(items)
    if linear.has_base_:
        shared = shared + linear.base_scale_ * items.base_reward
    shared = _within(shared[:, None], prompt)[:, 0]
    styles = StyleFeatures()
    columns = _within(styles.embed(texts).astype(np.float64), prompt)
    found = []
    for name, column in zip(styles.columns, columns.T, strict=True):
        if name in _WORDS and (deviation := column.std()) > 1e-9:
            z = column / deviation
            less, more = _WORDS[name]
            found.append(Axis(less, more, basis.T @ z / len(z), float(shared @ z / len(z)), _explained(basis, z)))
    found = _distinct(sorted((axis for axis in found if axis.told >= _TOLD), key=lambda axis: -axis.told))
    return found[:most] or _bare(basis, shared, most)


def profile(state: UserState, axes: Sequence[Axis]) -> list[Taste]:
    """Where a person stands on each axis, by the posterior; the surest tastes first."""
    mean, covariance = state["mean"], state["covariance"]
    tastes = []
    for axis in axes:
        value = axis.shared + float(axis.direction @ mean)
        reach = _Z90 * float(np.sqrt(max(0.0, axis.direction @ covariance @ axis.direction)))
        tastes.append(Taste(axis, value, value - reach, value + reach))
    return sorted(tastes, key=lambda taste: -abs(taste.value) / max(taste.high - taste.low, 1e-12))


def _within(values: np.ndarray, prompt: np.ndarray) -> np.ndarray:
    """Differences from the mean of the same prompt; from the mean of all where every prompt has one reply."""
    count = np.bincount(prompt)
    if count.max() < 2:
        return values - values.mean(0)
    means = np.stack([np.bincount(prompt, column) / count for column in values.T], 1)
    return values - means[prompt]


def _explained(basis: np.ndarray, z: np.ndarray) -> float:
    """Share of the variance of z (mean square 1) explained by the basis, adjusted for the number of its columns."""
    fitted = basis @ np.linalg.lstsq(basis, z, rcond=None)[0]
    n, r = basis.shape
    return float(1.0 - np.mean((z - fitted) ** 2) * (n - 1) / max(1, n - r - 1))


def _distinct(axes: Sequence[Axis]) -> list[Axis]:
    """The axes without those that point, either way, where an earlier one points."""
    kept: list[Axis] = []
    units: list[np.ndarray] = []
    for axis in axes:
        length = float(np.linalg.norm(axis.direction))
        if length == 0.0:
            continue
        unit = axis.direction / length
        if all(abs(unit @ other) < _ALIKE for other in units):
            kept.append(axis)
            units.append(unit)
    return kept


def _bare(basis: np.ndarray, shared: np.ndarray, most: int) -> list[Axis]:
    values, vectors = np.linalg.eigh(basis.T @ basis / len(basis))
    axes = []
    for number, place in enumerate(np.argsort(-values)[:most], 1):
        if values[place] <= 0:
            break
        deviation = float(np.sqrt(values[place]))
        slope = float(shared @ (basis @ vectors[:, place])) / (len(basis) * deviation)
        axes.append(Axis(f"axis {number} −", f"axis {number} +", deviation * vectors[:, place], slope, float("nan")))
    return axes
