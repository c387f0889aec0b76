"""The taste atlas: one page on what a reward model has learned about tastes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.metadata import version as installed_version
from pathlib import Path

import numpy as np

from palate.evaluate.interpret import Axis, Interpretation, Quote
from palate.evaluate.interpret_text import minority_share, rank_advice
from palate.report import words
from palate.report.atlas_figures import COLOURS, axis_title, lanes, person_forest, spectrum, taste_map
from palate.report.blocks import Block, Cell, Section, Table, Verdict
from palate.report.page import write_page
from palate.statistics import MINIMUM_PEOPLE

__all__ = ["write_atlas"]

_FAR = 1.0
_FEATURES = 12


def write_atlas(found: Interpretation, path: str | os.PathLike[str], *, title: str | None = None) -> Path:
    """Write the taste atlas: one HTML file that needs no network.

    Axes with names and replies, where people lie, groups if there are any, and one person's card. People are points
    without ids; only the card of a person who was asked for by id carries one.

    Args:
        found: of `palate.interpret`.
        path: the file to write; it is replaced at once, never half written.
        title: of the page.

    Raises:
        StorageError: the file cannot be written.
    """
    version = installed_version("palate")
    sections = [_axes_section(found)]
    if found.n_people:
        sections.append(_people_section(found))
    if found.card is not None:
        sections.append(_person_section(found))
    if found.sparse is not None:
        sections.append(_sparse_section(found))
    context = {
        "title": title or "Taste atlas",
        "subtitle": "taste atlas",
        "lead": (
            f"What {words.plural(found.n_people, 'person', 'people')} differ in when they choose between replies, as learned by "
            f"{found.method} and read over {words.count(found.n_replies)} replies to "
            f"{words.plural(found.n_prompts, 'prompt')} ({found.pool})."
        ),
        "verdicts": [_summary(found)],
        "sections": sections,
        "methods_text": "",
        "bibtex": "",
        "provenance": [_provenance(found, version)],
        "settings": "",
    }
    return write_page(path, context, version)


def _summary(found: Interpretation) -> Verdict:
    named = [axis for axis in found.axes if axis.name.high]
    said = words.listing(axis.name.text for axis in named) or "none of them has a simple name"
    facts = [(f"{k}. {axis.name.text}", words.percent(axis.share, 0)) for k, axis in enumerate(found.axes, 1)]
    if found.n_people:
        facts.append(("groups of like taste", str(len(found.groups)) if len(found.groups) else "none claimed"))
        facts.append(("people of a minority", words.percent(minority_share(found), 0)))
    return Verdict(
        data=f"{found.method}, rank {found.rank}",
        tone="good",
        headline=words.plural(len(found.axes), "axis", "axes") + " of taste",
        why=f"Tastes differ in {said}. {rank_advice(found)}",
        facts=facts,
    )


def _axes_section(found: Interpretation) -> Section:
    overview = Block(
        "",
        rank_advice(found),
        [spectrum(found)],
        [_overview(found.axes)],
        [f"Note: {note}" for note in found.notes],
    )
    blocks = [_axis_block(axis, k) for k, axis in enumerate(found.axes, 1)]
    return Section("axes", "What do tastes differ in?", "Axes", [overview, *blocks])


def _overview(axes: Sequence[Axis]) -> Table:
    head = ["axis", "share of taste", "closest statistic", "fit", "named by"]
    rows = [
        [
            Cell(axis_title(axis, k)),
            Cell(words.percent(axis.share, 0)),
            Cell(axis.name.statistic or "none"),
            Cell(words.number(axis.name.correlation, 2)),
            Cell({"statistics": "statistics", "chat": "chat model", "nothing": "nothing fits"}[axis.name.by]),
        ]
        for k, axis in enumerate(axes, 1)
    ]
    note = (
        "Share: of the variance that tastes cause over the pool. Fit: correlation of the axis with the statistic on prompts that "
        "had no say in which statistic it is; below 0.25 no name is given."
    )
    checked = [axis.name.agreement for axis in axes if axis.name.agreement is not None]
    if checked:
        note += f" Names by the chat model sort {words.percent(float(np.mean(checked)), 0)} of held-out pairs rightly."
    return Table("The axes", head, rows, note)


def _axis_block(axis: Axis, number: int) -> Block:
    high, low = axis.name.high or "the high end", axis.name.low or "the low end"
    fit = axis.name.correlation
    if axis.name.by == "chat":
        answer = f"From {low} to {high}, says the chat model"
        answer += f"; closest statistic: {axis.name.statistic}." if axis.name.statistic else "."
    elif axis.name.by == "statistics":
        answer = f"From {low} to {high} (correlation {words.number(fit, 2)} on held-out prompts)."
    else:
        answer = "No simple statistic goes with this axis; read its replies."
    typical = [f"{name}: {', '.join(found)}" for name, found in zip((high, low), axis.words, strict=True) if found]
    notes = [f"Typical words, {'; '.join(typical)}."] if typical else []
    ends = [*((high, quote) for quote in axis.high), *((low, quote) for quote in axis.low)]
    return Block(axis_title(axis, number), answer, (), [_replies("Replies at both ends", "end", ends)], notes)


def _replies(caption: str, first: str, ends: Sequence[tuple[str, Quote]]) -> Table:
    """Replies with their prompts in one column, so that a phone has room for them."""
    rows = [
        [
            Cell(end.removeprefix("the "), tone="wrap"),
            Cell(_signed(quote.value)),
            Cell(f"{_quoted(quote.prompt)}{_cut(quote.reply)}", tone="wrap"),
        ]
        for end, quote in ends
    ]
    return Table(caption, [first, "logits", "prompt and reply"], rows)


def _quoted(prompt: str) -> str:
    """The prompt before its reply; nothing where there is none."""
    return f"\u201c{_cut(prompt, 90)}\u201d  " if prompt else ""


def _cut(text: str, longest: int = 260) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= longest else flat[: longest - 1].rstrip() + "\u2026"


def _signed(value: float) -> str:
    return ("+" if value > 0.05 else "") + words.number(value, 1)


def _people_section(found: Interpretation) -> Section:
    share = minority_share(found)
    strong = np.mean(np.abs(found.space.people[found.people]) > _FAR, axis=0)
    widest = int(np.argmax(strong))
    answer = (
        f"{words.percent(float(strong[widest]), 0)} of people lie more than one standard deviation from the average person on "
        f"axis {widest + 1}, {found.axes[widest].name.text}; {words.percent(share, 0)} side with most others on less than half "
        "of the pairs."
    )
    figures = [lanes(found)] + ([taste_map(found)] if len(found.axes) > 1 else [])
    few = (
        [f"{found.n_people} people are few; where they lie is shown, and nothing is claimed about people at large."]
        if found.n_people < MINIMUM_PEOPLE
        else []
    )
    where = Block("Where they lie", answer, figures, (), few)
    groups = Block("Groups", _sentence(found.groups.why), (), [_groups(found)] if len(found.groups) else ())
    return Section("people", "Where do people lie?", "People", [where, groups])


def _groups(found: Interpretation) -> Table:
    sizes = np.bincount(found.groups.label, minlength=len(found.groups))
    rows = []
    for group, centre in enumerate(found.groups.centres):
        order = np.argsort(-np.abs(centre), kind="stable")[:2]
        leaning = [_leaning(found.axes[k], k + 1, centre[k]) for k in order if abs(centre[k]) >= 0.3]
        colour = f"var(--{COLOURS[group % len(COLOURS)]})"
        rows.append(
            [
                Cell(f"group {group + 1}", colour=colour),
                Cell(words.percent(sizes[group] / sizes.sum(), 0)),
                Cell(", ".join(leaning) or "close to the average person", tone="wrap"),
            ]
        )
    note = "Leaning: the group's mean on its one or two strongest axes, in standard deviations of people."
    return Table("Groups of like taste", ["group", "people", "leaning"], rows, note)


def _leaning(axis: Axis, number: int, value: float) -> str:
    end = axis.name.high if value > 0 else axis.name.low
    size = words.number(abs(value), 1)
    return f"{end} ({size})" if end else f"{'high' if value > 0 else 'low'} on axis {number} ({size})"


def _person_section(found: Interpretation) -> Section:
    card = found.card
    order = np.argsort(-np.abs(card.place), kind="stable")
    sure = [k for k in order if card.low[k] > 0 or card.high[k] < 0]
    leaning = [_leaning(found.axes[k], k + 1, card.place[k]) for k in sure]
    answer = (
        f"{card.title} leans towards {words.listing(leaning)}."
        if leaning
        else f"What is known of {card.title[:1].lower()}{card.title[1:]} does not tell on which side of any axis it lies."
    )
    notes = []
    if card.agreement is not None:
        notes.append(f"Sides with most others on {words.percent(card.agreement, 0)} of the pairs of the pool.")
    if card.group is not None:
        notes.append(f"Belongs to group {card.group}.")
    notes.append("Numbers beside replies: how much more, in logits, this person likes it than the average person does.")
    ends = [*(("yes", quote) for quote in card.suits), *(("no", quote) for quote in card.suits_not)]
    tables = [_replies("Replies that suit this person more, and less, than others", "suits", ends)]
    return Section(
        "person",
        "What suits one person?",
        "One person",
        [Block("", answer, [person_forest(card, found.axes)], tables, notes)],
    )


def _sparse_section(found: Interpretation) -> Section:
    sparse = found.sparse
    rows = [
        [
            Cell(f"{number}. {feature.name.text}"),
            Cell(words.number(feature.name.correlation, 2)),
            Cell(words.percent(feature.share, 0)),
            Cell(words.number(feature.weight, 2)),
            Cell(words.number(feature.spread, 2)),
            Cell(_cut(high[0].reply), tone="wrap"),
        ]
        for number, (feature, (high, _)) in enumerate(
            zip(sparse.features[:_FEATURES], sparse.quotes[:_FEATURES], strict=True), 1
        )
    ]
    head = ["feature", "fit", "active in", "average", "people differ by", "most of it"]
    note = (
        "Average: what one standard deviation of the feature adds to the average person's reward, in logits. People differ by: "
        "the standard deviation of that over people. A feature may be shared by all (large average, small difference), which "
        "no axis of taste shows."
    )
    answer = (
        f"Features learned from the replies alone keep {words.percent(max(0.0, sparse.explained), 0)} of how held-out replies "
        "differ, with four features a pair; these bear most on what people prefer."
    )
    table = Table("Sparse features", head, rows, note)
    return Section("features", "Which features of replies matter?", "Features", [Block("", answer, (), [table])])


def _provenance(found: Interpretation, version: str) -> Table:
    entries = [
        ("Palate", version),
        ("method", f"{found.method}, rank {found.rank}"),
        ("people", words.count(found.n_people)),
        ("pool", f"{found.pool}: {words.count(found.n_replies)} replies to {words.plural(found.n_prompts, 'prompt')}"),
        ("people on this page", "points without ids and one card; treat the page as personal data"),
    ]
    return Table("Made from", ["", ""], [[Cell(label), Cell(value, tone="wrap")] for label, value in entries])


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
