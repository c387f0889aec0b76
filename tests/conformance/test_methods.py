"""Every method that the registry lists meets every promise of the contract that its traits declare."""

from dataclasses import replace

import pytest

from palate.models import available, make
from palate.testing import check_method, gain_over, method_checks, skipped_checks
from palate.testing.subject import predictions, with_items
from palate.testing.worlds import (
    conditional_world,
    in_context_world,
    lone_people,
    mirror_town,
    prototype_town,
    scattered_town,
    twin_town,
)

FULL = {
    "gpo": {"steps": 200},
    "conditional": {"steps": 300},
    "vpl": {"steps": 300},
    "pal": {"steps": 300},
    "copl": {"steps": 300, "graph_steps": 200},
}
"""Half of their default steps, and half of the time, are enough for worlds this small."""

QUICK = {
    "gpo": {"steps": 20},
    "conditional": {"steps": 30},
    "vpl": {"steps": 20},
    "pal": {"steps": 30},
    "copl": {"steps": 20, "graph_steps": 20},
}
"""Fewer steps for the checks of form, where fitting takes seconds."""

OWN_WORLD = {
    "individual": lone_people,
    "factor": scattered_town,
    "conditional": conditional_world,
    "gpo": in_context_world,
    "prm": lambda: scattered_town(rank=8),
    "vpl": lambda: mirror_town(minority=0.5),
    "pal": prototype_town,
    "hierarchical": scattered_town,
    "copl": lambda: in_context_world(n_users=150),
    "retrieval": conditional_world,
    "similar_user": twin_town,
    "finetune": mirror_town,
}
"""The world in which a method's own assumption holds; `pooled` is what the others are measured against."""

FOR_NEW_PEOPLE = {"similar_user", "finetune"}
"""Methods that are about new people: their gain is measured there."""

CASES = [
    pytest.param(check, id=f"{name}-{check_name}", marks=pytest.mark.xdist_group(name))
    for name in available()
    for check_name, check in method_checks(
        lambda name=name: make(name, **FULL.get(name, {})), quick=lambda name=name: make(name, **QUICK.get(name, {}))
    )
]


@pytest.mark.parametrize("check", CASES)
def test_contract(check):
    check()


@pytest.mark.parametrize("name", available())
def test_skipped_checks_are_those_the_traits_exclude(name):
    """No method passes by declaring less than it does: what is skipped is listed here, and a change must be meant."""
    linear = {"linear_parts_add_up"}
    posterior = {"posterior_shrinks", "posterior_covers_the_truth", "prefer_is_the_predictive"}
    personal = {"recovers_the_town", "learns_from_answers"}
    module = {"trainable_has_a_module"}
    expected = {
        "pooled": posterior | personal | module,
        "individual": linear | posterior | module,
        "conditional": linear | posterior,
        "factor": set(),
        "gpo": linear | posterior,
        "prm": linear | posterior,
        "vpl": linear | posterior,
        "pal": linear | posterior,
        "hierarchical": module,
        "pretrained": linear | posterior | personal | module,
        "copl": linear | posterior,
        "retrieval": linear | posterior | module | {"reward_orders_preferences"},
        "similar_user": linear | posterior | module,
        "finetune": linear | posterior | module,
    }
    assert set(skipped_checks(lambda: make(name))) == expected[name]


@pytest.mark.parametrize("name", [name for name in available() if name not in ("pooled", "pretrained")])
def test_wins_in_its_own_world(name):
    part = "test" if name in FOR_NEW_PEOPLE else "heldout"
    assert gain_over(make(name, **FULL.get(name, {})), make("pooled"), OWN_WORLD[name](), part) >= 0.05


def test_pretrained_wins_where_its_scores_are_right_and_choices_are_few():
    bare = scattered_town(n_users=12, rows_per_user=4, spread=0.1)
    scored = with_items(bare, replace(bare.items, base_reward=bare.rewards.mean(0)))
    shares = []
    for name, town in (("pretrained", scored), ("pooled", bare)):
        method = make(name).fit(town.train, rng=0)
        shares.append(town.decided("heldout", predictions(method, town.heldout, method.states_)))
    assert shares[0] >= shares[1] + 0.05


def test_prefix_mode_meets_the_contract_of_a_method_that_does_not_adapt():
    skip = {"recovers_the_town", "learns_from_answers", "duplicate_is_weight_two"}
    report = check_method(
        lambda: make("conditional", mode="prefix", steps=100),
        quick=lambda: make("conditional", mode="prefix", steps=20),
        skip=skip,
    )
    assert skip < set(report.skipped) and "batch_equals_single" in report.passed
