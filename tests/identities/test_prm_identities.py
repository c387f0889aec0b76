"""`prm` becomes `pooled`, a vote count, and its own other user models in the limit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from palate.models import make
from palate.models.prm_network import PRMNetwork, prm_loss
from palate.models.training import Rows, TableEncoder, TrainingConfig, train
from palate.testing import mirror_town
from palate.types import Comparisons, Items

WORLD = mirror_town(n_users=12, rows_per_user=20, n_new=5, seed=1)


def asked(method, rows, states):
    return method.prefer(rows.items.take(rows.left), rows.items.take(rows.right), states, rows.user)


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_uniform_is_pooled(alpha):
    """Remark F.1: with α = 0 and one head for all it is the vanilla reward model; with one head α does not matter."""
    pooled = make("pooled", l2=2.0).fit(WORLD.train, rng=0)
    prm = make("prm", user_model="uniform", alpha=alpha, l2=0.5, item_l2=2.0).fit(WORLD.train, rng=0)
    expected = asked(pooled, WORLD.heldout, pooled.states_)
    np.testing.assert_allclose(asked(prm, WORLD.heldout, prm.states_), expected, atol=2e-6)
    new = asked(prm, WORLD.test, prm.adapt(WORLD.history))
    np.testing.assert_allclose(new, asked(pooled, WORLD.test, pooled.adapt(WORLD.history)), atol=2e-6)


def test_the_generic_user_of_alpha_zero_is_pooled_and_so_is_everybody():
    pooled = make("pooled", l2=2.0).fit(WORLD.train, rng=0)
    for user_model in ("individual", "cluster"):
        prm = make("prm", user_model=user_model, clusters=1, alpha=0.0, l2=0.5, item_l2=2.0).fit(WORLD.train, rng=0)
        expected = asked(pooled, WORLD.heldout, pooled.states_)
        np.testing.assert_allclose(asked(prm, WORLD.heldout, prm.states_), expected, atol=2e-6)


def test_learned_precisions_are_those_of_pooled():
    pooled = make("pooled").fit(WORLD.train, rng=0)
    prm = make("prm", user_model="uniform").fit(WORLD.train, rng=0)
    expected = asked(pooled, WORLD.heldout, pooled.states_)
    np.testing.assert_allclose(asked(prm, WORLD.heldout, prm.states_), expected, atol=2e-3)


def test_saturated_uniform_is_the_vote_share():
    """P-RLHF, Lemma 3.2."""
    rng = np.random.default_rng(0)
    votes = rng.integers(4, 9, size=10)
    pair = np.repeat(np.arange(10), votes)
    label = rng.choice([0.0, 0.5, 1.0], size=len(pair))
    items = Items.of(np.zeros((20, 0)), keys=np.arange(20))
    rows = Comparisons.of(items, 2 * pair, 2 * pair + 1, np.arange(len(pair)) % 3, label)
    share = (np.bincount(pair, label) / np.bincount(pair))[pair]
    inside = (share > 0.02) & (share < 0.98)
    assert inside.sum() >= 30
    prm = make("prm", user_model="uniform", item_l2=1e-9).fit(rows, rng=0)
    np.testing.assert_allclose(asked(prm, rows, prm.states_)[inside], share[inside], atol=1e-5)


def test_a_cluster_for_everybody_is_individual_without_the_generic_head():
    """K = users and one-hot mixtures: e_u is a column of V as it is a row of the individual table."""
    train_rows, dim, people = WORLD.train, WORLD.items.dim, 12
    rows = Rows.of(train_rows, np.zeros(len(train_rows)))
    encoder = TableEncoder(WORLD.items.features)
    cluster = PRMNetwork(dim, people, "cluster", people, l2=0.3)
    alone = PRMNetwork(dim, people, "individual", common=False, user_l2=0.3)
    with torch.no_grad():
        cluster.people.weight.copy_(200.0 * torch.eye(people))
        alone.people.weight.copy_(cluster.heads.T)
    cluster.people.weight.requires_grad_(False)
    config = TrainingConfig(steps=30, optimizer="sgd", schedule="constant", learning_rate=0.5, batch_size=64, clip=0.0)
    for network in (cluster, alone):
        place = torch.zeros(len(WORLD.items), dtype=torch.int64)
        train(network, prm_loss(network, encoder, rows, place, 1.0), len(rows), config, rng=np.random.default_rng(0))
    np.testing.assert_allclose(cluster.heads.T.detach(), alone.people.weight.detach(), atol=2e-5)
    left, right = (encoder.encode(side) for side in (rows.left, rows.right))
    with torch.no_grad():
        ours, theirs = (network.logits(left, right, rows.user) for network in (cluster, alone))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_without_the_generic_head_everybody_is_individual():
    individual = make("individual", l2=2.0).fit(WORLD.train, rng=0)
    prm = make("prm", common=False, user_l2=0.5, l2=1.0, item_l2=1.0).fit(WORLD.train, rng=0)
    expected = asked(individual, WORLD.heldout, individual.states_)
    np.testing.assert_allclose(asked(prm, WORLD.heldout, prm.states_), expected, atol=1e-6)
    silent = prm.adapt(WORLD.history.take(np.zeros(0, int)))
    np.testing.assert_allclose(asked(prm, WORLD.test, silent), asked(prm, WORLD.test, prm.prior_.repeat(5)), atol=1e-12)


def test_a_stiff_prior_on_people_is_pooled():
    pooled = make("pooled", l2=2.0).fit(WORLD.train, rng=0)
    prm = make("prm", user_l2=1e9, l2=0.5, item_l2=2.0).fit(WORLD.train, rng=0)
    rows = WORLD.heldout
    np.testing.assert_allclose(asked(prm, rows, prm.states_), asked(pooled, rows, pooled.states_), atol=2e-5)
