"""Methods that become each other in the limit."""

from __future__ import annotations

import numpy as np
import pytest

from palate.models import make
from palate.testing import identity_town, mirror_town
from palate.types import Comparisons, Items


def asked(method, rows, states):
    return method.prefer(rows.items.take(rows.left), rows.items.take(rows.right), states, rows.user)


@pytest.mark.parametrize("world", [mirror_town(n_users=15, n_new=6), identity_town(n_users=15, n_new=6)])
def test_individual_with_an_infinite_prior_is_pooled(world):
    pooled = make("pooled").fit(world.train, rng=0)
    rigid = make("individual", prior="pooled", l2=1e9).fit(world.train, rng=0)
    np.testing.assert_allclose(
        asked(rigid, world.heldout, rigid.states_), asked(pooled, world.heldout, pooled.states_), atol=1e-6
    )
    np.testing.assert_allclose(
        asked(rigid, world.test, rigid.adapt(world.history)),
        asked(pooled, world.test, pooled.adapt(world.history)),
        atol=1e-6,
    )
    loose = make("individual", prior="pooled", l2=1.0).fit(world.train, rng=0)
    assert np.abs(asked(loose, world.heldout, loose.states_) - asked(rigid, world.heldout, rigid.states_)).max() > 0.1


def test_individual_with_an_infinite_prior_around_zero_is_a_coin():
    world = mirror_town(n_users=8, n_new=4)
    rigid = make("individual", l2=1e9).fit(world.train, rng=0)
    np.testing.assert_allclose(asked(rigid, world.heldout, rigid.states_), 0.5, atol=1e-6)


@pytest.mark.parametrize("l2", [0.3, 2.0])
def test_factor_on_the_identity_basis_is_individual(l2):
    """With φ(x) = x̃ fixed nothing couples people, and the mode of each is their own logistic regression."""
    world = mirror_town(n_users=10, n_new=8)
    individual = make("individual", l2=l2).fit(world.train, rng=0)
    factor = make("factor", rank=4, l2=l2, steps=1).fit(world.train, rng=0)
    factor.weight_ = np.eye(4) * np.sqrt(4)
    one, other = individual.adapt(world.history), factor.adapt(world.history)
    np.testing.assert_allclose(other.arrays["mean"], one.arrays["weights"], atol=1e-6)
    np.testing.assert_allclose(factor.reward(world.items, other), individual.reward(world.items, one), atol=1e-5)


def test_factor_on_indicators_of_items_is_individual_without_features():
    world = identity_town(n_users=10, n_new=8, n_items=12)
    individual = make("individual", l2=1.0).fit(world.train, rng=0)
    factor = make("factor", rank=12, l2=1.0, steps=1).fit(world.train, rng=0)
    factor.embeddings_ = np.eye(12)
    np.testing.assert_allclose(
        factor.reward(world.items, factor.adapt(world.history)),
        individual.reward(world.items, individual.adapt(world.history)),
        atol=1e-6,
    )


def test_saturated_pooled_is_the_vote_share():
    """One free parameter per pair: the optimum of the likelihood is the share of votes (P-RLHF, Lemma 3.2)."""
    rng = np.random.default_rng(0)
    n_pairs, votes = 12, rng.integers(3, 9, size=12)
    pair = np.repeat(np.arange(n_pairs), votes)
    label = rng.choice([0.0, 0.25, 0.5, 1.0], size=len(pair))
    weight = rng.choice([0.5, 1.0, 2.0], size=len(pair))
    label[pair == 3], label[pair == 4] = 0.75, 0.5
    items = Items.of(np.zeros((2 * n_pairs, 0)), keys=np.arange(2 * n_pairs))
    user = np.arange(len(pair)) % 5
    rows = Comparisons.of(items, 2 * pair, 2 * pair + 1, user, label, weight=weight)
    share = np.bincount(pair, weight * label) / np.bincount(pair, weight)
    inside = (share > 0.02) & (share < 0.98)
    assert inside.sum() >= 8
    pooled = make("pooled", l2=1e-9).fit(rows, rng=0)
    found = asked(pooled, rows, pooled.states_)
    np.testing.assert_allclose(found[inside[pair]], share[pair][inside[pair]], atol=1e-6)
