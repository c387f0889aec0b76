"""How long `hierarchical` takes to learn a population: 100,000 comparisons of 2,000 people, 384 features.

    python benchmarks/fit.py

Items are compared by several people each, so that item effects are learned too. Writes benchmarks/results/fit.json.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path

import numpy as np
from scipy.special import expit

from palate.files import write_json
from palate.models import make
from palate.types import Comparisons, Items

ROWS, PEOPLE, ITEMS, WIDTH, RANK = 100_000, 2_000, 20_000, 384, 6
RESULTS = Path(__file__).parent / "results"


def population(seed: int) -> Comparisons:
    """People with six-dimensional tastes over random features, answering with Bradley–Terry noise."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((ITEMS, WIDTH)).astype(np.float32)
    axes = rng.standard_normal((WIDTH, RANK)) / np.sqrt(WIDTH)
    shared, tastes = rng.standard_normal(WIDTH) / np.sqrt(WIDTH), rng.standard_normal((PEOPLE, RANK))
    user = rng.integers(PEOPLE, size=ROWS)
    left, right = rng.integers(ITEMS, size=(2, ROWS))
    right = np.where(left == right, (right + 1) % ITEMS, right)
    difference = features[left] - features[right]
    margin = difference @ shared + np.einsum("mr,mr->m", difference @ axes, tastes[user])
    label = (rng.random(ROWS) < expit(margin)).astype(float)
    items = Items.of(features, keys=np.arange(ITEMS))
    return Comparisons.of(items, left, right, user, label, n_users=PEOPLE)


def main() -> None:
    comparisons = population(seed=0)
    started = time.perf_counter()
    make("hierarchical").fit(comparisons, rng=0)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found = {
        "comparisons": ROWS,
        "people": PEOPLE,
        "items": ITEMS,
        "features": WIDTH,
        "seconds": round(seconds, 1),
        "peak_gib": round(peak, 2),
    }
    write_json(RESULTS / "fit.json", found)
    print(found)


if __name__ == "__main__":
    main()
