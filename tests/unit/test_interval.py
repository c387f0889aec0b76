"""Intervals of preferences: what they mean, and how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logit

from palate.errors import InputError
from palate.models import make
from palate.simulate import synthetic_world
from palate.types import Items

KNOWN, ANSWERS = 300, 40


@pytest.fixture(scope="module")
def town():
    world = synthetic_world(400, 400, 60, rank=3, disagreement=1.5, features=12, seed=7)
    data = world.dataset
    rows = data.comparisons(Items.of(world.features, keys=data.item_keys(), prompt=data.item_prompt))
    method = make("hierarchical", rank=5).fit(rows.take(rows.user < KNOWN).for_users(np.arange(KNOWN)), rng=0)
    order = np.argsort(rows.user, kind="stable")
    place = np.empty(len(rows), np.int64)
    place[order] = np.arange(len(rows)) - np.searchsorted(rows.user[order], rows.user[order])
    return world, rows, method, place


@pytest.mark.parametrize("answers", [0, 10, ANSWERS])
def test_nine_of_ten_hold_the_truth(town, answers):
    world, rows, method, place = town
    new = np.arange(KNOWN, rows.n_users)
    states = method.adapt(rows.take((rows.user >= KNOWN) & (place < answers)).for_users(new))
    asked = np.flatnonzero((rows.user >= KNOWN) & (place >= ANSWERS))
    test = rows.take(asked).for_users(new)
    truth = world.truth.probability(rows.left[asked], rows.right[asked], rows.user[asked])
    bounds = method.interval(rows.items.take(test.left), rows.items.take(test.right), states, test.user)
    inside = np.mean((bounds[:, 0] <= truth) & (truth <= bounds[:, 1]))
    assert 0.85 <= inside <= 0.95


def test_more_answers_and_known_items_are_surer(town):
    _, rows, method, place = town
    person = rows.user == KNOWN
    pair = rows.items.take(rows.left[:30]), rows.items.take(rows.right[:30])
    nobody = np.zeros(30, np.int64)
    state = method.adapt(rows.take(person & (place < ANSWERS)).for_users(np.array([KNOWN])))

    def width(items, states, level=0.9):
        low, high = logit(method.interval(*items, states, nobody, level=level)).T
        assert np.all(low < high)
        return (high - low).mean()

    unknown = tuple(Items.of(items.features, keys=np.full(30, -1), prompt=items.prompt) for items in pair)
    assert width(pair, state) < width(pair, method.prior_)
    assert width(pair, state) < width(unknown, state)
    assert width(pair, state, level=0.5) < width(pair, state)


def test_a_level_that_is_none_is_refused(town):
    _, rows, method, _ = town
    items = rows.items.take(np.array([0]))
    with pytest.raises(InputError, match="level=1.0"):
        method.interval(items, items, method.prior_, np.array([0]), level=1.0)
