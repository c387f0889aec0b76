"""`conditional`: one reward network that is told whose taste it judges.

    p(left ≻ right | u) = σ(f(left, u) - f(right, u))

`mode="mlp"`: f(x, u) = MLP([x, e_u]) with an embedding e_u learned per person. `mode="prefix"`: f(x) = MLP(x), where x
was embedded with "user u:" before its text (`palate.features.conditioned` makes such a table), so that the language
model does the conditioning.

Why an MLP and not a linear head on [x, e_u]: w·[left, e_u] - w·[right, e_u] = w_x·(left - right). What is said about
the person cancels in the difference, and the "conditional" reward is the pooled one, whatever it was trained on.

When not to use it: when people differ along directions that a line describes; `factor` and `hierarchical` then need
fewer rows and have a posterior.

Source: Dong et al. 2025, § 4 (the user id before the prompt). Learned prior and in-place adaptation of new people are
ours: the paper gives new people none.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from scipy.special import expit
from torch import Tensor, nn
from torch.nn import functional

from palate.models.base import Method, Traits
from palate.models.training import (
    Rows,
    Scaling,
    TableEncoder,
    TrainingConfig,
    build,
    load_weights,
    preference_loss,
    train,
    weights_of,
)
from palate.progress import Progress
from palate.rng import RNGLike, normalise
from palate.types import Comparisons, Items, UserStates

__all__ = ["Conditional", "ConditionalNetwork"]

_CELLS = 200_000
"""Rows, or people × items, that pass the network at once."""


class ConditionalNetwork(nn.Module):
    """Reward of an item for a person.

    Args:
        dim: width of an item's features.
        n_users: people with an embedding of their own.
        user_dim: width of that embedding; 0 for a network that knows no person.
        width: hidden units of each layer.
        layers: hidden layers, at least 1: with none, the person would cancel.
    """

    def __init__(self, dim: int, n_users: int, user_dim: int, width: int, layers: int) -> None:
        super().__init__()
        self.item = nn.Linear(dim, width)
        self.person = nn.Linear(user_dim, width, bias=False) if user_dim else None
        self.people = nn.Embedding(n_users, user_dim) if user_dim else None
        hidden = [part for _ in range(layers - 1) for part in (nn.Linear(width, width), nn.GELU())]
        self.rest = nn.Sequential(nn.GELU(), *hidden, nn.Linear(width, 1, bias=False))

    def rewards(self, items: Tensor, person: Tensor | None) -> Tensor:
        """(...,) rewards of items (..., dim) for people with embeddings (..., user_dim), broadcast."""
        hidden = self.item(items)
        return self.rest(hidden if person is None else hidden + self.person(person)).squeeze(-1)

    def logits(self, left: Tensor, right: Tensor, user: Tensor) -> Tensor:
        """(b,) reward of left minus reward of right."""
        person = None if self.people is None else self.people(user)
        return self.rewards(left, person) - self.rewards(right, person)

    def penalty(self) -> Tensor:
        """½ Σ‖e_u‖²: embeddings are standard normal beforehand; the network's first layer gives them their scale."""
        return torch.zeros(()) if self.people is None else 0.5 * self.people.weight.square().sum()


class Conditional(Method):
    """A reward network conditioned on the person, by an embedding or by a text prefix."""

    name: ClassVar[str] = "conditional"
    traits: ClassVar[Traits] = Traits(scalar=True, trainable=True, needs=frozenset({"features"}))

    class Config(TrainingConfig):
        """Settings of `conditional`."""

        mode: Literal["mlp", "prefix"] = Field(
            "mlp",
            description="'mlp': a learned embedding per person beside the item's features. 'prefix': the features "
            "already say whose they are (palate.features.conditioned); new people keep the generic prefix.",
        )
        user_dim: int = Field(4, ge=1, description="Width of a person's embedding (mode 'mlp').")
        width: int = Field(64, ge=1, description="Hidden units per layer.")
        layers: int = Field(2, ge=1, description="Hidden layers.")
        steps: int | None = Field(600, ge=1, description="Optimiser steps in all; None for `epochs`.")
        learning_rate: float = Field(1e-2, gt=0, description="Peak learning rate.")
        weight_decay: float = Field(2.0, ge=0, description="Of matrices; decoupled for AdamW, else an L2 gradient.")
        warmup: float = Field(0.05, ge=0, lt=1, description="Share of the steps in which the rate rises from 0.")
        adapt_steps: int = Field(30, ge=1, description="Most Gauss-Newton steps to place a new person.")

    def module(self, dim: int, n_users: int, rng: RNGLike) -> ConditionalNetwork:
        """A fresh network for items of `dim` features and `n_users` training people."""
        config = self.config
        user_dim = config.user_dim if config.mode == "mlp" else 0
        return build(
            lambda: ConditionalNetwork(dim, n_users, user_dim, config.width, config.layers),
            normalise(rng),
        )

    def _fit(self, comparisons: Comparisons, offset: np.ndarray, rng: np.random.Generator, progress: Progress) -> None:
        scaling = Scaling.of(comparisons)
        self.mean_, self.scale_ = scaling.mean, scaling.scale
        network = self.module(self.dim_, comparisons.n_users, rng)
        rows = Rows.of(comparisons, offset)
        loss = preference_loss(network, TableEncoder(scaling(comparisons.items)), rows)
        train(network, loss, len(rows), self.config, rng=rng, progress=progress, what="conditional")
        weights = weights_of(network)
        people = weights.pop("people.weight", None)
        self.weights_ = weights
        if people is None:
            self.states_ = self._states(comparisons.n_users)
            self.prior_ = self._states(1)
            return
        self._learn_prior(comparisons, offset, people.astype(np.float64))
        self.states_ = self._adapt(comparisons, offset)
        self.prior_ = self._states(1, {"embedding": self.prior_mean_[None]})

    def _learn_prior(self, comparisons: Comparisons, offset: np.ndarray, people: np.ndarray) -> None:
        """One EM step: mean and covariance of the training embeddings, each as uncertain as its rows leave it."""
        seen = comparisons.counts() > 0
        rows = _Rows.of(comparisons, offset, Scaling(self.mean_, self.scale_))
        _, _, curvature = _derivatives(self._network(), rows, torch.from_numpy(people))
        posterior = np.linalg.inv(curvature.numpy() + np.eye(people.shape[1]))
        self.prior_mean_ = people[seen].mean(0)
        deviation = people[seen] - self.prior_mean_
        covariance = (deviation.T @ deviation + posterior[seen].sum(0)) / seen.sum()
        self.prior_precision_ = np.linalg.inv(covariance)

    def _adapt(self, comparisons: Comparisons, offset: np.ndarray) -> UserStates:
        """Embeddings that maximise the posterior with the network frozen, all people at once."""
        if self.config.mode == "prefix":
            return self.prior_.repeat(comparisons.n_users)
        network, scaling = self._network(), Scaling(self.mean_, self.scale_)
        embedding = np.tile(self.prior_mean_, (comparisons.n_users, 1))
        for people in _groups(comparisons.counts()):
            number = np.full(comparisons.n_users, -1)
            number[people] = 0
            mask = number[comparisons.user] == 0
            rows = _Rows.of(comparisons.for_users(people), offset[mask], scaling)
            embedding[people] = self._place(network, rows, len(people))
        return self._states(comparisons.n_users, {"embedding": embedding})

    def _place(self, network: ConditionalNetwork, rows: _Rows, count: int) -> np.ndarray:
        """(count, user_dim) modes, by Gauss-Newton with a damping of its own for every person.

        A step that does not lower a person's objective is taken back and tried shorter; the others are not held up.
        """
        mean, precision = torch.from_numpy(self.prior_mean_), torch.from_numpy(self.prior_precision_)
        here = mean.repeat(count, 1)
        value, gradient, curvature = _posterior(network, rows, here, mean, precision)
        damping = torch.full((count, 1, 1), 1e-3, dtype=here.dtype)
        for _ in range(self.config.adapt_steps):
            damped = curvature + damping * torch.diag_embed(curvature.diagonal(dim1=1, dim2=2))
            step = torch.linalg.solve(damped, gradient[..., None])[..., 0]
            trial = _posterior(network, rows, here - step, mean, precision)
            better = trial[0] < value
            here = torch.where(better[:, None], here - step, here)
            value = torch.where(better, trial[0], value)
            gradient = torch.where(better[:, None], trial[1], gradient)
            curvature = torch.where(better[:, None, None], trial[2], curvature)
            damping = torch.where(better[:, None, None], damping / 5, damping * 5).clamp(1e-9, 1e9)
            if float((step * gradient).sum(1).abs().max()) < 1e-12:
                break
        return here.numpy()

    def _prefer(
        self, left: Items, right: Items, states: UserStates, user_index: np.ndarray, offset: np.ndarray
    ) -> np.ndarray:
        network, scaling = self._network(), Scaling(self.mean_, self.scale_)
        margin = np.empty(len(left))
        with torch.no_grad():
            for start in range(0, len(left), _CELLS):
                part = slice(start, start + _CELLS)
                person = self._embedding(states, user_index[part])
                sides = [torch.from_numpy(scaling(_part(side, part))).double() for side in (left, right)]
                margin[part] = (network.rewards(sides[0], person) - network.rewards(sides[1], person)).numpy()
        return expit(margin + offset)

    def _reward(self, items: Items, states: UserStates) -> np.ndarray:
        network = self._network()
        features = torch.from_numpy(Scaling(self.mean_, self.scale_)(items)).double()
        reward = np.empty((len(states), len(items)))
        people = max(1, _CELLS // max(1, len(items)))
        with torch.no_grad():
            for start in range(0, len(states), people):
                index = np.arange(start, min(start + people, len(states)))
                person = self._embedding(states, index)
                reward[index] = network.rewards(features, None if person is None else person[:, None, :]).numpy()
        return reward

    def _embedding(self, states: UserStates, index: np.ndarray) -> Tensor | None:
        return None if self.config.mode == "prefix" else torch.from_numpy(states.arrays["embedding"][index])

    def _network(self) -> ConditionalNetwork:
        """The trained network in float64, without the training people's embeddings."""
        network = self.module(self.dim_, 1, 0)
        network.people = None
        return load_weights(network, self.weights_).double().requires_grad_(False)


class _Rows:
    """Comparisons as float64 tensors: scaled features of both sides, person, label, weight and offset."""

    def __init__(self, left: Tensor, right: Tensor, user: Tensor, label: Tensor, weight: Tensor, offset: Tensor):
        self.left, self.right, self.user = left, right, user
        self.label, self.weight, self.offset = label, weight, offset

    @classmethod
    def of(cls, comparisons: Comparisons, offset: np.ndarray, scaling: Scaling) -> _Rows:
        sides = [scaling(comparisons.items.take(side)) for side in (comparisons.left, comparisons.right)]
        columns = [*sides, comparisons.user.astype(np.int64), comparisons.label, comparisons.weight, offset]
        tensors = [torch.from_numpy(np.array(column)) for column in columns]
        return cls(*(tensor if tensor.dtype == torch.int64 else tensor.double() for tensor in tensors))


def _derivatives(network: ConditionalNetwork, rows: _Rows, people: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Negative log-likelihood (n,), its gradient (n, q) and Gauss-Newton curvature (n, q, q) in each embedding.

    Row i's margin depends on its own person's embedding only, so one backward pass through a copy of the embedding per
    row gives every ∂margin/∂e.
    """
    own = people[rows.user].requires_grad_(True)
    margin = network.rewards(rows.left, own) - network.rewards(rows.right, own)
    (slope,) = torch.autograd.grad(margin.sum(), own)
    logit = (margin + rows.offset).detach()
    chance = torch.sigmoid(logit)
    loss = rows.weight * (functional.softplus(logit) - rows.label * logit)
    gradient = (rows.weight * (chance - rows.label))[:, None] * slope
    curvature = (rows.weight * chance * (1.0 - chance))[:, None, None] * slope[:, :, None] * slope[:, None, :]
    count, width = people.shape
    return (
        people.new_zeros(count).index_add(0, rows.user, loss),
        people.new_zeros(count, width).index_add(0, rows.user, gradient),
        people.new_zeros(count, width, width).index_add(0, rows.user, curvature),
    )


def _posterior(
    network: ConditionalNetwork, rows: _Rows, people: Tensor, mean: Tensor, precision: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`_derivatives` plus those of the prior N(mean, precision⁻¹)."""
    value, gradient, curvature = _derivatives(network, rows, people)
    pull = (people - mean) @ precision
    return value + 0.5 * (pull * (people - mean)).sum(1), gradient + pull, curvature + precision


def _groups(counts: np.ndarray) -> list[np.ndarray]:
    """People who have rows, in runs of about `_CELLS` rows."""
    people = np.flatnonzero(counts)
    if not len(people):
        return []
    run = np.cumsum(counts[people]) // _CELLS
    return np.split(people, np.flatnonzero(np.diff(run)) + 1)


def _part(items: Items, part: slice) -> Items:
    return items.take(np.arange(len(items))[part])
