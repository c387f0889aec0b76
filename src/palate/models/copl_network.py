"""The two networks of collaborative preference learning: a signed graph of people and replies, and a mixture of experts.

The graph says who is like whom from what they chose and what they turned down; the mixture turns that into rewards of
texts that nobody has judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ExpertNetwork", "GraphNetwork", "SignedGraph"]

_SLOPE = 0.2
"""Of the leaky rectifiers."""


@dataclass(frozen=True)
class SignedGraph:
    """Who chose and who turned down what: two bipartite graphs, each normalised symmetrically.

    Args:
        chosen, rejected: index (2, e) of person and item, and value (e,) w / √(degree of person · degree of item).
        n_users, n_items: how many there are of both.
    """

    chosen: tuple[Tensor, Tensor]
    rejected: tuple[Tensor, Tensor]
    n_users: int
    n_items: int

    @classmethod
    def of(
        cls, user: np.ndarray, left: np.ndarray, right: np.ndarray, side: np.ndarray, n_users: int, n_items: int
    ) -> Self:
        """From rows: `side` (m,) is the weight of the edge to left as chosen and right as rejected; negative, the reverse."""
        winner, loser = np.where(side > 0, left, right), np.where(side > 0, right, left)
        strength = np.abs(side)
        ends = [_edges(user, item, strength, n_users, n_items) for item in (winner, loser)]
        return cls(*ends, n_users, n_items)

    def matrices(self, keep: float, generator: torch.Generator | None, like: Tensor) -> list[Tensor]:
        """The two (n_users, n_items) sparse matrices; each edge survives with probability `keep`, scaled up by 1 / keep."""
        found = []
        for index, value in (self.chosen, self.rejected):
            value = value.to(like.dtype)
            if keep < 1.0 and generator is not None:
                value = value * (torch.rand(len(value), generator=generator) < keep) / keep
            shape = (self.n_users, self.n_items)
            found.append(torch.sparse_coo_tensor(index, value, shape, is_coalesced=True, check_invariants=False))
        return found


def _edges(user: np.ndarray, item: np.ndarray, weight: np.ndarray, n_users: int, n_items: int) -> tuple[Tensor, Tensor]:
    """Edges with weights added up, over the roots of both ends' degrees."""
    code, where = np.unique(user[weight > 0].astype(np.int64) * n_items + item[weight > 0], return_inverse=True)
    total = np.bincount(where, weight[weight > 0], len(code))
    person, place = np.divmod(code, max(1, n_items))
    degrees = np.bincount(person, total, n_users)[person] * np.bincount(place, total, n_items)[place]
    return torch.from_numpy(np.stack([person, place])), torch.from_numpy(total / np.sqrt(degrees))


class GraphNetwork(nn.Module):
    """Embeddings of people and items, passed along the edges.

    In every layer a person becomes LeakyReLU( A⁺E + W⁺(A⁺E ⊙ e) − [A⁻E + W⁻(A⁻E ⊙ e)] + W_s e ), with E the items'
    embeddings and A± their rows of the two graphs; items likewise, with the same W.

    Args:
        n_users, n_items: how many there are of both.
        width: of an embedding.
        layers: how often they are passed on.
        l2: of the starting embeddings and the W, in the mean loss.
    """

    def __init__(self, n_users: int, n_items: int, width: int, layers: int, l2: float) -> None:
        super().__init__()
        self.l2 = l2
        self.users = nn.Parameter(nn.init.xavier_uniform_(torch.empty(n_users, width)))
        self.items = nn.Parameter(nn.init.xavier_uniform_(torch.empty(n_items, width)))
        weights = torch.empty(layers, 3, width, width)
        for layer in range(layers):
            for kind in range(3):
                nn.init.xavier_uniform_(weights[layer, kind])
        self.weights = nn.Parameter(weights)

    def forward(self, chosen: Tensor, rejected: Tensor) -> tuple[Tensor, Tensor]:
        """(n_users, width) and (n_items, width) embeddings after the last layer."""
        users, items = self.users, self.items
        for own in self.weights:
            users, items = (
                _passed(users, torch.sparse.mm(chosen, items), torch.sparse.mm(rejected, items), own),
                _passed(items, torch.sparse.mm(chosen.t(), users), torch.sparse.mm(rejected.t(), users), own),
            )
        return users, items

    def penalty(self) -> Tensor:
        """l2 · Σ θ²."""
        return self.l2 * sum(parameter.square().sum() for parameter in self.parameters())


def _passed(own: Tensor, liked: Tensor, disliked: Tensor, weights: Tensor) -> Tensor:
    plus, minus, itself = weights
    message = liked + (liked * own) @ plus.T - disliked - (disliked * own) @ minus.T
    return functional.leaky_relu(message + own @ itself.T, _SLOPE)


class ExpertNetwork(nn.Module):
    """Reward of an item for a person: a shared map of features, plus a low-rank change by the expert of the person.

        r(x, u) = v·gelu( W x + b + α/rank · (B_g A_g x + p_e B_e A_e x) ),      e = argmax p,  p = softmax(router(z_u))

    Args:
        dim: width of an item's features.
        n_users: training people; their embeddings are set, not learned.
        user_dim: width of a person's embedding z_u.
        width: hidden units.
        experts: how many; each person has one of them, and all have g.
        rank: of each change.
        alpha: its scale, over `rank`.
        router_width: hidden units of the router.
        dropout: of the features, before the low-rank maps, in training.
    """

    def __init__(
        self,
        dim: int,
        n_users: int,
        user_dim: int,
        *,
        width: int,
        experts: int,
        rank: int,
        alpha: float,
        router_width: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.item = nn.Linear(dim, width)
        self.down = nn.Parameter(torch.randn(experts + 1, dim, rank) / dim**0.5)
        self.up = nn.Parameter(torch.zeros(experts + 1, rank, width))
        self.head = nn.Linear(width, 1, bias=False)
        self.router = nn.Sequential(
            nn.Linear(user_dim, router_width), nn.LeakyReLU(_SLOPE), nn.Linear(router_width, experts)
        )
        self.scale, self.dropout = alpha / rank, dropout
        self.register_buffer("people", torch.zeros(n_users, user_dim))

    def gate(self, person: Tensor) -> tuple[Tensor, Tensor]:
        """The expert (...,) of embeddings (..., user_dim), and how much it counts."""
        share, expert = torch.softmax(self.router(person), -1).max(-1)
        return expert, share

    def rewards(self, items: Tensor, person: Tensor) -> Tensor:
        """(b,) rewards of items (b, dim), each for the person with embedding (b, user_dim)."""
        expert, share = self.gate(person)
        given = functional.dropout(items, self.dropout, self.training)
        common = given @ self.down[-1] @ self.up[-1]
        down = torch.einsum("bd,edr->ber", given, self.down[:-1])[torch.arange(len(items)), expert]
        own = items.new_zeros(len(items), self.up.shape[2])
        for number in range(len(self.up) - 1):
            mine = expert == number
            own[mine] = down[mine] @ self.up[number]
        return self.finish(self.item(items) + self.scale * (common + share[:, None] * own))

    def table(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """What everybody shares (n, width) of items (n, dim), and each expert's change (experts, n, width)."""
        changes = torch.einsum("nd,edr,erw->enw", items, self.down, self.up) * self.scale
        return self.item(items) + changes[-1], changes[:-1]

    def finish(self, hidden: Tensor) -> Tensor:
        """(...,) rewards from hidden values (..., width)."""
        return self.head(functional.gelu(hidden)).squeeze(-1)

    def logits(self, left: Tensor, right: Tensor, user: Tensor) -> Tensor:
        """(b,) reward of left minus reward of right for training people."""
        both = self.rewards(torch.cat([left, right]), self.people[user].repeat(2, 1))
        return both[: len(left)] - both[len(left) :]

    def penalty(self) -> Tensor:
        """Nothing beyond weight decay."""
        return self.up.new_zeros(())
