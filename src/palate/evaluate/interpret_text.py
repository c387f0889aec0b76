"""An interpretation as lines for a terminal and as plain values for JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from palate.evaluate.interpret import Axis, Interpretation, PersonCard, Quote

__all__ = ["describe", "plain", "rank_advice"]

_WIDTH = 100


def describe(found: Interpretation) -> str:
    """The lines that `print` shows."""
    lines = [
        f"{found.method}, rank {found.rank}, over {found.n_replies:,} replies to {found.n_prompts:,} prompts "
        f"({found.pool}), {found.n_people:,} people",
        rank_advice(found),
        "",
    ]
    for number, axis in enumerate(found.axes, 1):
        lines += _axis_lines(number, axis)
    if found.n_people:
        lines += [
            f"minority: {minority_share(found):.0%} of the people side with most others on less than half of the pairs"
        ]
        lines += [found.groups.why]
    if found.sparse is not None:
        lines += ["", f"sparse features ({found.sparse.explained:.0%} of held-out differences explained):"]
        lines += [
            f"  {feature.name.text:<36} average {feature.weight:+.2f}, people differ by {feature.spread:.2f}"
            for feature in found.sparse.features[:8]
        ]
    lines += [f"note: {note}" for note in found.notes]
    return "\n".join(lines)


def rank_advice(found: Interpretation) -> str:
    """What the spectrum says about `rank`."""
    rank, suggested = found.rank, found.space.suggested_rank
    if suggested is None:
        return f"All {rank} components count alike: the spectrum has no elbow, so a larger rank may find more."
    kept = float(np.sum(found.space.spectrum[:suggested]))
    return (
        f"The spectrum falls off after {suggested} of {rank} components, which hold {100 * kept:.0f} % of what tastes cause: "
        f"rank={suggested} would do."
    )


def minority_share(found: Interpretation) -> float:
    """Share of people who side with most others on less than half of the pairs."""
    return float(found.agreement.minority.mean()) if len(found.people) else math.nan


def _axis_lines(number: int, axis: Axis) -> list[str]:
    fit = "" if axis.name.correlation is None else f", held-out correlation {axis.name.correlation:.2f}"
    about = f"{100 * axis.share:.0f} % of taste; closest: {axis.name.statistic or 'nothing'}{fit}"
    words = [", ".join(end) for end in axis.words]
    lines = [f"{number}. {axis.name.text}   ({about})"]
    lines += [f"   + {_cut(axis.high[0].reply)}", f"   − {_cut(axis.low[0].reply)}"]
    if any(words):
        lines.append(f"   words: + {words[0] or 'none'}; − {words[1] or 'none'}")
    return [*lines, ""]


def _cut(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _WIDTH else flat[: _WIDTH - 1] + "…"


def plain(found: Interpretation) -> dict[str, Any]:
    """Values for JSON; of single people only the card."""
    space, groups = found.space, found.groups
    return {
        "method": found.method,
        "pool": found.pool,
        "n_prompts": found.n_prompts,
        "n_replies": found.n_replies,
        "n_people": found.n_people,
        "rank": found.rank,
        "suggested_rank": space.suggested_rank,
        "spectrum": [round(float(share), 6) for share in space.spectrum],
        "axes": [_plain_axis(axis) for axis in found.axes],
        "minority_share": _number(minority_share(found)),
        "groups": {
            "n": len(groups),
            "sizes": np.bincount(groups.label[groups.label >= 0], minlength=len(groups)).tolist(),
            "centres": _numbers(groups.centres),
            "silhouette": _number(groups.silhouette),
            "by_chance": _number(groups.by_chance),
            "why": groups.why,
        },
        "card": None if found.card is None else _plain_card(found.card),
        "sparse": None if found.sparse is None else _plain_sparse(found),
        "notes": list(found.notes),
    }


def _plain_axis(axis: Axis) -> dict[str, Any]:
    return {
        "name": axis.name.text,
        "high_end": axis.name.high,
        "low_end": axis.name.low,
        "named_by": axis.name.by,
        "statistic": axis.name.statistic,
        "held_out_correlation": _number(axis.name.correlation),
        "held_out_agreement": _number(axis.name.agreement),
        "share": _number(axis.share),
        "words": {"high": list(axis.words[0]), "low": list(axis.words[1])},
        "high": _plain_quotes(axis.high),
        "low": _plain_quotes(axis.low),
    }


def _plain_card(card: PersonCard) -> dict[str, Any]:
    return {
        "title": card.title,
        "place": _numbers(card.place),
        "low": _numbers(card.low),
        "high": _numbers(card.high),
        "suits": _plain_quotes(card.suits),
        "suits_not": _plain_quotes(card.suits_not),
        "agreement": _number(card.agreement),
        "group": card.group,
    }


def _plain_sparse(found: Interpretation) -> dict[str, Any]:
    rows = zip(found.sparse.features, found.sparse.quotes, strict=True)
    return {
        "explained": _number(found.sparse.explained),
        "features": [
            {
                "name": feature.name.text,
                "statistic": feature.name.statistic,
                "held_out_correlation": _number(feature.name.correlation),
                "share": _number(feature.share),
                "weight": _number(feature.weight),
                "spread": _number(feature.spread),
                "high": _plain_quotes(high),
                "low": _plain_quotes(low),
            }
            for feature, (high, low) in rows
        ],
    }


def _plain_quotes(quotes: Sequence[Quote]) -> list[dict[str, Any]]:
    return [{"prompt": quote.prompt, "reply": quote.reply, "value": _number(quote.value)} for quote in quotes]


def _numbers(values: np.ndarray) -> list[Any]:
    return np.round(values, 6).tolist()


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), 6)
