"""Invented results for the tests of the report. Nothing here was measured; the shapes are those of real results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.special import expit

from palate.evaluate.audit_decision import power_curve
from palate.evaluate.results import (
    PER_PROMPT,
    PER_USER,
    PREDICTIONS,
    RESULTS_FORMAT,
    SEEN,
    Results,
    result_row,
)
from palate.files import write_json
from palate.statistics import Estimate

KS = (0, 1, 3, 5, 10, 20, 40)

# invented: logits added by knowing the person, the answers that take half of it, seconds of a fit
METHODS = {
    "pooled": (0.0, 1.0, 0.4),
    "sklearn": (0.10, 16.0, 2.1),
    "individual": (0.16, 20.0, 1.2),
    "factor": (0.38, 9.0, 6.5),
    "gpo": (0.30, 5.0, 48.0),
    "hierarchical": (0.55, 5.0, 11.0),
}


def invented_results(
    folder: Path | None = None,
    *,
    data: Sequence[str] = ("town votes",),
    protocol: str = "known-items",
    methods: Sequence[str] = tuple(METHODS),
    ks: Sequence[int] = KS,
    seen: bool = True,
    n_people: int = 120,
    n_rows: int = 16,
    seeds: Sequence[int] = (0, 1),
    audits: bool = True,
    skipped: Sequence[tuple[str, str]] = (),
    final: bool = False,
    strength: float = 1.0,
    licence: str = "CC BY 4.0, The Town (invented)",
    curves: bool = False,
    ceilings: bool = False,
) -> Results:
    """Results as `palate.evaluate.benchmark` would leave them; with `folder` its cells and predictions lie there."""
    rows: list[dict[str, Any]] = []
    cells: list[dict[str, Any]] = []
    people: list[pl.DataFrame] = [pl.DataFrame(schema=PER_USER)]
    levels = ([SEEN] if seen else []) + list(ks)
    for number, name in enumerate(data):
        world = _world(number, n_people, n_rows, len(seeds))
        for method in methods:
            frames = {k: _predictions(world, method, k, strength, seeds, max(ks, default=40)) for k in levels}
            table = pl.concat([_per_user(world, frame, name, protocol, method) for frame in frames.values()])
            people.append(table)
            cells += _cells(folder, frames, name, protocol, method, seeds, n_people)
        table = pl.concat(people)
        for method in methods:
            for k in levels:
                rows += _rows(table, name, protocol, method, k)
        if ceilings:
            rows += _ceilings(name, protocol, levels, n_people)
    return Results(
        rows=tuple(rows),
        manifest=_manifest(data, protocol, methods, ks, seeds, n_people, n_rows, final, licence),
        skipped=tuple({"data": data[0], "protocol": protocol, "method": m, "reason": reason} for m, reason in skipped),
        cells=tuple(cells),
        per_user=pl.concat(people),
        per_prompt=_prompts(data, protocol, methods, strength, -1 if seen else max(ks, default=-1)),
        differences=tuple(_differences(rows)),
        sizes=tuple(_sizes(rows, ks)) if curves and ks else (),
        audits={name: invented_audit(name, n_people=n_people, licence=licence) for name in data} if audits else {},
        folder=folder,
    )


def invented_audit(
    name: str = "town votes", *, n_people: int = 120, verdict: str = "personalize", licence: str = ""
) -> dict:
    """Findings in the form of `palate.evaluate.Audit.to_dict`."""
    rng = np.random.default_rng(5)
    agreement = np.clip(np.concatenate([rng.normal(0.76, 0.09, n_people), rng.normal(0.4, 0.05, n_people // 12)]), 0, 1)
    edges = np.linspace(0, 1, 21)

    def found(value: float, half: float, **more: Any) -> dict[str, Any]:
        claim = n_people >= 20
        base = {
            "value": value,
            "low": value - half,
            "high": value + half,
            "n": n_people,
            "unit": "users",
            "claim": claim,
        }
        return base | {"reason": None, "method": None} | more

    pairs = {"n": 812, "unit": "pairs", "method": "votes on pairs with at least 5 raters"}
    gain = found(0.047, 0.009) if verdict == "personalize" else found(0.001, 0.006)
    curve = power_curve(rng.normal(0, 1.1, 300), 1.2, 300)
    return {
        "data": {"name": name, "fingerprint": "3f9c2a7be1d04c55", "licence": licence},
        "settings": {"min_raters": 5, "worthwhile": 0.01, "features": 384, "base_reward": False},
        "n_comparisons": n_people * 60,
        "n_users": n_people,
        "n_items": 640,
        "n_prompts": 40,
        "divergence": found(0.71, 0.03, **pairs)
        | {
            "coin_expected": 0.94,
            "noise_expected": 0.46,
            "votes_model": found(0.64, 0.04),
            "taste_model": found(0.38, 0.05),
        },
        "high_divergence": found(0.29, 0.03, **pairs)
        | {
            "coin_expected": 0.82,
            "noise_expected": 0.11,
            "votes_model": {"value": None},
            "taste_model": found(0.21, 0.04),
        },
        "minority_share": found(
            0.083, 0.03, count=n_people // 12, method="beta-binomial posterior, P(MV-ACC < .5) > .9"
        ),
        "noisy_share": found(0.025, 0.02, count=n_people // 40, method="< .6 by the majority and by the own taste"),
        "mv_acc": found(0.742, 0.012, method="majority of the other raters, pairs with at least 5 raters")
        | {
            "with_own_vote": found(0.79, 0.011),
            "histogram": {"edges": edges.tolist(), "people": np.histogram(agreement, edges)[0].tolist()},
        },
        "consistency": found(0.83, 0.02, method="the same pair answered twice by the same person")
        | {"ceiling": {"value": 0.906, "low": 0.89, "high": 0.92, "least": 0.83}},
        "room": {
            "value": gain["value"],
            "low": gain["low"],
            "high": 0.165,
            "achievable": gain,
            "upper": found(
                0.165, 0.02, ceiling=0.906, method="ceiling of consistency minus the best non-personal accuracy"
            ),
            "non_personal": {
                "pooled model": found(0.741, 0.011),
                "majority of others": found(0.733, 0.012),
                "length": found(0.538, 0.014),
                "position": found(0.502, 0.012),
                "popularity": found(0.69, 0.012),
            },
            "personal": found(0.741 + gain["value"], 0.012),
            "reason": None,
        },
        "decision": {
            "verdict": verdict,
            "reason": f"knowing the person gains {gain['value']:+.3f} accuracy",
            "expected_gain": gain,
            "need": {"users": 500, "answers": 20} if verdict == "collect" else None,
            "power": 0.97,
            "power_curve": list(curve),
            "assumes": "tastes as strong as the probe found (standard deviation 1.10 logits over people)",
        },
        "notes": ["no features were given: items are known by identity alone, and nothing is said about new texts"],
    }


def _world(number: int, n_people: int, n_rows: int, n_seeds: int) -> dict[str, Any]:
    rng = np.random.default_rng(100 + number)
    minority = np.arange(n_people) < n_people // 12
    noisy = np.arange(n_people) >= n_people - max(1, n_people // 30)
    shape = (n_seeds, n_people, n_rows)
    shared = rng.normal(0, 1.3, shape)
    taste = rng.normal(0, 1.4, shape) + np.where(minority[:, None], -2.2, 0.15) * np.sign(shared)
    logit = np.where(noisy[:, None], 0.0, shared + taste)
    return {
        "shared": shared,
        "taste": np.where(noisy[:, None], rng.normal(0, 1, shape), taste),
        "label": (rng.random(shape) < expit(1.6 * logit)).astype(float),
        "minority": minority,
        "noisy": noisy,
    }


def _predictions(
    world: dict[str, Any], method: str, k: int, strength: float, seeds: Sequence[int], most: int
) -> pl.DataFrame:
    power, half, _ = METHODS.get(method, (0.2, 8.0, 3.0))
    known = strength * power * (0.93 * most / (most + half) + 0.07 if k == SEEN else k / (k + half))
    probability = expit(1.1 * (world["shared"] + known * world["taste"]))
    n_seeds, n_people, n_rows = world["label"].shape
    m = world["label"].size
    index = np.indices(world["label"].shape)
    return pl.DataFrame(
        {
            "seed": np.asarray(seeds)[index[0].ravel()],
            "fold": np.full(m, -1),
            "k": np.full(m, k),
            "row": np.arange(m),
            "user": index[1].ravel(),
            "left": np.arange(m) % 640,
            "right": (np.arange(m) + 7) % 640,
            "group": np.arange(m) % 40,
            "label": world["label"].ravel(),
            "weight": np.ones(m),
            "probability": probability.ravel(),
        }
    ).cast(PREDICTIONS)


def _per_user(world: dict[str, Any], frame: pl.DataFrame, data: str, protocol: str, method: str) -> pl.DataFrame:
    right = (pl.col("probability") > 0.5) == (pl.col("label") > 0.5)
    true = pl.when(pl.col("label") > 0.5).then(pl.col("probability")).otherwise(1 - pl.col("probability"))
    table = frame.group_by("seed", "fold", "k", "user", maintain_order=True).agg(
        pl.len().alias("n"), right.cast(pl.Float64).mean().alias("accuracy"), (-true.log()).mean().alias("log_loss")
    )
    user = table["user"].to_numpy()
    return (
        table.with_columns(
            data=pl.lit(data),
            protocol=pl.lit(protocol),
            method=pl.lit(method),
            auc=pl.lit(0.78),
            minority=pl.Series(world["minority"][user]),
            noisy=pl.Series(world["noisy"][user]),
            worst_tenth=pl.Series(world["minority"][user]),
            agreement=pl.lit(0.7),
            n_train=pl.lit(40),
        )
        .select(*PER_USER)
        .cast(PER_USER)
    )


def _rows(table: pl.DataFrame, data: str, protocol: str, method: str, k: int) -> list[dict[str, Any]]:
    here = table.filter((pl.col("data") == data) & (pl.col("k") == k))
    by_user = (
        here.filter(pl.col("method") == method).group_by("user").agg(pl.col("accuracy", "log_loss").mean()).sort("user")
    )
    base = (
        here.filter(pl.col("method") == "pooled")
        .group_by("user")
        .agg(pl.col("accuracy", "log_loss").mean())
        .sort("user")
    )
    accuracy, loss = by_user["accuracy"].to_numpy(), by_user["log_loss"].to_numpy()
    minority = np.arange(len(accuracy)) < len(accuracy) // 12
    found = {
        "accuracy": accuracy,
        "log_loss": loss,
        "auc": accuracy + 0.05,
        "calibration_error": np.abs(accuracy - 0.7) / 4,
        "calibration_slope": np.full(len(accuracy), 0.95),
        "minority_accuracy": np.where(minority, accuracy, np.nan),
        "worst_tenth_accuracy": np.where(minority, accuracy, np.nan),
    }
    if len(base) and method != "pooled":
        found |= {
            "accuracy_gain": accuracy - base["accuracy"].to_numpy(),
            "log_loss_gain": base["log_loss"].to_numpy() - loss,
        }
    seconds = METHODS.get(method, (0, 0, 3.0))[2] * 1.02
    return [result_row(data, method, protocol, k, metric, _mean(values), seconds) for metric, values in found.items()]


def _ceilings(data: str, protocol: str, levels: Sequence[int], n_people: int) -> list[dict[str, Any]]:
    """What the truth would reach: far above everybody, and a little above pooled."""
    found = (("oracle", 0.91), ("consensus", 0.78))
    return [
        result_row(data, name, protocol, k, "accuracy", Estimate(value, value - 0.01, value + 0.01, n_people), 0.0)
        for name, value in found
        for k in levels
    ]


def _differences(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Accuracy minus that of pooled and of the best, with intervals wider than those of the rows."""
    found = []
    accuracy = {(r["data"], r["protocol"], r["k"], r["method"]): r for r in rows if r["metric"] == "accuracy"}
    for data, protocol, k in dict.fromkeys(key[:3] for key in accuracy):
        here = {key[3]: r for key, r in accuracy.items() if key[:3] == (data, protocol, k)}
        here = {name: r for name, r in here.items() if name not in ("oracle", "consensus")}
        if "pooled" not in here or len(here) < 2:
            continue
        best = max(here, key=lambda name: here[name]["value"])
        for reference in dict.fromkeys(("pooled", best)):
            for name in here:
                if name != reference:
                    value = here[name]["value"] - here[reference]["value"]
                    gain = {"value": value, "low": value - 0.02, "high": value + 0.02}
                    place = {"data": data, "protocol": protocol, "k": k, "reference": reference, "method": name}
                    more = {"metric": "accuracy", "n_users": here[name]["n_users"], "methods": len(here) - 1}
                    found.append(place | gain | more | {"claim": here[name]["claim"]})
    return found


def _prompts(data: Sequence[str], protocol: str, methods: Sequence[str], strength: float, k: int) -> pl.DataFrame:
    """Forty prompts whose gains spread around one twentieth, the first surely helped and the last surely not."""
    names = [(name, method) for name in data for method in methods if method != "pooled"]
    gain = strength * (0.05 + np.linspace(0.06, -0.09, 40))
    frames = [
        pl.DataFrame(
            {
                "k": [k] * 40,
                "kind": ["prompt"] * 40,
                "number": range(40),
                "text": [f"Invented prompt <{i}>: what shall we have for dinner on day {i}?" for i in range(40)],
                "n_users": [9 + i % 5 for i in range(40)],
                "raw": 2 * gain,
                "gain": gain,
                "low": gain - 0.03,
                "high": gain + 0.03,
                "of": [40] * 40,
                "mean": [0.05 * strength] * 40,
                "spread": [0.044] * 40,
                "chance": [0.001] * 40,
            }
        )
        .with_columns(data=pl.lit(name), protocol=pl.lit(protocol), method=pl.lit(method))
        .select(*PER_PROMPT)
        .cast(PER_PROMPT)
        for name, method in names
    ]
    return pl.concat(frames) if frames else pl.DataFrame(schema=PER_PROMPT)


def _sizes(rows: Sequence[dict[str, Any]], ks: Sequence[int]) -> list[dict[str, Any]]:
    """Rows as if a half and a quarter of the training data had given less."""
    found = []
    for row in rows:
        if row["k"] != max(ks) or row["metric"] not in ("accuracy", "accuracy_gain") or row["value"] is None:
            continue
        for axis in ("users", "comparisons"):
            for part in (4, 2, 1):
                less = 0.004 * part if row["method"] != "pooled" else 0.0
                numbers = {key: row[key] - less for key in ("value", "low", "high") if row[key] is not None}
                counts = {"train_users": 80 // part, "train_comparisons": 4800 // part}
                found.append({**row, **numbers, "axis": axis, **counts})
    return found


def _mean(values: np.ndarray) -> Estimate:
    known = values[~np.isnan(values)]
    if len(known) < 2:
        return Estimate(float(known[0]) if len(known) else math.nan, math.nan, math.nan, len(known))
    half = 1.96 * known.std(ddof=1) / math.sqrt(len(known))
    return Estimate(known.mean(), known.mean() - half, known.mean() + half, len(known))


def _cells(
    folder: Path | None,
    frames: dict[int, pl.DataFrame],
    data: str,
    protocol: str,
    method: str,
    seeds: Sequence[int],
    n_people: int,
) -> list[dict[str, Any]]:
    fit = METHODS.get(method, (0, 0, 3.0))[2]
    cells = []
    for seed in seeds:
        key = f"{abs(hash((data, protocol, method, seed))):x}"
        if folder is not None:
            (folder / "cells").mkdir(parents=True, exist_ok=True)
            frame = pl.concat(list(frames.values())).filter(pl.col("seed") == seed)
            frame.write_parquet(folder / "cells" / f"{key}.parquet")
        cells.append(
            {
                "key": key,
                "data": data,
                "protocol": protocol,
                "method": method,
                "seed": seed,
                "fold": -1,
                "status": "done",
                "reason": None,
                "seconds": {
                    "tune": 4 * fit,
                    "fit": fit * (1 + 0.02 * seed),
                    "adapt": {str(k): 2e-4 * n_people for k in frames if k != SEEN},
                    "predict": {str(k): 0.02 for k in frames},
                },
                "peak_memory": int(7.1e8 + 2e7 * fit),
                "settings": {"rank": 8, "l2": 1.0} if method != "pooled" else {"l2": 1.0},
                "tuning": None,
            }
        )
    return cells


def _manifest(
    data: Sequence[str],
    protocol: str,
    methods: Sequence[str],
    ks: Sequence[int],
    seeds: Sequence[int],
    n_people: int,
    n_rows: int,
    final: bool,
    licence: str,
) -> dict[str, Any]:
    about = {
        "fingerprint": "3f9c2a7be1d04c55",
        "items_fingerprint": "91",
        "dim": 384,
        "n_comparisons": n_people * 60,
        "n_users": n_people,
        "n_items": 640,
        "n_prompts": 40,
        "licence": licence,
    }
    return {
        "format": RESULTS_FORMAT,
        "data": dict.fromkeys(data, about),
        "courses": [
            {"data": name, "protocol": protocol, "ks": list(ks), "cohort": n_people, "resampled": "users × prompts"}
            for name in data
        ],
        "methods": list(methods),
        "protocols": [protocol],
        "samples": [[seed, -1] for seed in seeds],
        "tuning": {"configurations": 8, "seconds": 300.0},
        "final": final,
        "versions": {"python": "3.11.2", "palate": "0.1.0", "numpy": "2.4.6"},
        "machine": "Linux x86_64",
        "complete": True,
        "cells": [],
        "notes": [],
    }


def save(results: Results, folder: Path) -> None:
    """Write what `Results.load` needs besides the cells' predictions."""
    for cell in results.cells:
        write_json(folder / "cells" / f"{cell['key']}.json", cell)
    results.per_user.write_parquet(folder / "per_user.parquet")
    results.per_prompt.write_parquet(folder / "per_prompt.parquet")
    write_json(folder / "manifest.json", dict(results.manifest) | {"cells": [cell["key"] for cell in results.cells]})
    names = ("rows", "skipped", "differences", "sizes")
    write_json(folder / "results.json", {name: list(getattr(results, name)) for name in names})


def broken_numbers(results: Results) -> list[dict[str, Any]]:
    """The rows with every third value gone, as after a metric that could not be computed."""
    return [
        row | {"value": None, "low": None, "high": None}
        if i % 3 == 0
        else row | ({"low": math.nan} if i % 7 == 0 else {})
        for i, row in enumerate(results.rows)
    ]
