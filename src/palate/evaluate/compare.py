"""Two results folders side by side: what changed between them, on the rows both predicted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from palate.errors import FingerprintError, InputError
from palate.evaluate.courses import FEWEST_PROMPTS
from palate.evaluate.metrics import correct, log_loss
from palate.evaluate.results import Results, k_name
from palate.evaluate.summary import draws_for
from palate.rng import derive
from palate.statistics import two_way_many

__all__ = ["changes", "compare"]

_SAME = ("seed", "fold", "k", "row")
_EXAM = ("seed", "fold", "split", "part")
"""Cells with the same of these were asked the same people about the same held-out rows."""


def compare(
    before: Results,
    after: Results,
    *,
    methods: Mapping[str, str] | None = None,
    seed: int = 0,
    notify: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Paired gains of `after` over `before` wherever both predicted the same rows of the same split of the same data.

    Args:
        before, after: results with their folders.
        methods: label in `before` -> label in `after`; by default every label that both have.
        seed: of the resamples.
        notify: called with one line for every course that could not be compared, and why.

    Returns:
        Dicts `data protocol method k metric value low high n_users claim cells before_seconds after_seconds`; metrics
        `accuracy_gain` and `log_loss_gain`, positive where `after` is better; `cells` is how many pairs there are and the
        seconds are means over them of fitting, adapting and predicting.

    Raises:
        FingerprintError: data of the same name differ.
        InputError: they have no data, protocol and method in common, or no folder.
    """
    shared = _shared_data(before, after)
    pairs = methods or {label: label for label in before.manifest["methods"] if label in after.manifest["methods"]}
    rows: list[dict[str, Any]] = []
    for data in shared:
        by_prompt = after.manifest["data"][data]["n_prompts"] >= FEWEST_PROMPTS
        for protocol in [name for name in before.manifest["protocols"] if name in after.manifest["protocols"]]:
            for old, new in pairs.items():
                cells = _pairs(
                    before.done(data=data, protocol=protocol, method=old),
                    after.done(data=data, protocol=protocol, method=new),
                )
                label = old if old == new else f"{old} \u2192 {new}"
                if not cells:
                    notify(f"{data}, {protocol}, {label}: no cell of the two has the same split; not compared")
                    continue
                both = pl.concat([_both(before.frame_of(one), after.frame_of(other)) for one, other in cells])
                place = {"data": data, "protocol": protocol, "method": label, "cells": len(cells)}
                seconds = {
                    "before_seconds": float(np.mean([_seconds(one) for one, _ in cells])),
                    "after_seconds": float(np.mean([_seconds(other) for _, other in cells])),
                }
                rows += [place | gain | seconds for gain in _gains(both, by_prompt, seed)]
    if not rows:
        raise InputError(
            "the two results have no predictions in common; compare runs of the same data, splits and methods"
        )
    return rows


def changes(before: Results, after: Results) -> list[str]:
    """What else differs between two folders, a line each: features, settings of the run, versions, missing methods."""
    lines = []
    for data in sorted(set(before.manifest["data"]) & set(after.manifest["data"])):
        old, new = before.manifest["data"][data], after.manifest["data"][data]
        if old.get("items_fingerprint") != new.get("items_fingerprint"):
            lines.append(f"{data}: other features ({old.get('dim', '?')} numbers a text, now {new.get('dim', '?')})")
    for name, what in (("tuning", "tuning"), ("final", "final people"), ("machine", "machine")):
        old, new = before.manifest.get(name), after.manifest.get(name)
        if old != new:
            lines.append(f"{what}: {_plain(old)}, now {_plain(new)}")
    old, new = (results.manifest.get("versions") or {} for results in (before, after))
    for name in sorted(set(old) | set(new)):
        if old.get(name) != new.get(name):
            lines.append(f"{name}: {old.get(name, 'none')}, now {new.get(name, 'none')}")
    code = [sorted({cell["code"] for cell in results.cells if "code" in cell}) for results in (before, after)]
    if code[0] != code[1]:
        lines.append("the code of palate differs (data, models or evaluate)")
    for label, here, there in (("before", before, after), ("after", after, before)):
        alone = [method for method in here.manifest["methods"] if method not in there.manifest["methods"]]
        if alone:
            lines.append(f"only {label}: {', '.join(alone)}")
    return lines


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}={each}" for key, each in value.items())
    return {None: "none", True: "yes", False: "no"}.get(value, str(value))


def _shared_data(before: Results, after: Results) -> list[str]:
    """Names of data sets that both have, all of them the same."""
    shared = sorted(set(before.manifest["data"]) & set(after.manifest["data"]))
    for name in shared:
        old, new = (results.manifest["data"][name]["fingerprint"] for results in (before, after))
        if old != new:
            raise FingerprintError(
                f"the two results are of different data under the name {name!r} (fingerprint {old[:12]} against "
                f"{new[:12]}); compare like with like"
            )
    if not shared:
        names = (", ".join(sorted(results.manifest["data"])) for results in (before, after))
        raise InputError("the two results are of other data ({} against {}); compare like with like".format(*names))
    return shared


def _pairs(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Cells of the two that sat the same exam."""
    later = {tuple(cell.get(name) for name in _EXAM): cell for cell in after}
    places = [(cell, tuple(cell.get(name) for name in _EXAM)) for cell in before]
    return [(cell, later[place]) for cell, place in places if place in later]


def _both(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """Rows predicted by both, with the probability of `before` as `earlier`."""
    return after.join(before.select(*_SAME, pl.col("probability").alias("earlier")), on=_SAME, how="inner").sort(_SAME)


def _seconds(cell: Mapping[str, Any]) -> float:
    seconds = cell["seconds"]
    return float(seconds["fit"] + sum(seconds["adapt"].values()) + sum(seconds["predict"].values()))


def _gains(both: pl.DataFrame, by_prompt: bool, seed: int) -> list[dict[str, Any]]:
    found = []
    for (k,), rows in both.sort(_SAME).group_by("k", maintain_order=True):
        label, new, old = (rows[name].to_numpy() for name in ("label", "probability", "earlier"))
        gains = np.column_stack(
            [correct(label, new) - correct(label, old), log_loss(label, old) - log_loss(label, new)]
        )
        estimates = two_way_many(
            gains,
            rows["user"].to_numpy(),
            rows["group"].to_numpy() if by_prompt else rows.select("left", "right").to_numpy(),
            weight=rows["weight"].to_numpy(),
            rng=derive(seed, "intervals"),
            draws=draws_for(gains.size),
        )
        for metric, estimate in zip(("accuracy_gain", "log_loss_gain"), estimates, strict=True):
            numbers = estimate.to_dict()
            numbers["n_users"] = numbers.pop("n")
            del numbers["unit"]
            found.append({"k": k_name(k), "metric": metric, **numbers})
    return found
