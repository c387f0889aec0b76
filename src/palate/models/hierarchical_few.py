"""What `hierarchical` learns from a handful of people: their weights are integrated out together.

EM learns people as latent variables, which needs a population; of six people it sees too little of one and mistakes their
tastes for chance. Here the roles are changed: people are parameters, the n × n matrix K of `hierarchical_joint`, and the
weights of all features are latent. K says how far people agree: all entries alike is `pooled`, diagonal is `individual`,
negative entries are opposites. Tried are strangers, people who are half alike, and what EM makes of the latter (Bonilla,
Chai and Williams 2007, § 2.2; updated through its root, Liu, Rubin and Wu 1998), each at several scales; what tells answers
about prompts left out best is kept. Evidence alone would not do: where features miss a part of what people care about, weights
explain it for the texts at hand, and hold for no others.

The people's weights then are the axes of taste, so that a new person is sought among mixtures of those known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg, sparse
from scipy.optimize import minimize_scalar
from scipy.sparse.csgraph import connected_components

from palate.models.hierarchical_joint import Rows, mode, posterior, predicted
from palate.models.hierarchical_table import Table, compared_groups, tabulate
from palate.models.likelihood import predictive
from palate.models.shared import fit_shared, locate
from palate.models.tastes import Tastes, design_weights
from palate.progress import Progress, record
from palate.rng import derive
from palate.types import Comparisons

__all__ = ["FEW_PEOPLE", "Few", "learn_few"]

FEW_PEOPLE = 40
"""Up to so many people with answers this is better than EM over a population (measured: 5 to 40)."""

_UNKNOWNS = 1200
"""Weights in the joint posterior at most, n·q: a step takes (n·q)³ operations, a few tenths of a second."""

_SCALES, _SCALE = (0.2, 1.0, 5.0, 25.0), 1.0
"""Prior variances of a weight that are tried, and the one where there is too little to try; items have a mean squared length
of 1."""

_ROUNDS, _SETTLED = 6, 0.03
"""Of EM, and the relative change of K at which it ends."""

_FOLDS, _LEAST, _HELD = 4, 5, 400
"""Parts of the prompts, rows that each part must hold at least, and rows of it that are predicted at most."""

_LOG_TEMPER, _LOG_SCALE = 0.7, 1.5
"""Deviations of normal priors on log temper (about 1) and log scale (about `_SCALE`): a dozen prompts tell little about either."""

_GIVEN_UP = 2.0
"""Nats beyond the best scale of a shape at which larger scales are not tried."""


@dataclass(frozen=True)
class Few:
    """What was learned.

    Args:
        tastes: the space, with the known people's mean as f and their weights as axes, r of them; λ ~ N(0, I) for anybody new.
        temper: factor on the logit at which answers about prompts left out are told best, at most 1.
        mean, covariance: the known people in it, (n, r) and (n, r, r).
    """

    tastes: Tastes
    temper: float
    mean: np.ndarray
    covariance: np.ndarray


def learn_few(
    comparisons: Comparisons, offset: np.ndarray, *, rank: int, correlation: float, progress: Progress
) -> Few:
    """The reward space spanned by the known people's own rewards; deterministic.

    Args:
        comparisons: training rows of few people, each with answers, over items with features.
        offset: (m,) fixed logits.
        rank: axes at most; the strongest are kept where there are more people.
        correlation: ρ of `design_weights`.
        progress: called once per scale that is tried.
    """
    table = tabulate(comparisons, offset, design_weights(comparisons, correlation))
    rows = _rows(table)
    exam = _Exam.of(comparisons, rows)
    best: _Belief | None = None
    for number, belief in enumerate(_beliefs(rows, exam)):
        progress(min(number + 1, 3 * len(_SCALES)), 3 * len(_SCALES), "hierarchical")
        record("hierarchical", number + 1, scale=belief.scale, missed=belief.missed, temper=belief.temper)
        best = belief if best is None or belief.missed < best.missed else best
    assert best is not None
    return _placed(rows, best, rank, comparisons, offset, table)


def _rows(table: Table) -> Rows:
    x = table.x.double().numpy()
    q = max(1, min(_UNKNOWNS // table.n_users, x.shape[1]))
    user, share = table.user.numpy(), table.share.double().numpy()
    return Rows(
        z=x[table.left.numpy(), :q] - x[table.right.numpy(), :q],
        label=np.where(table.sign.numpy() > 0, share, 1.0 - share),
        weight=table.weight.double().numpy(),
        offset=table.offset.double().numpy(),
        parts=tuple(np.flatnonzero(user == person) for person in range(table.n_users)),
    )


# -- what is tried -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Belief:
    """K (n, n) of a scale, the weights (n, q) it leads to, how badly it tells answers left out (nats), and at which temper."""

    alike: np.ndarray
    scale: float
    weights: np.ndarray
    missed: float = 0.0
    temper: float = 1.0


def _beliefs(rows: Rows, exam: _Exam) -> Iterator[_Belief]:
    """Strangers, half alike, learned; each from small scales to large, until larger ones are worse."""
    n, q = rows.n_users, rows.z.shape[1]
    strangers, half = np.eye(n), 0.5 * (np.eye(n) + np.ones((n, n)))
    shapes = [(strangers, 0), (half, 0), (half, _ROUNDS)] if n > 1 else [(strangers, 0)]
    for shape, rounds in shapes if exam.folds else shapes[-1:]:
        belief, least = _Belief(shape, 1.0, np.zeros((n, q))), np.inf
        for scale in _SCALES if exam.folds else (_SCALE,):
            belief = exam.judged(_at_scale(rows, scale, belief, rounds))
            yield belief
            least = min(least, belief.missed)
            if belief.missed > least + _GIVEN_UP:
                break


def _at_scale(rows: Rows, scale: float, start: _Belief, rounds: int) -> _Belief:
    """K with the mean of its diagonal at `scale`: as in `start`, or after `rounds` of EM from there."""
    alike, weights = scale * start.alike / np.diag(start.alike).mean(), start.weights
    for _ in range(rounds):
        root = np.linalg.cholesky(alike)
        weights, covariance = posterior(rows, root, weights)
        shares = linalg.solve_triangular(root, weights, lower=True)
        spread = root @ (shares @ shares.T + np.einsum("ajbj->ab", covariance)) @ root.T
        spread *= scale / np.diag(spread).mean()
        change = float(np.abs(spread - alike).max() / scale)
        alike = spread + 1e-6 * scale * np.eye(len(alike))
        if change < _SETTLED:
            break
    weights, _ = mode(rows, np.linalg.cholesky(alike), weights)
    return _Belief(alike, scale, weights)


@dataclass(frozen=True)
class _Exam:
    """Answers about prompts left out.

    Args:
        rows: all.
        folds: pairs of (m,) masks: rows to learn from, rows to predict.
        count: as how many independent answers those predicted count: people who were asked the same are not.
    """

    rows: Rows
    folds: Sequence[tuple[np.ndarray, np.ndarray]]
    count: int

    @classmethod
    def of(cls, comparisons: Comparisons, rows: Rows) -> _Exam:
        folds = _folds(comparisons, derive(0, "hierarchical", "folds"))
        pairs = np.unique(np.sort(np.stack([comparisons.left, comparisons.right]), axis=0), axis=1).shape[1]
        return cls(rows, folds, min(pairs, sum(int(held.sum()) for _, held in folds)))

    def judged(self, belief: _Belief) -> _Belief:
        """With its `missed` and `temper`; as it is where nothing is left out."""
        if not self.folds:
            return belief
        root = np.linalg.cholesky(belief.alike)
        found = []
        for kept, held in self.folds:
            asked = self.rows.take(held)
            told = predicted(asked, root, *mode(self.rows.take(kept), root, belief.weights))
            found.append(np.stack([*told, asked.label, asked.weight]))
        logit, variance, label, weight = np.concatenate(found, axis=1)
        distance = 0.5 * (np.log(belief.scale / _SCALE) / _LOG_SCALE) ** 2

        def missed(log_temper: float) -> float:
            temper = np.exp(log_temper)
            chance = np.clip(predictive(temper * logit, temper**2 * variance), 1e-12, 1.0 - 1e-12)
            losses = -label * np.log(chance) - (1.0 - label) * np.log1p(-chance)
            told = self.count * float(np.average(losses, weights=weight))
            return told + 0.5 * (log_temper / _LOG_TEMPER) ** 2 + distance

        best = minimize_scalar(missed, bounds=(np.log(0.1), 0.0), method="bounded", options={"xatol": 0.02})
        return replace(belief, missed=float(best.fun), temper=float(np.exp(best.x)))


def _folds(comparisons: Comparisons, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Masks (m,) of rows to learn from and to predict, with no prompt in both; no item in both where prompts are too few.

    Empty where a part would hold fewer than `_LEAST` rows. Items that no row mentions have no say in which part is which.
    """
    used, ends = np.unique(np.concatenate([comparisons.left, comparisons.right]), return_inverse=True)
    left, right = ends[: len(comparisons)], ends[len(comparisons) :]
    comparisons = replace(comparisons, items=comparisons.items.take(used), left=left, right=right)
    group = compared_groups(comparisons)
    if len(np.unique(group[comparisons.left])) < _FOLDS:
        group = _linked(comparisons)
    part = rng.permutation(np.arange(group.max() + 1) % _FOLDS)[group]
    left, right, counted = part[comparisons.left], part[comparisons.right], comparisons.weight > 0
    found = []
    for fold in range(_FOLDS):
        kept, held = (left != fold) & (right != fold), (left == fold) & (right == fold) & counted
        if min((kept & counted).sum(), held.sum()) < _LEAST:
            return []
        held[rng.permutation(np.flatnonzero(held))[_HELD:]] = False
        found.append((kept, held))
    return found


def _linked(comparisons: Comparisons) -> np.ndarray:
    """(n_items,) groups of items that rows link to each other; where they link nearly all, each item is its own."""
    keys = comparisons.items.keys
    _, item = np.unique(np.where(keys >= 0, keys, keys.max(initial=0) + 1 + np.arange(len(keys))), return_inverse=True)
    left, right = item[comparisons.left], item[comparisons.right]
    links = sparse.coo_matrix((np.ones(len(left)), (left, right)), (item.max() + 1, item.max() + 1))
    _, group = connected_components(links, directed=False)
    largest = np.bincount(group[left]).max()
    return group[item] if largest <= len(left) / _FOLDS else item


# -- the space -----------------------------------------------------------------------------------------------------------


def _placed(rows: Rows, belief: _Belief, rank: int, comparisons: Comparisons, offset: np.ndarray, table: Table) -> Few:
    """The people's weights as axes, and the people in them."""
    root = np.linalg.cholesky(belief.alike)
    weights, covariance = posterior(rows, root, belief.weights)
    (n, q), dim = weights.shape, table.x.shape[1]
    directions, strengths, people = np.linalg.svd(weights.T / np.sqrt(n), full_matrices=False)
    kept = min(rank, max(1, int((strengths > 1e-3 * strengths[0]).sum())))
    directions, strengths = directions[:, :kept], strengths[:kept]
    inverse = directions / np.where(strengths > 0, strengths, np.inf)
    mean = np.sqrt(n) * people[:kept].T
    middle = mean.mean(0)
    own, doubt = np.zeros((n, kept, kept)), np.zeros(q)
    for person in range(n):
        spread = np.einsum("a,ajbk,b->jk", root[person], covariance, root[person], optimize=True)
        own[person] = inverse.T @ spread @ inverse
        doubt += np.diag(spread) / n
    content, rest = np.zeros((dim, kept)), np.zeros(dim)
    content[:q], rest[:q] = directions * strengths, doubt
    keys = table.keys if len(table.keys) else np.array([-1])
    tastes = Tastes(
        center=table.center,
        rotation=table.rotation,
        beta=content @ middle,
        content=content,
        keys=keys,
        effects=np.zeros(len(keys)),
        loadings=np.zeros((len(keys), kept)),
        doubt=rest,
        own_doubt=np.zeros(len(keys) + 1),
    )
    mean = mean - middle
    if len(table.keys):
        tastes = replace(tastes, effects=_effects(tastes, mean, comparisons, offset))
    return Few(tastes, belief.temper, mean, own)


def _effects(tastes: Tastes, mean: np.ndarray, comparisons: Comparisons, offset: np.ndarray) -> np.ndarray:
    """(k,) what items that several people judged are worth beyond what their content tells, to everybody."""
    basis, shared = tastes.basis(comparisons.items), tastes.offset(comparisons.items)
    left, right = comparisons.left, comparisons.right
    told = shared[left] - shared[right] + ((basis[left] - basis[right]) * mean[comparisons.user]).sum(1)
    found = fit_shared(comparisons, offset + told)
    effects = np.zeros(len(tastes.keys))
    place = locate(found.keys, tastes.keys)
    effects[place >= 0] = found.effects[place[place >= 0]]
    return effects
