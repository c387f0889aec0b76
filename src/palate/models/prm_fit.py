"""How `prm` finds its heads on a frozen table: L-BFGS on all rows at once.

With the user models "uniform" and "individual" the problem is convex, and this is its optimum.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize, sparse
from scipy.cluster.vq import kmeans2
from scipy.special import expit, softmax

from palate.models.prm_network import UserModel
from palate.models.span import Span, Table, spans_of
from palate.progress import Progress
from palate.types import Comparisons

__all__ = ["Heads", "HeadProblem", "cluster_start", "feature_table", "people_offsets"]

_FLOOR = 1e-6
"""Least curvature that scales a number in the search: what no row sees would otherwise have a unit without bound."""


@dataclass(frozen=True)
class Heads:
    """What is learned: `weight` (d, h) of features, `effects` (k, h) of known items, `mixture` (h,) of user 0, and `own`:
    everybody's part in one vector, offsets in the coordinates of their spans or mixture logits (n_users · h).
    """

    weight: np.ndarray
    effects: np.ndarray
    mixture: np.ndarray
    own: np.ndarray

    def ravel(self) -> np.ndarray:
        """All numbers in one vector."""
        return np.concatenate([self.weight.ravel(), self.effects.ravel(), self.mixture, self.own])

    def like(self, vector: np.ndarray) -> Heads:
        """The inverse of `ravel`, with these shapes."""
        parts = np.split(vector, np.cumsum([self.weight.size, self.effects.size, self.mixture.size]))
        return Heads(parts[0].reshape(self.weight.shape), parts[1].reshape(self.effects.shape), parts[2], parts[3])


@dataclass(frozen=True)
class HeadProblem:
    """Rows of weight > 0 in the form that makes objective and gradient a few matrix products.

    Args:
        user_model: see `PRMNetwork`.
        common: whether an individual head holds e_0.
        alpha: weight of the user-specific loss.
        x: (n, d) scaled features / √d of the items that occur.
        owner: (n, k) item -> known item.
        pairs: (m, n) with +1 at the left item and −1 at the right one.
        user: (m,).
        n_users: how many people.
        label, weight, offset: (m,).
        spans: people in the coordinates of their own rows; empty unless `user_model` is "individual".
        l2, item_l2, user_l2: prior precisions of feature weights, item effects, and of what is a person's own.
    """

    user_model: UserModel
    common: bool
    alpha: float
    x: np.ndarray
    owner: sparse.csr_matrix
    pairs: sparse.csr_matrix
    user: np.ndarray
    n_users: int
    label: np.ndarray
    weight: np.ndarray
    offset: np.ndarray
    spans: tuple[Span, ...]
    l2: float
    item_l2: float
    user_l2: float

    @classmethod
    def of(
        cls,
        comparisons: Comparisons,
        x: np.ndarray,
        known: np.ndarray,
        n_keys: int,
        offset: np.ndarray,
        **settings: object,
    ) -> HeadProblem:
        """From rows, scaled features (n_items, d) and the position of each item among `n_keys` known ones (−1 none)."""
        m = len(comparisons)
        used, ends = np.unique(np.concatenate([comparisons.left, comparisons.right]), return_inverse=True)
        signs = np.repeat([1.0, -1.0], m)
        has = np.flatnonzero(known[used] >= 0)
        personal = settings["user_model"] == "individual"
        return cls(
            x=x[used].astype(np.float64),
            owner=sparse.csr_matrix((np.ones(len(has)), (has, known[used][has])), shape=(len(used), n_keys)),
            pairs=sparse.csr_matrix((signs, (np.tile(np.arange(m), 2), ends)), shape=(m, len(used))),
            user=comparisons.user,
            n_users=comparisons.n_users,
            label=comparisons.label,
            weight=comparisons.weight,
            offset=offset,
            spans=tuple(spans_of(comparisons, feature_table(x))) if personal else (),
            **settings,
        )

    def start(self, weight: np.ndarray, effects: np.ndarray) -> Heads:
        """Heads (d, h) and (k, h) with nobody personal yet."""
        sizes = {
            "uniform": 0,
            "individual": sum(len(span.people) * span.v.shape[2] for span in self.spans),
            "cluster": self.n_users * weight.shape[1],
        }
        return Heads(weight, effects, np.zeros(weight.shape[1]), np.zeros(sizes[self.user_model]))

    def objective(self, heads: Heads) -> tuple[float, Heads]:
        """The α-mix of both losses plus the priors in nats, and its gradient.

        Σ_i c_i [α ℓ(s_i) + (1 − α) ℓ(g_i)] + ½ l2 ‖V‖² + ½ item_l2 ‖E‖² + ½ α user_l2 ‖own‖² + ½ user_l2 ‖w_0‖²,
        s_i the person's logit and g_i that of user 0.
        """
        margins = self.pairs @ (self.x @ heads.weight + self.owner @ heads.effects)
        generic_mix = softmax(heads.mixture)
        generic = margins @ generic_mix
        if self.user_model == "individual":
            personal = self._tastes(heads.own) + (generic if self.common else 0.0)
        elif self.user_model == "cluster":
            mix = softmax(heads.mixture + heads.own.reshape(self.n_users, -1), axis=1)
            personal = np.einsum("mh,mh->m", mix[self.user], margins)
        else:
            personal = generic
        value, by_personal, by_generic = 0.0, *np.zeros((2, len(margins)))
        for share, logit, slope in (
            (self.alpha, personal + self.offset, by_personal),
            (1.0 - self.alpha, generic + self.offset, by_generic),
        ):
            value += share * float(self.weight @ (np.logaddexp(0.0, logit) - self.label * logit))
            slope[:] = share * self.weight * (expit(logit) - self.label)
        mixture, own = self.user_l2 * heads.mixture, self.alpha * self.user_l2 * heads.own
        value += 0.5 * self.l2 * float(np.sum(heads.weight**2)) + 0.5 * self.item_l2 * float(np.sum(heads.effects**2))
        value += 0.5 * float(mixture @ heads.mixture + own @ heads.own)
        if self.user_model == "individual":
            own = own + self._by_taste(by_personal)
            by_generic = by_generic + by_personal if self.common else by_generic
        elif self.user_model == "uniform":
            by_generic = by_generic + by_personal
        by_margin = by_generic[:, None] * generic_mix
        mixture = mixture + _through_softmax(generic_mix, by_generic @ margins)
        if self.user_model == "cluster":
            by_margin = by_margin + by_personal[:, None] * mix[self.user]
            by_person = _through_softmax(mix, self._sum_by_person(by_personal[:, None] * margins))
            mixture, own = mixture + by_person.sum(0), own + by_person.ravel()
        by_item = self.pairs.T @ by_margin
        by_weight = self.x.T @ by_item + self.l2 * heads.weight
        return value, Heads(by_weight, self.owner.T @ by_item + self.item_l2 * heads.effects, mixture, own)

    def minimise(self, start: Heads, steps: int, progress: Progress) -> Heads:
        """At most `steps` iterations of L-BFGS on `objective`, in units of each number's own curvature."""
        done, unit = 0, 1.0 / np.sqrt(self._curvature(start).ravel())

        def value(vector: np.ndarray) -> tuple[float, np.ndarray]:
            result, slope = self.objective(start.like(vector * unit))
            return result, slope.ravel() * unit

        def tick(vector: np.ndarray) -> None:
            nonlocal done
            done += 1
            progress(done, steps, "prm")

        options = {"maxiter": steps, "maxfun": 2 * steps, "ftol": 1e-12, "gtol": 1e-7}
        at = start.ravel() / unit
        found = optimize.minimize(value, at, jac=True, method="L-BFGS-B", callback=tick, options=options)
        return start.like(found.x * unit)

    def _curvature(self, heads: Heads) -> Heads:
        """A bound, or for mixtures a guess, of the diagonal of the Hessian."""
        rows = 0.25 * self.weight
        by_item = np.abs(self.pairs).T @ rows
        personal = [np.zeros(0)]
        for span in self.spans:
            share = np.where(span.own, rows[span.rows], 0.0)
            personal.append(np.einsum("bn,bnr->br", share, span.v**2).ravel())
        if self.user_model == "cluster":
            count = np.bincount(self.user, rows, self.n_users)
            personal = [np.repeat(count, len(heads.mixture))]
        own = self.alpha * (np.concatenate(personal) + self.user_l2)
        return Heads(
            np.full_like(heads.weight, rows.sum() / max(1, len(heads.weight)) + self.l2 + _FLOOR),
            np.broadcast_to((self.owner.T @ by_item)[:, None] + self.item_l2 + _FLOOR, heads.effects.shape),
            np.full_like(heads.mixture, 1.0 + self.user_l2),
            np.maximum(own, _FLOOR),
        )

    def _tastes(self, own: np.ndarray) -> np.ndarray:
        """(m,) what people's offsets add to the logits of their rows."""
        result, begin = np.empty(len(self.user)), 0
        for span in self.spans:
            b, _, r = span.v.shape
            taste = np.matmul(span.v, own[begin : begin + b * r].reshape(b, r, 1))[..., 0]
            result[span.rows[span.own]] = taste[span.own]
            begin += b * r
        return result

    def _by_taste(self, by_row: np.ndarray) -> np.ndarray:
        """The gradient of offsets from that of the rows' logits (m,)."""
        parts = [np.zeros(0)]
        for span in self.spans:
            slope = np.where(span.own, by_row[span.rows], 0.0)
            parts.append(np.matmul(slope[:, None, :], span.v)[:, 0].ravel())
        return np.concatenate(parts)

    def _sum_by_person(self, by_row: np.ndarray) -> np.ndarray:
        m = len(self.user)
        who = sparse.csr_matrix((np.ones(m), (self.user, np.arange(m))), shape=(self.n_users, m))
        return who @ by_row


def _through_softmax(mix: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """The gradient of logits from that of their softmax `mix` (..., h)."""
    return mix * (slope - (mix * slope).sum(-1, keepdims=True))


def feature_table(x: np.ndarray) -> Table:
    """Scaled features (n, d) as what spans are made of."""
    return Table(x, np.full(len(x), -1), x.shape[1])


def people_offsets(comparisons: Comparisons, x: np.ndarray, offset: np.ndarray, l2: float) -> np.ndarray:
    """(n_users, d) everybody's own weights on top of fixed logits, 0 for who has no row."""
    result = np.zeros((comparisons.n_users, x.shape[1]))
    table = feature_table(x)
    for span in spans_of(comparisons, table):
        result[span.people] = span.weights(span.solve(comparisons, offset, l2)[0], comparisons, table)
    return result


def cluster_start(problem: HeadProblem, start: Heads, tastes: np.ndarray, rng: np.random.Generator) -> Heads:
    """Heads at the centres of people's tastes (n_users, d or 0) around the generic head, people leaning to the nearest.

    Without features people start at random and the heads a little apart.
    """
    count, clusters = problem.n_users, start.weight.shape[1]
    own = rng.standard_normal((count, clusters))
    effects = start.effects + 0.1 * rng.standard_normal(start.effects.shape)
    if not tastes.size or count <= clusters:
        weight = start.weight + 0.1 * rng.standard_normal(start.weight.shape)
        return replace(start, weight=weight, effects=effects, own=own.ravel())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an empty cluster only means that there are fewer tastes than clusters
        centres, nearest = kmeans2(tastes, clusters, minit="++", seed=rng)
    own = 2.0 * (nearest[:, None] == np.arange(clusters))
    return replace(start, weight=start.weight + centres.T, effects=effects, own=own.ravel())
