"""Does the audit's room predict what personalization then gains, and is its decision right?

    python benchmarks/room.py [--method hierarchical|probe] [--seeds 2 3]      writes benchmarks/results/room.json

Twenty simulated worlds a seed, with disagreement, noise, rank, size and features varied (seeds 0 and 1 were looked at
while the audit and the method were made, the others not). In each the audit sees the training answers only. Then
`hierarchical` and `pooled` are fitted to the same answers, and compared on fresh answers of the same people about items
those people have not met, scored with the *true* probabilities, so that the achieved gain carries no label noise.

Criterion, written down before any result was looked at
    rank        Spearman correlation between the audit's achievable room and the achieved gain, at least 0.8.
    decision    right in at least 90 % of the worlds, where with G the achieved gain and R the true room (oracle minus
                the best prediction that does not know the person):
                    G > 0.01               right is "personalize"
                    G <= 0.01, R > 0.05    right is "collect": there is something to learn, not with these answers
                    G <= 0.01, R <= 0.01   right is "don't"; with fewer than 2,000 answers "collect" is as right,
                                           because nobody can exclude tastes from so little
                    otherwise              "don't" and "collect" are both right
                0.01 is the audit's own default of what is worth having, 0.05 what its power refers to; neither was
                chosen on these worlds.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from palate.evaluate import probe
from palate.evaluate.audit import audit
from palate.files import write_json
from palate.models import registry
from palate.simulate import Simulation, corpus_people, synthetic_world
from palate.types import Items

RESULT = Path(__file__).parent / "results" / "room.json"
FRESH = 40

WORLDS: dict[str, dict] = {
    "alike": dict(disagreement=0.0),
    "alike, noisy": dict(disagreement=0.0, noise=3.0),
    "alike, strong": dict(n_users=1000, n_items=200, rows_per_user=30, disagreement=0.0, shared=2.0),
    "alike, features": dict(n_items=2000, rows_per_user=40, disagreement=0.0, features=16),
    "alike, tiny": dict(n_users=60, rows_per_user=15, disagreement=0.0),
    "hardly different": dict(disagreement=0.3),
    "a little different": dict(disagreement=0.6),
    "different": dict(disagreement=1.0),
    "different, rank 6": dict(disagreement=1.0, rank=6),
    "different, noisy": dict(disagreement=1.5, noise=3.0),
    "very different, rank 1": dict(disagreement=2.0, rank=1),
    "very different": dict(disagreement=2.0),
    "very different, rank 8": dict(disagreement=2.0, rank=8),
    "opposed, noisy": dict(disagreement=3.0, rank=4, noise=2.0),
    "many people, few answers": dict(n_users=2000, n_items=200, rows_per_user=10, disagreement=1.5),
    "different, features": dict(n_items=2000, rows_per_user=40, disagreement=1.5, features=16),
    "very different, tiny": dict(n_users=60, rows_per_user=10, disagreement=2.0),
    "opposed, few people": dict(n_users=30, n_items=256, rows_per_user=20, disagreement=3.0),
    "corpus people": dict(n_users=300, comparisons=60),
    "corpus people, few": dict(n_users=80, comparisons=15),
}


@dataclass(frozen=True)
class Outcome:
    """What came of one world."""

    world: str
    seed: int
    predicted: float | None
    verdict: str
    achieved: float
    room: float
    right: bool
    rows: int
    audit_seconds: float
    fit_seconds: float


def make(name: str, seed: int) -> Simulation:
    maker = corpus_people if name.startswith("corpus") else synthetic_world
    return maker(**WORLDS[name], seed=seed)


def achieved_gain(world: Simulation, items: Items, method: str, seed: int) -> float:
    """Gain in expected accuracy over pooled on fresh answers, mean over people."""
    fresh = world.fresh(FRESH, rng=seed + 1000)
    training, test = world.dataset.comparisons(items), fresh.comparisons(items)
    truth = world.truth.probability(test.left, test.right, test.user)
    if method == "probe":
        features = probe.compress(training)
        fits = probe.fit(training, features, rank=6, rounds=12, rng=np.random.default_rng(seed))
        pooled, personal = (fitted.probability(test.left, test.right, test.user) for fitted in fits)
    else:
        pooled, personal = (_prefer(name, training, test, items, seed) for name in ("pooled", method))
    right = [np.where(p > 0.5, truth, np.where(p < 0.5, 1.0 - truth, 0.5)) for p in (pooled, personal)]
    counts = np.bincount(test.user, minlength=test.n_users)
    means = np.bincount(test.user, right[1] - right[0], test.n_users)[counts > 0] / counts[counts > 0]
    return float(means.mean())


def _prefer(name, training, test, items, seed) -> np.ndarray:
    fitted = registry.make(name).fit(training, rng=seed)
    return fitted.prefer(items.take(test.left), items.take(test.right), fitted.states_, test.user)


def is_right(verdict: str, achieved: float, room: float, rows: int) -> bool:
    if achieved > 0.01:
        return verdict == "personalize"
    if room > 0.05:
        return verdict == "collect"
    if room <= 0.01:
        return verdict == "don't" or (verdict == "collect" and rows < 2_000)
    return verdict != "personalize"


def outcome(name: str, method: str, seed: int) -> Outcome:
    world = make(name, seed)
    data = world.dataset
    features = np.zeros((data.n_items, 0)) if world.features is None else world.features
    items = Items.of(features, keys=data.item_keys(), prompt=data.item_prompt)
    start = time.perf_counter()
    found = audit(data, items=items, rng=seed).to_dict()
    middle = time.perf_counter()
    achieved = achieved_gain(world, items, method, seed)
    end = time.perf_counter()
    room = world.oracle_accuracy() - world.consensus_accuracy()
    verdict = found["decision"]["verdict"]
    return Outcome(
        world=name,
        seed=seed,
        predicted=found["room"]["value"],
        verdict=verdict,
        achieved=achieved,
        room=room,
        right=is_right(verdict, achieved, room, len(data)),
        rows=len(data),
        audit_seconds=round(middle - start, 1),
        fit_seconds=round(end - middle, 1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", default="hierarchical")
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3])
    parser.add_argument("--out", type=Path, help="results/room.json, or room-METHOD.json for another method")
    arguments = parser.parse_args()
    outcomes = []
    for seed, name in product(arguments.seeds, WORLDS):
        found = outcome(name, arguments.method, seed)
        outcomes.append(found)
        predicted = "none" if found.predicted is None else f"{found.predicted:+.3f}"
        print(
            f"{name:26} audit {predicted} {found.verdict:12} achieved {found.achieved:+.3f} of {found.room:.3f} "
            f"{'right' if found.right else 'WRONG'}  ({found.audit_seconds} s, {found.fit_seconds} s)",
            flush=True,
        )

    def correlation(chosen: list[Outcome]) -> float:
        return float(spearmanr([one.predicted or 0.0 for one in chosen], [one.achieved for one in chosen]).statistic)

    result = {
        "method": arguments.method,
        "seeds": arguments.seeds,
        "spearman": correlation(outcomes),
        "spearman_of_each_seed": {
            seed: correlation([one for one in outcomes if one.seed == seed]) for seed in arguments.seeds
        },
        "decision_right": float(np.mean([found.right for found in outcomes])),
        "needed": {"spearman": 0.8, "decision_right": 0.9},
        "worlds": [vars(found) | {"settings": WORLDS[found.world]} for found in outcomes],
    }
    named = RESULT if arguments.method == "hierarchical" else RESULT.with_stem(f"room-{arguments.method}")
    write_json(arguments.out or named, result)
    print(f"Spearman {result['spearman']:.3f}, decision right {result['decision_right']:.0%}")


if __name__ == "__main__":
    main()
