"""`vpl`: what the encoder reads, and who has not answered."""

from dataclasses import replace

import numpy as np
import pytest

from palate.errors import ConfigError
from palate.models.vpl import VPL
from palate.testing import mirror_town
from palate.testing.subject import predictions


@pytest.fixture(scope="module")
def world():
    return mirror_town(n_users=12, n_new=6, history_per_user=20, seed=2)


@pytest.fixture(scope="module")
def method(world):
    return VPL(steps=30, context=8, width=16, latent=8).fit(world.train, rng=0)


def test_reads_the_most_recent_answers_only(method, world):
    age = np.random.default_rng(0).permutation(len(world.history)).astype(float)
    history = replace(world.history, time=-age)
    parts = (np.flatnonzero(history.user == person) for person in range(6))
    recent = np.sort(np.concatenate([own[np.argsort(age[own])[:8]] for own in parts]))
    one, two = method.adapt(history), method.adapt(history.take(recent))
    np.testing.assert_allclose(one.arrays["latent"], two.arrays["latent"], atol=1e-9)


def test_a_tie_is_half_of_each_order(method, world):
    rows = world.history.for_users(np.array([0])).take(np.arange(4))
    tie = replace(rows, label=np.full(4, 0.5))
    both = rows.take(np.repeat(np.arange(4), 2))
    both = replace(both, label=np.tile([0.0, 1.0], 4), weight=np.full(8, 0.5))
    latents = [method.adapt(given).arrays["latent"] for given in (tie, both, tie.swapped())]
    np.testing.assert_allclose(latents[1], latents[0], atol=1e-9)
    np.testing.assert_allclose(latents[2], latents[0], atol=1e-9)


def test_who_has_not_answered_stands_at_the_priors_mean_and_has_learned_it(world):
    town = mirror_town()
    method = VPL(steps=300).fit(town.train, rng=0)
    nobody = method.adapt(town.history.take(np.zeros(0, int)))
    assert not nobody.arrays["latent"].any()
    # Four fifths are the majority: about their reward is right for a stranger.
    assert town.decided("test", predictions(method, town.test, nobody)) >= 0.8


def test_latents_stay_in_the_clamp_and_are_not_scaled_in_prediction(world):
    method = VPL(steps=20, latent=8, width=16, normalise=True).fit(world.train, rng=0)
    latent = method.states_.arrays["latent"]
    assert np.abs(latent).max() <= 1.0 and np.linalg.norm(latent, axis=1).max() < 8**0.5


def test_contexts_that_do_not_fit():
    with pytest.raises(ConfigError, match="min_context=9"):
        VPL(context=8, min_context=9)


@pytest.mark.parametrize("seed", [2, 5])
def test_the_latent_is_not_ignored(seed):
    """Seed 2 ended in a pooled network while the noise was drawn in full from the first step."""
    town = mirror_town()
    method = VPL(steps=300).fit(town.train, rng=seed)
    assert town.decided("heldout", predictions(method, town.heldout, method.states_), town.minority) >= 0.95
