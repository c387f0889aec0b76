"""The shared reward: what it recovers, that it shrinks, and that its two solvers agree."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from palate.models import shared as module
from palate.models.hierarchical_table import tabulate
from palate.models.likelihood import fit_weights
from palate.models.shared import SharedReward, fit_shared, locate, pair_scale
from palate.types import Comparisons, Items


def town(n, d, m, feature_deviation, effect_deviation, *, seed=0, known=True):
    """Comparisons of n items by one crowd, and the true rewards."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, d)).astype(np.float32)
    reward = features @ (feature_deviation * rng.normal(size=d)) + effect_deviation * rng.normal(size=n)
    left = rng.integers(n, size=m)
    right = (left + 1 + rng.integers(n - 1, size=m)) % n
    label = (rng.random(m) < expit(reward[left] - reward[right])) * 1.0
    items = Items.of(features, keys=1000 + 7 * np.arange(n) if known else None)
    return Comparisons.of(items, left, right, np.zeros(m, int), label), reward


def by_hand(comparisons, l2):
    """The same problem as one dense logistic regression over [x̃, indicator of the item]."""
    x = comparisons.items.features / pair_scale(comparisons)
    design = np.hstack([x, np.eye(len(x))])
    v = design[comparisons.left] - design[comparisons.right]
    return design @ fit_weights(v, comparisons.label, comparisons.weight, l2=l2)


@pytest.mark.parametrize("dense_limit", [2500, 0])
def test_with_a_given_l2_it_is_one_logistic_regression(monkeypatch, dense_limit):
    monkeypatch.setattr(module, "_DENSE_LIMIT", dense_limit)
    comparisons, _ = town(25, 3, 300, 0.5, 0.5)
    comparisons = Comparisons.of(
        comparisons.items,
        comparisons.left,
        comparisons.right,
        comparisons.user,
        comparisons.label,
        weight=np.random.default_rng(1).random(300),
    )
    fitted = fit_shared(comparisons, l2=0.7)
    found, expected = fitted.reward(comparisons.items), by_hand(comparisons, 0.7)
    np.testing.assert_allclose(found - found.mean(), expected - expected.mean(), atol=1e-4)
    assert fitted.feature_variance == fitted.effect_variance == pytest.approx(1 / 0.7)


@pytest.mark.parametrize(("feature", "effect"), [(0.2, 0.6), (0.3, 0.2)])
def test_prior_scales_are_recovered(feature, effect):
    comparisons, reward = town(300, 20, 20_000, feature, effect)
    fitted = fit_shared(comparisons)
    spread = pair_scale(comparisons).mean()
    assert np.sqrt(fitted.feature_variance) / spread == pytest.approx(feature, rel=0.35)
    assert np.sqrt(fitted.effect_variance) == pytest.approx(effect, rel=0.2)
    assert np.corrcoef(fitted.reward(comparisons.items), reward)[0, 1] > 0.97


def test_what_says_nothing_is_switched_off():
    useless_features, _ = town(200, 30, 10_000, 0.0, 0.6)
    assert fit_shared(useless_features).feature_variance < 1e-3
    useless_identity, _ = town(200, 10, 10_000, 0.4, 0.0)
    assert fit_shared(useless_identity).effect_variance < 5e-3


def test_learned_scales_predict_as_well_as_the_best_given_one():
    comparisons, reward = town(150, 10, 3_000, 0.1, 0.5, seed=5)
    rng = np.random.default_rng(9)
    left, right = rng.integers(150, size=(2, 5_000))
    chance = expit(reward[left] - reward[right])

    def loss(fitted):
        r = fitted.reward(comparisons.items)
        eta = r[left] - r[right]
        return float(np.mean(np.logaddexp(0, eta) - chance * eta))

    given = min(loss(fit_shared(comparisons, l2=l2)) for l2 in (0.1, 0.3, 1.0, 3.0, 10.0, 30.0))
    assert loss(fit_shared(comparisons)) <= given + 0.002


def test_the_two_solvers_agree(monkeypatch):
    comparisons, _ = town(200, 10, 4_000, 0.2, 0.5)
    dense = fit_shared(comparisons)
    monkeypatch.setattr(module, "_DENSE_LIMIT", 0)
    sparse = fit_shared(comparisons)
    assert sparse.effect_variance == pytest.approx(dense.effect_variance, rel=0.1)
    np.testing.assert_allclose(sparse.reward(comparisons.items), dense.reward(comparisons.items), atol=0.05)
    np.testing.assert_array_equal(sparse.effects, fit_shared(comparisons).effects)


def test_unknown_items_have_no_effect_and_missing_parts_are_fine():
    comparisons, _ = town(30, 2, 500, 0.5, 0.5)
    fitted = fit_shared(comparisons)
    features = comparisons.items.features
    stranger = fitted.reward(Items.of(features, keys=np.full(30, 5)))
    unknown = fitted.reward(Items.of(features))
    np.testing.assert_array_equal(stranger, unknown)
    assert np.abs(unknown - fitted.reward(comparisons.items)).max() > 0.1
    no_keys, _ = town(30, 2, 500, 0.5, 0.5, known=False)
    assert len(fit_shared(no_keys).effects) == 0
    no_features, reward = town(30, 0, 3_000, 0.0, 0.8)
    assert np.corrcoef(fit_shared(no_features).reward(no_features.items), reward)[0, 1] > 0.95
    nothing, _ = town(30, 0, 500, 0.0, 0.5, known=False)
    np.testing.assert_array_equal(fit_shared(nothing).reward(nothing.items), np.zeros(30))
    assert len(fit_shared(comparisons, item_effects=False).effects) == 0


def test_offset_is_what_is_already_explained():
    comparisons, reward = town(60, 0, 20_000, 0.0, 0.8)
    explained = reward[comparisons.left] - reward[comparisons.right]
    residual = fit_shared(comparisons, explained)
    assert np.abs(residual.effects).max() < 0.15 < np.abs(fit_shared(comparisons).effects).max()


def test_separable_choices_and_constant_features_stay_finite():
    items = Items.of(np.column_stack([np.arange(4.0), np.ones(4)]), keys=np.arange(4))
    comparisons = Comparisons.of(items, [3, 2, 1, 3], [0, 1, 0, 2], [0] * 4, [1.0] * 4)
    fitted = fit_shared(comparisons)
    assert np.isfinite(fitted.reward(items)).all()
    np.testing.assert_array_equal(fitted.scale[1], 1.0)


def test_margin_and_arrays_round_trip():
    comparisons, _ = town(20, 3, 200, 0.5, 0.5)
    fitted = fit_shared(comparisons)
    reward = fitted.reward(comparisons.items)
    np.testing.assert_allclose(fitted.margin(comparisons), reward[comparisons.left] - reward[comparisons.right])
    again = SharedReward.from_arrays(fitted.to_arrays())
    np.testing.assert_array_equal(again.reward(comparisons.items), reward)
    assert again.effect_variance == fitted.effect_variance


def test_locate():
    table = np.array([3, 5, 9])
    np.testing.assert_array_equal(locate(table, np.array([5, 4, -1, 9, 10, 3])), [1, -1, -1, 2, -1, 0])
    np.testing.assert_array_equal(locate(np.zeros(0, np.int64), np.array([1, 2])), [-1, -1])


def test_pair_scale_is_the_weighted_root_mean_square():
    items = Items.of(np.array([[0.0, 1.0], [3.0, 1.0], [1.0, 1.0]]))
    comparisons = Comparisons.of(items, [1, 2], [0, 0], [0, 0], [1.0, 0.0], weight=[1.0, 3.0])
    np.testing.assert_allclose(pair_scale(comparisons), [np.sqrt((9 + 3) / 4), 1.0])


def test_rows_of_weight_zero_do_not_make_an_item_shared():
    items = Items.of(np.zeros((2, 0)), keys=np.array([5, 9]))
    rows = Comparisons.of(items, [0, 0], [1, 1], [0, 1], [1.0, 0.0], n_users=2)
    assert list(tabulate(rows, np.zeros(2), np.array([1.0, 1.0])).keys) == [5, 9]
    assert len(tabulate(rows, np.zeros(2), np.array([1.0, 0.0])).keys) == 0
