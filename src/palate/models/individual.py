"""`individual`: a reward of one's own for every person, learned from that person's rows alone.

    logit = [s(left) − s(right)] + (x̃(left) − x̃(right))·w_u,      w_u ~ N(0, I / l2)

with s = 0 (`prior="zero"`) or s the pooled reward (`prior="pooled"`); without features x̃ is the indicator of the
known item. Source: the "individual RM" of Dong et al. 2025, as a logistic regression on frozen features.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field
from scipy.special import expit

from palate.config import Config
from palate.models.base import Method, Traits
from palate.models.shared import SharedReward, fit_shared, locate, pair_scale
from palate.models.span import Table, learn_precision, spans_of
from palate.progress import Progress
from palate.types import Comparisons, Items, Ragged, UserStates

__all__ = ["Individual", "IndividualConfig"]


class IndividualConfig(Config):
    """Settings of `individual`."""

    prior: Literal["zero", "pooled"] = Field(
        "zero",
        description="What a person's reward shrinks to: no preference at all, as in the paper, or the pooled one.",
    )
    l2: float | None = Field(
        None, gt=0, description="Prior precision of a person's weights on standardised features; None learns it."
    )


class Individual(Method):
    """A logistic regression per person, all of them solved together.

    When not to use it: where people have few answers; it borrows nothing from others (`prior="zero"`).

    Attributes:
        l2_: the prior precision, given or learned over the training people.
        scale_: (d,) features are used as x / scale.
        keys_: (k,) known items, where there are no features; else empty.
        shared_: arrays of the pooled reward; empty with `prior="zero"`.
    """

    name = "individual"
    traits = Traits()
    Config = IndividualConfig
    config: IndividualConfig

    l2_: float
    scale_: np.ndarray
    keys_: np.ndarray
    shared_: dict[str, np.ndarray]

    def _fit(self, comparisons: Comparisons, offset: np.ndarray, rng: np.random.Generator, progress: Progress) -> None:
        self.scale_ = pair_scale(comparisons)
        self.keys_ = np.zeros(0, np.int64)
        if comparisons.items.dim == 0:
            keys = comparisons.items.keys[np.concatenate([comparisons.left, comparisons.right])]
            self.keys_ = np.unique(keys[keys >= 0])
        self.shared_ = fit_shared(comparisons, offset).to_arrays() if self.config.prior == "pooled" else {}
        solved, self.l2_ = self._solve(comparisons, offset, self.config.l2, progress)
        self.prior_ = self._no_answers(1)
        self.states_ = solved

    def _adapt(self, comparisons: Comparisons, offset: np.ndarray) -> UserStates:
        return self._solve(comparisons, offset, self.l2_)[0]

    def _solve(
        self, comparisons: Comparisons, offset: np.ndarray, l2: float | None, progress: Progress | None = None
    ) -> tuple[UserStates, float]:
        """States of all people and the prior precision, learned where `l2` is None."""
        table = self._table(comparisons.items)
        width = table.width
        if width == 0 or len(comparisons) == 0:
            return self._no_answers(comparisons.n_users), l2 or 1.0
        shared = self._shared(comparisons.items)
        offset = offset + shared[comparisons.left] - shared[comparisons.right]
        spans = spans_of(comparisons, table)
        if l2 is None:
            l2 = learn_precision(spans, comparisons, offset, float(width), progress)
        states = self._no_answers(comparisons.n_users) if self.dim_ else self._met(comparisons, table)
        for span in spans:
            weights = span.weights(span.solve(comparisons, offset, l2)[0], comparisons, table)
            _write(states, span.people, weights)
        return states, l2

    def _table(self, items: Items) -> Table:
        if items.dim:
            return Table(items.features / self.scale_, np.full(len(items), -1), items.dim)
        return Table(None, locate(self.keys_, items.keys), len(self.keys_))

    def _shared(self, items: Items) -> np.ndarray:
        return SharedReward.from_arrays(self.shared_).reward(items) if self.shared_ else np.zeros(len(items))

    # -- states: dense weights of features, or the effects of the items that a person has met -----------------------

    def _no_answers(self, count: int) -> UserStates:
        nothing = Ragged(np.zeros(count + 1, np.int64), np.zeros(0, np.int64))
        effects = Ragged(np.zeros(count + 1, np.int64), np.zeros(0))
        weights = np.zeros((count, len(self.scale_)))
        return self._states(count, {"weights": weights}, ragged={"items": nothing, "effects": effects})

    def _met(self, comparisons: Comparisons, table: Table) -> UserStates:
        """States that list the known items in each person's rows, with effects still to be written."""
        met = np.concatenate([table.known[comparisons.left], table.known[comparisons.right]])
        user = np.tile(comparisons.user.astype(np.int64), 2)[met >= 0]
        person, item = np.divmod(np.unique(user * table.width + met[met >= 0]), table.width)
        offsets = np.searchsorted(person, np.arange(comparisons.n_users + 1))
        ragged = {"items": Ragged(offsets, item), "effects": Ragged(offsets, np.zeros(len(item)))}
        return self._states(comparisons.n_users, {"weights": np.zeros((comparisons.n_users, 0))}, ragged=ragged)

    def _effects(self, states: UserStates, user: np.ndarray, known: np.ndarray) -> np.ndarray:
        """(m,) effect of known item `known[i]` (−1 unknown) for person `user[i]`; 0 where the person never met it."""
        items, effects = states.ragged["items"], states.ragged["effects"]
        if len(items.values) == 0:
            return np.zeros(len(user))
        width = len(self.keys_)
        person = np.repeat(np.arange(len(states)), np.diff(items.offsets))
        place = locate(person * width + items.values, np.where(known >= 0, user * width + known, -1))
        return np.where(place >= 0, effects.values[place], 0.0)

    def _prefer(
        self, left: Items, right: Items, states: UserStates, user_index: np.ndarray, offset: np.ndarray
    ) -> np.ndarray:
        logit = offset + self._shared(left) - self._shared(right)
        if self.dim_:
            difference = (left.features - right.features) / self.scale_
            logit = logit + np.einsum("md,md->m", difference, states.arrays["weights"][user_index])
        else:
            logit = logit + self._effects(states, user_index, locate(self.keys_, left.keys))
            logit = logit - self._effects(states, user_index, locate(self.keys_, right.keys))
        return expit(logit)

    def _reward(self, items: Items, states: UserStates) -> np.ndarray:
        count, n = len(states), len(items)
        if self.dim_:
            personal = states.arrays["weights"] @ (items.features / self.scale_).T
        else:
            known = locate(self.keys_, items.keys)
            person = np.repeat(np.arange(count), n)
            personal = self._effects(states, person, np.tile(known, count)).reshape(count, n)
        return self._shared(items) + personal


def _write(states: UserStates, people: np.ndarray, weights: np.ndarray) -> None:
    """Put weights (b, width) of `people` into fresh states: all of them, or those of the items that they met."""
    if states.arrays["weights"].shape[1]:
        states.arrays["weights"][people] = weights
        return
    items = states.ragged["items"]
    lengths = np.diff(items.offsets)[people]
    place = np.arange(lengths.sum()) + np.repeat(items.offsets[people] - (np.cumsum(lengths) - lengths), lengths)
    person = np.repeat(np.arange(len(people)), lengths)
    states.ragged["effects"].values[place] = weights[person, items.values[place]]
