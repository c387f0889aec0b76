"""`gpo`: what is remembered, in any order and from any side, and its size at many comparisons."""

import time
from dataclasses import replace

import numpy as np
import pytest

from palate.errors import ConfigError
from palate.models.gpo import GPO
from palate.testing import mirror_town
from palate.types import Comparisons, Items


@pytest.fixture(scope="module")
def world():
    return mirror_town(n_users=12, n_new=6, history_per_user=20, seed=2)


@pytest.fixture(scope="module")
def method(world):
    return GPO(steps=30, context=8).fit(world.train, rng=0)


def ask(method, world, states):
    rows = world.test
    return method.prefer(world.items.take(rows.left), world.items.take(rows.right), states, rows.user)


def test_keeps_the_most_recent_answers(method, world):
    age = np.random.default_rng(0).permutation(len(world.history)).astype(float)
    history = replace(world.history, time=-age)
    states = method.adapt(history)
    assert np.diff(states.ragged["token"].offsets).tolist() == [8] * 6
    recent = np.concatenate(
        [own[np.argsort(age[own])[:8]] for own in (np.flatnonzero(history.user == u) for u in range(6))]
    )
    expected = method.adapt(history.take(np.sort(recent)))
    assert ask(method, world, states) == pytest.approx(ask(method, world, expected), abs=1e-9)


def test_without_times_the_choice_depends_on_content_alone(method, world):
    order = np.random.default_rng(1).permutation(len(world.history))
    for other in (world.history.take(order), world.history.swapped()):
        one, two = (ask(method, world, method.adapt(rows)) for rows in (world.history, other))
        assert one == pytest.approx(two, abs=1e-6)
    kept = method.adapt(world.history)
    assert np.diff(kept.ragged["token"].offsets).tolist() == [8] * 6


def test_state_holds_embedded_answers_and_no_features(method, world):
    states = method.adapt(world.history)
    assert states.ragged["token"].values.shape == (48, 64) and not states.arrays and not states.texts


def test_many_and_few_questions_agree(method, world):
    """Blocks, batches and padding leave no trace."""
    states = method.adapt(world.history.take(np.arange(len(world.history)) % 20 < world.history.user * 3))
    left = world.items.take(np.arange(400) % 64)
    right = world.items.take(np.arange(400) * 7 % 64)
    user = np.arange(400) ** 2 % 6
    together = method.prefer(left, right, states, user)
    alone = [method.prefer(left.take([i]), right.take([i]), states, user[[i]])[0] for i in range(0, 400, 23)]
    assert together[::23] == pytest.approx(alone, abs=1e-12)
    reward = method.reward(world.items, states)
    assert method.prefer(left, right, states, user) == pytest.approx(
        1 / (1 + np.exp(reward[user, np.arange(400) * 7 % 64] - reward[user, np.arange(400) % 64])), abs=1e-12
    )


def test_a_single_row_per_person_is_enough_to_fit(world):
    first = world.train.take(np.unique(world.train.user, return_index=True)[1])
    method = GPO(steps=3).fit(first, rng=0)
    assert np.isfinite(ask(method, world, method.adapt(world.history))).all()


def test_settings_that_do_not_fit_together():
    for settings, word in (
        ({"width": 30}, "heads=4"),
        ({"context": 4, "min_context": 5}, "min_context=5"),
        ({"targets": 4, "min_targets": 5}, "min_targets=5"),
    ):
        with pytest.raises(ConfigError, match=word):
            GPO(**settings)


@pytest.mark.slow
def test_usable_at_fifty_thousand_comparisons():
    rng = np.random.default_rng(0)
    items = Items.of(rng.normal(size=(2000, 384)))
    left = rng.integers(0, 2000, 50_000)
    right = (left + rng.integers(1, 2000, 50_000)) % 2000
    rows = Comparisons.of(items, left, right, rng.integers(0, 1000, 50_000), rng.integers(0, 2, 50_000))
    start = time.perf_counter()
    method = GPO(steps=50).fit(rows, rng=0)
    states = method.adapt(rows)
    asked = method.prefer(items.take(left), items.take(right), states, rows.user)
    assert np.isfinite(asked).all() and time.perf_counter() - start < 180
