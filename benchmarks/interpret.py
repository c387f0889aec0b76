"""Does the learned reward space hold what people's tastes are really about, and do the turned axes show it?

    python benchmarks/interpret.py [--features minilm,smollm2]      writes benchmarks/results/interpret.json

400 simulated people with two known traits each answer 60 pairs of the shipped replies; `hierarchical` learns from the
choices alone. The seven attributes that the replies were written for (+1 one pole, -1 the other, 0 neutral) are then
regressed on the learned basis c(i), prompts held out (8 folds):

    known replies   the basis of replies that people judged; at least five of seven must have R² ≥ 0.4
    new prompts     a quarter of the prompts is left out of the fit too, so that content alone places their replies

`axes` says how well single axes show single attributes: for each attribute the largest |correlation| with an axis, for
principal components and after varimax; `named` how many of the turned axes carry a name that passed its held-out check.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GroupKFold, cross_val_predict

from palate.evaluate.interpret_axes import center_within, taste_axes
from palate.evaluate.interpret_names import name_by_statistics, statistics_of
from palate.features import featurize
from palate.files import write_json
from palate.models import make
from palate.simulate import corpus_people
from palate.types import Items

RESULT = Path(__file__).parent / "results" / "interpret.json"
TARGET, WANTED = 0.4, 5
FOLDS, LEFT_OUT = 8, 4


def explained(basis: np.ndarray, truth: np.ndarray, prompt: np.ndarray) -> np.ndarray:
    """(7,) R² on held-out prompts."""
    guess = cross_val_predict(LinearRegression(), basis, truth, groups=prompt, cv=GroupKFold(FOLDS))
    return r_squared(truth, guess)


def r_squared(truth: np.ndarray, guess: np.ndarray) -> np.ndarray:
    return 1 - np.square(truth - guess).sum(0) / np.square(truth - truth.mean(0)).sum(0)


def on_new_prompts(dataset, items: Items, truth: np.ndarray) -> np.ndarray:
    """(7,) R² where the prompts were left out of the fit and of the regression alike."""
    fold = np.random.default_rng(0).permutation(dataset.n_prompts)[dataset.item_prompt] % LEFT_OUT
    guess = np.zeros_like(truth)
    for part in range(LEFT_OUT):
        rows = np.flatnonzero(fold[dataset.left] != part)
        method = make("hierarchical").fit(dataset.comparisons(items, rows), rng=0)
        basis = center_within(method.basis(items), items.prompt)
        seen = fold != part
        guess[~seen] = LinearRegression().fit(basis[seen], truth[seen]).predict(basis[~seen])
    return r_squared(truth, guess)


def best_correlations(coordinates: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(7,) of each attribute with the axis that shows it best."""
    size = truth.shape[1]
    return np.abs(np.corrcoef(truth.T, coordinates.T)[:size, size:]).max(1)


def measure(features: str) -> dict:
    started = time.perf_counter()
    simulation = corpus_people(400, 60)
    dataset, truth = simulation.dataset, np.sign(simulation.truth.loadings)
    items = featurize(dataset, features)
    method = make("hierarchical").fit(dataset.comparisons(items), rng=0)
    space = taste_axes(method, items, method.states_)
    principal = np.linalg.svd(space.replies, full_matrices=False)[0]
    statistics = statistics_of([reply for _, reply in dataset.item_texts()])
    names = [name_by_statistics(values, statistics, items.prompt) for values in space.replies.T]
    known = explained(method.basis(items), truth, items.prompt)
    return {
        "r2_known_replies": columns(simulation, known),
        "r2_new_prompts": columns(simulation, on_new_prompts(dataset, items, truth)),
        "attributes_at_target": int(np.sum(known >= TARGET)),
        "suggested_rank": space.suggested_rank,
        "spectrum": [round(float(share), 4) for share in space.spectrum],
        "axes": {
            "principal_components": columns(simulation, best_correlations(principal, truth)),
            "varimax": columns(simulation, best_correlations(space.replies, truth)),
        },
        "names": [[name.text, None if name.correlation is None else round(name.correlation, 3)] for name in names],
        "named": sum(name.by == "statistics" for name in names),
        "seconds": round(time.perf_counter() - started, 1),
    }


def columns(simulation, values: np.ndarray) -> dict[str, float]:
    return {name: round(float(value), 3) for name, value in zip(simulation.truth.axes, values, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", default="minilm,smollm2", help="with commas between them")
    arguments = parser.parse_args()
    found = {}
    for features in arguments.features.split(","):
        found[features] = measure(features)
        print(features, found[features])
    write_json(RESULT, {"target": {"r2": TARGET, "attributes": WANTED}, "features": found})
    print(f"wrote {RESULT}")
    short = [name for name, row in found.items() if row["attributes_at_target"] < WANTED]
    if short:
        raise SystemExit(f"fewer than {WANTED} attributes at R² ≥ {TARGET}: {', '.join(short)}")


if __name__ == "__main__":
    main()
