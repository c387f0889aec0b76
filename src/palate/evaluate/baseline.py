"""The baseline: what a good engineer writes in an afternoon with scikit-learn.

One logistic regression on differences of embeddings for everybody, and one per person, whose logits are added: with few
answers a person's own regression is shrunk to nothing and the pooled one decides. (Giving the pooled logit to the own
regression as a column is worse: after a few answers its coefficient is anything.) Where items carry no features, they
are one-hot.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field
from scipy import sparse
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from palate.config import Config
from palate.errors import InputError
from palate.models.base import Method, Traits
from palate.progress import Progress
from palate.types import Comparisons, Items, Ragged, UserStates

__all__ = ["SklearnBaseline", "SklearnBaselineConfig"]


class SklearnBaselineConfig(Config):
    """Settings of the scikit-learn baseline."""

    pooled_c: float = Field(0.1, gt=0, description="C of the logistic regression that everybody shares")
    personal_c: float = Field(0.1, gt=0, description="C of each person's own logistic regression")
    add_pooled: bool = Field(True, description="add the pooled logit to that of the person's own regression")
    least_rows: int = Field(1, ge=1, description="with fewer rows (weights summed) a person gets the pooled regression")
    design: Literal["auto", "features", "items"] = Field(
        "auto", description="columns: differences of features, one-hot items, or features where there are any"
    )


class SklearnBaseline(Method):
    """Per-user logistic regression beside a pooled one.

    logit P(u prefers l) = (c_u w + w_u) · (x_l - x_r), with c_u = 1, or 0 for people with rows where the pooled logit is not
    to be added. Every row is entered from both sides, so there is no intercept and both classes are always present.
    """

    name = "sklearn"
    traits = Traits(scalar=True)
    Config = SklearnBaselineConfig

    config: SklearnBaselineConfig

    def _fit(self, comparisons: Comparisons, offset: np.ndarray, rng: np.random.Generator, progress: Progress) -> None:
        self._check_design(comparisons.items)
        items = comparisons.items
        if self._one_hot(items):
            self.known_ = np.unique(items.keys[np.concatenate([comparisons.left, comparisons.right])])
            self.known_ = self.known_[self.known_ >= 0]
        else:
            used = np.unique(np.concatenate([comparisons.left, comparisons.right]))
            scale = items.features[used].std(axis=0)
            self.scale_ = np.where(scale > 0, scale, 1.0).astype(np.float64)
        design = self._differences(comparisons)
        self.pooled_ = _logistic(design, comparisons.label, comparisons.weight, self.config.pooled_c)
        self.prior_ = self._personal(comparisons.take(np.arange(0)).for_users(np.array([0])), progress)
        self.states_ = self._personal(comparisons, progress)

    def _adapt(self, comparisons: Comparisons, offset: np.ndarray) -> UserStates:
        return self._personal(comparisons, None)

    def _personal(self, comparisons: Comparisons, progress: Progress | None) -> UserStates:
        """States of everybody: `pooled` (n_users,) the factor c_u, and the nonzero columns of w_u."""
        design = self._differences(comparisons)
        order, offsets = comparisons.by_user()
        factor = np.ones(comparisons.n_users)
        columns: list[np.ndarray] = []
        weights: list[np.ndarray] = []
        for person in range(comparisons.n_users):
            rows = order[offsets[person] : offsets[person + 1]]
            used, own = np.empty(0, np.int64), np.empty(0)
            if len(rows) and comparisons.weight[rows].sum() >= self.config.least_rows:
                used, table = _columns(design[rows])
            if len(used):
                own = _logistic(table, comparisons.label[rows], comparisons.weight[rows], self.config.personal_c)
                factor[person] = float(self.config.add_pooled)
            columns.append(used)
            weights.append(own)
            if progress is not None and person % 100 == 0:
                progress(person, comparisons.n_users, "per-user regressions")
        starts = np.concatenate([[0], np.cumsum([len(column) for column in columns])]).astype(np.int64)
        ragged = {
            "columns": Ragged(starts, np.concatenate([*columns, np.empty(0, np.int64)]).astype(np.int32)),
            "weights": Ragged(starts, np.concatenate([*weights, np.empty(0)]).astype(np.float32)),
        }
        return self._states(comparisons.n_users, {"pooled": factor}, ragged=ragged)

    def _prefer(
        self, left: Items, right: Items, states: UserStates, user_index: np.ndarray, offset: np.ndarray
    ) -> np.ndarray:
        difference = self._design(left) - self._design(right)
        own = self._weights(states)
        logit = offset + states.arrays["pooled"][user_index] * (difference @ self.pooled_)
        return expit(logit + np.asarray(own[user_index].multiply(difference).sum(axis=1)).ravel())

    def _reward(self, items: Items, states: UserStates) -> np.ndarray:
        design = self._design(items)
        own = (design @ self._weights(states).T).T
        own = own.toarray() if sparse.issparse(own) else np.asarray(own)
        return states.arrays["pooled"][:, None] * (design @ self.pooled_)[None, :] + own

    def _weights(self, states: UserStates) -> sparse.csr_array:
        """(n_users, columns) everybody's own weights."""
        columns, weights = states.ragged["columns"], states.ragged["weights"]
        return sparse.csr_array(
            (weights.values.astype(np.float64), columns.values, columns.offsets), (len(states), len(self.pooled_))
        )

    # -- the design -----------------------------------------------------------------------------------------------

    def _one_hot(self, items: Items) -> bool:
        return self.config.design == "items" or (self.config.design == "auto" and items.dim == 0)

    def _check_design(self, items: Items) -> None:
        if self._one_hot(items) and not np.any(items.keys >= 0):
            raise InputError("sklearn needs item features or known items and these have neither; choose features=")
        if not self._one_hot(items) and items.dim == 0:
            raise InputError("sklearn with design=features needs item features; choose features= (minilm, smollm2, …)")

    def _differences(self, comparisons: Comparisons) -> np.ndarray | sparse.csr_array:
        design = self._design(comparisons.items)
        return design[comparisons.left] - design[comparisons.right]

    def _design(self, items: Items) -> np.ndarray | sparse.csr_array:
        """(n, columns): scaled features, or one column per item known from training."""
        if not self._one_hot(items):
            return items.features / self.scale_
        place = np.searchsorted(self.known_, items.keys)
        found = np.flatnonzero(
            (place < len(self.known_)) & (self.known_[np.minimum(place, len(self.known_) - 1)] == items.keys)
        )
        return sparse.csr_array((np.ones(len(found)), (found, place[found])), (len(items), len(self.known_)))


def _columns(design: np.ndarray | sparse.csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Which columns a person's rows use, and the rows with these columns only, dense."""
    if not sparse.issparse(design):
        return np.arange(design.shape[1]), design
    used = np.unique(design.indices)
    return used, design[:, used].toarray()


def _logistic(design: np.ndarray | sparse.csr_array, label: np.ndarray, weight: np.ndarray, c: float) -> np.ndarray:
    """Weights of scikit-learn's logistic regression without intercept; soft labels as two weighted rows."""
    stack = sparse.vstack if sparse.issparse(design) else np.concatenate
    rows = stack([design, -design, design, -design])
    classes = np.repeat([1, 0, 0, 1], len(label))
    weights = np.concatenate([weight * label, weight * label, weight * (1 - label), weight * (1 - label)]) / 2
    kept = np.flatnonzero(weights > 0)
    model = LogisticRegression(C=c, fit_intercept=False, max_iter=2000)
    return model.fit(rows.tocsr()[kept] if sparse.issparse(rows) else rows[kept], classes[kept], weights[kept]).coef_[0]
