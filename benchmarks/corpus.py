"""Simulated readers of the shipped replies: how near does each method come to what their known tastes allow?

    python benchmarks/corpus.py                      all worlds with SmolLM2 features, the first with MiniLM's too
    python benchmarks/corpus.py --worlds topic --configurations 0 --methods "factor:rank=8,new_user_mean=average; hierarchical"

About 400 training people with 60 answers each, new people with 100, on prompts that nobody trained on: five folds over the
64 prompts, the new people being the same in all of them (in `pairs` they hold the 17 trait pairs of nobody else).
`oracle` knows everybody's true reward, `consensus` everybody's but not who asks, `linear truth` is the best linear reward:
for every person a ridge regression of the true rewards on the features of the training prompts, centred by prompt, its
penalty chosen by leaving out training prompts. Must come out in `pairs`: hierarchical's AUC at k = 5 above factor's at
k = 10, above factor's at every k, and at k = 40 at least 90 % of the way from pooled to `linear truth`. Intervals resample
people and prompts. Writes benchmarks/results/corpus.json.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from common import keep, options, run, show, spent
from scipy.special import expit

from palate.data import PreferenceDataset
from palate.evaluate.ceilings import Ceiling, KnownProbability
from palate.evaluate.metrics import auc_by_user, mean_by_user
from palate.evaluate.planning import plan
from palate.evaluate.results import Results
from palate.features import featurize
from palate.simulate import WORLDS, Simulation, corpus_people
from palate.types import Items

TRAINING, VALIDATION_SHARE, NEW = 400, 0.15, 204
LINEAR = "linear truth"
PENALTIES = np.geomspace(0.03, 30.0, 10)
DRAWS = 200


def people(world: str, seed: int) -> Simulation:
    """So many that about 400 train when 15 % choose settings; 204 new people are 12 for each of the 17 pairs."""
    known = round(TRAINING / (1 - VALIDATION_SHARE))
    return corpus_people(known + NEW, 60, world=world, new_share=NEW / (known + NEW), new_comparisons=100, seed=seed)


# -- the best linear reward --------------------------------------------------------------------------------------------


def linear_truth(simulation: Simulation, items: Items, tested: np.ndarray) -> np.ndarray:
    """(m,) probability of every row by the reward fitted with the truth on the prompts of other folds.

    Args:
        simulation: people and truth.
        items: features.
        tested: (n_prompts,) the fold that tests each prompt.
    """
    data = simulation.dataset
    centred = _centred(items.features.astype(np.float64), items.prompt)
    truth = _centred(simulation.truth.reward().T, items.prompt)
    probability = np.full(len(data), 0.5)
    for fold in np.unique(tested):
        inside = tested[items.prompt] != fold
        reward = _ridge(centred, truth, items.prompt, inside)
        rows = ~inside[data.left]
        left, right, user = data.left[rows], data.right[rows], data.user[rows]
        probability[rows] = expit(reward[left, user] - reward[right, user])
    return probability


def _centred(values: np.ndarray, prompt: np.ndarray) -> np.ndarray:
    """Values minus their mean over the prompt's items: all that pairs within a prompt can tell."""
    counts = np.bincount(prompt)
    means = np.stack([np.bincount(prompt, column) for column in values.T], 1) / counts[:, None]
    return values - means[prompt]


def _ridge(x: np.ndarray, y: np.ndarray, prompt: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(n, people) predictions of a ridge on the rows `inside`; everybody's penalty is the best over prompts left out."""
    x = x / x[inside].std(axis=0)
    kernel = x @ x.T
    penalties = PENALTIES * np.trace(kernel[np.ix_(inside, inside)]) / inside.sum()
    part = np.random.default_rng(0).permutation(prompt.max() + 1)[prompt] % 5
    losses = np.zeros((len(penalties), y.shape[1]))
    for left_out in range(5):
        learn, judge = inside & (part != left_out), inside & (part == left_out)
        for number, penalty in enumerate(penalties):
            guess = _centred(_dual(kernel, y, learn, penalty), prompt)
            losses[number] += np.square(guess[judge] - y[judge]).sum(axis=0)
    best = losses.argmin(axis=0)
    reward = np.zeros_like(y)
    for number in np.unique(best):
        reward[:, best == number] = _dual(kernel, y[:, best == number], inside, penalties[number])
    return reward


def _dual(kernel: np.ndarray, y: np.ndarray, learn: np.ndarray, penalty: float) -> np.ndarray:
    gram = kernel[np.ix_(learn, learn)] + penalty * np.eye(learn.sum())
    return kernel[:, learn] @ np.linalg.solve(gram, y[learn])


def tested_in(data: PreferenceDataset, folds: int) -> np.ndarray:
    """(n_prompts,) the fold in which each prompt is tested."""
    tested = np.full(data.n_prompts, -1)
    for cell in plan(data, methods=["pooled"], seeds=1, folds=folds, tune=False, baseline=False, features=None):
        rows = cell.course.splits[cell.sample].new_test
        tested[data.item_prompt[data.left[rows]]] = cell.sample.fold
    return tested


# -- what must come out ------------------------------------------------------------------------------------------------


def curves(results: Results, draws: int = DRAWS) -> tuple[dict[tuple[str, int], np.ndarray], list[str], list[int]]:
    """(method, k) -> AUC of new people, the estimate first, then `draws` resamples of people × prompts; all in step.

    A row counts with the multiplicity of its prompt inside a person's AUC, and a person with that of the person.
    """
    frame = results.predictions()
    methods = list(dict.fromkeys(frame["method"].to_list()))
    ks = sorted(k for k in frame["k"].unique().to_list() if k >= 0)
    rng = np.random.default_rng(0)
    n_users, n_prompts = frame["user"].max() + 1, frame["group"].max() + 1
    found: dict[tuple[str, int], list[float]] = {(method, k): [] for method in methods for k in ks}
    tables = {
        (method, k): own.sort("fold", "row")
        for (method, k), own in frame.filter(frame["k"] >= 0).partition_by("method", "k", as_dict=True).items()
    }
    # Who does not adapt says the same at every k.
    first = {(m, k): next(j for j in ks if _alike(tables[m, j], tables[m, k])) for m in methods for k in ks}
    new = np.unique(tables[methods[0], ks[0]]["user"].to_numpy())
    for draw in range(draws + 1):
        of_person, of_prompt = np.ones(n_users), np.ones(n_prompts)
        if draw:
            of_person = np.bincount(rng.choice(new, len(new)), minlength=n_users).astype(float)
            of_prompt = np.bincount(rng.integers(n_prompts, size=n_prompts), minlength=n_prompts).astype(float)
        for key, table in tables.items():
            if first[key] < key[1]:
                found[key].append(found[key[0], first[key]][draw])
                continue
            cell = table["fold"].to_numpy() * n_users + table["user"].to_numpy()
            weight = of_prompt[table["group"].to_numpy()]
            size = cell.max() + 1
            auc = auc_by_user(table["label"].to_numpy(), table["probability"].to_numpy(), cell, size, weight)
            owner = np.arange(size) % n_users
            known = ~np.isnan(auc)
            each = mean_by_user(auc[known], owner[known], n_users)
            there = ~np.isnan(each)
            found[key].append(float(np.average(each[there], weights=of_person[there])))
    return {key: np.array(values) for key, values in found.items()}, methods, ks


def _alike(a: pl.DataFrame, b: pl.DataFrame) -> bool:
    return a["probability"].equals(b["probability"])


def targets(results: Results) -> dict[str, Any]:
    """AUC per method and k, and the three targets, with two-way intervals."""
    auc, methods, ks = curves(results)
    ours, factor = (
        next(method for method in methods if method.startswith(name)) for name in ("hierarchical", "factor")
    )
    most = max(ks)
    way = (auc[ours, most] - auc["pooled", most]) / (auc[LINEAR, most] - auc["pooled", most])
    return {
        "auc": {method: {str(k): _interval(auc[method, k]) for k in ks} for method in methods},
        "hierarchical at 5 minus factor at 10": _interval(auc[ours, 5] - auc[factor, 10]),
        "hierarchical minus factor": {str(k): _interval(auc[ours, k] - auc[factor, k]) for k in ks},
        "share of the way to linear truth": _interval(way),
    }


def _interval(values: np.ndarray) -> list[float]:
    """Estimate, and where 95 % of the resampled deviations from it lie."""
    low, high = np.quantile(values[1:] - values[1:].mean(), [0.025, 0.975])
    return [round(float(number), 4) for number in (values[0], values[0] + low, values[0] + high)]


def main() -> None:
    parser = options(__doc__.splitlines()[0])
    parser.set_defaults(methods="pooled,individual,factor,hierarchical")
    parser.add_argument("--worlds", default=",".join(WORLDS), help="worlds, separated by commas")
    parser.add_argument(
        "--features", default="smollm2", help="featurizers, separated by commas; minilm joins in `pairs`"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folds", type=int, default=5)
    arguments = parser.parse_args()
    runs, seconds, more = {}, {}, {}
    for world in arguments.worlds.split(","):
        simulation = people(world, arguments.seed)
        data = simulation.dataset
        tested = tested_in(data, arguments.folds)
        facts = {"oracle accuracy": simulation.oracle_accuracy(), "consensus accuracy": simulation.consensus_accuracy()}
        facts["pairs that differ in nothing the person cares about"] = simulation.indifferent_share()
        more[world] = {name: round(value, 4) for name, value in facts.items()}
        features = arguments.features.split(",")
        for name in [*features, *(["minilm"] if world == "pairs" and "minilm" not in features else [])]:
            items = featurize(data, name)
            label = f"{world}, {name}"
            best = Ceiling(LINEAR, KnownProbability(linear_truth(simulation, items, tested)))
            settings: dict[str, Any] = {
                "protocol": "new-items",
                "features": items,
                "seeds": 1,
                "folds": arguments.folds,
            }
            results, wall = run(arguments, data, name=f"corpus-{world}-{name}", more=[best], **settings)
            runs[label] = results
            seconds[label] = {"wall": round(wall, 1), "methods": round(spent(results), 1)}
            show(results)
            more[label] = targets(results)
            print(label, {name: value for name, value in more[label].items() if name != "auc"})
    keep(arguments, "corpus", runs, {"seconds": seconds, **more})


if __name__ == "__main__":
    main()
