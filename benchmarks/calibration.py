"""Does a 90 % interval of a preference hold the true probability in 90 % of cases? Simulated people, whose truth is known.

    python benchmarks/calibration.py      writes benchmarks/results/calibration.json

`hierarchical` learns from 300 people with 60 answers each and meets 100 others; after k answers each, the share of their
other pairs whose true probability lies inside `Method.interval`. Worlds: features tell everything, 70 % or 40 % of the
rewards (the rest belongs to single items), three seeds each, none of which was used while the intervals were made. Last the
shipped replies with features that cannot tell all tastes (people of `corpus_people`, prompts nobody trained on). Should lie
in 0.85 to 0.95. The slope of calibration, which is that of `prefer`, stands beside it; on real people it is in the rows of
polis.json and convarg.json.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from palate.features import featurize
from palate.files import write_json
from palate.models import make
from palate.simulate import Simulation, corpus_people, synthetic_world
from palate.types import Items

RESULTS = Path(__file__).parent / "results"
KNOWN, NEW, ANSWERS, KS, SEEDS = 300, 100, 40, (0, 5, 10, 20, 40), (21, 22, 23)


def coverage(world: Simulation, items: Items, tested_prompts: np.ndarray | None) -> list[dict[str, float]]:
    """Coverage and slope after each number of answers; tested are late rows, or rows of some prompts."""
    data = world.dataset
    rows = data.comparisons(items)
    order = np.argsort(rows.user, kind="stable")
    place = np.empty(len(rows), np.int64)
    place[order] = np.arange(len(rows)) - np.searchsorted(rows.user[order], rows.user[order])
    tested = place >= ANSWERS if tested_prompts is None else np.isin(data.item_prompt[data.left], tested_prompts)
    old = (rows.user < KNOWN) & (~tested if tested_prompts is not None else True)
    method = make("hierarchical").fit(rows.take(old).for_users(np.arange(KNOWN)), rng=0)
    new = np.arange(KNOWN, rows.n_users)
    asked = np.flatnonzero((rows.user >= KNOWN) & tested)
    test = rows.take(asked).for_users(new)
    truth = world.truth.probability(rows.left[asked], rows.right[asked], rows.user[asked])
    left, right = items.take(test.left), items.take(test.right)
    found = []
    for k in KS:
        states = method.adapt(rows.take((rows.user >= KNOWN) & ~tested & (place < k)).for_users(new))
        low, high = method.interval(left, right, states, test.user).T
        chance = method.prefer(left, right, states, test.user)
        logit = np.log(chance / (1 - chance))[:, None]
        slope = LogisticRegression(C=1e6, fit_intercept=False).fit(logit, test.label > 0.5).coef_[0, 0]
        found.append({"k": k, "coverage": round(float(np.mean((low <= truth) & (truth <= high))), 4), "slope": slope})
    return found


def main() -> None:
    results = {}
    for told in (1.0, 0.7, 0.4):
        for seed in SEEDS:
            world = synthetic_world(KNOWN + NEW, 400, 60, rank=3, disagreement=1.5, features=12, told=told, seed=seed)
            items = Items.of(world.features, keys=world.dataset.item_keys(), prompt=world.dataset.item_prompt)
            results[f"features tell {told:.0%}, seed {seed}"] = coverage(world, items, None)
    for seed in SEEDS:
        world = corpus_people(KNOWN + NEW, 60, new_share=0.0, seed=seed)
        prompts = np.random.default_rng(seed).permutation(world.dataset.n_prompts)[:13]
        results[f"shipped replies, new prompts, seed {seed}"] = coverage(
            world, featurize(world.dataset, "smollm2"), prompts
        )
    for name, found in results.items():
        print(f"{name:40}", *(f"k={one['k']}: {one['coverage']:.3f} ({one['slope']:.2f})" for one in found))
    write_json(RESULTS / "calibration.json", {"level": 0.9, "wanted": [0.85, 0.95], "worlds": results})


if __name__ == "__main__":
    main()
