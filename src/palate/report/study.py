"""The page of a blinded study: did people prefer what was picked for them?"""

from __future__ import annotations

import math
import os
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from palate.report import words
from palate.report.axes import WIDTH
from palate.report.blocks import Block, Cell, Section, Table, Verdict
from palate.report.canvas import Drawing, blank, draw
from palate.report.page import write_page
from palate.report.palette import sentinel
from palate.statistics import MINIMUM_PEOPLE

if TYPE_CHECKING:
    from palate.elicit.study import StudyResult

__all__ = ["write_study_report"]

_ROW, _LABEL, _MOST = 22, 100, 60


def write_study_report(
    result: StudyResult, path: str | os.PathLike[str], *, title: str = "Study", names: bool = False
) -> Path:
    """Write what a blinded study found as one HTML file that needs no network.

    Args:
        result: of `palate.elicit.study.study_summary`.
        path: the file to write; it is replaced at once, never half written.
        title: of the page.
        names: call people by their ids; without it they are numbered by their result.

    Raises:
        StorageError: the file cannot be written.
    """
    version = installed_version("palate")
    people = sorted(result.people.items(), key=lambda one: (-one[1].value, one[0]))
    labels = [person if names else f"person {number}" for number, (person, _) in enumerate(people, 1)]
    block = Block("", _answer(result), [_drawing(result, labels)], [_table(result, labels)], _notes(result))
    context = {
        "title": title,
        "subtitle": "blinded study",
        "lead": (
            f"{words.plural(len(people), 'person', 'people')} chose between the reply picked for them and a baseline, sides "
            f"drawn and not told apart, {words.count(result.n_asked)} times in all."
        ),
        "verdicts": [_verdict(result)],
        "sections": [Section("people", "Do people prefer what is picked for them?", "People", [block])],
        "methods_text": "",
        "bibtex": "",
        "provenance": [Table("Made from", ["", ""], [[Cell("Palate"), Cell(version)]])],
        "settings": "",
    }
    return write_page(path, context, version)


def _answer(result: StudyResult) -> str:
    found = result.overall
    said = f"The personal pick wins {words.percent(found.value, 0)} of its duels"
    if math.isfinite(found.low):
        said += f" ({words.percent(found.low, 0)} to {words.percent(found.high, 0)})"
    if not found.claim:
        return f"{said}; with fewer than {MINIMUM_PEOPLE} people this carries no claim."
    if found.low > 0.5:
        return f"{said}: people prefer it to the baseline."
    return f"{said}: people prefer the baseline." if found.high < 0.5 else f"{said}: no preference is shown."


def _verdict(result: StudyResult) -> Verdict:
    found = result.overall
    sure = found.claim and (found.low > 0.5 or found.high < 0.5)
    facts = [
        ("people", words.count(len(result.people))),
        ("duels that were asked", words.count(result.n_asked)),
        ("neither was better", words.count(result.n_ties)),
        ("both picked the same reply", words.count(result.n_same)),
        ("with those as ties", words.percent(result.with_same.value, 0)),
    ]
    tone = ("good" if found.low > 0.5 else "bad") if sure else "quiet"
    return Verdict("study", tone, f"{words.percent(found.value, 0)} won", _answer(result), facts)


def _notes(result: StudyResult) -> list[str]:
    notes = ["Ties count half. People's intervals are Wilson's; that over people resamples people."]
    if result.n_same:
        notes.append(f"On {words.count(result.n_same)} prompts both picked the same reply; those were not asked.")
    return notes


def _table(result: StudyResult, labels: list[str]) -> Table:
    people = sorted(result.people.items(), key=lambda one: (-one[1].value, one[0]))
    rows = [
        [
            Cell(label),
            Cell(words.percent(found.value, 0)),
            Cell(f"{words.percent(found.low, 0)} to {words.percent(found.high, 0)}"),
            Cell(words.count(found.n)),
        ]
        for label, (_, found) in zip(labels, people, strict=True)
    ]
    return Table("Everybody", ["person", "won", "95 % interval", "duels"], rows, "")


def _drawing(result: StudyResult, labels: list[str]) -> Drawing:
    people = sorted(result.people.values(), key=lambda one: -one.value)
    shown = list(zip(labels, people, strict=True))[:_MOST]
    rows = [("everybody", result.overall), *shown]
    height = 52 + _ROW * len(rows)

    def paint(figure: Figure) -> None:
        axes = blank(figure, (_LABEL, 36, WIDTH - _LABEL - 16, height - 46), grid="x")
        axes.axvline(50, color=sentinel("faint"), linewidth=1.2)
        for place, (_, found) in enumerate(reversed(rows)):
            everybody = place == len(rows) - 1
            colour = sentinel("ink") if everybody else sentinel("muted")
            if math.isfinite(found.low):
                axes.plot(
                    [100 * found.low, 100 * found.high], [place] * 2, color=colour, linewidth=2.4 if everybody else 1.4
                )
            axes.plot([100 * found.value], [place], "o", color=colour, markersize=7 if everybody else 5)
        axes.set(xlim=(-2, 102), ylim=(-0.7, len(rows) - 0.3))
        axes.set_yticks(range(len(rows)), [label for label, _ in reversed(rows)])
        figure.text(_LABEL / WIDTH, 6 / height, "duels won by the personal pick, percent", color=sentinel("muted"))

    description = f"Share of duels won by the personal pick: {_answer(result)}"
    return Drawing(
        "study",
        "Duels won by the personal pick",
        description,
        draw("study", (WIDTH, height), paint, description),
        {
            "person": [label for label, _ in rows],
            "won": [found.value for _, found in rows],
            "low": [found.low for _, found in rows],
            "high": [found.high for _, found in rows],
            "duels": [found.n for _, found in rows],
        },
        "Right of 50 the personal pick was preferred. A bar is the 95 % interval; one person's is wide, since a person "
        "answers few duels. The first row is the mean over people.",
    )
