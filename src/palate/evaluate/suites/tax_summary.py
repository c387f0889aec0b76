"""From the cells of the suite `tax` to rows, tables and pictures, figure by figure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from palate.evaluate.suites.picture import strips
from palate.evaluate.suites.result import Finding, Row, estimate_row, row
from palate.evaluate.suites.tax_exam import Cells, Exam, Part, Table, gather, interval, tax_of
from palate.evaluate.suites.tax_fairness import belief, fairness
from palate.evaluate.suites.tax_guard import guard
from palate.evaluate.suites.tax_replies import replies
from palate.evaluate.suites.tax_words import MEASURABLE, NOT_MEASURABLE, PREFACE, TITLES, all_words
from palate.statistics import mean_over_users

__all__ = ["summarise"]


def summarise(cells: Cells) -> Finding:
    """Rows, words, tables and pictures."""
    exams = {"tax": gather(cells, "base"), "alone": gather(cells, "none")}
    base = _base(exams["tax"])
    measurable = [told["setting"] for told in base.rows if told["value"] >= MEASURABLE]
    parts = [base]
    if measurable:
        parts += [_taxes(exam, figure, measurable) for figure, exam in exams.items()]
        parts.append(guard(cells, measurable))
    parts += [replies(cells), fairness(cells), belief(cells)]
    rows = [told for part in parts for told in part.rows]
    return Finding(
        rows,
        all_words(rows),
        TITLES,
        PREFACE,
        {name: table for part in parts for name, table in part.tables.items()},
        {name: drawn for part in parts for name, drawn in part.pictures.items()},
    )


def _base(exam: Exam) -> Part:
    """What the base reward can tell, category by category."""
    part = Part()
    for name in exam.categories:
        right = exam.once(exam.right["base"], name)
        value = float(right.mean())
        note = "" if value >= MEASURABLE else NOT_MEASURABLE
        part.rows.append(row("base", name, "accuracy", value, pairs=len(right), note=note))
    body = [[told["setting"], told["pairs"], told["value"], told["note"] or "measurable"] for told in part.rows]
    part.tables["base"] = ["category", "pairs", "accuracy on pairs not seen", ""], body
    return part


def _taxes(exam: Exam, figure: str, measurable: Sequence[str]) -> Part:
    """The tax of every method for every person."""
    part, names = Part(), [name for name in exam.right if name != "base"]
    if not names:
        return part
    for against in ("base", "pooled"):
        for label, chosen in (("mean", measurable), *((name, [name]) for name in exam.categories)):
            found = tax_of(exam, names, against, chosen)
            part.rows += [estimate_row(figure, name, f"tax over {against}, {label}", found[name]) for name in names]
    drawn = {}
    for name in names:
        people = exam.per_person(100.0 * (exam.right[name] - exam.right["base"]), measurable)
        worst = int(np.argmin(people))
        part.rows.append(row(figure, name, "worst person", float(people[worst]), note=exam.names[worst]))
        gain = mean_over_users(100.0 * (exam.accuracy[name] - exam.accuracy["pooled"]), rng=0)
        part.rows.append(estimate_row(figure, name, "gain", gain))
        if name != "pretrained":
            drawn[name] = people.tolist()
    part.tables[figure] = _tax_table(part.rows, exam, measurable)
    axis = (
        "personalized - base reward: points of accuracy on pairs with a better reply, mean over measurable categories"
    )
    part.pictures[figure] = strips(drawn, axis, zero="base reward")
    return part


def _tax_table(rows: Sequence[Row], exam: Exam, measurable: Sequence[str]) -> Table:
    at = {(told["setting"], told["metric"]): told for told in rows}
    heads = ["method", "gain", "tax over base [95 %]", "tax over pooled [95 %]"]
    heads += [name if name in measurable else f"({name})" for name in exam.categories]
    heads += ["worst person"]
    body = []
    for name in dict.fromkeys(told["setting"] for told in rows):
        cells = [f"{at[name, 'gain']['value']:+.1f}"]
        for against in ("base", "pooled"):
            told = at[name, f"tax over {against}, mean"]
            cells.append(f"{told['value']:+.1f} {_ends(told)}".strip())
        for category in exam.categories:
            told = f"{at[name, f'tax over base, {category}']['value']:+.1f}"
            cells.append(told if category in measurable else f"({told})")
        worst = at[name, "worst person"]
        who = "everybody alike" if name in ("pooled", "pretrained") else worst["note"]
        body.append([name, *cells, f"{worst['value']:+.1f}: {who}"])
    body += [[name, *[""] * (len(heads) - 2), f"did not run: {reason}"] for name, reason in exam.skipped.items()]
    return heads, body


def _ends(told: Row) -> str:
    """The interval in brackets; nothing where no change was possible."""
    return "" if told["low"] is None or told["low"] == told["high"] else f"[{interval(told)}]"
