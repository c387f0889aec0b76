"""What `hierarchical` may depend on, how strangers see a fixed logit, and how wide tastes are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from palate.models import broaden as widening
from palate.models import make
from palate.models.broaden import broaden, center_on_strangers
from palate.models.hierarchical_fit import learn_tastes
from palate.models.tastes import Tastes
from palate.progress import silent
from palate.rng import derive
from palate.testing import mirror_town
from palate.types import Comparisons, Items


@pytest.mark.parametrize("people", [12, 45])
def test_items_that_nobody_compared_change_nothing(people):
    train = mirror_town(n_users=people, rows_per_user=40, seed=1).train
    used, ends = np.unique(np.concatenate([train.left, train.right]), return_inverse=True)
    alone = replace(train, items=train.items.take(used), left=ends[: len(train)], right=ends[len(train) :])
    more = train.items.take(np.concatenate([used, used[:20]]))
    features, keys = more.features.copy(), more.keys.copy()
    features[len(used) :] = 30.0 * np.random.default_rng(0).standard_normal(features[len(used) :].shape)
    keys[len(used) :] = -1
    prompt = more.prompt.copy()
    prompt[len(used) + 10 :] = prompt.max() + 1 + np.arange(10)
    crowded = replace(alone, items=replace(more, features=features, keys=keys, prompt=prompt))

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
    np.testing.assert_allclose(center_on_strangers(tastes, rows, offset)[0].beta, 0.8, atol=0.02)


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


def learned_space(seed=0):
    """Tastes along two of six directions, with loadings of known items, learned from 60 people."""
    train = mirror_town(n_users=60, rows_per_user=20, seed=seed).train
    offset = np.zeros(len(train))
    tastes = learn_tastes(
        train, offset, rank=3, epochs=4, steps=4, learning_rate=0.05, correlation=0.5, rng=derive(0, "fit"), progress=silent
    )  # fmt: skip
    return tastes, train, offset


def taste_variance(tastes, comparisons):
    """Variance of what people make of every training row, (m, m), by the definition."""
    basis = tastes.basis(comparisons.items)
    gap = basis[comparisons.left] - basis[comparisons.right]
    return gap @ gap.T


def test_broadened_tastes_hold_more_variance_on_as_many_axes():
    tastes, train, offset = learned_space()
    wide = broaden(tastes, train, offset, 0.5)
    assert wide.content.shape == tastes.content.shape
    np.testing.assert_array_equal(wide.beta, center_on_strangers(tastes, train, offset)[0].beta)
    before, after = taste_variance(tastes, train), taste_variance(wide, train)
    assert np.trace(after) > 1.1 * np.trace(before)
    # The axes are the leading eigenvectors of what they span: they stand at right angles over the rows, the strongest first.
    basis = wide.basis(train.items)
    gap = basis[train.left] - basis[train.right]
    strengths = gap.T @ gap
    np.testing.assert_allclose(strengths - np.diag(np.diag(strengths)), 0.0, atol=1e-6 * np.trace(strengths))
    assert (np.diff(np.diag(strengths)) <= 1e-9).all()


def test_without_taste_nothing_is_broadened():
    tastes, train, offset = learned_space()
    flat = replace(tastes, content=np.zeros_like(tastes.content), loadings=np.zeros_like(tastes.loadings))
    broad, centred = broaden(flat, train, offset, 0.5), center_on_strangers(flat, train, offset)[0]
    for name, value in broad.to_arrays().items():
        np.testing.assert_array_equal(value, centred.to_arrays()[name], err_msg=name)


def test_the_scale_of_tastes_is_where_the_evidence_is_largest():
    """People ten times as sure as the axes say: as wide as allowed. People who answer by chance: as it was."""
    tastes, train, offset = learned_space()
    basis, shared = tastes.basis(train.items), tastes.offset(train.items)
    person = 4.0 * derive(1, "people").standard_normal((train.n_users, basis.shape[1]))
    logit = shared[train.left] - shared[train.right]
    logit = logit + np.einsum("mr,mr->m", basis[train.left] - basis[train.right], person[train.user])
    sure = replace(train, label=(logit > 0).astype(float))
    assert widening._widest(widening._Witnesses.of(tastes, sure, offset, 0.0)) > 1.45
    chance = replace(train, label=np.full(len(train), 0.5))
    assert widening._widest(widening._Witnesses.of(tastes, chance, offset, 0.0)) < 1.05


def test_tastes_are_spread_as_evenly_as_costs_little():
    """Sure people who differ along one direction allow next to nothing elsewhere; people who differ in all ways, the most."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((400, 12))
    items, user = Items.of(features), np.repeat(np.arange(50), 30)
    left, right = rng.integers(0, 400, (2, len(user)))
    first = features[left, 0] - features[right, 0]
    sign = np.where(np.arange(50) % 2, 1.0, -1.0)[user]
    even = features[left] - features[right]
    shares = {}
    for name, logit in (("one way", sign * first), ("all ways", (even * rng.standard_normal((50, 12))[user]).sum(1))):
        rows = Comparisons.of(items, left, right, user, (logit > 0).astype(float))
        told = widening._Witnesses(
            np.arange(len(user)), rows, np.ones(len(user)), np.zeros(len(user)), 4.0 * first[:, None]
        )
        shares[name] = widening._evenest(told, 1.0, even)
        cost = told.evidence(told.gap) - told.evidence(np.concatenate([told.gap, np.sqrt(shares[name]) * even], 1))
        assert cost <= widening._PRICE + 2e-3
    assert shares["all ways"] == widening._ELSEWHERE and 0.0 < shares["one way"] < 0.1
