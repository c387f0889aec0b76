"""What the suite `p-rlhf` found, in sentences that follow from its numbers, whichever way they came out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from palate.evaluate.suites.p_rlhf_policies import RANDOM
from palate.evaluate.suites.p_rlhf_tables import find

__all__ = ["all_words"]

Cells = Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]
Row = Mapping[str, Any]

TOP, MINORITY, GENERIC, SHORTER, NEW = 0.88, 0.90, 0.02, 0.40, 0.80
"""What is asked of the suite: accuracies of seen people and of the minority, the distance of unseen people's from vanilla DPO's,
the minority's words over the majority's, and a new person's accuracy after ten answers."""

_PERSONAL = ("individual", "cluster, K = 5")
_EPSILON = 1e-9


def all_words(cells: Cells, rows: Sequence[Row]) -> dict[str, list[str]]:
    """Figure -> sentences."""
    words = {
        "replies": _replies(cells),
        "conflicting": list(_conflicting(rows)),
        "lengths": list(_lengths(rows)),
        "new": list(_new(rows)),
        "curves": list(_curves(rows)),
        "personas": list(_personas(rows)),
        "wins": list(_wins(rows)),
        "runs": list(_runs(cells)),
    }
    return {name: lines for name, lines in words.items() if lines}


def _value(rows: Sequence[Row], figure: str, setting: str, metric: str) -> float | None:
    row = find(rows, figure, setting, metric)
    return None if row is None else row["value"]


def _judged(good: bool, what: str) -> str:
    return f"{'Reached' if good else 'Missed'}: {what}"


def _replies(cells: Cells) -> list[str]:
    if not any(identity["figure"] == "personas" and identity["setting"] == "replies" for identity, _ in cells):
        return []
    return [
        "One model and one prompt: only the soft tokens differ, learned from each one's choices. Its facts are not to be trusted."
    ]


def _conflicting(rows: Sequence[Row]) -> Iterator[str]:
    vanilla = _value(rows, "conflicting", "vanilla DPO", "unseen people")
    for name in _PERSONAL:
        top, minority, generic = (
            _value(rows, "conflicting", name, metric) for metric in ("seen people", "minority", "unseen people")
        )
        if top is None or minority is None or generic is None or vanilla is None:
            continue
        yield _judged(top >= TOP, f"{name}: seen people {top:.3f} (asked: {TOP:.2f} or more).")
        yield _judged(minority >= MINORITY, f"{name}: the minority {minority:.3f} (asked: {MINORITY:.2f} or more).")
        what = f"{name}: unseen people {generic:.3f}, vanilla DPO {vanilla:.3f} (asked: within {GENERIC:.2f})."
        yield _judged(abs(generic - vanilla) <= GENERIC + _EPSILON, what)
    left = _value(rows, "conflicting", "vanilla DPO", "minority")
    if left is not None:
        agrees = "as in the paper (.251)" if left < 0.5 else "unlike the paper's .251"
        yield f"Vanilla DPO leaves the minority at {left:.3f}, {agrees}."


def _lengths(rows: Sequence[Row]) -> Iterator[str]:
    chosen = [row for row in rows if row["figure"] == "lengths"]
    for name in _PERSONAL:
        ratio, many, few = (
            _value(chosen, "lengths", name, metric) for metric in ("minority over majority", "majority", "minority")
        )
        if ratio is not None:
            what = f"{name}: the minority gets {few:.1f} words, the majority {many:.1f}: {ratio:.0%} (asked: {SHORTER:.0%} or less)."
            yield _judged(ratio <= SHORTER, what)
    cut = [row for row in chosen if row.get("cut")]
    if cut:
        limit = cut[0]["note"].partition(" cut at ")[2]
        yield f"Replies are cut at {limit}; where that happened the true mean is higher, so long replies are longer than they look here."
    few = [row["value"] for row in chosen if row["metric"] == "minority"]
    if few and min(few) > 0:
        yield "The paper's minority gets empty replies, the optimum of a taste for shorter ones; ours gets replies."


def _new(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        if row["figure"] == "new" and row["answers"] and row["metric"] in ("majority", "minority"):
            who = f"{row['setting']}: a new person of the {row['metric']} has {row['value']:.3f}"
            yield _judged(row["value"] >= NEW, f"{who} after {row['answers']} answers (asked: {NEW:.2f} or more).")


def _curves(rows: Sequence[Row]) -> Iterator[str]:
    chosen = [row for row in rows if row["figure"] == "curves" and row["metric"] == "seen people"]
    for name in _PERSONAL:
        points = [row for row in chosen if row["setting"] == name]
        above = [row for row in points if row["value"] >= 0.8]
        if above:
            yield f"{name}: seen people's accuracy first passes .80 by step {above[0]['step']} of {above[0]['steps']}."
        elif points:
            yield f"{name}: seen people's accuracy never passes .80; its last is {points[-1]['value']:.2f}."
    if chosen:
        yield "A point rests on the comparisons of a tenth of the training, so it sways; the paper's rest on the whole validation set."


def _personas(rows: Sequence[Row]) -> Iterator[str]:
    own, nobody = (
        [row["value"] for row in rows if row["figure"] == "personas" and row["metric"] == metric]
        for metric in ("accuracy", "accuracy as nobody")
    )
    if own:
        better = sum(first > second for first, second in zip(own, nobody, strict=True))
        mean, generic = sum(own) / len(own), sum(nobody) / len(nobody)
        yield f"Their own tokens are better than nobody's for {better} of {len(own)}: {mean:.2f} against {generic:.2f} on average."


def _wins(rows: Sequence[Row]) -> Iterator[str]:
    against = {
        "generic": "those of the generic tokens",
        "base": "those of the model before training",
        "base, told the wish": "those of that model told the wish",
    }
    for opponent, label in against.items():
        row = find(rows, "wins", "all six", f"wins over {opponent}")
        if row is not None:
            beside = "over vanilla DPO, " if opponent == "generic" else ""
            yield f"Replies win over {label} in {row['value']:.0%} (the paper: {beside}{row['published']:.0%})."
    if any(row["figure"] == "wins" for row in rows):
        yield "Who wins is counted in the texts by what the person's choices follow; in the paper GPT-4 judges. Both win a tie."


def _runs(cells: Cells) -> Iterator[str]:
    trained = [(identity, values) for identity, values in cells if identity["figure"] == "curves"]
    if not trained:
        return
    figures = {identity["figure"] for identity, _ in cells}
    yield f"Computed on: {', '.join(sorted({values['device'] for _, values in trained}))}."
    if any(identity["recipe"]["base"] == RANDOM for identity, _ in trained):
        yield "The model here is a random one of two layers, which knows nothing: only the form is that of a whole run."
    if not figures & {"ablations", "forty", "convarg"}:
        yield (
            "Not run, for want of an accelerator: T = 1, α = 1, without e_0, K = 2 (Table 5), 40 people (Table 6), and arguments of "
            "debates. `palate bench --suite p-rlhf --all` runs them too, which takes hours on a CPU; with an accelerator they "
            "run without --all."
        )
    elif "convarg" not in figures:
        yield "The arguments of debates are not on this machine: `palate data get convarg` fetches them."
