"""Learning the shared part of `hierarchical`: variational EM with people as latent variables.

Model, for person u and item i with rotated features x (q,) and key k:

    r_u(i) = f(i) + λ_u·c(i),   λ_u ~ N(0, I)
    f(i)   = β·x_i + b_k,       β ~ N(0, τ_β² I),   b_k ~ N(0, τ_b²)
    c(i)   = Wᵀx_i + δ_k,       W ~ N(0, τ_W²),     δ_k ~ N(0, τ_δ² I)
    P(left preferred) = σ(r_u(left) − r_u(right))

E step: Gaussian posteriors of all people at once. M step: gradient steps on the evidence lower bound in (β, b, W, δ), each
with a factorised Gaussian posterior, and in the four scales τ. After each E step the mean and covariance of the people
are absorbed into f and c (parameter expansion), so that the prior on λ stays N(0, I) and EM converges in tens of rounds.

Sources: Dempster et al. 1977; Liu, Rubin and Wu 1998 (parameter-expanded EM); Jaakkola and Jordan 2000 (the bound of
the E step); Bishop 1999 (variational principal components; here one scale for all columns, since with a scale each a
factorised posterior prunes too eagerly).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from palate.models.shared import SharedReward, fit_shared, locate, pair_scale
from palate.models.tastes import Tastes, design_weights, merge
from palate.progress import Progress
from palate.rng import torch_generator
from palate.types import Comparisons

__all__ = ["learn_tastes"]

_NODES, _SHARES = np.polynomial.hermite_e.hermegauss(10)
_SHARES = _SHARES / _SHARES.sum()

_MAX_ROWS = 131_072
"""Rows in one M step; larger data are subsampled anew at each step, with the likelihood scaled up."""


@dataclass(frozen=True)
class _Table:
    """The training rows over the items that occur in them: x (n, q), own (n,) index of the known item or −1."""

    x: torch.Tensor
    own: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor
    user: torch.Tensor
    sign: torch.Tensor
    share: torch.Tensor
    weight: torch.Tensor
    offset: torch.Tensor
    n_users: int
    keys: np.ndarray
    center: np.ndarray
    rotation: np.ndarray


def learn_tastes(
    comparisons: Comparisons,
    offset: np.ndarray,
    *,
    rank: int,
    epochs: int,
    steps: int,
    learning_rate: float,
    correlation: float,
    rng: np.random.Generator,
    progress: Progress,
) -> Tastes:
    """The reward space of a population: the average over two fits that fail in different places.

    With one scale for all axes, from a random start, many weak axes are found together, as in votes on a town's many
    questions; but where only one or two axes exist, the empty ones drag the scale to zero and taste is lost. With a scale for
    each axis, from the spectrum of the residuals, the one strong axis is found, and the many weak ones are pruned. Both
    are local optima of the same bound; the average of their covariances keeps what either has found.

    Args:
        comparisons: training rows, m of them.
        offset: (m,) fixed logits.
        rank: r, the number of axes of taste.
        epochs: EM rounds.
        steps: gradient steps per round.
        learning_rate: of Adam, the peak of a one-cycle schedule.
        correlation: ρ of `design_weights`.
        rng: starts the loadings; nothing else is random unless there are more than 131,072 rows.
        progress: called once per round.

    Returns:
        The learned space; λ ~ N(0, I) in it. Time per step is about m·r + items·d·r operations.
    """
    table = _tabulate(comparisons, offset, design_weights(comparisons, correlation))
    # Only a start; where learning its scales would take as long as all the rest, they are given.
    shared = fit_shared(comparisons, offset, l2=None if len(table.x) <= _MOST_ITEMS_FOR_SCALES else 1.0)
    found = []
    for part, spectral in enumerate((False, True)):
        space = _Space(table, rank, shared, spectral=spectral, rng=rng)

        def told(done: int, part: int = part) -> None:
            progress(part * epochs + done, 2 * epochs, "hierarchical")

        with _few_threads(len(comparisons)):
            _climb(space, table, epochs=epochs, steps=steps, learning_rate=learning_rate, rng=rng, told=told)
        found.append(space.tastes(table))
    used = np.unique(np.concatenate([comparisons.left, comparisons.right]))
    return merge(found, comparisons.items.take(used), rank)


_ROWS_WORTH_THREADS, _MOST_ITEMS_FOR_SCALES = 200_000, 2_000


@contextmanager
def _few_threads(rows: int) -> Iterator[None]:
    """One torch thread where a step is so short that threads mostly wait for each other (measured: 5 to 10 times the work)."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if rows >= _ROWS_WORTH_THREADS else 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _climb(
    space: _Space,
    table: _Table,
    *,
    epochs: int,
    steps: int,
    learning_rate: float,
    rng: np.random.Generator,
    told: Callable[[int], None],
) -> None:
    """Variational EM from where `space` stands."""
    optimiser = torch.optim.Adam(space.parameters(), lr=learning_rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=epochs * steps, pct_start=0.15)
    generator = torch_generator(rng)
    mode = 0.3 * torch.randn(table.n_users, space.rank, generator=generator)
    factor = math.sqrt(0.5) * torch.eye(space.rank).expand(table.n_users, space.rank, space.rank)
    for round_ in range(epochs):
        # Random loadings say nothing yet about people: they first have to lean towards the rows.
        if round_ or space.spectral:
            mode, factor = _people(space, table, mode, factor)
        expected = _expectation(table, mode, factor)
        for _ in range(steps):
            loss = space.loss(table, expected, _rows(table, generator))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
        told(round_ + 1)


def _tabulate(comparisons: Comparisons, offset: np.ndarray, weight: np.ndarray) -> _Table:
    items, m = comparisons.items, len(comparisons)
    used, ends = np.unique(np.concatenate([comparisons.left, comparisons.right]), return_inverse=True)
    center, rotation = _rotation(comparisons, used)
    keys = _shared_keys(items.keys[used][ends], np.tile(comparisons.user, 2))
    label = comparisons.label
    ends = torch.from_numpy(ends.astype(np.int64))
    single = torch.float32
    return _Table(
        x=torch.from_numpy((items.features[used] - center) @ rotation).to(single),
        own=torch.from_numpy(locate(keys, items.keys[used])),
        left=ends[:m],
        right=ends[m:],
        user=torch.from_numpy(comparisons.user.astype(np.int64)),
        sign=torch.from_numpy(np.where(label >= 0.5, 1.0, -1.0)).to(single),
        share=torch.from_numpy(np.maximum(label, 1.0 - label)).to(single),
        weight=torch.from_numpy(weight).to(single),
        offset=torch.from_numpy(offset).to(single),
        n_users=comparisons.n_users,
        keys=keys,
        center=center,
        rotation=rotation,
    )


def _shared_keys(keys: np.ndarray, user: np.ndarray) -> np.ndarray:
    """Sorted keys that at least two people have judged: with one, the item's effect is that person's taste."""
    pairs = np.unique(np.stack([keys, user], 1)[keys >= 0], axis=0)
    found, people_each = np.unique(pairs[:, 0], return_counts=True)
    return found[people_each >= 2]


def _rotation(comparisons: Comparisons, used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Center (d,) and rotation (d, q) to uncorrelated coordinates with mean squared length 1.

    In these coordinates a factorised posterior of linear weights is nearly exact, because columns are orthogonal.
    """
    items = comparisons.items
    if items.dim == 0:
        return np.zeros(0), np.zeros((0, 0))
    scale = pair_scale(comparisons)
    center = items.features[used].mean(0, dtype=np.float64)
    x = (items.features[used] - center) / scale
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    kept = values > 1e-6 * values[-1]
    length = math.sqrt(max(values[kept].sum(), np.finfo(float).tiny))
    return center, vectors[:, kept][:, ::-1] / scale[:, None] / length


class _Space:
    """The M step's parameters: posterior means and log deviations of β, b, W and δ, and log scales τ."""

    def __init__(
        self, table: _Table, rank: int, shared: SharedReward, *, spectral: bool, rng: np.random.Generator
    ) -> None:
        q, k = table.x.shape[1], max(len(table.keys), 1)
        generator = torch_generator(rng)
        self.rank, self.spectral = rank, spectral
        self.means = {
            "beta": torch.zeros(q),
            "effects": torch.zeros(k),
            "content": 0.1 * torch.randn(q, rank, generator=generator),
            "loadings": 0.3 * torch.randn(k, rank, generator=generator),
        }
        start = {"beta": -2.0, "effects": -1.5, "content": -2.5, "loadings": -2.0}
        self.deviations = {name: torch.full_like(mean, start[name]) for name, mean in self.means.items()}
        self.scales = {name: torch.tensor(math.log(s)) for name, s in _START_SCALES.items()}
        self.has = {"beta": q > 0, "content": q > 0, "effects": len(table.keys) > 0, "loadings": len(table.keys) > 0}
        self.start_from(shared, table)
        if spectral:
            for name in ("content", "loadings"):
                self.scales[name] = self.scales[name].repeat(rank)
            self.start_on_spectrum(table, rng)
        for parameter in self.parameters():
            parameter.requires_grad_()

    def parameters(self) -> list[torch.Tensor]:
        return [*self.means.values(), *self.deviations.values(), *self.scales.values()]

    @torch.no_grad()
    def start_from(self, shared: SharedReward, table: _Table) -> None:
        """Begin at the reward that ignores people, so that few rounds suffice."""
        if self.has["beta"]:
            # shared.beta weighs standardised features; the rotation's columns are orthogonal in those.
            standard = table.rotation * shared.scale[:, None]
            self.means["beta"] += torch.from_numpy(shared.beta @ standard / (standard**2).sum(0)).float()
            self.scales["beta"].fill_(0.5 * math.log(max(float(self.means["beta"].square().mean()), 1e-4)))
        if self.has["effects"]:
            place = np.searchsorted(shared.keys, table.keys)
            self.means["effects"] += torch.from_numpy(shared.effects[place]).float()
            self.scales["effects"].fill_(0.5 * math.log(max(shared.effect_variance, 1e-4)))

    @torch.no_grad()
    def start_on_spectrum(self, table: _Table, rng: np.random.Generator) -> None:
        """Begin on the axes along which people's residuals vary most, in the metric of the prior on W and δ."""
        f, _, _, _ = self.items(table)
        chance = torch.sigmoid(table.offset + f[table.left] - f[table.right])
        label = torch.where(table.sign > 0, table.share, 1 - table.share)
        residual = (table.weight * (label - chance)).double().numpy()
        user, left, right = table.user.numpy(), table.left.numpy(), table.right.numpy()
        shape = (table.n_users, len(table.x))
        pull = sparse.coo_matrix(
            (np.concatenate([residual, -residual]), (np.tile(user, 2), np.concatenate([left, right]))), shape
        ).tocsr()
        own = np.flatnonzero(table.own.numpy() >= 0)
        places = table.own.numpy()[own]
        member = sparse.csr_matrix((np.ones(len(own)), (own, places)), (shape[1], self.means["loadings"].shape[0]))
        x = table.x.double().numpy()
        a, b = _START_SCALES["content"], _START_SCALES["loadings"]
        spread = sparse.hstack([sparse.csr_matrix(a * (pull @ x)), b * (pull @ member)]).tocsr()
        rank = min(self.rank, *(size - 1 for size in spread.shape))
        if rank < 1:
            return
        u, s, vt = randomized_svd(spread, rank, random_state=int(rng.integers(2**31)))
        # Least squares of the pull on people of unit variance, with the prior's precision 1 and curvature .2 a row.
        people = math.sqrt(table.n_users)
        axes = vt.T * s * people / (1.0 + 0.2 * len(user) / max(shape[1], 1))
        axes = axes / max(np.abs(axes).max(), 1.0)
        q = x.shape[1]
        self.means["content"].zero_()
        self.means["loadings"].zero_()
        self.means["content"][:, :rank] = torch.from_numpy(a * axes[:q]).float()
        self.means["loadings"][:, :rank] = torch.from_numpy(b * axes[q:]).float()

    def items(self, table: _Table) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """f (n,), c (n, r) and their posterior variances."""
        x, own = table.x, table.own.clamp(min=0)
        known = (table.own >= 0).to(x.dtype)
        variance = {name: torch.exp(2 * d) for name, d in self.deviations.items()}
        squares = x.square()
        f = x @ self.means["beta"] + known * self.means["effects"][own]
        c = x @ self.means["content"] + known[:, None] * self.means["loadings"][own]
        f_variance = squares @ variance["beta"] + known * variance["effects"][own]
        c_variance = squares @ variance["content"] + known[:, None] * variance["loadings"][own]
        return f, c, f_variance, c_variance

    def loss(self, table: _Table, expected: _Expected, rows: torch.Tensor | None) -> torch.Tensor:
        """The negative evidence lower bound, the people's own divergence (constant here) left out."""
        f, c, f_variance, c_variance = self.items(table)
        left, right, offset = table.left, table.right, table.offset
        mean, square, factor = expected.mean, expected.square, expected.factor
        weight, sign, share = table.weight, table.sign, table.share
        scale = 1.0
        if rows is not None:
            scale = len(left) / len(rows)
            left, right, offset, weight, sign, share = (t[rows] for t in (left, right, offset, weight, sign, share))
            mean, square, factor = mean[rows], square[rows], factor[rows]
        v = c[left] - c[right]
        margin = offset + f[left] - f[right] + (mean * v).sum(1)
        variance = (v[:, None, :] @ factor)[:, 0].square().sum(1)
        variance = variance + (square * (c_variance[left] + c_variance[right])).sum(1)
        variance = variance + f_variance[left] + f_variance[right]
        return scale * (weight * _expected_nll(margin, variance, sign, share)).sum() + self.divergence()

    def divergence(self) -> torch.Tensor:
        """Σ KL(q ‖ prior) over the four blocks."""
        total = torch.zeros(())
        for name, mean in self.means.items():
            if self.has[name]:
                deviation, scale = self.deviations[name], self.scales[name]
                ratio = (mean.square() + torch.exp(2 * deviation)) * torch.exp(-2 * scale)
                total = total + (0.5 * ratio - 0.5 + scale - deviation).sum()
        return total

    @torch.no_grad()
    def move(self, mean: torch.Tensor, factor: torch.Tensor) -> None:
        """Absorb the people's mean and covariance factor (parameter expansion)."""
        self.means["beta"] += self.means["content"] @ mean
        self.means["effects"] += self.means["loadings"] @ mean
        for name in ("content", "loadings"):
            self.means[name].copy_(self.means[name] @ factor)

    @torch.no_grad()
    def tastes(self, table: _Table) -> Tastes:
        mean = {name: value.double().numpy().copy() for name, value in self.means.items()}
        keys = table.keys if len(table.keys) else np.array([-1])
        return Tastes(
            center=table.center,
            rotation=table.rotation,
            beta=mean["beta"],
            content=mean["content"],
            keys=keys,
            effects=mean["effects"],
            loadings=mean["loadings"],
        )


_START_SCALES = {"beta": 1.0, "effects": 1.0, "content": 0.3, "loadings": 0.5}


@dataclass(frozen=True)
class _Expected:
    """The people's moments row by row: mean (m, r), E[λ²] (m, r), covariance factor (m, r, r)."""

    mean: torch.Tensor
    square: torch.Tensor
    factor: torch.Tensor


def _expectation(table: _Table, mode: torch.Tensor, factor: torch.Tensor) -> _Expected:
    square = mode.square() + factor.square().sum(2)
    return _Expected(mode[table.user], square[table.user], factor[table.user])


def _people(
    space: _Space, table: _Table, mode: torch.Tensor, factor: torch.Tensor, sweeps: int = 2
) -> tuple[torch.Tensor, torch.Tensor]:
    """E step: people's Gaussian posteriors given the items' posteriors, warm started; then the space is moved.

    One sweep tightens the quadratic bound on log σ (Jaakkola and Jordan 2000, eq. 10 to 12) and maximises it; it never
    overshoots. What is not known of the items widens the logits, so that people are not over-explained early on.
    """
    with torch.no_grad():
        f, c, f_variance, c_variance = space.items(table)
        left, right, user, weight = table.left, table.right, table.user, table.weight
        v = c[left] - c[right]
        own = c_variance[left] + c_variance[right]
        fixed = table.offset + f[left] - f[right]
        fixed_variance = f_variance[left] + f_variance[right]
        label = torch.where(table.sign > 0, table.share, 1 - table.share)
        n, r = mode.shape
        identity = torch.eye(r)
        for _ in range(sweeps):
            margin = fixed + (mode[user] * v).sum(1)
            square = mode.square() + factor.square().sum(2)
            variance = (
                (v[:, None, :] @ factor[user])[:, 0].square().sum(1) + (square[user] * own).sum(1) + fixed_variance
            )
            xi = torch.sqrt(margin.square() + variance + 1e-8)
            bend = weight * torch.tanh(xi / 2) / (2 * xi)
            precision = identity.repeat(n, 1, 1).index_add_(0, user, (bend[:, None] * v)[:, :, None] * v[:, None, :])
            precision += torch.diag_embed(torch.zeros(n, r).index_add_(0, user, bend[:, None] * own))
            pull = torch.zeros(n, r).index_add_(0, user, (weight * (label - 0.5) - bend * fixed)[:, None] * v)
            lower = torch.linalg.cholesky(precision)
            mode = torch.cholesky_solve(pull[:, :, None], lower)[:, :, 0]
            factor = torch.linalg.solve_triangular(lower, identity.expand(n, r, r), upper=False).transpose(1, 2)
        mean = mode.mean(0)
        spread = (factor @ factor.transpose(1, 2)).mean(0) + (mode - mean).T @ (mode - mean) / n
        population = torch.linalg.cholesky(spread)
        space.move(mean, population)
        inverse = torch.linalg.inv(population)
        return (mode - mean) @ inverse.T, inverse @ factor


def _rows(table: _Table, generator: torch.Generator) -> torch.Tensor | None:
    m = len(table.left)
    return None if m <= _MAX_ROWS else torch.randint(m, (_MAX_ROWS,), generator=generator)


def _expected_nll(
    margin: torch.Tensor, variance: torch.Tensor, sign: torch.Tensor, share: torch.Tensor
) -> torch.Tensor:
    """(m,) −E[log-likelihood] of labels under logits N(margin, variance), by Gauss–Hermite quadrature.

    The label is `share` for the side of `sign`: −E[share·log σ(z) + (1 − share)·log σ(−z)] = E[softplus(−z)] + (1 − share)·E[z].
    """
    nodes = torch.from_numpy(_NODES).to(margin.dtype)
    shares = torch.from_numpy(_SHARES).to(margin.dtype)
    z = (sign * margin)[:, None] + torch.sqrt(variance + 1e-9)[:, None] * nodes
    return F.softplus(-z) @ shares + (1 - share) * sign * margin
