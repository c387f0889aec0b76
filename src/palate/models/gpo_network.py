"""The network of group preference optimisation: a transformer neural process over a person's answers.

Every token attends to the context tokens only, so that targets see neither each other nor themselves: the mean of a
target depends on its own item and on the answers, which makes it a reward.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["GPONetwork", "Tokens"]

Tokens = Literal["pair", "response"]


class GPONetwork(nn.Module):
    """Rewards of items in the light of a person's answers.

    Args:
        dim: width of an item's features.
        tokens: how an answer becomes tokens, see `context_tokens`.
        width: d_model.
        embed_layers: linear layers of the MLP that embeds a token.
        layers: transformer layers.
        heads: attention heads; must divide `width`.
        feedforward: hidden width inside each layer.
    """

    def __init__(
        self, dim: int, tokens: Tokens, width: int, embed_layers: int, layers: int, heads: int, feedforward: int
    ) -> None:
        super().__init__()
        self.dim, self.tokens = dim, tokens
        sizes = [2 * dim if tokens == "pair" else dim + 1] + [width] * embed_layers
        linear = [nn.Linear(a, b) for a, b in zip(sizes, sizes[1:], strict=False)]
        self.embed = nn.Sequential(*(part for layer in linear for part in (layer, nn.ReLU())))[:-1]
        # Attention over no answer at all is undefined: this token stands for "somebody", and is always there.
        self.nobody = nn.Parameter(torch.randn(width) / width**0.5)
        self.blocks = nn.ModuleList(Block(width, heads, feedforward) for _ in range(layers))
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))

    def context_tokens(self, left: Tensor, right: Tensor, label: Tensor) -> Tensor:
        """Embedded tokens of answers.

        Args:
            left, right: (..., dim) features.
            label: (...,) probability that left was preferred.

        Returns:
            (..., t, width): one token per answer for "pair", made of the middle of the two items and of the
            direction of preference (2y - 1)(left - right), the same from either side; for "response" two tokens,
            (left, y) and (right, 1 - y), as in the paper.
        """
        if self.tokens == "pair":
            direction = (2.0 * label - 1.0)[..., None] * (left - right)
            return self.embed(torch.cat([0.5 * (left + right), direction], -1))[..., None, :]
        items = torch.stack([left, right], -2)
        return self.embed(torch.cat([items, torch.stack([label, 1.0 - label], -1)[..., None]], -1))

    def target_tokens(self, items: Tensor) -> Tensor:
        """(..., width) embedded tokens of items to be scored, from features (..., dim); their answer is 0."""
        blank = items.new_zeros(*items.shape[:-1], self.dim if self.tokens == "pair" else 1)
        return self.embed(torch.cat([items, blank], -1))

    def forward(self, context: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        """Mean and log standard deviation of every target.

        Args:
            context: (p, c, width) embedded answers of p people.
            weight: (p, c) how often each answer counts; 0 for padding. A token of weight 2 is two tokens: its
                logarithm is added to the attention score.
            targets: (p, t, width) embedded items.

        Returns:
            (p, t, 2).
        """
        nobody = self.nobody.expand(len(context), 1, -1)
        context = torch.cat([nobody, context], 1)
        bias = torch.cat([weight.new_zeros(len(weight), 1), weight.log()], 1)[:, None, None, :]
        for block in self.blocks:
            context, targets = block(context, targets, bias)
        return self.head(targets)


class Block(nn.Module):
    """A transformer encoder layer (post-norm) whose keys and values are the context columns."""

    def __init__(self, width: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.feedforward = nn.Sequential(nn.Linear(width, feedforward), nn.ReLU(), nn.Linear(feedforward, width))
        self.norm_attention, self.norm_feedforward = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, context: Tensor, targets: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Both sets of tokens after the layer; `bias` (p, 1, 1, c) is added to every score of a context column."""
        key, value = (self._split(part) for part in self.key_value(context).chunk(2, -1))
        tokens = torch.cat([context, targets], 1)
        query = self._split(self.query(tokens))
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        tokens = self.norm_attention(tokens + self.out(mixed.transpose(1, 2).flatten(2)))
        tokens = self.norm_feedforward(tokens + self.feedforward(tokens))
        return tokens[:, : context.shape[1]], tokens[:, context.shape[1] :]

    def _split(self, tokens: Tensor) -> Tensor:
        """(p, n, width) -> (p, heads, n, width / heads)."""
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)
