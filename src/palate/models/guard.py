"""The guard: personalization acts only where people differ, or where the shared reward is indifferent.

For a pair of replies let m_u be the logit of the person's preference and a that of an anchor which is the same for everybody:
what nobody in particular prefers ("pooled"), or a base reward that must not be given up ("base"). The guarded logit is

    a + w · (m_u − a),      w = max(0, 1 − |a| / radius)   and / or   w = 1 / (1 + (spread / s)⁸).

s is how much people differ about this pair: the standard deviation of their logits in the population. Where nearly all agree, as they
do on what is right or safe, a person's few answers about tone are not asked; where people are known to differ by more than
`spread`, they are. The radius is a trust region around the pooled ranking, or a floor on the base reward: no pair on which the anchor
is surer than `radius` is ever turned round, whatever the method inside has learned. A spread of 0 is the method itself and a large
one the anchor; a radius of 0 is the anchor and a large one the method.

The weight belongs to a pair, not to a reply, so there is no guarded reward: preferences are decided two at a time, and
among several replies by a tournament.
"""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self
from weakref import WeakKeyDictionary

import numpy as np
from pydantic import Field, field_validator
from scipy.special import expit, logit

from palate.config import Config
from palate.errors import InputError
from palate.models import registry
from palate.models.base import Method, Traits
from palate.progress import Progress
from palate.types import Comparisons, Items, UserStates

if TYPE_CHECKING:
    from palate.models.reward_model import FeatureRewardModel

__all__ = ["Anchor", "DEFAULT_SPREAD", "Guarded", "GuardedConfig", "guarded", "hold", "population_spread", "weight"]

Anchor = Literal["pooled", "base"]
"""What must not be overruled: "pooled", what nobody in particular prefers, or "base", the base reward."""

_LEAST = 1e-12
"""Probabilities nearer to 0 or 1 have no logit to calculate with."""

DEFAULT_SPREAD = 1.3
"""Logits; chosen with `hierarchical` on other people and other pairs, see `palate bench --suite tax`."""

_STEEPNESS, _WITNESSES = 8, 64
"""How suddenly a pair counts as one that people differ about, and how many training people say so where no population does."""

_HELD: WeakKeyDictionary[Guarded, Method] = WeakKeyDictionary()
"""The methods inside, as long as their guards live: a guard itself holds what is saved and nothing else."""


class GuardedConfig(Config):
    """Settings of the guard."""

    method: str = Field("hierarchical", description="The method inside, by name; no guard itself.")
    settings: dict[str, Any] = Field({}, description="Settings of the method inside.")
    spread: float | None = Field(
        None,
        ge=0,
        description="Standard deviation of people's logits on a pair from which on the person decides; 0 always personalizes. "
        f"{DEFAULT_SPREAD} where no radius is given either.",
    )
    radius: float | None = Field(
        None, ge=0, description="Logits of the anchor from which on it decides alone; 0 never personalizes."
    )
    anchor: Anchor = Field(
        "pooled",
        description="What must not be overruled: pooled (what nobody in particular prefers), or base (the base reward).",
    )

    @field_validator("method")
    @classmethod
    def _is_no_guard(cls, method: str) -> str:
        if registry.get(method) is Guarded:
            raise ValueError("a guard around a guard; give the method inside, with one spread and one radius")
        return method

    @property
    def effective_spread(self) -> float | None:
        """The spread in use."""
        return DEFAULT_SPREAD if self.spread is None and self.radius is None else self.spread


class Guarded(Method):
    """Any method, held to what people agree on, or to what the anchor is sure of.

    When not to use it: where somebody truly opposes what all others agree on; the guard then takes the minority's side away from
    them. Choose its strength on validation people.

    Attributes:
        header_: what the fitted method inside is, in JSON.
        inside_: its arrays.
    """

    name: ClassVar[str] = "guarded"
    Config: ClassVar[type[Config]] = GuardedConfig
    config: GuardedConfig

    header_: str
    inside_: dict[str, np.ndarray]

    @property
    def traits(self) -> Traits:
        """Those of the method inside, without what rests on a reward of single replies."""
        own = registry.get(self.config.method).traits
        needs = own.needs | ({"base_reward"} if self.config.anchor == "base" else set())
        return replace(
            own, scalar=False, linear=False, posterior=False, trainable=False, population=False, needs=frozenset(needs)
        )

    @classmethod
    def over(
        cls, method: Method, *, spread: float | None = None, radius: float | None = None, anchor: Anchor = "pooled"
    ) -> Self:
        """A guard around a method that is fitted already; the arguments are those of `GuardedConfig`.

        Raises:
            InputError: the method is a guard; the anchor is a base reward, and the method was fitted without one; or see
                `population_spread`.
        """
        method._check_fitted()
        if isinstance(method, Guarded):
            raise InputError(
                "a guard around a guard; give the method inside (`.method`), with one spread and one radius"
            )
        about = {"spread": spread, "radius": radius, "anchor": anchor}
        guard = cls(method=method.name, settings=method.config.model_dump(), **about)
        if guard.config.effective_spread is not None:
            _witnesses(method)
        guard.dim_, guard.has_base_, guard.base_scale_ = method.dim_, method.has_base_, method.base_scale_
        if anchor == "base" and not method.has_base_:
            raise InputError(
                f"anchor='base': {method.name} was fitted without base_reward; fit with one, or use 'pooled'"
            )
        guard._hold(method)
        guard._seal()
        return guard

    @property
    def method(self) -> Method:
        """The fitted method inside."""
        if self not in _HELD:
            header = json.loads(self.header_)
            _HELD[self] = registry.get(header["method"])._restore(header, self.inside_)
        return _HELD[self]

    def admit(self, states: UserStates) -> UserStates:
        """States of the method inside as states of this guard.

        Raises:
            FingerprintError: they belong to another method or fit.
        """
        states.require(self.method.name, self.method.fingerprint_)
        return replace(states, method=self.name, fingerprint=self.fingerprint_)

    def _hold(self, method: Method) -> None:
        header, self.inside_ = method._dump()
        self.header_ = json.dumps(header | {"fingerprint": method.fingerprint_})
        _HELD[self] = method
        self.states_, self.prior_ = (replace(own, method=self.name) for own in (method.states_, method.prior_))

    def _fit(self, comparisons: Comparisons, offset: np.ndarray, rng: np.random.Generator, progress: Progress) -> None:
        inside = registry.make(self.config.method, **self.config.settings)
        self._hold(inside.fit(comparisons, rng=rng, progress=progress))

    def _adapt(self, comparisons: Comparisons, offset: np.ndarray) -> UserStates:
        return replace(self.method.adapt(comparisons), method=self.name)

    def _prefer(
        self, left: Items, right: Items, states: UserStates, user_index: np.ndarray, offset: np.ndarray
    ) -> np.ndarray:
        method = self.method
        own = replace(states, method=method.name, fingerprint=method.fingerprint_)
        personal = _logit(method.prefer(left, right, own, user_index))
        if self.config.anchor == "base":
            anchor = offset
        else:
            anchor = _logit(method.prefer(left, right, method.prior_, np.zeros(len(left), np.int64)))
        spread = None if self.config.effective_spread is None else population_spread(method, left, right)
        return expit(hold(anchor, personal, spread, self.config))


def hold(anchor: np.ndarray, personal: np.ndarray, differ: np.ndarray | None, config: GuardedConfig) -> np.ndarray:
    """(m,) guarded logits, from those of the anchor and of the person; the rest as in `weight`."""
    return anchor + weight(anchor, differ, config) * (personal - anchor)


def weight(anchor: np.ndarray, differ: np.ndarray | None, config: GuardedConfig) -> np.ndarray:
    """(m,) in [0, 1]: how much a person's own preference counts.

    Args:
        anchor: (m,) logits of the anchor.
        differ: (m,) standard deviation of people's logits; None where no spread is in use.
        config: the settings.
    """
    counts = np.ones_like(anchor)
    if (least := config.effective_spread) and differ is not None:
        with np.errstate(divide="ignore", over="ignore"):
            counts = 1.0 / (1.0 + (least / differ) ** _STEEPNESS)
    if config.radius is not None:
        counts = counts * np.maximum(0.0, 1.0 - np.abs(anchor) / config.radius) if config.radius else 0.0 * counts
    return counts


def population_spread(method: Method, left: Items, right: Items) -> np.ndarray:
    """(m,) how much people differ about pairs: the standard deviation of their logits.

    Of a method that learned a population (`hierarchical`) that of the population; of any other that of up to 64 of its training people.

    Raises:
        InputError: the method keeps no population and no training people, because it was saved without them.
    """
    if method.traits.population:
        return method.spread(left, right)
    first = np.zeros(len(left), np.int64)
    told = [_logit(method.prefer(left, right, one, first)) for one in _witnesses(method)]
    return np.std(told, axis=0)


def _witnesses(method: Method) -> list[UserStates]:
    """Training people, evenly among all; none are needed where the method knows its population."""
    if method.traits.population:
        return []
    count = len(method.states_)
    if not count:
        raise InputError(
            f"{method.name} was saved without its training people, so nobody knows how much people differ; save it with "
            "people=True, or give a radius instead of a spread"
        )
    index = np.unique(np.linspace(0, count - 1, min(count, _WITNESSES)).astype(np.int64))
    return [method.states_.take(np.array([one])) for one in index]


def guarded(
    model: FeatureRewardModel, *, spread: float | None = None, radius: float | None = None, anchor: Anchor = "pooled"
) -> FeatureRewardModel:
    """The same reward model under a guard; the given one does not change.

    Args:
        model: fitted.
        spread, radius, anchor: see `GuardedConfig`.

    Raises:
        InputError: see `Guarded.over`.
    """
    model._check_fitted()
    held = copy.copy(model)
    held.method = Guarded.over(model.method, spread=spread, radius=radius, anchor=anchor)
    return held


def _logit(probability: np.ndarray) -> np.ndarray:
    return logit(np.clip(probability, _LEAST, 1.0 - _LEAST))
