"""What `hierarchical` may depend on, and how strangers see a fixed logit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import expit

from palate.models import make
from palate.models.tastes import Tastes, center_on_strangers
from palate.testing import mirror_town
from palate.types import Comparisons, Items


def test_items_that_nobody_compared_change_nothing():
    train = mirror_town(n_users=30, rows_per_user=15, seed=5).train
    used, ends = np.unique(np.concatenate([train.left, train.right]), return_inverse=True)
    alone = replace(train, items=train.items.take(used), left=ends[: len(train)], right=ends[len(train) :])
    more = train.items.take(np.concatenate([used, used[:20]]))
    features, keys = more.features.copy(), more.keys.copy()
    features[len(used) :] = 30.0 * np.random.default_rng(0).standard_normal(features[len(used) :].shape)
    keys[len(used) :] = -1
    crowded = replace(alone, items=replace(more, features=features, keys=keys))

    settings = {"rank": 1, "epochs": 3}
    first, second = (make("hierarchical", **settings).fit(rows, rng=0) for rows in (alone, crowded))

    left, right = alone.items.take(alone.left), alone.items.take(alone.right)
    np.testing.assert_allclose(
        second.prefer(left, right, second.states_, alone.user),
        first.prefer(left, right, first.states_, alone.user),
        atol=1e-6,
    )


def test_a_fixed_logit_is_damped_by_taste_as_the_reward_is():
    """Labels are the chances σ(κ(o + 0.8·(x_left − x_right))) themselves: β = 0.8 must come back."""
    rng = np.random.default_rng(0)
    items = Items.of(rng.standard_normal((200, 1)))
    left, right = rng.integers(0, 200, (2, 4000))
    left, right = left[left != right], right[left != right]
    difference = items.features[left, 0] - items.features[right, 0]
    offset = 1.5 * difference + rng.standard_normal(len(left))
    loading = 1.5
    damping = 1.0 / np.sqrt(1.0 + np.pi / 8.0 * np.square(loading * difference))
    label = expit(damping * (offset + 0.8 * difference))
    rows = Comparisons.of(items, left, right, np.arange(len(left)) % 50, label)
    tastes = Tastes(
        center=np.zeros(1),
        rotation=np.eye(1),
        beta=np.zeros(1),
        content=np.full((1, 1), loading),
        keys=np.array([-1]),
        effects=np.zeros(1),
        loadings=np.zeros((1, 1)),
        doubt=np.zeros(1),
        own_doubt=np.zeros(2),
    )
    np.testing.assert_allclose(center_on_strangers(tastes, rows, offset).beta, 0.8, atol=0.02)
