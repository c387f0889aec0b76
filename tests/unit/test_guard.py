"""The guard: what people agree on or the anchor is sure of is never overruled, at both ends it is what it stands between."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import generate_world
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logit

from palate.errors import ConfigError, FingerprintError, InputError
from palate.models import Method, available, load_method, make
from palate.models.factor import Factor
from palate.models.guard import DEFAULT_SPREAD, Guarded, GuardedConfig, guarded, population_spread, weight
from palate.testing import method_checks, mirror_town
from palate.types import Comparisons, UserStates

SKIPPED = {"base_reward_is_the_start"}
"""The window makes the logit no sum of a base reward and a residual."""


@pytest.fixture(scope="module")
def rows() -> Comparisons:
    return mirror_town().test


@pytest.fixture(scope="module")
def method() -> Method:
    return make("hierarchical").fit(mirror_town().train, rng=0)


def predictions(method: Method, rows: Comparisons, states: UserStates) -> np.ndarray:
    return method.prefer(rows.items.take(rows.left), rows.items.take(rows.right), states, rows.user)


@pytest.mark.parametrize(
    "check",
    [pytest.param(check, id=name) for name, check in method_checks(lambda: make("guarded", radius=1e6), skip=SKIPPED)],
)
def test_it_keeps_the_contract(check) -> None:
    check()


def test_it_is_found_by_name_and_not_listed() -> None:
    assert "guarded" not in available()
    with pytest.raises(ConfigError, match="unknown method 'none'"):
        make("guarded", method="none")


def test_a_guard_around_a_guard_is_refused(method: Method) -> None:
    with pytest.raises(ConfigError, match="a guard around a guard"):
        make("guarded", method="guarded")
    with pytest.raises(InputError, match="a guard around a guard"):
        Guarded.over(Guarded.over(method))


def test_radius_0_is_the_anchor_and_a_large_one_the_method(method: Method, rows: Comparisons) -> None:
    states = method.adapt(mirror_town().history)
    nobody = predictions(method, rows, method.prior_.repeat(rows.n_users))
    for radius, expected in ((0.0, nobody), (1e9, predictions(method, rows, states))):
        guard = Guarded.over(method, radius=radius)
        assert np.allclose(predictions(guard, rows, guard.admit(states)), expected, atol=1e-9)


@pytest.mark.parametrize("name", ["hierarchical", "factor", "prm"])
def test_spread_0_is_the_method_and_a_large_one_the_anchor(name: str, rows: Comparisons) -> None:
    method = make(name).fit(mirror_town().train, rng=0)
    states = method.adapt(mirror_town().history)
    nobody = predictions(method, rows, method.prior_.repeat(rows.n_users))
    for spread, expected in ((1e9, nobody), (0.0, predictions(method, rows, states))):
        guard = Guarded.over(method, spread=spread)
        assert np.allclose(predictions(guard, rows, guard.admit(states)), expected, atol=1e-9)


def test_unless_told_otherwise_it_goes_by_how_much_people_differ(method: Method) -> None:
    assert Guarded.over(method).config.effective_spread == DEFAULT_SPREAD
    assert Guarded.over(method, radius=1.0).config.effective_spread is None
    both = GuardedConfig(spread=1.0, radius=2.0)
    counts = weight(np.array([0.0, 1.0, 3.0]), np.array([1.0, 1e9, 1e9]), both)
    assert np.allclose(counts, [0.5, 0.5, 0.0])
    assert np.array_equal(weight(np.zeros(2), np.zeros(2), GuardedConfig(spread=1.0)), [0.0, 0.0])


def test_how_much_people_differ_is_what_draws_from_the_population_say(method: Method, rows: Comparisons) -> None:
    left, right = rows.items.take(rows.left[:20]), rows.items.take(rows.right[:20])
    draws = method.sample(method.prior_, 20_000, rng=0)[:, 0]
    logits = draws @ (method.basis(left) - method.basis(right)).T
    assert np.allclose(population_spread(method, left, right), method.temper_ * logits.std(axis=0), rtol=0.05)


def test_training_people_say_how_much_they_differ_where_no_population_does(rows: Comparisons) -> None:
    train = mirror_town().train
    method = Factor.preset("lore").fit(train, rng=0)
    left, right = rows.items.take(rows.left[:20]), rows.items.take(rows.right[:20])
    index = np.unique(np.linspace(0, train.n_users - 1, min(train.n_users, 64)).astype(int))
    first = np.zeros(20, np.int64)
    told = [logit(method.prefer(left, right, method.states_.take(np.array([one])), first)) for one in index]
    found = population_spread(method, left, right)
    assert np.allclose(found, np.std(told, axis=0)) and found.min() > 0.0
    method.states_ = method.states_.take(np.zeros(0, np.int64))
    with pytest.raises(InputError, match="saved without its training people"):
        Guarded.over(method)
    assert Guarded.over(method, radius=1.0).config.radius == 1.0


@settings(max_examples=25, deadline=None)
@given(radius=st.floats(0.01, 5.0))
def test_what_the_anchor_is_sure_of_is_not_turned_round(method: Method, rows: Comparisons, radius: float) -> None:
    guard = Guarded.over(method, radius=radius)
    states = guard.adapt(mirror_town().history)
    shared = logit(predictions(guard, rows, guard.prior_.repeat(rows.n_users)))
    held = predictions(guard, rows, states)
    sure = np.abs(shared) >= radius
    assert np.array_equal(held[sure] > 0.5, shared[sure] > 0)
    assert np.allclose(logit(held[sure]), shared[sure])


def test_personalization_survives_where_the_anchor_is_indifferent(method: Method, rows: Comparisons) -> None:
    guard = Guarded.over(method, radius=1.0)
    states = method.adapt(mirror_town().history)
    own, nobody = (predictions(method, rows, who) for who in (states, method.prior_.repeat(rows.n_users)))
    held = predictions(guard, rows, guard.admit(states))
    open_ = np.abs(logit(nobody)) < 0.5
    turned = (own > 0.5) != (nobody > 0.5)
    assert (open_ & turned).any()
    assert np.mean((held > 0.5) == (own > 0.5)) > np.mean((nobody > 0.5) == (own > 0.5))


def test_a_base_reward_is_a_floor() -> None:
    town = mirror_town()
    rng = np.random.default_rng(0)
    base = town.rewards.mean(0) + 0.1 * rng.standard_normal(len(town.items))

    def dressed(rows: Comparisons) -> Comparisons:
        return replace(rows, items=replace(rows.items, base_reward=base))

    method = make("hierarchical").fit(dressed(town.train), rng=0)
    guard = Guarded.over(method, radius=0.8, anchor="base")
    rows = dressed(town.test)
    held = predictions(guard, rows, guard.adapt(dressed(town.history)))
    margin = method.base_scale_ * (base[rows.left] - base[rows.right])
    sure = np.abs(margin) >= 0.8
    assert sure.any()
    assert np.array_equal(held[sure] > 0.5, margin[sure] > 0)
    with pytest.raises(InputError, match="needs base_reward"):
        make("guarded", anchor="base").fit(town.train)
    with pytest.raises(InputError, match="fitted without base_reward"):
        Guarded.over(make("pooled").fit(town.train), anchor="base")


def test_saved_and_loaded(method: Method, rows: Comparisons, tmp_path: Path) -> None:
    guard = Guarded.over(method, radius=0.5)
    guard.save(tmp_path / "guard.safetensors")
    again = load_method(tmp_path / "guard.safetensors")
    assert again.config == guard.config
    states = again.adapt(mirror_town().history)
    assert np.array_equal(predictions(again, rows, states), predictions(guard, rows, states))
    with pytest.raises(FingerprintError):
        again.admit(make("pooled").fit(mirror_town().train).prior_)


def test_a_reward_model_under_guard_is_a_reward_model(tmp_path: Path) -> None:
    from palate.models.reward_model import FeatureRewardModel

    model = generate_world.model(features="style")
    held = guarded(model, radius=0.3)
    assert not held.scalar
    assert model.scalar
    ann = held.person("ann")
    scores = ann.score("say 5", ["bee ant sun sea", "oak", "sky sea"])
    assert scores.shape == (3,)
    held.save_pretrained(tmp_path, people=True)
    again = FeatureRewardModel.from_pretrained(tmp_path, cache=False).person("ann")
    assert np.allclose(again.score("say 5", ["bee ant sun sea", "oak", "sky sea"]), scores)
    with pytest.raises(FingerprintError):
        model.with_state(ann.state)
