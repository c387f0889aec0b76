"""A person's reward as a sequence classifier: a language model up to one layer, pooled over the reply, and a linear head.

This file is copied beside the weights that `export_classifier` writes, and runs without Palate:

    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    batch = tokenizer(prompts, replies, padding=True, return_tensors="pt")     # only replies where uses_prompt is false
    rewards = model(**batch).logits[:, 0]

It exists because the stock classifiers read the last token of the last layer, and no other.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.configuration_utils import PretrainedConfig
from transformers.modeling_outputs import SequenceClassifierOutput

__all__ = ["PalateRewardConfig", "PalateRewardForSequenceClassification"]


class PalateRewardConfig(PretrainedConfig):
    """How the reward is read off the language model.

    Args:
        backbone: the configuration of the language model, cut to the layers that are used.
        block: path of the last block, whose output is taken before the final norm; "" takes the model's own output.
        pooling: "mean" over the tokens, the "last" or the "first".
        span: "response" pools over the reply, "all" over the whole text.
        normalise: scale the pooled vector to length 1.
        uses_prompt: whether the text holds the prompt.
        before_reply: tokens after which a reply begins, for texts that come without `token_type_ids`.
        after_reply: tokens that may follow a reply and do not belong to it.
    """

    model_type = "palate_reward"

    def __init__(
        self,
        backbone: dict[str, Any] | None = None,
        block: str = "",
        pooling: str = "mean",
        span: str = "response",
        normalise: bool = False,
        uses_prompt: bool = True,
        before_reply: list[int] | None = None,
        after_reply: list[int] | None = None,
        **settings: Any,
    ) -> None:
        self.backbone = backbone or {}
        self.block = block
        self.pooling = pooling
        self.span = span
        self.normalise = normalise
        self.uses_prompt = uses_prompt
        self.before_reply = before_reply or []
        self.after_reply = after_reply or []
        super().__init__(**settings)

    def backbone_config(self) -> PretrainedConfig:
        """The configuration of the language model."""
        about = dict(self.backbone)
        return AutoConfig.for_model(about.pop("model_type"), **about)


class PalateRewardForSequenceClassification(PreTrainedModel):
    """Reward of a reply: `score(pooled hidden states)`; only differences between replies to one prompt mean anything."""

    config_class = PalateRewardConfig
    # Rounded to bfloat16, the head would give many replies the same reward.
    _keep_in_fp32_modules_strict = ("score",)

    def __init__(self, config: PalateRewardConfig) -> None:
        super().__init__(config)
        backbone = config.backbone_config()
        self.backbone = AutoModel.from_config(backbone)
        self.score = nn.Linear(backbone.get_text_config().hidden_size, 1)
        self._taken: torch.Tensor | None = None
        if config.block:
            self.backbone.get_submodule(config.block).register_forward_hook(self._take)
        self.post_init()

    def _take(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._taken = output[0] if isinstance(output, tuple) else output

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        **ignored: Any,
    ) -> SequenceClassifierOutput:
        """Rewards.

        Args:
            input_ids: (b, t).
            attention_mask: (b, t), 1 for tokens of a text.
            token_type_ids: (b, t), 1 for tokens of the reply; the tokenizer beside this model gives them.

        Returns:
            `logits` (b, 1).

        Raises:
            ValueError: it cannot be told where a reply begins.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        inside = attention_mask
        if self.config.span == "response":
            known = token_type_ids is not None and bool(token_type_ids.any())
            inside = token_type_ids * attention_mask if known else self._replies(input_ids, attention_mask)
        arguments = {"input_ids": input_ids, "attention_mask": attention_mask}
        if hasattr(self.backbone.config, "use_cache"):
            arguments["use_cache"] = False
        hidden = self.backbone(**arguments).last_hidden_state
        if self._taken is not None:
            hidden, self._taken = self._taken, None
        weights = self._weights(inside)
        # Sums over hundreds of tokens lose digits in bfloat16.
        pooled = torch.einsum("bt,bth->bh", weights, hidden.float())
        if self.config.normalise:
            pooled = nn.functional.normalize(pooled, dim=1, eps=1e-12)
        return SequenceClassifierOutput(logits=self.score(pooled.to(self.score.weight.dtype)))

    def _weights(self, inside: torch.Tensor) -> torch.Tensor:
        """(b, t) the share of each token in the pooled vector."""
        inside = inside.float()
        if not bool((inside.sum(1) > 0).all()):
            raise ValueError("a reply has no token; leave empty replies out")
        place = torch.arange(inside.shape[1], device=inside.device)
        if self.config.pooling == "last":
            chosen = (inside * (place + 1)).argmax(1)
            return nn.functional.one_hot(chosen, inside.shape[1]).float()
        if self.config.pooling == "first":
            return nn.functional.one_hot(inside.argmax(1), inside.shape[1]).float()
        return inside / inside.sum(1, keepdim=True)

    def _replies(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """(b, t) 1 for the tokens after the last place where a reply begins, less the end of the turn."""
        mark, end = self.config.before_reply, self.config.after_reply
        inside = torch.zeros_like(input_ids)
        for row, (ids, present) in enumerate(zip(input_ids.tolist(), attention_mask.tolist(), strict=True)):
            first = present.index(1)
            last = len(present) - present[::-1].index(1)
            starts = [at for at in range(first, last - len(mark) + 1) if mark and ids[at : at + len(mark)] == mark]
            if not starts:
                raise ValueError("no reply found in a text; make the batch with tokenizer(prompts, replies)")
            if end and ids[last - len(end) : last] == end:
                last -= len(end)
            inside[row, starts[-1] + len(mark) : last] = 1
        return inside
