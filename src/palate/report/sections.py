"""The five questions that a benchmark answers; the first one, about room, is in `audit_section`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from palate.report import sentences, words
from palate.report.blocks import Block, Cell, Section, Table
from palate.report.costs import costs_of, seconds_per_run
from palate.report.figures import forest, learning_curve
from palate.report.figures_cost import calibration_plot, pareto
from palate.report.figures_people import strip
from palate.report.palette import OURS, Look
from palate.report.people import Gains, draws_for, gains_of_people, group_gains, people_by_seed
from palate.report.view import BASELINE, Panel
from palate.rng import derive
from palate.statistics import MINIMUM_PEOPLE, Estimate, simultaneous

__all__ = ["Scene", "benchmark_sections"]


@dataclass(frozen=True)
class Scene:
    """Everything one panel's blocks are made from.

    Args:
        panel: the numbers.
        looks: how methods are drawn.
        slug: start of the names of its figures; letters, digits and dashes.
        curves: reliability per method at the reference level.
        skipped: method and reason, for those that could not run.
    """

    panel: Panel
    looks: Mapping[str, Look]
    slug: str
    curves: Mapping[str, Mapping[str, np.ndarray]]
    skipped: Sequence[tuple[str, str]] = ()


_QUESTIONS: tuple[tuple[str, str, str, Callable[[Scene], Block]], ...]


def benchmark_sections(scenes: Sequence[Scene]) -> list[Section]:
    """What works, for whom, after how many answers, at what cost, how sure; one block per panel in each."""
    return [
        Section(name, question, short, [make(scene) for scene in scenes]) for name, question, short, make in _QUESTIONS
    ]


def what_works(scene: Scene) -> Block:
    """Gains over pooled, and every metric in a table."""
    panel = scene.panel
    tables = [_metrics_table(scene, k) for k in _shown_levels(panel)]
    notes = [f"Not run: {method} ({reason})." for method, reason in scene.skipped]
    return _block(
        scene, sentences.what_works(panel), [forest(panel, scene.looks, f"{scene.slug}-gains")], tables, notes
    )


def for_whom(scene: Scene) -> Block:
    """Single people, and groups of them."""
    panel = scene.panel
    gains = gains_of_people(panel, panel.reference)
    main = _main_gains(panel, gains)
    groups = group_gains(main) if main is not None else {}
    tables = [_groups_table(scene, gains)] if gains else []
    drawing = strip(panel, gains, scene.looks, f"{scene.slug}-people")
    return _block(scene, sentences.for_whom(panel, main, groups), [drawing], tables)


def after_how_many(scene: Scene) -> Block:
    """The learning curve of new people."""
    panel = scene.panel
    tables = [_curve_table(scene)] if panel.levels and panel.rivals else []
    drawing = learning_curve(panel, scene.looks, f"{scene.slug}-answers")
    return _block(scene, sentences.after_how_many(panel), [drawing], tables)


def at_what_cost(scene: Scene) -> Block:
    """Seconds and memory."""
    panel = scene.panel
    runs, costs = seconds_per_run(panel), costs_of(panel)
    each = {method: cost.each for method, cost in costs.items() if math.isfinite(cost.each)}
    head = ["method", "tune", "fit", "adapt all", "adapt one person", "predict", "peak memory", "cells"]
    rows = [
        [
            _method(scene, method),
            Cell(words.seconds(cost.tune) if cost.tune else "none"),
            *(Cell(words.seconds(value)) for value in (cost.fit, cost.adapt, cost.each, cost.predict)),
            Cell(words.storage(cost.memory)),
            Cell(words.count(cost.cells)),
        ]
        for method, cost in costs.items()
    ]
    most = words.answers(panel.levels[-1]) if panel.levels else "all answers"
    note = f"Means over cells. Adapting is to {most} of every new person at once. Memory includes the interpreter and the data."
    tables = [Table(f"Cost of one cell: {panel.title}", head, rows, note)] if rows else []
    drawing = pareto(panel, runs, scene.looks, f"{scene.slug}-seconds")
    return _block(scene, sentences.at_what_cost(panel, runs, each), [drawing], tables)


def how_sure(scene: Scene) -> Block:
    """Simultaneous intervals, seeds and calibration."""
    panel = scene.panel
    gains = gains_of_people(panel, panel.reference)
    together = _together(gains)
    seeds = people_by_seed(panel, panel.reference)
    tables = [_sureness_table(scene, together, seeds)] if panel.rivals else []
    drawing = calibration_plot(panel, scene.curves, scene.looks, f"{scene.slug}-calibration")
    notes = [] if drawing else ["No calibration plot: the predictions of single rows were not kept."]
    names = sorted({seed for values in seeds.values() for seed in values})
    return _block(scene, sentences.how_sure(panel, together, names), [drawing], tables, notes)


_QUESTIONS = (
    ("works", "What works?", "What works", what_works),
    ("whom", "For whom?", "For whom", for_whom),
    ("answers", "After how many answers?", "How many answers", after_how_many),
    ("cost", "At what cost?", "Cost", at_what_cost),
    ("sure", "How sure is this?", "How sure", how_sure),
)


def _block(
    scene: Scene, answer: str, drawings: Sequence[Any], tables: Sequence[Table], notes: Sequence[str] = ()
) -> Block:
    found = [drawing for drawing in drawings if drawing is not None]
    return Block(scene.panel.title, answer, found, [table for table in tables if table.rows], notes)


def _method(scene: Scene, method: str) -> Cell:
    return Cell(method, scene.looks[method].css, "strong" if method == OURS else "")


def _shown_levels(panel: Panel) -> list[int | str]:
    """The level the section speaks about, and that of few answers."""
    return list(dict.fromkeys(k for k in (panel.reference, panel.few) if k is not None))


def _tone(estimate: Estimate | None) -> str:
    if estimate is None or not estimate.claim:
        return "quiet"
    return "good" if estimate.low > 0 else "bad" if estimate.high < 0 else ""


def _metrics_table(scene: Scene, k: int | str) -> Table:
    panel = scene.panel
    head = [
        "method",
        "accuracy",
        "gain, points",
        "95 % interval",
        "log-loss",
        "gain, 0.01 nats",
        "AUC",
        "minority",
        "worst tenth",
    ]
    rows = []
    for method in [*panel.ranked(k), *(m for m in panel.methods if m not in panel.ranked(k))]:
        if panel.get(method, "accuracy", k) is None:
            continue
        gain, loss = (
            None if method == BASELINE else panel.gain(method, k, m) for m in ("accuracy_gain", "log_loss_gain")
        )
        rows.append(
            [
                _method(scene, method),
                Cell(_percent(panel, method, "accuracy", k)),
                Cell(words.gain(gain.value) if gain else words.number(None), tone=_tone(gain) if gain else ""),
                Cell(words.between(gain) if gain else words.number(None), tone="quiet"),
                Cell(words.number(_value(panel, method, "log_loss", k))),
                Cell(words.gain(loss.value) if loss else words.number(None), tone=_tone(loss) if loss else ""),
                Cell(words.number(_value(panel, method, "auc", k))),
                Cell(_percent(panel, method, "minority_accuracy", k)),
                Cell(_percent(panel, method, "worst_tenth_accuracy", k)),
            ]
        )
    n = panel.n_people(k)
    few = f" Fewer than {MINIMUM_PEOPLE} people: no claim." if n < MINIMUM_PEOPLE else ""
    title = words.level_name(k)
    note = f"{words.plural(n, 'person', 'people')}. Gains are paired with pooled; minority and worst tenth are accuracies.{few}"
    return Table(f"{title[0].upper()}{title[1:]}", head, rows, note)


def _groups_table(scene: Scene, gains: Sequence[Gains]) -> Table:
    """One column per group of people; the first row is what pooled reaches there."""
    found = {g.method: group_gains(g) for g in gains}
    names = [name for name in _GROUPS if any(name in groups for groups in found.values())]
    ranked = sorted(gains, key=lambda g: -float(g.gain.mean()))
    most = found[ranked[0].method]
    head = [
        "gain in points",
        *(f"{_GROUPS[name]} ({words.count(most[name][1].n)})" if name in most else _GROUPS[name] for name in names),
    ]
    base = [Cell(words.percent(most[name][0].value) if name in most else "", tone="quiet") for name in names]
    rows = [[Cell("pooled, accuracy", scene.looks[BASELINE].css, "quiet"), *base]]
    for g in ranked:
        cells = [found[g.method].get(name) for name in names]
        rows.append(
            [
                _method(scene, g.method),
                *(
                    Cell(f"{words.gain(c[1].value)} ({words.between(c[1])})", tone=_tone(c[1])) if c else Cell("")
                    for c in cells
                ),
            ]
        )
    note = (
        "With their number of people and 95 % intervals that resample people. Minority and noisy people are told by their "
        f"training and history rows, never by the held-out ones; grey gains rest on fewer than {MINIMUM_PEOPLE} people."
    )
    return Table("Gain by group of people", head, rows, note)


_GROUPS = {"everybody": "everybody", "minority": "minority", "noisy": "noisy", "neither": "neither of both"}


def _curve_table(scene: Scene) -> Table:
    panel = scene.panel
    levels: list[int | str] = [*panel.levels, *(["seen"] if panel.has_seen else [])]
    rows = []
    for method in panel.ranked(panel.levels[-1]):
        cells = []
        for k in levels:
            estimate = panel.gain(method, k)
            cells.append(Cell(words.gain(estimate.value if estimate else None), tone=_tone(estimate)))
        rows.append([_method(scene, method), *cells])
    cohort = words.plural(panel.n_people(panel.levels[-1]), "new person", "new people")
    note = (
        f"{cohort}, the same at every number of answers. Green: the interval is above zero; red: below; grey: no claim."
    )
    return Table("Gain over pooled, points of accuracy, by answers", ["method", *map(str, levels)], rows, note)


def _sureness_table(scene: Scene, together: Mapping[str, Estimate], seeds: Mapping[str, Mapping[int, float]]) -> Table:
    panel = scene.panel
    rows = []
    for method in panel.ranked(panel.reference):
        gain = panel.gain(method, panel.reference)
        runs = list(seeds.get(method, {}).values())
        error, slope = (
            panel.get(method, metric, panel.reference) for metric in ("calibration_error", "calibration_slope")
        )
        rows.append(
            [
                _method(scene, method),
                Cell(words.gain(gain.value), tone=_tone(gain)),
                Cell(words.between(gain), tone="quiet"),
                Cell(words.between(together.get(method)), tone="quiet"),
                Cell(f"{words.gain(min(runs))} to {words.gain(max(runs))}" if len(runs) > 1 else words.number(None)),
                Cell(words.number(error.value if error else None)),
                Cell(words.number(slope.value if slope else None, 2)),
            ]
        )
    head = [
        "method",
        "gain, points",
        "95 % interval",
        "all at once",
        "seeds, least to most",
        "calibration error",
        "slope",
    ]
    note = (
        "The 95 % interval resamples people and prompts or items; the one for all methods at once (max-t) resamples "
        "people. A calibration slope of 1 is best; below 1 the method is too sure of itself."
    )
    return Table(f"How firm the gains are, {words.level_name(panel.reference) if rows else ''}", head, rows, note)


def _together(gains: Sequence[Gains]) -> dict[str, Estimate]:
    """Intervals that hold for all methods at once, people resampled; over people whom all methods were tried on."""
    if not gains or len({len(found) for found in gains}) > 1 or len(gains[0]) < 2:
        return {}
    matrix = np.column_stack([found.gain for found in gains])
    people = np.arange(len(matrix))
    estimates = simultaneous(matrix, people, None, rng=derive(0, "report", "together"), draws=draws_for(len(people)))
    return {found.method: estimate for found, estimate in zip(gains, estimates, strict=True)}


def _main_gains(panel: Panel, gains: Sequence[Gains]) -> Gains | None:
    main = sentences.main_method(panel)
    return next((found for found in gains if found.method == main), None)


def _value(panel: Panel, method: str, metric: str, k: int | str) -> float | None:
    estimate = panel.get(method, metric, k)
    return None if estimate is None else estimate.value


def _percent(panel: Panel, method: str, metric: str, k: int | str) -> str:
    return words.percent(_value(panel, method, metric, k))
