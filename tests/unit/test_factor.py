"""`factor`: its start by SVD, its two optimisers, what its settings mean."""

from __future__ import annotations

import numpy as np
import pytest

from palate.errors import ConfigError
from palate.models import factor_fit, make
from palate.models.factor import PRESETS, Factor
from palate.models.factor_fit import svd_start
from palate.models.likelihood import gradient, hessian
from palate.testing import identity_town, mirror_town, scattered_town
from palate.testing.subject import predictions
from palate.types import Comparisons, Items


def everybody_on_everything(n_items=12, n_users=9, rank=2, seed=0):
    """Every person on every pair with the exact probability as label, half of the rows side-swapped."""
    rng = np.random.default_rng(seed)
    reward = 0.3 * rng.normal(size=(n_users, rank)) @ rng.normal(size=(rank, n_items))
    low, high = np.triu_indices(n_items, k=1)
    user = np.repeat(np.arange(n_users), len(low))
    left, right = np.tile(low, n_users), np.tile(high, n_users)
    label = 0.5 + 0.2 * (reward[user, left] - reward[user, right]).clip(-2, 2)
    swap = rng.random(len(user)) < 0.5
    left, right, label = np.where(swap, right, left), np.where(swap, left, right), np.where(swap, 1 - label, label)
    return Comparisons.of(Items.of(np.zeros((n_items, 0)), keys=np.arange(n_items)), left, right, user, label)


@pytest.mark.parametrize("dense_cells", [1 << 22, 0])
def test_svd_start_explains_a_full_matrix_of_low_rank(monkeypatch, dense_cells):
    monkeypatch.setattr(factor_fit, "_DENSE_CELLS", dense_cells)
    rows = everybody_on_everything()
    people, targets = svd_start(rows, 2, centred=True, rng=np.random.default_rng(0))
    assert people.shape == (9, 2) and targets.shape == (len(rows), 2)
    explained = np.einsum("mr,mr->m", people[rows.user], targets)
    np.testing.assert_allclose(explained, rows.label - 0.5, atol=1e-3)


def test_svd_start_fills_missing_cells_alike_however_large_the_matrix(monkeypatch):
    rows = everybody_on_everything()
    some = rows.take(np.random.default_rng(1).random(len(rows)) < 0.5)
    found = []
    for cells in (1 << 22, 0):
        monkeypatch.setattr(factor_fit, "_DENSE_CELLS", cells)
        people, targets = svd_start(some, 2, centred=True, rng=np.random.default_rng(0))
        found.append(np.einsum("mr,mr->m", people[some.user], targets))
    np.testing.assert_allclose(*found, atol=2e-3)


def test_uncentred_start_spends_a_component_on_one_half():
    rows = everybody_on_everything()
    people, _ = svd_start(rows, 3, centred=False, rng=np.random.default_rng(0))
    first = people[:, 0]
    assert np.ptp(first) < 0.3 * np.abs(first).mean()


def test_svd_start_with_fewer_people_than_dimensions_pads_with_zeros():
    rows = everybody_on_everything(n_users=3)
    people, targets = svd_start(rows, 8, centred=True, rng=np.random.default_rng(0))
    assert np.all(people[:, 2:] == 0) and np.all(targets[:, 2:] == 0) and people[:, :2].any()
    alone = rows.take(rows.user == 0).for_users(np.array([0]))
    people, _ = svd_start(alone, 4, centred=True, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(people, np.zeros((1, 4)))


def test_training_reaches_a_stationary_point_of_the_posterior():
    world = scattered_town(n_users=20, rows_per_user=20, n_new=2, dim=4)
    method = make("factor", rank=2, steps=2000, refit=False).fit(world.train, rng=0)
    x = world.items.features / method.scale_ / 2.0
    keys = np.full(len(world.items), -1)
    problem = factor_fit.FactorProblem.of(world.train, x, keys, 0, np.zeros(len(world.train)), l2=1.0, item_l2=16.0)
    found = factor_fit.Factors(method.weight_, np.zeros((0, 2)), method.states_.arrays["mean"])
    assert np.abs(problem.objective(found)[1].ravel()).max() < 0.02


def test_svd_and_random_start_end_equally_well_and_batches_too():
    world = mirror_town(n_users=30, rows_per_user=30, n_new=2)
    shares = [
        world.decided("heldout", predictions(method, world.heldout, method.states_))
        for method in (
            make("factor", rank=2).fit(world.train, rng=0),
            make("factor", rank=2, init="random").fit(world.train, rng=0),
            make("factor", rank=2, optimizer="adam", steps=60, svd_steps=20, learning_rate=0.1).fit(world.train, rng=0),
        )
    ]
    assert min(shares) > 0.95 and np.ptp(shares) < 0.03


def test_states_are_laplace_at_the_optimum_or_at_the_table():
    world = mirror_town(n_users=10, rows_per_user=15, n_new=2)
    rows = world.train
    for refit in (True, False):
        method = make("factor", rank=3, steps=5, refit=refit).fit(rows, rng=0)
        basis, states = method.basis(rows.items), method.states_.arrays
        stationary = []
        for person in range(10):
            own = rows.user == person
            v = basis[rows.left[own]] - basis[rows.right[own]]
            bend = hessian(states["mean"][person], v, np.ones(own.sum()), precision=1.0)
            np.testing.assert_allclose(states["covariance"][person] @ bend, np.eye(3), atol=1e-3)
            slope = gradient(states["mean"][person], v, rows.label[own], np.ones(own.sum()), precision=1.0)
            stationary.append(np.abs(slope).max() < 1e-6)
        assert all(stationary) if refit else not any(stationary)


def test_table_keeps_people_without_rows_at_the_prior():
    world = mirror_town(n_users=6, rows_per_user=10, n_new=2)
    absent = world.train.take(world.train.user != 3)
    method = make("factor", rank=2, refit=False, new_user_mean="average").fit(absent, rng=0)
    np.testing.assert_array_equal(method.states_.arrays["mean"][3], method.prior_.arrays["mean"][0])


def test_new_people_start_indifferent_or_average():
    world = scattered_town(n_users=40, n_new=10)
    rows, prior = world.test, np.zeros(len(world.test), int)
    left, right = rows.items.take(rows.left), rows.items.take(rows.right)
    zero = make("factor").fit(world.train, rng=0)
    np.testing.assert_allclose(zero.prefer(left, right, zero.prior_, prior), 0.5, atol=1e-12)
    average = make("factor", new_user_mean="average").fit(world.train, rng=0)
    assert world.decided("test", average.prefer(left, right, average.prior_, prior)) > 0.52


def test_identity_gives_known_items_an_embedding_and_unknown_ones_none():
    world = identity_town(n_users=20)
    method = make("factor", rank=2).fit(world.train, rng=0)
    assert method.embeddings_.shape == (30, 2) and method.weight_.shape == (0, 2)
    stranger = Items.of(np.zeros((2, 0)), keys=np.array([-1, 10_000]))
    np.testing.assert_array_equal(method.basis(stranger), np.zeros((2, 2)))
    town = mirror_town(n_users=6, rows_per_user=8, n_new=2)
    assert make("factor", rank=2).fit(town.train, rng=0).embeddings_.shape == (0, 2)
    both = make("factor", rank=2, identity=True).fit(town.train, rng=0)
    known, unknown = both.basis(town.items), both.basis(Items.of(town.items.features))
    assert np.abs(known - unknown).max() > 1e-3
    np.testing.assert_allclose(unknown, town.items.features / both.scale_ @ both.weight_ / 2.0, atol=1e-6)


def test_ties_can_be_left_out_of_training():
    world = mirror_town(n_users=6, rows_per_user=12, n_new=2)
    rows = world.train
    tied = Comparisons.of(
        rows.items, rows.left, rows.right, rows.user, np.where(np.arange(len(rows)) % 3 == 0, 0.5, rows.label)
    )
    clean = tied.take(tied.label != 0.5)
    dropped = make("factor", rank=2, drop_ties=True, steps=20).fit(tied, rng=0)
    # Standardisation still sees all rows, hence the tolerance.
    expected = make("factor", rank=2, steps=20).fit(clean, rng=0)
    np.testing.assert_allclose(dropped.weight_, expected.weight_, atol=0.1)
    assert np.abs(dropped.weight_ - make("factor", rank=2, steps=20).fit(tied, rng=0).weight_).max() > 1e-3
    only = Comparisons.of(rows.items, rows.left, rows.right, rows.user, np.full(len(rows), 0.5))
    assert np.isfinite(make("factor", rank=2, drop_ties=True).fit(only, rng=0).weight_).all()


@pytest.mark.parametrize("name", PRESETS)
def test_presets_run_and_can_be_changed(name):
    world = mirror_town(n_users=6, rows_per_user=8, n_new=2)
    method = Factor.preset(name, rank=3, steps=10)
    assert method.config.rank == 3
    found = method.fit(world.train, rng=0)
    assert np.isfinite(predictions(found, world.heldout, found.states_)).all()


def test_paper_preset_is_the_papers():
    config = Factor.preset("paper").config
    assert (config.rank, config.steps, config.batch_size, config.learning_rate) == (8, 500, 32, 1e-3)
    assert (config.optimizer, config.init, config.penalty, config.l2, config.centred) == (
        "sgd",
        "svd",
        "users",
        0.02,
        False,
    )
    assert Factor.preset("program").config.penalty == "features"


def test_impossible_settings_are_refused():
    with pytest.raises(ConfigError, match="unknown preset 'papers'"):
        Factor.preset("papers")
    with pytest.raises(ConfigError, match="optimizer='adam'"):
        make("factor", penalty="l1")
    with pytest.raises(ConfigError, match="rank"):
        make("factor", rank=0)
