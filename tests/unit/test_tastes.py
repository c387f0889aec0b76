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


def test_items_of_their_own_prompts_keep_their_features():
    """Rows across prompts: what a prompt's only item has is not "what its replies have in common"."""
    rng = np.random.default_rng(0)
    features, user = rng.normal(size=(60, 4)), np.repeat(np.arange(20), 20)
    left = rng.integers(60, size=len(user))
    right = (left + rng.integers(1, 60, size=len(user))) % 60
    label = (features[left, 0] > features[right, 0]).astype(float)
    chances = []
    for prompt in (np.arange(60), np.zeros(60)):
        items = Items.of(features, prompt=prompt.astype(np.int32))
        method = make("hierarchical", rank=2, epochs=4)
        method.fit(Comparisons.of(items, left, right, user, label, n_users=20), rng=0)
        chances.append(method.prefer(items.take(left), items.take(right), method.states_, user))
    assert np.mean((chances[0] > 0.5) == label) > 0.9
    np.testing.assert_allclose(chances[0], chances[1], atol=1e-6)
