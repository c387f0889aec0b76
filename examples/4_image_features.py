"""Nothing here is about text: people choose between pictures, and the features are vectors you computed.

    python examples/4_image_features.py

The "pictures" are 300 patches of colour with texture; the features are what a vision model would give, here simple statistics.
"""

from __future__ import annotations

import numpy as np

import palate
from palate.data import PreferenceDataset

PICTURES, PEOPLE, ANSWERS = 300, 80, 40


def pictures(rng: np.random.Generator) -> np.ndarray:
    """(n, 16, 16, 3) in [0, 1]."""
    colour = rng.random((PICTURES, 1, 1, 3))
    texture = rng.random((PICTURES, 1, 1, 1)) * rng.standard_normal((PICTURES, 16, 16, 1))
    return np.clip(colour + 0.3 * texture, 0, 1)


def embed(images: np.ndarray) -> np.ndarray:
    """(n, 5) mean colour, brightness and contrast; any embedding of yours does."""
    colour = images.mean((1, 2))
    return np.column_stack([colour, colour.mean(1), images.std((1, 2, 3))]).astype(np.float32)


def main() -> None:
    rng = np.random.default_rng(0)
    features = embed(pictures(rng))
    tastes = 4 * rng.standard_normal((PEOPLE, features.shape[1]))
    user = np.repeat(np.arange(PEOPLE), ANSWERS)
    left = rng.integers(PICTURES, size=len(user))
    right = (left + 1 + rng.integers(PICTURES - 1, size=len(user))) % PICTURES
    margin = ((features[left] - features[right]) * tastes[user]).sum(1)
    chosen_left = rng.random(len(user)) < 1 / (1 + np.exp(-margin))

    choices = PreferenceDataset.from_columns(
        user=[f"person {u}" for u in user],
        prompt=["Which picture do you like better?"] * len(user),
        left=[
            f"picture-{i:03}.png" for i in left
        ],  # a name is enough: it says which picture, the vector says how it looks
        right=[f"picture-{i:03}.png" for i in right],
        label=chosen_left.astype(float),
    )
    place = [int(name[8:11]) for _, name in choices.item_texts()]
    vectors = features[place]  # one row per item, in the data set's order

    print(palate.audit(choices, features=vectors))
    results = palate.bench(
        choices, methods=["pooled", "individual", "hierarchical"], features=vectors, seeds=1, tune=False
    )
    for row in results.select(metric="accuracy", k="seen"):
        print(
            f"  {row['method']:14} {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}] on pictures nobody has judged"
        )


if __name__ == "__main__":
    main()
