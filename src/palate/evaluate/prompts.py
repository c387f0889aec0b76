"""Which prompts personalization helps: each prompt's gain over `pooled`, shrunken, because a prompt has few people.

    x_g = θ_g + e_g,   e_g ~ N(0, s²/n_g),   θ_g ~ N(μ, τ²)

x_g is the mean over the n_g people who were asked about prompt g of each one's gain there, s² the variance of people
inside a prompt, pooled over prompts, τ² what prompts differ beyond that chance. Reported is the posterior of θ_g: the
extremes of raw means over a handful of people are chance and little else. Where a data set has few prompts, its items
take their place; a row then counts for both of its items.

Source: DerSimonian and Laird 1986 for τ²; Efron and Morris 1975 for the shrinkage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from scipy import stats

from palate.evaluate.contenders import REFERENCE
from palate.evaluate.metrics import correct
from palate.evaluate.results import CEILINGS, PER_PROMPT, SEEN
from palate.evaluate.summary import Sitting, asked_alike, asked_at

if TYPE_CHECKING:
    from palate.data import PreferenceDataset

__all__ = ["SHOWN", "Shrunken", "gains_by_prompt", "shrink"]

SHOWN = 1000
"""At most so many prompts are kept per method, those with the most people; μ and τ come from all."""

_EXCERPT = 280
_Z = 1.959964


@dataclass(frozen=True)
class Shrunken:
    """Gains of g prompts.

    Args:
        raw: (g,) mean over people.
        value, low, high: (g,) posterior mean and its 95 % interval.
        people: (g,) how many people each rests on.
        mean: μ, of a typical prompt.
        spread: τ, by how much prompts differ beyond chance (a standard deviation).
        chance: probability of differences as large as these if all prompts were alike (Cochran's Q).
    """

    raw: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    people: np.ndarray
    mean: float
    spread: float
    chance: float


def shrink(gain: np.ndarray, prompt: np.ndarray, n_prompts: int) -> Shrunken:
    """Shrink prompts' mean gains towards their common mean.

    Args:
        gain: (m,) one person's gain on one prompt.
        prompt: (m,) which prompt, in [0, n_prompts); each has at least one row.
        n_prompts: how many.
    """
    people = np.bincount(prompt, minlength=n_prompts).astype(np.float64)
    raw = np.bincount(prompt, gain, n_prompts) / people
    freedom = len(gain) - n_prompts
    inside = float(((gain - raw[prompt]) ** 2).sum() / freedom) if freedom > 0 else float(np.var(gain))
    error = max(inside, 1e-12) / people
    weight = 1 / error
    common = float(weight @ raw / weight.sum())
    q = float(weight @ (raw - common) ** 2)
    scale = float(weight.sum() - (weight**2).sum() / weight.sum())
    between = max(0.0, (q - (n_prompts - 1)) / scale) if scale > 0 else 0.0
    precision = 1 / (error + between)
    mean = float(precision @ raw / precision.sum())
    kept = between / (between + error)  # the share of a prompt's own deviation that is believed
    value = mean + kept * (raw - mean)
    half = _Z * np.sqrt(kept * error + (1 - kept) ** 2 / precision.sum())
    chance = float(stats.chi2.sf(q, n_prompts - 1)) if n_prompts > 1 and freedom > 0 else math.nan
    return Shrunken(raw, value, value - half, value + half, people.astype(np.int64), mean, math.sqrt(between), chance)


def gains_by_prompt(
    sittings: Mapping[str, Sequence[Sitting]], dataset: PreferenceDataset, *, by_prompt: bool
) -> pl.DataFrame:
    """Gains over `pooled` of every method on every prompt: for seen people, or for new ones with the most answers.

    Args:
        sittings: label of a method -> its cells, as for `palate.evaluate.summary.summarise`.
        dataset: for the texts.
        by_prompt: whether prompts are told apart; else items.

    Returns:
        Columns `palate.evaluate.results.PER_PROMPT`.
    """
    frames = [pl.DataFrame(schema=PER_PROMPT)]
    for group, emitted in asked_alike(sittings):
        rivals = [label for label in emitted if label != REFERENCE and label not in CEILINGS]
        if REFERENCE not in group or not rivals:
            continue
        ks = {int(k) for one in group[REFERENCE] for k in one.predictions["k"].unique()}
        if not ks:
            continue
        k = SEEN if SEEN in ks else max(ks)
        asked = asked_at({label: group[label] for label in (REFERENCE, *rivals)}, k, by_prompt)
        hits = correct(asked.label[:, None], asked.probability)
        gains = hits[:, 1:] - hits[:, :1]
        texts = dataset.prompts if by_prompt else [response for _, response in dataset.item_texts()]
        cell = group[REFERENCE][0].cell
        for label, gain in zip(rivals, gains.T, strict=True):
            found = _frame(asked.group, asked.user, gain, asked.weight, texts)
            named = (("data", cell["data"]), ("protocol", cell["protocol"]), ("method", label))
            kind = pl.lit("prompt" if by_prompt else "item").alias("kind")
            frames.append(
                found.with_columns(*(pl.lit(value).alias(name) for name, value in named), kind, pl.lit(k).alias("k"))
                .select(*PER_PROMPT)
                .cast(PER_PROMPT)
            )
    return pl.concat(frames)


def _frame(
    group: np.ndarray, user: np.ndarray, gain: np.ndarray, weight: np.ndarray, texts: Sequence[str]
) -> pl.DataFrame:
    """One line per prompt that was asked about; first each person's mean there, over rows and cells."""
    width = 1 if group.ndim == 1 else group.shape[1]
    rows = pl.DataFrame(
        {
            "number": group.reshape(-1),
            "user": np.repeat(user, width),
            "gain": np.repeat(gain * weight, width),
            "weight": np.repeat(weight, width),
        }
    )
    people = (
        rows.filter(pl.col("weight") > 0)
        .group_by("number", "user")
        .agg(pl.col("gain").sum() / pl.col("weight").sum())
        .sort("number", "user")
    )
    if people.is_empty():
        return pl.DataFrame(schema={name: PER_PROMPT[name] for name in _NUMBERS})
    numbers, place = np.unique(people["number"].to_numpy(), return_inverse=True)
    found = shrink(people["gain"].to_numpy(), place, len(numbers))
    frame = pl.DataFrame(
        {
            "number": numbers,
            "text": [excerpt(texts[number]) for number in numbers],
            "n_users": found.people,
            "raw": found.raw,
            "gain": found.value,
            "low": found.low,
            "high": found.high,
        }
    ).with_columns(
        pl.lit(len(numbers)).alias("of"),
        pl.lit(found.mean).alias("mean"),
        pl.lit(found.spread).alias("spread"),
        pl.lit(found.chance).alias("chance"),
    )
    return frame.sort("n_users", "number", descending=[True, False]).head(SHOWN).sort("number")


_NUMBERS = ("number", "text", "n_users", "raw", "gain", "low", "high", "of", "mean", "spread", "chance")


def excerpt(text: str) -> str:
    """The beginning of a text on one line, cut between words."""
    line = " ".join(text.split())
    if len(line) <= _EXCERPT:
        return line
    cut = line[:_EXCERPT]
    return f"{cut.rsplit(' ', 1)[0] or cut}\u2026"
