"""Is there room? The first question, answered from an audit alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from palate.report import words
from palate.report.blocks import Block, Cell, Section, Table
from palate.report.figures_audit import divergence_bars, ladder, majority_histogram, power_plot
from palate.statistics import MINIMUM_PEOPLE, Estimate

__all__ = ["estimate_of", "room_block", "room_section", "room_sentence"]


def room_section(audits: Sequence[tuple[str, str, Mapping[str, Any] | None]]) -> Section:
    """One block per data set.

    Args:
        audits: name of the data set, slug for its figures, and the audit's dict or None.
    """
    return Section("room", "Is there room?", "Room", [room_block(*entry) for entry in audits])


def room_block(data: str, slug: str, audit: Mapping[str, Any] | None) -> Block:
    """Sentence, four figures and a table; without an audit a word on how to get one."""
    if not audit:
        return Block(data, "Nobody has looked: there is no audit of these data. `palate audit` makes one in seconds.")
    drawings = [
        draw(audit, f"{slug}-{name}")
        for draw, name in (
            (ladder, "room"),
            (majority_histogram, "majority"),
            (divergence_bars, "divergence"),
            (power_plot, "power"),
        )
    ]
    found = [drawing for drawing in drawings if drawing is not None]
    return Block(
        data,
        room_sentence(audit),
        found,
        [_findings(audit)],
        [f"{note[:1].upper()}{note[1:]}." for note in audit.get("notes") or []],
    )


def room_sentence(audit: Mapping[str, Any]) -> str:
    """How much people disagree, how many are minorities, and what knowing them could gain."""
    parts = [_disagreement(audit), _people(audit), _room(audit), _decided(audit)]
    text = " ".join(part for part in parts if part)
    people = int(audit.get("n_users") or 0)
    if people < MINIMUM_PEOPLE:
        return f"No claim from {words.plural(people, 'person', 'people')}. {text}"
    return text


def estimate_of(found: Mapping[str, Any] | None) -> Estimate | None:
    """An estimate from the way audits write it; None where there is no value."""
    if not found or found.get("value") is None:
        return None
    ends = (math.nan if found.get(end) is None else float(found[end]) for end in ("low", "high"))
    return Estimate(float(found["value"]), *ends, int(found.get("n") or 0), str(found.get("unit", "users")))


def _disagreement(audit: Mapping[str, Any]) -> str:
    found, strong = (audit.get(key) or {} for key in ("divergence", "high_divergence"))
    if found.get("value") is not None:
        raters = (audit.get("settings") or {}).get("min_raters", 5)
        text = (
            f"People disagree on {words.percent(found['value'], 0)} of the pairs that at least {raters} of them rated"
        )
        if strong.get("value") is not None:
            text += f", and strongly on {words.percent(strong['value'], 0)}"
        noise = found.get("noise_expected")
        return text + (f"; their noise alone would give {words.percent(noise, 0)}." if noise is not None else ".")
    model = found.get("taste_model") or {}
    if model.get("value") is not None:
        return f"Too few pairs were rated often enough to count; by a model, tastes differ on {words.percent(model['value'], 0)} of pairs."
    return "Too few pairs were rated often enough to say how much people disagree."


def _people(audit: Mapping[str, Any]) -> str:
    minority, noisy = (audit.get(key) or {} for key in ("minority_share", "noisy_share"))
    if minority.get("value") is None:
        return ""
    count = int(minority.get("count") or round(minority["value"] * int(minority.get("n") or 0)))
    if count:
        people = words.plural(count, "person", "people")
        text = f"The majority is surely wrong more often than right about {words.percent(minority['value'])} of people ({people})"
    else:
        text = "There is nobody about whom the majority is surely wrong more often than right"
    if noisy.get("value") is None:
        return f"{text}."
    random = f"{words.percent(noisy['value'])} seem" if noisy["value"] > 0 else "nobody seems"
    return f"{text}; {random} to answer at random."


def _room(audit: Mapping[str, Any]) -> str:
    room = audit.get("room") or {}
    gain, upper = estimate_of(room.get("achievable")), estimate_of(room.get("upper"))
    if gain is None:
        return f"What knowing the person would gain could not be tried: {room.get('reason') or 'no held-out answers'}."
    text = f"A quick personal model gains {words.points(gain)} over one reward for everybody"
    if upper is None:
        return f"{text}."
    if (room.get("upper") or {}).get("ceiling") is not None:
        return f"{text}; the consistency of these people leaves at most {100 * upper.value:.0f} points of room."
    return f"{text}; how consistent these people are is unknown, so there may be up to {100 * upper.value:.0f} points of room."


def _decided(audit: Mapping[str, Any]) -> str:
    """The decision, and how surely data like these would have shown a gain."""
    decision = audit.get("decision") or {}
    told = {"personalize": "personalize", "don't": "do not personalize", "collect": "collect more answers first"}
    if decision.get("verdict") not in told:
        return ""
    text = f"The decision: {told[decision['verdict']]}"
    if decision.get("power") is not None:
        power = "over 99\u202f%" if decision["power"] > 0.99 else words.percent(decision["power"], 0)
        text += f"; data of this size would show such a gain with a power of {power}"
    if decision.get("need"):
        need = decision["need"]
        text += f", and {words.count(need['users'])} people with {words.answers(need['answers'])} each would be enough"
    return f"{text}."


def _findings(audit: Mapping[str, Any]) -> Table:
    room = audit.get("room") or {}
    mv_acc, steady = audit.get("mv_acc") or {}, audit.get("consistency") or {}
    entries = [
        ("Divergence", audit.get("divergence")),
        ("Strong divergence", audit.get("high_divergence")),
        ("Majority-vote accuracy", mv_acc),
        ("\u2003with the own vote", mv_acc.get("with_own_vote")),
        ("Minority people", audit.get("minority_share")),
        ("Noisy people", audit.get("noisy_share")),
        ("Consistency, test–retest", steady),
        ("\u2003ceiling it implies", steady.get("ceiling")),
        ("Gain of a personal model", room.get("achievable")),
        ("Room at most", room.get("upper")),
    ]
    rows = [_finding(label, found, signed=label.startswith("Gain")) for label, found in entries if found]
    counts = (("comparison", "n_comparisons"), ("person", "n_users"), ("item", "n_items"), ("prompt", "n_prompts"))
    many = {"person": "people"}
    note = words.listing(
        words.plural(int(audit[key]), word, many.get(word, "")) for word, key in counts if audit.get(key) is not None
    )
    return Table(
        "What the audit found", ["finding", "value, %", "95 % interval", "n", "how, or why not"], rows, f"{note}."
    )


def _finding(label: str, found: Mapping[str, Any], *, signed: bool) -> list[Cell]:
    estimate = estimate_of(found)
    how = found.get("reason") if estimate is None else found.get("method")
    first = Cell(label, tone="quiet" if label.startswith("\u2003") else "")
    if estimate is None:
        return [first, Cell("unknown", tone="quiet"), Cell(""), Cell(""), Cell(how or "", tone="wrap quiet")]
    value = words.gain(estimate.value) if signed else words.number(100 * estimate.value, 1)
    interval = words.between(estimate, sign=signed) if math.isfinite(estimate.low) else ""
    n = f"{words.count(estimate.n)} {estimate.unit}" if estimate.n else ""
    return [first, Cell(value), Cell(interval, tone="quiet"), Cell(n, tone="quiet"), Cell(how or "", tone="wrap quiet")]
