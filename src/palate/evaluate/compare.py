"""Two results folders side by side: what changed between them, on the rows both predicted."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from palate.errors import FingerprintError, InputError
from palate.evaluate.courses import FEWEST_PROMPTS
from palate.evaluate.metrics import correct, log_loss
from palate.evaluate.results import Results, k_name
from palate.evaluate.summary import DRAWS
from palate.rng import derive
from palate.statistics import two_way_many

__all__ = ["compare"]

_SAME = ("seed", "fold", "k", "row")


def compare(
    before: Results, after: Results, *, methods: dict[str, str] | None = None, seed: int = 0
) -> list[dict[str, Any]]:
    """Paired gains of `after` over `before` wherever both predicted the same rows of the same data.

    Args:
        before, after: results with their folders.
        methods: label in `before` -> label in `after`; by default every label that both have.
        seed: of the resamples.

    Returns:
        Dicts `data protocol method k metric value low high n_users claim`; metrics `accuracy_gain` and `log_loss_gain`,
        positive where `after` is better.

    Raises:
        FingerprintError: data of the same name differ.
        InputError: they have no data, protocol and method in common, or no folder.
    """
    shared = sorted(set(before.manifest["data"]) & set(after.manifest["data"]))
    for name in shared:
        if before.manifest["data"][name]["fingerprint"] != after.manifest["data"][name]["fingerprint"]:
            raise FingerprintError(
                f"the two results are of different data under the name {name!r}; compare like with like"
            )
    pairs = methods or {label: label for label in before.manifest["methods"] if label in after.manifest["methods"]}
    rows: list[dict[str, Any]] = []
    for data in shared:
        by_prompt = after.manifest["data"][data]["n_prompts"] >= FEWEST_PROMPTS
        for protocol in [name for name in before.manifest["protocols"] if name in after.manifest["protocols"]]:
            for old, new in pairs.items():
                both = _both(
                    before.predictions(data=data, protocol=protocol, method=old),
                    after.predictions(data=data, protocol=protocol, method=new),
                )
                for gain in _gains(both, by_prompt, seed):
                    rows.append({"data": data, "method": old if old == new else f"{old} → {new}"} | gain)
                    rows[-1]["protocol"] = protocol
    if not rows:
        raise InputError(
            "the two results have no predictions in common; compare runs of the same data, splits and methods"
        )
    return rows


def _both(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """Rows predicted by both, with the probability of `before` as `earlier`."""
    return after.join(before.select(*_SAME, pl.col("probability").alias("earlier")), on=_SAME, how="inner").sort(_SAME)


def _gains(both: pl.DataFrame, by_prompt: bool, seed: int) -> list[dict[str, Any]]:
    found = []
    for (k,), rows in both.group_by("k", maintain_order=True):
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
            draws=DRAWS,
        )
        for metric, estimate in zip(("accuracy_gain", "log_loss_gain"), estimates, strict=True):
            numbers = estimate.to_dict()
            numbers["n_users"] = numbers.pop("n")
            del numbers["unit"]
            found.append({"k": k_name(k), "metric": metric, **numbers})
    return found
