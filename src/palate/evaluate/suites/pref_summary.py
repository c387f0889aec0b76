"""From the cells of the suite `pref` to rows beside the paper's values, and words on what agrees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from palate.evaluate.suites.result import Finding

__all__ = ["PUBLISHED", "summarise", "times_more"]

PUBLISHED: Mapping[str, Mapping[Any, Any]] = {
    "ablation": {"full": (0.905, 0.03), "no L2": (0.81, 0.13), "no SVD": (0.75, 0.19)},
    "rank": {1: 0.63, 2: 0.72, 3: 0.75, 4: 0.83, 5: 0.84, 6: 0.86, 8: 0.85, 12: 0.85},
    "factor": {5: 0.77, 10: 0.83, 20: 0.845, 40: 0.88},
    "individual": {5: 0.635, 10: 0.655, 20: 0.68, 40: 0.73},
    "pooled": {5: 0.644, 10: 0.644, 20: 0.644, 40: 0.644},
    "random": {10: 0.75, 20: 0.795, 40: 0.82},
    "pref": {5: 0.77, 10: 0.83, 20: 0.845, 40: 0.88},
}
"""AUC in the paper's figures, digitised by eye (±.01): Attributes data, but rank on PRISM and the ablation on data it does not
name. There the factor asks actively, so its curve stands beside `pref` too."""

_LEARNED = 0.55
"""AUC of training people below which a fit is called no fit."""

_CLEAR = 0.005
"""Differences of AUC below this are called nothing."""

_WIDER = 0.01
"""Growth of a deviation below this is called nothing; the paper's grows by .1 and more."""

TITLES = {
    "ablation": "SVD start and L2 (AUC after 40 answers; deviation over fits of the same data)",
    "rank": "Rank (AUC after 40 answers)",
    "scale": "Training people, prompts and two text models (AUC after 40 answers)",
    "answers": "New people (AUC by number of answers)",
    "per_user": "How many times more answers a reward per person needs",
    "strategies": "Random and chosen questions (AUC by number of answers, half of the new people)",
}

PREFACE = (
    "People are simulated (two traits each; new people's pairs of traits are nobody else's) and choose between the shipped "
    "replies with noise; features are frozen and only small maps are learned. The paper fine-tunes a 0.5B model on "
    "people role-played by GPT-4o. So levels are not comparable; shapes are.",
    "Published values are digitised by eye (±.01): Attributes data, rank on PRISM, the ablation on data that is not named. "
    "The paper's factor curve is with actively chosen questions, ours in `answers` with random ones.",
)

Cells = Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]
Row = dict[str, Any]


def summarise(cells: Cells) -> Finding:
    """Rows of means and deviations over seeds, and words."""
    rows = _ablation(cells) + _rank(cells) + _scale(cells) + _curves(cells, "answers") + _curves(cells, "strategies")
    rows += _per_user(rows)
    ceilings = [values["ceiling"] for _, values in cells if "ceiling" in values]
    preface = PREFACE
    if ceilings:
        preface = (
            *PREFACE,
            f"Who knows every true reward reaches an AUC of {np.mean(ceilings):.3f} on these questions.",
        )
    words = {
        "ablation": _ablation_words(rows),
        "rank": _rank_words(rows),
        "scale": _scale_words(rows),
        "answers": _answers_words(rows),
        "per_user": _per_user_words(rows),
        "strategies": _strategies_words(rows),
    }
    return Finding(rows, words, TITLES, preface)


# -- rows ---------------------------------------------------------------------------------------------------------------


def _row(
    figure: str, setting: str, answers: int | None, values: Sequence[float], published: Any = None, **more: Any
) -> Row:
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None
    told, told_spread = published if isinstance(published, tuple) else (published, None)
    return {
        "figure": figure,
        "setting": setting,
        "answers": answers,
        "metric": "auc",
        "value": round(mean, 4),
        "deviation": None if spread is None else round(spread, 4),
        "seeds": len(values),
        "published": told,
        "published_deviation": told_spread,
        "note": None,
    } | more


def _of(cells: Cells, figure: str) -> dict[str, list[Mapping[str, Any]]]:
    """Numbers by setting, in the order of the plan."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for identity, values in cells:
        if identity["figure"] == figure:
            found.setdefault(identity["setting"], []).append(values)
    return found


def _ablation(cells: Cells) -> list[Row]:
    rows = []
    for setting, found in _of(cells, "ablation").items():
        published = PUBLISHED["ablation"][setting.split(",")[0]]
        rows.append(
            _row("ablation", setting, 40, [values["auc"]["40"] for values in found], published, note="new people")
        )
        known = [values["known"] for values in found]
        rows.append(_row("ablation", setting, None, known, note="training people, new prompts"))
    return rows


def _rank(cells: Cells) -> list[Row]:
    return [
        _row("rank", rank, 40, [values["auc"]["40"] for values in found], PUBLISHED["rank"].get(int(rank)))
        for rank, found in _of(cells, "rank").items()
    ]


def _scale(cells: Cells) -> list[Row]:
    return [
        _row(
            "scale",
            setting,
            40,
            [values["auc"]["40"] for values in found],
            note=f"{int(np.mean([values['rows'] for values in found])):,} training answers",
        )
        for setting, found in _of(cells, "scale").items()
    ]


def _curves(cells: Cells, figure: str) -> list[Row]:
    rows = []
    for setting, found in _of(cells, figure).items():
        published = PUBLISHED.get(setting, {})
        # As kept cells come from the disk: their keys are sorted as texts.
        for k in sorted(found[0]["auc"], key=int):
            rows.append(_row(figure, setting, int(k), [values["auc"][k] for values in found], published.get(int(k))))
    return rows


def _per_user(rows: Sequence[Row]) -> list[Row]:
    """Against the factor with random questions, and with questions that it chose (the paper's case)."""
    alone = {row["answers"]: row["value"] for row in _all(rows, "answers", "individual")}
    found = []
    for title, figure, setting in (
        ("random questions", "answers", "factor"),
        ("the paper's questions", "strategies", "pref"),
        ("Palate's questions", "strategies", "v_optimal"),
    ):
        for row in _all(rows, figure, setting):
            ratio, reached = times_more(alone, row["value"], row["answers"])
            note = "times as many answers" if reached else f"times and more: not reached after {max(alone)} answers"
            found.append(
                _row("per_user", f"as good as factor, {title}", row["answers"], [ratio], 25.0)
                | {"metric": "ratio", "value": round(ratio, 1), "seeds": row["seeds"], "note": note, "reached": reached}
            )
    return found


def _all(rows: Sequence[Row], figure: str, setting: str) -> list[Row]:
    return [row for row in rows if row["figure"] == figure and row["setting"] == setting]


def times_more(curve: Mapping[int, float], target: float, answers: int) -> tuple[float, bool]:
    """How many times more answers a curve needs to reach a target.

    Args:
        curve: number of answers -> AUC of the method that is to reach it.
        target: the AUC that another one has.
        answers: after so many.

    Returns:
        The ratio, interpolated in the logarithm of the number of answers, and True; or the largest number over `answers`
        and False where the curve ends below the target. At most what the first point says where that is above it.
    """
    ks = sorted(curve)
    if curve[ks[0]] >= target:
        return ks[0] / answers, True
    for low, high in zip(ks, ks[1:], strict=False):
        if curve[high] >= target:
            share = (target - curve[low]) / (curve[high] - curve[low])
            return float(np.exp(np.log(low) + share * (np.log(high) - np.log(low))) / answers), True
    return ks[-1] / answers, False


# -- words --------------------------------------------------------------------------------------------------------------


def _values(rows: Sequence[Row], figure: str, **wanted: Any) -> dict[str, Row]:
    return {
        row["setting"]: row
        for row in rows
        if row["figure"] == figure and all(row.get(name) == value for name, value in wanted.items())
    }


def _ablation_words(rows: Sequence[Row]) -> list[str]:
    words = []
    seen = _values(rows, "ablation", note="training people, new prompts")
    found = _values(rows, "ablation", note="new people")
    for label in dict.fromkeys(setting.partition(", ")[2] for setting in found):
        full, *others = (found[f"{name}, {label}"] for name in ("full", "no L2", "no SVD"))
        if seen[f"full, {label}"]["value"] < _LEARNED:
            words.append(
                f"{label}: learns next to nothing here ({seen[f'full, {label}']['value']:.3f} for training people), so it says "
                "nothing of L2 and SVD start."
            )
            continue
        for name, row in zip(("L2", "the SVD start"), others, strict=True):
            words.append(f"{label}: leaving out {name} {_costs(full, row)}")
    return words


def _costs(full: Row, row: Row) -> str:
    """What leaving something out does, and whether the paper says so."""
    gap, spread, was = full["value"] - row["value"], row["deviation"] or 0.0, full["deviation"] or 0.0
    wider = f"the deviation goes from {was:.3f} to {spread:.3f}"
    told = f"{', as in the paper' if spread > was + _WIDER else ', and hardly grows, unlike in the paper'}"
    if gap > _CLEAR:
        return f"costs {gap:.3f}, as in the paper; {wider}{told}."
    said = "changes nothing" if gap > -_CLEAR else f"gains {-gap:.3f}"
    same = " Training ends in the same optimum from any start." if was < 0.001 and spread < 0.001 else ""
    return f"{said}, unlike in the paper; {wider}{told}.{same}"


def _rank_words(rows: Sequence[Row]) -> list[str]:
    found = {int(rank): row["value"] for rank, row in _values(rows, "rank").items()}
    best = max(found, key=found.__getitem__)
    enough = min(rank for rank, value in found.items() if value >= found[best] - 0.01)
    return [
        f"Best at rank {best} ({found[best]:.3f}); rank {enough} is within .01 of it. The paper's curve rises to rank 6 and is "
        "flat from there (PRISM)."
    ]


def _scale_words(rows: Sequence[Row]) -> list[str]:
    words, best = [], {}
    for features in dict.fromkeys(setting.split(":")[0] for setting in _values(rows, "scale")):
        found = {
            setting: row["value"]
            for setting, row in _values(rows, "scale").items()
            if setting.startswith(f"{features}:")
        }
        most = max(int(setting.split(", ")[1].split()[0]) for setting in found)
        by_people = [value for setting, value in found.items() if setting.endswith(f", {most} prompts")]
        full = max(int(setting.split(": ")[1].split()[0]) for setting in found)
        fewer = [value for setting, value in found.items() if f": {full} people" in setting]
        best[features] = by_people[-1]
        words.append(
            f"{features}: {by_people[0]:.3f} with the fewest people and {by_people[-1]:.3f} with all; "
            f"{min(fewer):.3f} to {max(fewer):.3f} over numbers of prompts. {_rises(by_people[-1] - by_people[0])} "
            "(paper: .77 to .85 from 4,000 to 90,000 labels)."
        )
    if len(best) > 1:
        first = max(best, key=best.__getitem__)
        words.append(f"With all data {first} is the better text model; the paper's larger models are better too.")
    return words


def _rises(gain: float) -> str:
    return "More people help, as in the paper" if gain > 0.01 else "More people do not help here, unlike in the paper"


def _answers_words(rows: Sequence[Row]) -> list[str]:
    words = []
    for k in (5, 40):
        found = _values(rows, "answers", answers=k)
        factor, pooled, alone, ours = (
            found[name]["value"] for name in ("factor", "pooled", "individual", "hierarchical")
        )
        agrees = "as in the paper" if factor > max(pooled, alone) else "unlike in the paper"
        words.append(
            f"After {k} answers factor is {factor - pooled:+.3f} over one reward for all and {factor - alone:+.3f} over a reward "
            f"per person ({agrees}); hierarchical, Palate's own, is {ours - factor:+.3f} over factor."
        )
    return words


def _per_user_words(rows: Sequence[Row]) -> list[str]:
    found = [row for row in rows if row["figure"] == "per_user"]
    words = []
    for setting in dict.fromkeys(row["setting"] for row in found):
        told = ", ".join(
            f"{'' if row['reached'] else 'over '}{row['value']:.1f} after {row['answers']}"
            for row in found
            if row["setting"] == setting
        )
        words.append(f"To be {setting}, a reward per person needs so many times more answers: {told}.")
    most = max(row["value"] for row in found)
    if most >= 20:
        return [*words, "That is about the paper's 25."]
    why = "there a whole language model is trained per person, here a ridge on frozen features"
    return [*words, f"That is fewer than the paper's 25: {why}."]


def _strategies_words(rows: Sequence[Row]) -> list[str]:
    words = []
    for name in dict.fromkeys(row["setting"] for row in rows if row["figure"] == "strategies"):
        if name == "random":
            continue
        gains = {
            k: _values(rows, "strategies", answers=k)[name]["value"]
            - _values(rows, "strategies", answers=k)["random"]["value"]
            for k in (10, 20, 40)
        }
        told = ", ".join(f"{gain:+.3f} after {k}" for k, gain in gains.items())
        agrees = "better throughout, as in the paper" if min(gains.values()) > _CLEAR else "not what the paper finds"
        words.append(f"{name} against random: {told} ({agrees}; there +.08, +.05, +.06).")
    return words
