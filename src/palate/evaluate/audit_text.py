"""An audit as a page of plain text, for a terminal."""

from __future__ import annotations

import textwrap
from typing import Any

__all__ = ["number", "readable"]

_WIDTH = 100
_LABEL = 22


def readable(findings: dict[str, Any]) -> str:
    """The findings of an audit, the verdict first."""
    decision, room = findings["decision"], findings["room"]
    lines = [
        f"{findings['data']['name']}: {findings['n_comparisons']:,} comparisons, {findings['n_users']:,} people, "
        f"{findings['n_items']:,} items, {findings['n_prompts']:,} prompts",
        "",
        *_wrapped("verdict", f"{decision['verdict'].upper()}: {decision['reason']}"),
        "",
        *_estimate("divergence", findings["divergence"]),
        *_noise(findings["divergence"]),
        *_estimate("high divergence", findings["high_divergence"]),
        *_models(findings["divergence"]),
        *_consistency(findings["consistency"]),
        *_estimate("MV-ACC", findings["mv_acc"]),
        *_own_vote(findings["mv_acc"]),
        *_estimate("minority people", findings["minority_share"]),
        *_estimate("noisy people", findings["noisy_share"]),
        "",
    ]
    for name, found in room["non_personal"].items():
        lines += _wrapped(name, f"{number(found)} accuracy")
    lines += _wrapped("personal (probe)", f"{number(room['personal'])} accuracy, {room['n_held_out']:,} held-out rows")
    if room["achievable"] is None:
        lines += _wrapped("room", f"not tried: {room['reason']}")
    else:
        lines += _wrapped("room, achievable", f"{number(room['achievable'], signed=True)} accuracy")
    if room["upper"] is not None:
        lines += _wrapped("room, at most", f"{number(room['upper'])} ({room['upper']['method']})")
    lines += [line for note in findings["notes"] for line in _wrapped("note", note)]
    return "\n".join(lines)


def number(found: dict[str, Any], signed: bool = False) -> str:
    """`.123 [.100, .150]`, or "unknown"."""
    if found.get("value") is None:
        return "unknown"
    form = "+.3f" if signed else ".3f"
    text = format(found["value"], form)
    if found.get("low") is not None and found.get("high") is not None:
        text += f" [{format(found['low'], form)}, {format(found['high'], form)}]"
    return text


def _wrapped(label: str, text: str) -> list[str]:
    body = textwrap.wrap(text, _WIDTH - _LABEL) or [""]
    return [f"{label:<{_LABEL}}{body[0]}", *(f"{'':<{_LABEL}}{line}" for line in body[1:])]


def _estimate(label: str, found: dict[str, Any]) -> list[str]:
    if found["value"] is None:
        return _wrapped(label, f"unknown: {found['reason']}")
    return _wrapped(label, f"{number(found)}, {found['n']:,} {found['unit']} ({found['method']})")


def _noise(found: dict[str, Any]) -> list[str]:
    if found["coin_expected"] is None:
        return []
    text = f"{found['coin_expected']:.3f} if all tossed coins"
    if found["noise_expected"] is not None:
        text += f", {found['noise_expected']:.3f} if all had one taste and these people's noise"
    return _wrapped("  expected", text)


def _models(found: dict[str, Any]) -> list[str]:
    lines = []
    for key in ("votes_model", "taste_model"):
        model = found[key]
        if model["value"] is not None:
            lines += _wrapped("  divergence, model", f"{number(model)} ({model['method']})")
    return lines


def _consistency(found: dict[str, Any]) -> list[str]:
    if found["value"] is None:
        return _wrapped("consistency", f"unknown: {found['reason']}")
    ceiling = found["ceiling"]
    return _wrapped(
        "consistency", f"{number(found)} ({found['method']}); nobody can predict better than {number(ceiling)}"
    )


def _own_vote(found: dict[str, Any]) -> list[str]:
    own = found["with_own_vote"]
    return [] if own is None else _wrapped("  with the own vote", number(own))
