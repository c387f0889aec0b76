"""`pal`: variant B knows the prompt, both losses work, and prompts are checked."""

from dataclasses import replace

import numpy as np
import pytest

from palate.errors import InputError
from palate.models import make
from palate.rng import derive
from palate.testing import gain_over, make_world, prototype_town
from palate.testing.subject import with_items
from palate.types import Items


def prompt_town(seed=0):
    """Each camp wants another thing of every prompt: the reply's direction along the prompt's, or against it."""
    rng = derive(seed, "prompt_town")
    prompts = rng.normal(size=(30, 2))
    prompt = np.arange(150) % 30
    features = rng.normal(size=(150, 3))
    along = (features[:, :2] * prompts[prompt]).sum(1)
    camp = np.where(rng.random(60) < 0.4, -1.0, 1.0)
    items = Items.of(features, prompt=prompt, prompt_features=prompts.astype(np.float32))
    counts = {"n_users": 40, "rows_per_user": 60, "heldout_per_user": 40, "history_per_user": 20}
    return make_world("prompt_town", items, 2.0 * camp[:, None] * along, **counts, seed=seed)


def test_b_wins_where_the_prompt_says_what_is_wanted():
    world = prompt_town()
    blind = with_items(world, replace(world.items, prompt_features=None))
    settings = {"variant": "b", "prototypes": 2, "steps": 250}
    gains = [gain_over(make("pal", **settings), make("pooled"), seen) for seen in (world, blind)]
    assert gains[0] >= 0.2
    assert gains[1] < gains[0] - 0.1, "without prompts much of it cannot be told"


def test_hinge_ranks_as_well():
    assert gain_over(make("pal", loss="hinge", steps=300), make("pooled"), prototype_town()) >= 0.05


def test_prompts_of_another_width_are_refused_and_missing_ones_too():
    world = prompt_town()
    method = make("pal", variant="b", steps=5).fit(world.train, rng=0)
    for prompts in (None, np.zeros((30, 5), np.float32)):
        items = replace(world.items, prompt_features=prompts)
        with pytest.raises(InputError, match="prompts have"):
            method.reward(items, method.states_)
    distance = make("pal", steps=5).fit(world.train, rng=0)
    bare = replace(world.items, prompt_features=None)
    np.testing.assert_array_equal(
        distance.reward(bare, distance.states_), distance.reward(world.items, distance.states_)
    )


def test_rewards_of_a_block_of_people_are_those_of_each(monkeypatch):
    world = prompt_town()
    for variant in ("a", "b"):
        method = make("pal", variant=variant, steps=5).fit(world.train, rng=0)
        states = method.adapt(world.history)
        whole = method.reward(world.items, states)
        with monkeypatch.context() as patch:
            patch.setattr("palate.models.pal._CELLS", 100)
            np.testing.assert_allclose(method.reward(world.items, states), whole, atol=1e-12)
            np.testing.assert_allclose(
                method.adapt(world.history).arrays["mixture"], states.arrays["mixture"], atol=1e-6
            )
