"""The conformance kit finds what is wrong: every kind of broken method is caught, by the check meant for it."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import Field

from palate.config import Config
from palate.errors import ConfigError
from palate.models import make
from palate.models.base import Traits
from palate.models.linear import LinearMethod
from palate.testing import (
    CHECKS,
    CheckFailed,
    Subject,
    check_method,
    decided_by_minority,
    identity_town,
    mirror_town,
    skipped_checks,
)
from palate.types import Items, UserStates


class Settings(Config):
    l2: float = Field(3.0, gt=0, description="Precision of every weight.")


class Honest(LinearMethod):
    """Everyone's own weights under N(0, 1 / l2): the simplest method with every promise but a torch module."""

    name = "honest"
    traits = Traits(linear=True, posterior=True, needs=frozenset({"features"}))
    Config = Settings

    def _fit(self, comparisons, offset, rng, progress):
        self.prior_mean_ = np.zeros(self.dim_)
        self.prior_precision_ = self.config.l2 * np.eye(self.dim_)
        self._set_states(comparisons, offset)

    def _basis(self, items):
        return items.features.astype(np.float64)


class ConstructorWorks(Honest):
    def __init__(self, config=None, **settings):
        super().__init__(config, **settings)
        self.cache = {}


class ChangesItsSettings(Honest):
    def __init__(self, config=None, **settings):
        super().__init__(config, **settings)
        self.config = self.config.replace(l2=self.config.l2 / 2)


class LeavesTemporaries(Honest):
    def _fit(self, comparisons, offset, rng, progress):
        super()._fit(comparisons, offset, rng, progress)
        self.scratch = np.zeros(3)


class WorksUnfitted(Honest):
    def _check_fitted(self):
        pass

    def adapt(self, comparisons):
        return UserStates(self.name, "", comparisons.n_users)


class AcceptsAnything(Honest):
    def _check_items(self, items):
        pass


class ReversesPeople(Honest):
    def _fit(self, comparisons, offset, rng, progress):
        super()._fit(comparisons, offset, rng, progress)
        self.states_ = self.states_.take(np.arange(comparisons.n_users)[::-1][:-1])


class ForgetsToForget(Honest):
    _previous = None

    def _fit(self, comparisons, offset, rng, progress):
        super()._fit(comparisons, offset, rng, progress)
        self.prior_mean_ = np.ones(self.dim_) if self._previous is None else self._previous
        self._previous = self.prior_mean_ + 0.5
        self._set_states(comparisons, offset)


class UsesNumpyGlobal(Honest):
    def _fit(self, comparisons, offset, rng, progress):
        super()._fit(comparisons, offset, rng, progress)
        self.prior_mean_ = 0.01 * np.random.normal(size=self.dim_)
        self._set_states(comparisons, offset)


class UsesTorchGlobal(Honest):
    def _fit(self, comparisons, offset, rng, progress):
        torch.rand(1)
        super()._fit(comparisons, offset, rng, progress)


class UsesPythonGlobal(Honest):
    def _adapt(self, comparisons, offset):
        random.random()
        return super()._adapt(comparisons, offset)


class IgnoresRng(Honest):
    def _fit(self, comparisons, offset, rng, progress):
        super()._fit(comparisons, offset, rng, progress)
        self.prior_mean_ = 0.01 * np.random.default_rng().normal(size=self.dim_)
        self._set_states(comparisons, offset)


class MutatesFeatures(Honest):
    def _fit(self, comparisons, offset, rng, progress):
        comparisons.items.features[:] -= comparisons.items.features.mean(0)
        super()._fit(comparisons, offset, rng, progress)


class MutatesRows(Honest):
    def _adapt(self, comparisons, offset):
        comparisons.label[:] = np.clip(comparisons.label, 0.02, 0.98)
        return super()._adapt(comparisons, offset)


class RemembersWhoAsked(Honest):
    def _adapt(self, comparisons, offset):
        states = super()._adapt(comparisons, offset)
        self.prior_mean_ = 0.9 * self.prior_mean_ + 0.1 * states.arrays["mean"].mean(0)
        return states

    def _prefer(self, left, right, states, user_index, offset):
        return super()._prefer(left, right, states, user_index, offset + 0.1 * self.prior_mean_.sum())


class PrefersLeft(Honest):
    def _prefer(self, left, right, states, user_index, offset):
        return super()._prefer(left, right, states, user_index, offset + 0.2)


class LearnsPositionBias(Honest):
    def _adapt(self, comparisons, offset):
        return super()._adapt(comparisons, offset + 0.5)


class SwapsSides(Honest):
    def _prefer(self, left, right, states, user_index, offset):
        return 1.0 - super()._prefer(left, right, states, user_index, offset)


class Overflows(Honest):
    def _basis(self, items):
        features = items.features.astype(np.float64)
        return np.where(np.abs(features) > 700, np.inf, features)


class NormalisesTheBatch(Honest):
    def _prefer(self, left, right, states, user_index, offset):
        half = super()._prefer(left, right, states, user_index, offset) - 0.5
        return 0.5 + half * min(1.0, 0.4 / (1e-9 + np.abs(half).mean(initial=0.0)))


class PoolsTheAdapted(Honest):
    def _adapt(self, comparisons, offset):
        states = super()._adapt(comparisons, offset)
        mean = states.arrays["mean"]
        return replace(states, arrays={**states.arrays, "mean": 0.8 * mean + 0.2 * mean.mean(0)})


class StrangersAreSure(Honest):
    def _adapt(self, comparisons, offset):
        states = super()._adapt(comparisons, offset)
        absent = comparisons.counts() == 0
        mean = np.where(absent[:, None], 0.3, states.arrays["mean"]) if len(comparisons) else states.arrays["mean"]
        return replace(states, arrays={**states.arrays, "mean": mean})


class SavesLess(Honest):
    def _dump(self):
        header, arrays = super()._dump()
        return header, {name: array.astype(np.float32) for name, array in arrays.items() if name != "states_/mean"} | {
            "states_/array.mean": arrays["states_/array.mean"].astype(np.float16).astype(np.float64)
        }


class TakesAnyState(Honest):
    def prefer(self, left, right, states, user_index):
        return super().prefer(left, right, replace(states, fingerprint=self.fingerprint_), user_index)


class NeedsEveryone(Honest):
    def _fit(self, comparisons, offset, rng, progress):
        if not comparisons.counts().all():
            raise ZeroDivisionError("somebody has no row")
        super()._fit(comparisons, offset, rng, progress)


class IgnoresTheBase(Honest):
    def _prefer(self, left, right, states, user_index, offset):
        return super()._prefer(left, right, states, user_index, 0.0 * offset)


class LatestCountsMost(Honest):
    def _adapt(self, comparisons, offset):
        age = np.arange(len(comparisons))[::-1]
        return super()._adapt(replace(comparisons, weight=comparisons.weight * 0.9**age), offset)


class IgnoresWeights(Honest):
    def _adapt(self, comparisons, offset):
        return super()._adapt(replace(comparisons, weight=np.sign(comparisons.weight)), offset)


class FitsWithoutWeights(Honest):
    def _fit(self, comparisons, offset, rng, progress):
        super()._fit(replace(comparisons, weight=np.ones(len(comparisons))), offset, rng, progress)


class GetsWorse(Honest):
    def _adapt(self, comparisons, offset):
        flip = (comparisons.counts()[comparisons.user] > 10) & (np.arange(len(comparisons)) % 10 < 7)
        label = np.where(flip & (len(comparisons) < 2000), 1.0 - comparisons.label, comparisons.label)
        return super()._adapt(replace(comparisons, label=label), offset)


class RewardsBackwards(Honest):
    def _reward(self, items, states):
        return -super()._reward(items, states)


class AddsUpWrongly(Honest):
    def _shared(self, items):
        return items.features[:, 1].astype(np.float64)

    def _reward(self, items, states):
        return super()._reward(items, states) - 0.5 * self._shared(items)


class NeverSurer(Honest):
    def _adapt(self, comparisons, offset):
        states = super()._adapt(comparisons, offset)
        covariance = np.broadcast_to(np.eye(self.dim_), states.arrays["covariance"].shape).copy()
        return replace(states, arrays={**states.arrays, "covariance": covariance})


class TooSure(Honest):
    def _adapt(self, comparisons, offset):
        states = super()._adapt(comparisons, offset)
        return replace(states, arrays={**states.arrays, "covariance": states.arrays["covariance"] / 9})


class NeverSays(Honest):
    def _adapt(self, comparisons, offset):
        states = super()._adapt(comparisons, offset)
        return replace(states, arrays={**states.arrays, "covariance": states.arrays["covariance"] * 9})


class PlugsTheMeanIn(Honest):
    def _prefer(self, left, right, states, user_index, offset):
        certain = replace(states, arrays={**states.arrays, "covariance": 0 * states.arrays["covariance"]})
        return super()._prefer(left, right, certain, user_index, offset)


class HasNoModule(Honest):
    traits = replace(Honest.traits, trainable=True)


BROKEN = [
    (ChangesItsSettings, "config_round_trip"),
    (ConstructorWorks, "constructor_only_stores"),
    (LeavesTemporaries, "learned_names_end_in_underscore"),
    (WorksUnfitted, "not_fitted_says_so"),
    (AcceptsAnything, "bad_input_refused"),
    (ReversesPeople, "states_are_in_order"),
    (ForgetsToForget, "refit_forgets"),
    (UsesNumpyGlobal, "same_rng_same_result"),
    (UsesTorchGlobal, "same_rng_same_result"),
    (UsesPythonGlobal, "same_rng_same_result"),
    (IgnoresRng, "same_rng_same_result"),
    (MutatesFeatures, "input_unchanged"),
    (MutatesRows, "input_unchanged"),
    (RemembersWhoAsked, "input_unchanged"),
    (PrefersLeft, "sides_are_symmetric"),
    (PrefersLeft, "nothing_beats_itself"),
    (LearnsPositionBias, "sides_are_symmetric"),
    (SwapsSides, "recovers_the_town"),
    (Overflows, "finite_for_large_features"),
    (NormalisesTheBatch, "batch_equals_single"),
    (PoolsTheAdapted, "batch_equals_single"),
    (StrangersAreSure, "adapt_of_nothing_is_prior"),
    (SavesLess, "save_and_load"),
    (TakesAnyState, "foreign_states_refused"),
    (NeedsEveryone, "people_without_rows"),
    (IgnoresTheBase, "base_reward_is_the_start"),
    (LatestCountsMost, "row_order_is_irrelevant"),
    (IgnoresWeights, "duplicate_is_weight_two"),
    (FitsWithoutWeights, "weightless_rows_teach_nothing"),
    (GetsWorse, "learns_from_answers"),
    (RewardsBackwards, "reward_orders_preferences"),
    (AddsUpWrongly, "linear_parts_add_up"),
    (NeverSurer, "posterior_shrinks"),
    (TooSure, "posterior_covers_the_truth"),
    (NeverSays, "posterior_covers_the_truth"),
    (PlugsTheMeanIn, "prefer_is_the_predictive"),
    (HasNoModule, "trainable_has_a_module"),
]
BY_NAME = {check.name: check for check in CHECKS}


def test_honest_method_passes_everything():
    report = check_method(Honest)
    assert set(report.skipped) == {"trainable_has_a_module"}
    assert len(report.passed) == len(CHECKS) - 1 and not report.failed
    assert str(report).startswith(f"{len(CHECKS) - 1} passed, 0 failed, 1 skipped")


@pytest.mark.parametrize(("broken", "name"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_broken_method_is_caught(broken, name):
    with pytest.raises(CheckFailed, match=f"^{name}: "):
        BY_NAME[name](Subject(broken))


def test_every_check_has_caught_something():
    assert {name for _, name in BROKEN} == set(BY_NAME)


def test_check_method_lists_all_failures():
    with pytest.raises(CheckFailed) as failure:
        check_method(PrefersLeft)
    assert "nothing_beats_itself: " in str(failure.value) and "sides_are_symmetric: " in str(failure.value)


def test_pooled_cannot_recover_the_town():
    """The check itself is checked: one reward for all is wrong on what the minority decides."""
    subject = Subject(lambda: make("pooled"))
    with pytest.raises(CheckFailed, match="recovers_the_town"):
        BY_NAME["recovers_the_town"](subject)
    assert decided_by_minority(subject.fitted, subject.world) < 0.5
    assert "recovers_the_town" in skipped_checks(lambda: make("pooled"))


def test_skip_must_name_a_check():
    report = check_method(HasNoModule, skip=["trainable_has_a_module"])
    assert report.skipped == {"trainable_has_a_module": "skipped on request"}
    with pytest.raises(ConfigError, match="no_such_check"):
        check_method(Honest, skip=["no_such_check"])


def test_world_pairs_are_distinct_and_seeded():
    world, again, other = mirror_town(seed=1), mirror_town(seed=1), mirror_town(seed=2)
    assert np.array_equal(world.train.label, again.train.label)
    assert not np.array_equal(world.train.label, other.train.label)
    for learn, tested in ((world.train, world.heldout), (world.history, world.test)):
        pairs = {
            part: {(u, *sorted((a, b))) for u, a, b in zip(rows.user, rows.left, rows.right, strict=True)}
            for part, rows in (("learn", learn), ("tested", tested))
        }
        assert not pairs["learn"] & pairs["tested"]
        assert len(pairs["learn"]) == len(learn)
    assert world.minority.sum() == 12 and world.new_minority.sum() == 12


def test_labels_follow_the_true_rewards():
    world = mirror_town(n_users=200, seed=3)
    chance = 1 / (1 + np.exp(-world.margins("train")))
    z = (world.train.label - chance).sum() / np.sqrt((chance * (1 - chance)).sum())
    assert abs(z) < 4
    assert world.decided("heldout", 1 / (1 + np.exp(-world.margins("heldout")))) == 1.0
    assert world.decided("heldout", np.full(len(world.heldout), 0.5)) == 0.5


def test_identity_town_has_no_features_but_can_be_learned():
    world = identity_town()
    pooled = make("pooled").fit(world.train, rng=0)
    rows = world.heldout
    asked = pooled.prefer(world.items.take(rows.left), world.items.take(rows.right), pooled.states_, rows.user)
    assert world.items.dim == 0
    assert world.decided("heldout", asked, ~world.minority) > 0.85
    assert world.decided("heldout", asked, world.minority) < 0.7


def test_base_reward_is_given_where_it_is_needed():
    class OnTop(Honest):
        traits = replace(Honest.traits, needs=frozenset({"features", "base_reward"}))

    assert isinstance(Subject(OnTop).world.items, Items) and Subject(OnTop).world.items.base_reward is not None
    assert Subject(Honest).world.items.base_reward is None
