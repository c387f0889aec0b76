"""Simulated people: what they answer follows from the truth they come with."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from palate.data import corpus, read
from palate.errors import InputError
from palate.simulate import corpus_people, synthetic_world
from palate.simulate.tastes import ATTRIBUTES, NEW_PAIRS, TRAIT_PAIRS


@pytest.fixture(scope="module")
def people():
    return corpus_people(400, 60, seed=0)


def test_84_pairs_of_which_17_are_for_new_people():
    assert len(TRAIT_PAIRS) == len(set(TRAIT_PAIRS)) == 84
    assert len(NEW_PAIRS) == 17 and set(TRAIT_PAIRS) >= NEW_PAIRS
    known = [pole for pair in set(TRAIT_PAIRS) - NEW_PAIRS for pole in pair]
    assert set(known) == {pole for poles in ATTRIBUTES.values() for pole in poles}
    assert min(known.count(pole) for pole in set(known)) >= 7  # no pole is rare among the others


def test_poles_are_those_of_the_corpus():
    shown = {(attribute, pole) for row in corpus.replies() for attribute, pole in row.traits.items()}
    assert shown == {(attribute, pole) for attribute, poles in ATTRIBUTES.items() for pole in poles}


def test_the_oracle_is_right_in_85_percent(people):
    assert people.oracle_accuracy() == pytest.approx(0.85, abs=0.005)
    assert 0.6 < people.consensus_accuracy() < 0.7
    # and the answers were drawn from the truth
    chance = people.probability
    right = np.where(chance > 0.5, people.dataset.label, 1 - people.dataset.label)
    assert right.mean() == pytest.approx(0.85, abs=0.01)
    for low, high in ((0.0, 0.2), (0.4, 0.6), (0.8, 1.0)):
        rows = (chance >= low) & (chance < high)
        assert people.dataset.label[rows].mean() == pytest.approx(chance[rows].mean(), abs=0.02)


def test_new_people_have_new_pairs_only(people):
    new = people.truth.new
    assert new.sum() == 100 and new[300:].all()
    assert {people.truth.traits[i] for i in np.flatnonzero(new)} == NEW_PAIRS
    assert not {people.truth.traits[i] for i in np.flatnonzero(~new)} & NEW_PAIRS
    np.testing.assert_array_equal(people.dataset.extra["new_person"], new[people.dataset.user])


def test_a_persons_traits_decide(people):
    """By the texts alone: a reply with a wanted pole against one with its opposite."""
    traits = {(row.prompt, row.text): set(row.traits.values()) for row in corpus.replies()}
    opposite = {a: b for poles in ATTRIBUTES.values() for a, b in (poles, poles[::-1])}
    texts = people.dataset.item_texts()
    wins = []
    for row in range(len(people.dataset)):
        wanted = people.truth.traits[people.dataset.user[row]]
        sides = [traits[texts[side[row]]] for side in (people.dataset.left, people.dataset.right)]
        scores = [sum((pole in side) - (opposite[pole] in side) for pole in wanted) for side in sides]
        if abs(scores[0] - scores[1]) >= 2:
            wins.append((scores[0] > scores[1]) == (people.dataset.label[row] == 1))
    assert len(wins) > 1000 and np.mean(wins) > 0.97


def test_same_seed_same_people_and_more_people_leave_the_corpus_as_it_is(people):
    again, other = corpus_people(400, 60, seed=0), corpus_people(400, 60, seed=1)
    assert again.dataset.fingerprint == people.dataset.fingerprint != other.dataset.fingerprint
    np.testing.assert_array_equal(corpus_people(10, 5, seed=4).truth.shared, people.truth.shared)


def test_numbers_are_those_of_the_reader(people):
    frame = people.dataset.to_frame()
    back = read(frame)
    assert back.item_texts() == people.dataset.item_texts() and back.users == people.dataset.users
    np.testing.assert_array_equal(back.left, people.dataset.left)


def test_second_answers_are_the_same_pairs_with_sides_exchanged():
    data = corpus_people(20, 20, repeats=0.25, seed=0).dataset
    left, right = data.left.reshape(20, 20), data.right.reshape(20, 20)
    np.testing.assert_array_equal(left[:, -5:], right[:, :5])
    np.testing.assert_array_equal(right[:, -5:], left[:, :5])


def test_fresh_answers_share_no_item_with_a_persons_earlier_ones(people):
    fresh = people.fresh(20, rng=3)
    assert fresh.users == people.dataset.users and fresh.n_items == people.dataset.n_items
    assert np.bincount(fresh.user).max() == 20 and len(fresh) > 0.95 * 20 * 400
    old = people.dataset
    for person in range(0, 400, 20):
        mine, new = old.user == person, fresh.user == person
        met = set(old.left[mine]) | set(old.right[mine])
        assert not met & (set(fresh.left[new]) | set(fresh.right[new]))
    assert (fresh.item_prompt[fresh.left] == fresh.item_prompt[fresh.right]).all()
    assert (fresh.left != fresh.right).all()


@pytest.mark.parametrize("disagreement,shared,noise", [(2.0, 1.0, 1.0), (1.0, 0.5, 2.0), (0.0, 1.0, 1.0)])
def test_a_synthetic_world_has_the_settings_it_was_given(disagreement, shared, noise):
    world = synthetic_world(
        300, 2000, 40, rank=3, disagreement=disagreement, shared=shared, noise=noise, replies_per_prompt=4, seed=0
    )
    data = world.dataset
    logit = world.truth.logit(data.left, data.right, data.user)
    common = world.truth.shared[data.left] - world.truth.shared[data.right]
    assert common.std() == pytest.approx(shared / noise, rel=0.1)
    assert (logit - common).std() == pytest.approx(disagreement / noise, rel=0.12, abs=1e-9)
    room = world.oracle_accuracy() - world.consensus_accuracy()
    assert room == pytest.approx(0, abs=1e-12) if disagreement == 0 else room > 0.05


def test_features_tell_what_they_are_said_to_tell():
    for told in (1.0, 0.5):
        world = synthetic_world(10, 3000, 5, features=6, told=told, rank=2, seed=0)
        design, target = world.features.astype(float), world.truth.shared
        left = target - design @ np.linalg.lstsq(design, target, rcond=None)[0]
        assert 1 - left.var() / target.var() == pytest.approx(told, abs=0.08)


def test_reward_and_logit_agree():
    world = synthetic_world(6, 20, 5, seed=0)
    reward = world.truth.reward()
    data = world.dataset
    np.testing.assert_allclose(
        reward[data.user, data.left] - reward[data.user, data.right],
        world.truth.logit(data.left, data.right, data.user),
    )
    np.testing.assert_allclose(world.truth.reward(np.array([4])), reward[[4]])


def test_consensus_is_the_average_person():
    world = synthetic_world(40, 20, 5, disagreement=2.0, seed=0)
    left, right = world.dataset.left, world.dataset.right
    everybody = [world.truth.probability(left, right, np.full(len(left), person)) for person in range(40)]
    np.testing.assert_allclose(world.truth.consensus(left, right), np.mean(everybody, axis=0))


@pytest.mark.parametrize(
    "settings,named",
    [
        ({"n_users": 0}, "n_users=0"),
        ({"n_items": 1}, "n_items=1"),
        ({"rank": 0}, "rank=0"),
        ({"disagreement": -1.0}, "disagreement=-1.0"),
        ({"disagreement": float("nan")}, "disagreement=nan"),
        ({"noise": 0.0}, "noise=0.0"),
        ({"told": 1.5}, "told=1.5"),
        ({"replies_per_prompt": 1}, "replies_per_prompt=1"),
        ({"rows_per_user": 0}, "rows_per_user=0"),
        ({"repeats": 0.7}, "repeats=0.7"),
    ],
)
def test_bad_settings_are_named(settings, named):
    with pytest.raises(InputError, match=named):
        synthetic_world(**settings)


@pytest.mark.parametrize("settings", [{"n_users": 0}, {"new_share": 1.2}, {"comparisons": 0}])
def test_bad_settings_of_corpus_people(settings):
    with pytest.raises(InputError, match=next(iter(settings)) if "comparisons" not in settings else "rows_per_user"):
        corpus_people(**settings)


def test_every_trait_pair_is_of_two_attributes():
    pole_of = {pole: attribute for attribute, poles in ATTRIBUTES.items() for pole in poles}
    pairs = {frozenset((pole_of[a], pole_of[b])) for a, b in TRAIT_PAIRS}
    assert pairs == {frozenset(pair) for pair in combinations(ATTRIBUTES, 2)}
