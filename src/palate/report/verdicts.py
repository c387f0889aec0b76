"""The verdict on one data set: what the audit decided, beside what the benchmark measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from palate.report import words
from palate.report.audit_section import estimate_of
from palate.report.blocks import Verdict
from palate.report.glance import answers_of
from palate.report.view import Panel
from palate.statistics import MINIMUM_PEOPLE, Estimate

__all__ = ["verdict_of"]

_HEADLINES = {
    "personalize": ("good", "Personalize"),
    "don't": ("plain", "Do not personalize"),
    "collect": ("warn", "Collect more first"),
}


def verdict_of(data: str, audit: Mapping[str, Any] | None, panels: Sequence[Panel], credit: str = "") -> Verdict:
    """In plain words: personalize, don't, or collect more; with the expected gain and its interval."""
    measured = _measured(panels)
    decision = (audit or {}).get("decision") or {}
    expected = estimate_of(decision.get("expected_gain"))
    tone, headline = _headline(decision.get("verdict"), measured)
    sentences = [_reason(decision, expected), _benchmark(measured), _contradiction(decision.get("verdict"), measured)]
    people = _people(audit, panels)
    if people is not None and people < MINIMUM_PEOPLE and tone != "warn":
        tone, headline = "warn", "No claim"
        sentences.insert(
            0,
            f"There are only {words.plural(people, 'person', 'people')} here; nothing is claimed from fewer than {MINIMUM_PEOPLE}.",
        )
    shown = expected or (measured[2] if measured else None)
    why = " ".join(sentence for sentence in sentences if sentence)
    facts = _facts(audit, people, expected, measured, decision)
    answers = answers_of(audit, measured[0] if measured else next(iter(panels), None))
    return Verdict(data, tone, headline, why, facts, _bar(shown), credit, answers)


def _measured(panels: Sequence[Panel]) -> tuple[Panel, str, Estimate] | None:
    """The best gain over panels, for seen people or the most answers: panel, method, estimate."""
    found = []
    for panel in panels:
        method = panel.best(panel.reference)
        if method is not None:
            found.append((panel, method, panel.gain(method, panel.reference)))
    return max(found, key=lambda entry: entry[2].value, default=None)


def _headline(verdict: str | None, measured: tuple[Panel, str, Estimate] | None) -> tuple[str, str]:
    if verdict in _HEADLINES:
        return _HEADLINES[verdict]
    if measured is None:
        return "warn", "Not decided"
    gain = measured[2]
    if not gain.claim:
        return "warn", "No claim"
    return _HEADLINES["personalize"] if gain.low > 0 else ("plain", "No gain found")


def _reason(decision: Mapping[str, Any], expected: Estimate | None) -> str:
    if not decision:
        return "No audit was made, so this rests on the benchmark alone."
    if decision.get("verdict") == "personalize" and expected is not None:
        return f"The audit expects that knowing the person gains {words.points(expected)} of accuracy for these people."
    reason = str(decision.get("reason") or "")
    return f"{reason[:1].upper()}{reason[1:]}." if reason else ""


def _benchmark(measured: tuple[Panel, str, Estimate] | None) -> str:
    if measured is None:
        return ""
    panel, method, gain = measured
    final = " set aside until now" if panel.final else ""
    text = f"In the benchmark, {method} gained {words.points(gain)} over pooled for {words.level_name(panel.reference)}{final}"
    early = panel.gain(method, panel.few)
    if panel.few is not None and early is not None and panel.few != panel.reference:
        text += (
            f", and {words.gain(early.value)} ({words.between(early)}) for new people after {words.answers(panel.few)}"
        )
    return f"{text}."


def _contradiction(verdict: str | None, measured: tuple[Panel, str, Estimate] | None) -> str:
    if verdict is None or measured is None or not measured[2].claim:
        return ""
    low = measured[2].low
    if verdict == "personalize" and low <= 0:
        return "The audit sees room that no method of this benchmark has surely used."
    if verdict == "don't" and low > 0.01:
        return "The benchmark gained more than the audit expected; look at both before deciding."
    return ""


def _people(audit: Mapping[str, Any] | None, panels: Sequence[Panel]) -> int | None:
    if audit and audit.get("n_users") is not None:
        return int(audit["n_users"])
    return max((panel.n_people(panel.reference) for panel in panels), default=None)


def _facts(
    audit: Mapping[str, Any] | None,
    people: int | None,
    expected: Estimate | None,
    measured: tuple[Panel, str, Estimate] | None,
    decision: Mapping[str, Any],
) -> list[tuple[str, str]]:
    facts = []
    if expected is not None:
        facts.append(("Expected gain, points", f"{words.gain(expected.value)}  ({words.between(expected)})"))
    if measured is not None:
        facts.append((f"Measured, {measured[1]}", f"{words.gain(measured[2].value)}  ({words.between(measured[2])})"))
    if decision.get("need"):
        need = decision["need"]
        facts.append(("Ask at least", f"{words.count(need['users'])} people × {words.answers(need['answers'])}"))
    if people is not None:
        facts.append(("People", words.count(people)))
    if audit and audit.get("n_comparisons") is not None:
        facts.append(("Comparisons", words.count(int(audit["n_comparisons"]))))
    return facts


def _bar(gain: Estimate | None) -> tuple[float, float, float, float] | None:
    """Low, value and high in percentage points, and the half width of an axis that holds them."""
    if gain is None or not (math.isfinite(gain.low) and math.isfinite(gain.high)):
        return None
    low, value, high = (100 * end for end in (gain.low, gain.value, gain.high))
    half = 5.0 * max(1, math.ceil(max(abs(low), abs(high)) / 5))
    return low, value, high, half
