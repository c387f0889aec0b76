"""Side information: recovered where it tells, zero where it does not, and then number for number as without it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from palate.errors import InputError
from palate.models import load_method, make
from palate.models.side import SideInformation, learn_side
from palate.types import Comparisons, Items, UserStates


def world(n_users=150, each=10, told=1.5, seed=0, q=3):
    """People whose weights are `told` times what their side features say, plus their own."""
    rng = np.random.default_rng(seed)
    items = Items.of(rng.normal(size=(120, 3)))
    z = rng.normal(size=(n_users, q))
    direction = np.zeros((q, 3))
    direction[0] = [1.0, -1.0, 0.5]
    taste = told * z @ direction + 0.7 * rng.normal(size=(n_users, 3))
    user = np.repeat(np.arange(n_users), each)
    left, right = rng.integers(0, 120, (2, len(user)))
    margin = np.einsum("md,md->m", items.features[left] - items.features[right], taste[user])
    label = rng.random(len(user)) < 1 / (1 + np.exp(-margin))
    return Comparisons.of(items, left, right, user, label.astype(float), n_users=n_users, user_features=z)


def strangers(comparisons, people):
    """The people without a row of their own."""
    nobody = comparisons.take(np.zeros(0, np.int64))
    return nobody.for_users(people)


def accuracy(method, comparisons, states):
    left, right = (comparisons.items.take(side) for side in (comparisons.left, comparisons.right))
    chance = method.prefer(left, right, states, comparisons.user)
    return float(((chance > 0.5) == (comparisons.label > 0.5)).mean())


@pytest.mark.parametrize("name", ["hierarchical", "factor"])
def test_strangers_are_predicted_by_what_is_known_of_them(name):
    train, new = world(seed=0), world(seed=1)
    plain = make(name, rank=3).fit(replace(train, user_features=None), rng=0)
    told = make(name, rank=3).fit(train, rng=0)
    people = np.arange(new.n_users)
    without = accuracy(plain, new, plain.adapt(strangers(replace(new, user_features=None), people)))
    knowing = accuracy(told, new, told.adapt(strangers(new, people)))
    assert knowing > without + 0.1 and knowing > 0.7
    nameless = told.adapt(strangers(replace(new, user_features=np.full((new.n_users, 3), np.nan)), people))
    assert nameless.arrays["mean"] == pytest.approx(np.tile(told.prior_.arrays["mean"], (new.n_users, 1)), abs=1e-12)


def test_features_that_say_nothing_change_no_number():
    comparisons = world(told=0.0)
    noise = replace(comparisons, user_features=np.random.default_rng(5).normal(size=(comparisons.n_users, 4)))
    plain = make("hierarchical", rank=3).fit(replace(comparisons, user_features=None), rng=0)
    told = make("hierarchical", rank=3).fit(noise, rng=0)
    assert not told.side_["gamma"].any() and told.side_["explained"] == 0.0
    for name in ("mean", "covariance"):
        assert np.array_equal(plain.states_.arrays[name], told.states_.arrays[name])


def test_without_side_features_nothing_is_learned():
    method = make("factor", rank=2).fit(replace(world(), user_features=None), rng=0)
    assert method.side_ == {}


def exact_states(taste, each, rng):
    """Posteriors of people about whose taste (n, r) there are `each` Gaussian observations, under a prior N(0, I)."""
    n, r = taste.shape
    precision = np.tile(np.eye(r) * (1.0 + each), (n, 1, 1))
    seen = taste * each + rng.normal(size=(n, r)) * each**0.5
    covariance = np.linalg.inv(precision)
    return UserStates("m", "f", n, {"mean": np.einsum("uij,uj->ui", covariance, seen), "covariance": covariance})


@pytest.mark.parametrize("each", [0.5, 5.0])
def test_recovers_gamma_whatever_each_person_said(each):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(4000, 2))
    gamma = np.array([[0.8, 0.0], [-0.4, 0.3]])
    states = exact_states(z @ gamma.T + rng.normal(size=(4000, 2)), each, rng)
    side = learn_side(states, np.zeros(2), np.eye(2), z)
    assert side.shift(z) == pytest.approx(z @ gamma.T, abs=0.25)
    assert side.explained == pytest.approx(np.square(gamma).sum() / 2, abs=0.05)


def test_noise_seldom_passes_for_information():
    found = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        states = exact_states(rng.normal(size=(100, 2)), 3.0, rng)
        found.append(learn_side(states, np.zeros(2), np.eye(2), rng.normal(size=(100, 5))).explained)
    assert np.count_nonzero(found) <= 4 and max(found) < 0.1


def test_any_prior_gives_the_same_shift_in_its_own_units():
    rng = np.random.default_rng(1)
    z = rng.normal(size=(300, 2))
    states = exact_states(z @ rng.normal(size=(2, 2)) + rng.normal(size=(300, 2)), 3.0, rng)
    expected = learn_side(states, np.zeros(2), np.eye(2), z).shift(z)
    change = np.array([[2.0, 0.3], [0.0, 0.5]])
    inverse = np.linalg.inv(change)
    moved = UserStates(
        "m",
        "f",
        300,
        {
            "mean": states.arrays["mean"] @ change.T + 1.0,
            "covariance": change @ states.arrays["covariance"] @ change.T,
        },
    )
    found = learn_side(moved, np.ones(2), inverse.T @ inverse, z * 7 + 3).shift(z * 7 + 3)
    assert found == pytest.approx(expected @ change.T, abs=1e-6)


def test_more_features_than_people_do_not_overfit():
    rng = np.random.default_rng(2)
    states = exact_states(rng.normal(size=(30, 2)), 5.0, rng)
    side = learn_side(states, np.zeros(2), np.eye(2), rng.normal(size=(30, 400)))
    assert side.explained < 0.2


def test_saved_with_the_method(tmp_path):
    train = world()
    method = make("factor", rank=3).fit(train, rng=0)
    method.save(tmp_path / "m.safetensors")
    loaded = load_method(tmp_path / "m.safetensors")
    new = strangers(world(seed=1), np.arange(5))
    assert np.array_equal(loaded.adapt(new).arrays["mean"], method.adapt(new).arrays["mean"])
    side = SideInformation.from_arrays(loaded.side_)
    assert side.explained == pytest.approx(float(method.side_["explained"]))
    assert side.explained > 0.2


def test_bad_input():
    train = world(n_users=20)
    method = make("factor", rank=2).fit(train, rng=0)
    with pytest.raises(InputError, match=r"learned on \(n, 3\)"):
        method.adapt(replace(train, user_features=np.zeros((20, 2))))
    with pytest.raises(InputError, match="infinite"):
        make("factor", rank=2).fit(replace(train, user_features=np.full((20, 1), np.inf)), rng=0)
    with pytest.raises(InputError, match="with 20 people"):
        learn_side(method.states_, np.zeros(2), np.eye(2), np.zeros((19, 2)))


@pytest.mark.parametrize("features", [np.zeros((20, 2)), np.full((20, 2), np.nan), np.zeros((20, 0))])
def test_empty_and_constant_features_are_no_features(features):
    train = world(n_users=20)
    told = make("factor", rank=2).fit(replace(train, user_features=features), rng=0)
    plain = make("factor", rank=2).fit(replace(train, user_features=None), rng=0)
    assert np.array_equal(told.states_.arrays["mean"], plain.states_.arrays["mean"])
