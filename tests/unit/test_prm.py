"""`prm`: user models where they belong, new people by answers or generic, and what it refuses."""

import numpy as np
import pytest

from palate.errors import ConfigError, InputError
from palate.models import make
from palate.models.prm import PRM
from palate.testing import gain_over, identity_town, mirror_town
from palate.testing.subject import predictions


@pytest.fixture(scope="module")
def town():
    return mirror_town()


def test_clusters_win_where_people_come_in_camps(town):
    assert gain_over(make("prm", user_model="cluster", clusters=2), make("pooled"), town) >= 0.1


@pytest.mark.parametrize("user_model", ["individual", "cluster"])
def test_the_generic_user_is_as_good_as_pooled_beside_personal_ones(user_model):
    """P-RLHF's E2: with α = ½ the generic reward is within a hair of the reward without people."""
    town = mirror_town(minority=0.3)
    pooled = make("pooled").fit(town.train, rng=0)
    expected = town.decided("test", predictions(pooled, town.test, pooled.adapt(town.history)))
    method = make("prm", user_model=user_model, new_users="generic").fit(town.train, rng=0)
    asked = predictions(method, town.test, method.adapt(town.history))
    assert town.decided("test", asked) == pytest.approx(expected, abs=0.02)
    own = predictions(method, town.heldout, method.states_)
    assert town.decided("heldout", own, town.minority) >= 0.9, "seen people keep what is theirs"


def test_known_items_without_features_are_enough_for_clusters():
    world = identity_town()
    assert gain_over(make("prm", user_model="cluster", clusters=2), make("pooled"), world) >= 0.05
    with pytest.raises(InputError, match="user_model='cluster'"):
        make("prm").fit(world.train, rng=0)


def test_batches_and_lbfgs_find_the_same_heads(town):
    """The convex problem has one optimum; many steps of the training loop come near it."""
    few = town.train.for_users(np.arange(10))
    priors = {"l2": 0.3, "item_l2": 3.0, "user_l2": 0.3}
    exact = make("prm", **priors).fit(few, rng=0)
    settings = {"optimizer": "adam", "steps": 1500, "batch_size": 400, "learning_rate": 0.05, "clip": 0.0}
    loop = make("prm", **priors, **settings).fit(few, rng=0)
    rewards = [method.reward(town.items, method.states_) for method in (exact, loop)]
    margins = [reward - reward.mean(1, keepdims=True) for reward in rewards]
    np.testing.assert_allclose(margins[0], margins[1], atol=0.02)


def test_seen_people_are_who_adapting_to_their_rows_makes_them(town):
    few = town.train.for_users(np.arange(12))
    for user_model in ("individual", "cluster"):
        method = make("prm", user_model=user_model, clusters=2).fit(few, rng=0)
        np.testing.assert_allclose(method.adapt(few).arrays["own"], method.states_.arrays["own"], atol=1e-6)


def test_more_answers_lead_further_from_the_generic_user(town):
    method = make("prm").fit(town.train, rng=0)
    lengths = []
    for count in (0, 2, 20):
        kept = np.concatenate([np.flatnonzero(town.history.user == person)[:count] for person in range(60)])
        states = method.adapt(town.history.take(kept))
        lengths.append(np.linalg.norm(states.arrays["own"], axis=1).mean())
    assert 0.0 == lengths[0] < lengths[1] < lengths[2]


def test_settings_out_of_range():
    for settings in ({"alpha": 1.5}, {"user_model": "nobody"}, {"clusters": 0}):
        with pytest.raises(ConfigError):
            PRM(**settings)
