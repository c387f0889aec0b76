"""Methods whose personal part is linear in a basis, with a Gaussian posterior per person.

    reward_u(x) = shared(x) + basis(x)·w_u,      w_u ~ N(mean, precision⁻¹) a priori,

so that a person is `mean` (r,) and `covariance` (r, r), and adapting is one penalised logistic regression.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

import numpy as np
from scipy.special import expit, ndtri

from palate.errors import InputError
from palate.models.base import Method
from palate.models.likelihood import adapt_users, predictive
from palate.models.side import SideInformation, learn_side
from palate.rng import RNGLike, normalise
from palate.types import Comparisons, Items, UserStates

__all__ = ["LinearMethod", "logit_variance"]

_CHUNK = 8192


class LinearMethod(Method):
    """Base of methods with `basis` and `offset` (trait `linear`).

    A subclass implements `_fit`, `_basis` and, where people share a reward, `_shared`; where rows of one person are
    not independent, `_worth`; where items are not known exactly, `_noise`. `_fit` sets `prior_mean_` (r,) and
    `prior_precision_` (r, r) and ends with `_set_states`. It may learn `temper_`.

    Attributes:
        prior_mean_: (r,) of a person about whom nothing is known.
        prior_precision_: (r, r), positive definite.
        side_: arrays of `SideInformation`, which moves a person's prior mean by what is known about them; empty where the
            training people came without `user_features`.
        temper_: factor on the logit, mean and standard deviation alike, when a preference is predicted; below 1 for a
            model that is too sure of itself.
    """

    prior_mean_: np.ndarray
    prior_precision_: np.ndarray
    side_: dict[str, np.ndarray]
    temper_: float = 1.0

    # -- the public face of a linear method -----------------------------------------------------------------------

    def basis(self, items: Items) -> np.ndarray:
        """(n, r) float64: what a person's weights multiply."""
        self._check_fitted()
        self._check_items(items)
        return self._basis(items)

    def offset(self, items: Items) -> np.ndarray:
        """(n,) float64: the reward everybody shares, without `base_reward`, which every method adds by itself."""
        self._check_fitted()
        self._check_items(items)
        return self._shared(items)

    def noise(self, items: Items) -> np.ndarray:
        """(n,) float64 ≥ 0: variance of each item's reward that no answer of the person removes; 0 unless the method says so."""
        self._check_fitted()
        self._check_items(items)
        return self._noise(items)

    def worth(self, comparisons: Comparisons) -> np.ndarray:
        """(m,) float64 ≥ 0: what each row counts when a person is adapted to it; its weight unless the method says otherwise."""
        self._check_fitted()
        return self._worth(comparisons)

    def interval(
        self, left: Items, right: Items, states: UserStates, user_index: np.ndarray, *, level: float = 0.9
    ) -> np.ndarray:
        """Between what bounds the true probability lies that each person prefers left.

        `prefer` is one number that has all doubt averaged into it; this tells how far from it the truth may be, because
        the person and, where the method says so, the items are not known exactly. The doubt s² about items is already in
        the scale of the learned logits, which are κ = (1 + πs²/8)^−½ of the true ones (MacKay 1992); it is taken out again.

        Args:
            left, right: m items each.
            states: of some people, from this fitted method.
            user_index: (m,) rows of `states`.
            level: in (0, 1).

        Returns:
            (m, 2) float64, low and high, with low ≤ high.

        Raises:
            InputError: a level outside (0, 1).
        """
        if not 0 < level < 1:
            raise InputError(f"level={level}: the level of an interval lies between 0 and 1")
        self._check_fitted()
        states.require(self.name, self.fingerprint_)
        v = self.basis(left) - self.basis(right)
        centre = self._base_margin(left, right) + self._shared(left) - self._shared(right)
        centre = centre + np.einsum("mr,mr->m", v, states.arrays["mean"][user_index])
        doubt = self._doubt(left, right)
        stretch = self.temper_ * np.sqrt(1.0 + np.pi / 8.0 * doubt)
        spread = np.sqrt(stretch**2 * logit_variance(v, states.arrays["covariance"], user_index) + doubt)
        return expit((stretch * centre)[:, None] + ndtri(0.5 + 0.5 * level) * spread[:, None] * np.array([-1.0, 1.0]))

    def sample(self, states: UserStates, n: int, *, rng: RNGLike = None) -> np.ndarray:
        """Draws of every person's weights from the posterior.

        Args:
            states: of `count` people, from this fitted method.
            n: draws per person.
            rng: seed or generator.

        Returns:
            (n, count, r) float64.
        """
        self._check_fitted()
        states.require(self.name, self.fingerprint_)
        mean, covariance = states.arrays["mean"], states.arrays["covariance"]
        # A symmetric root exists for a singular covariance too, where Cholesky's does not.
        values, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
        noise = normalise(rng).standard_normal((n, *mean.shape))
        return mean + np.einsum("uij,nuj->nui", root, noise)

    # -- what a subclass implements -------------------------------------------------------------------------------

    @abstractmethod
    def _basis(self, items: Items) -> np.ndarray:
        """(n, r) float64."""

    def _shared(self, items: Items) -> np.ndarray:
        """(n,) float64 shared reward, without the base reward."""
        return np.zeros(len(items))

    def _noise(self, items: Items) -> np.ndarray:
        """(n,) float64 variance of each item's reward beside the person's own."""
        return np.zeros(len(items))

    def _doubt(self, left: Items, right: Items) -> np.ndarray:
        """(m,) float64 ≥ 0 variance of each true logit because the items, not the person, are not known exactly."""
        return np.zeros(len(left))

    def _worth(self, comparisons: Comparisons) -> np.ndarray:
        """(m,) float64 weight of each row when a person is adapted to it."""
        return comparisons.weight

    # -- the hooks of Method --------------------------------------------------------------------------------------

    def _set_states(self, comparisons: Comparisons, offset: np.ndarray) -> None:
        """Set `prior_` and, by adapting the training people to their own rows, `states_`.

        Where people came with side features, their prior means are learned from a first round of states.
        """
        self.side_ = {}
        nobody = replace(comparisons.take(np.zeros(0, np.int64)), user_features=None)
        self.prior_ = self._adapt(nobody.for_users(np.zeros(1, np.int64)), np.zeros(0))
        self.states_ = self._adapt(comparisons, offset)
        if comparisons.user_features is not None:
            side = learn_side(self.states_, self.prior_mean_, self.prior_precision_, comparisons.user_features)
            self.side_ = side.to_arrays()
            self.states_ = self._adapt(comparisons, offset)

    def _prior_means(self, comparisons: Comparisons) -> np.ndarray:
        """(r,), or (n_users, r) where something is known about these people."""
        # A model saved by an earlier version has no `side_`.
        if comparisons.user_features is None or not getattr(self, "side_", None):
            return self.prior_mean_
        return self.prior_mean_ + SideInformation.from_arrays(self.side_).shift(comparisons.user_features)

    def _adapt(self, comparisons: Comparisons, offset: np.ndarray) -> UserStates:
        basis, shared = self._basis(comparisons.items), self._shared(comparisons.items)
        left, right = comparisons.left, comparisons.right
        mode, covariance = adapt_users(
            basis[left] - basis[right],
            comparisons.label,
            self._worth(comparisons),
            comparisons.user,
            comparisons.n_users,
            mean=self._prior_means(comparisons),
            precision=self.prior_precision_,
            offset=offset + shared[left] - shared[right],
        )
        return self._states(comparisons.n_users, {"mean": mode, "covariance": covariance})

    def _prefer(
        self, left: Items, right: Items, states: UserStates, user_index: np.ndarray, offset: np.ndarray
    ) -> np.ndarray:
        v = self._basis(left) - self._basis(right)
        mean = states.arrays["mean"]
        logit = offset + self._shared(left) - self._shared(right) + np.einsum("mr,mr->m", v, mean[user_index])
        variance = logit_variance(v, states.arrays["covariance"], user_index) + self._noise(left) + self._noise(right)
        return predictive(self.temper_ * logit, self.temper_**2 * variance)

    def _reward(self, items: Items, states: UserStates) -> np.ndarray:
        return self._shared(items) + states.arrays["mean"] @ self._basis(items).T


def logit_variance(v: np.ndarray, covariance: np.ndarray, user_index: np.ndarray) -> np.ndarray:
    """(m,) posterior variance vᵀ S_u v of each logit.

    Args:
        v: (m, r) basis differences.
        covariance: (count, r, r).
        user_index: (m,) whose covariance S_u.
    """
    variance = np.empty(len(v))
    for start in range(0, len(v), _CHUNK):
        rows = slice(start, start + _CHUNK)
        spread = np.matmul(v[rows, None, :], covariance[user_index[rows]])[:, 0]
        variance[rows] = np.einsum("mr,mr->m", spread, v[rows])
    return np.maximum(variance, 0.0)
