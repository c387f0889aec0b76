"""Writing a linear reward on a language model's features as a sequence classifier that transformers loads.

Two forms. *Stock*: a class of transformers, for causal models whose features are the last token of the last layer.
*Custom*: everything else (a layer below the last, a mean over the reply, vectors of length 1, encoders); then the folder
holds `modeling_palate.py` as well and loads with `trust_remote_code=True`.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from tokenizers import processors
from torch import nn
from transformers import AutoModel, AutoModelForSequenceClassification, PreTrainedTokenizerFast

from palate.backends import modeling_palate
from palate.backends.conversion import quiet
from palate.backends.huggingface import load_tokenizer, resolve
from palate.backends.modeling_palate import PalateRewardConfig, PalateRewardForSequenceClassification
from palate.backends.text import Template
from palate.errors import InputError, StorageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Recipe", "write_classifier"]

_CLASS = "modeling_palate.PalateRewardForSequenceClassification"
_CONFIG = "modeling_palate.PalateRewardConfig"


@dataclass(frozen=True)
class Recipe:
    """How a featurizer makes a vector from a text.

    Args:
        model: bundled name, folder or hub name of the language model.
        layer, depth: the layer taken, 1 to depth.
        pooling: mean, last or first.
        span: response or all.
        normalise: whether vectors have length 1.
        causal: a causal model, not an encoder.
        max_length: most tokens read.
        template: the fixed tokens around the texts.
    """

    model: str
    layer: int
    depth: int
    pooling: Literal["mean", "last", "first"]
    span: Literal["response", "all"]
    normalise: bool
    causal: bool
    max_length: int
    template: Template

    @property
    def stock(self) -> bool:
        """Whether a class of transformers computes the same."""
        whole = self.layer == self.depth and not self.normalise and not self.template.after
        return self.causal and whole and self.pooling == "last"


def write_classifier(
    recipe: Recipe, weight: np.ndarray, bias: float, folder: Path, *, dtype: str = "float32"
) -> Literal["stock", "custom"]:
    """Write backbone, head and tokenizer.

    Args:
        recipe: of the features.
        weight: (hidden,) of the reward.
        bias: added to it; a stock class has none and leaves it out, which changes no preference.
        folder: made where it is missing.
        dtype: number type of the backbone's weights on disk; the head of the custom form is always float32.

    Returns:
        Which form it has.

    Raises:
        StorageError: the folder cannot be written.
        InputError: the tokenizer or the model has a form that cannot be exported.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from None
    stock = _stock(recipe, weight, dtype) if recipe.stock else None
    _tokenizer(recipe, pairs=recipe.template.uses_prompt, types=stock is None).save_pretrained(folder)
    with quiet():
        (stock or _custom(recipe, weight, bias, dtype)).save_pretrained(folder)
    if stock is not None:
        return "stock"
    shutil.copyfile(modeling_palate.__file__, folder / "modeling_palate.py")
    return "custom"


def _stock(recipe: Recipe, weight: np.ndarray, dtype: str) -> PreTrainedModel | None:
    """The classifier of the model's own family; None where its head is more than one linear map of the last token."""
    where = resolve(recipe.model)
    try:
        with quiet():
            model = AutoModelForSequenceClassification.from_pretrained(
                where, num_labels=1, dtype=getattr(torch, dtype), use_safetensors=True
            )
    except ValueError:
        return None  # a family without such a class
    head = getattr(model, "score", None)
    if not isinstance(head, nn.Linear) or head.bias is not None:
        return None
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight)[None])
    model.config.pad_token_id = load_tokenizer(recipe.model).pad_token_id
    return model


def _custom(recipe: Recipe, weight: np.ndarray, bias: float, dtype: str) -> PreTrainedModel:
    with quiet():
        backbone = AutoModel.from_pretrained(resolve(recipe.model), dtype=getattr(torch, dtype), use_safetensors=True)
    if backbone.config.is_encoder_decoder:
        raise InputError(f"{recipe.model}: encoder-decoder models cannot be exported; use a causal model or an encoder")
    block = _cut(backbone, recipe)
    template = recipe.template
    config = PalateRewardConfig(
        backbone=backbone.config.to_diff_dict(),
        block=block,
        pooling=recipe.pooling,
        span=recipe.span,
        normalise=recipe.normalise,
        uses_prompt=template.uses_prompt,
        before_reply=list(template.between),
        after_reply=_turn_end(recipe),
        num_labels=1,
        dtype=dtype,
        architectures=[PalateRewardForSequenceClassification.__name__],
        auto_map={"AutoConfig": _CONFIG, "AutoModelForSequenceClassification": _CLASS},
    )
    model = PalateRewardForSequenceClassification(config).to(getattr(torch, dtype))
    model.backbone.load_state_dict(backbone.state_dict())
    model.score = nn.Linear(len(weight), 1)
    with torch.no_grad():
        model.score.weight.copy_(torch.from_numpy(weight)[None])
        model.score.bias.fill_(bias)
    return model


def _cut(backbone: PreTrainedModel, recipe: Recipe) -> str:
    """Drop the layers above the one that is used; the path of the last block where its output comes before a norm."""
    if recipe.layer == recipe.depth:
        return ""
    for name, module in backbone.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == recipe.depth:
            parent, _, attribute = name.rpartition(".")
            setattr(backbone.get_submodule(parent), attribute, module[: recipe.layer])
            config = backbone.config.get_text_config()
            config.num_hidden_layers = recipe.layer
            if getattr(config, "layer_types", None):
                config.layer_types = config.layer_types[: recipe.layer]
            return f"{name}.{recipe.layer - 1}"
    raise InputError(f"{recipe.model}: its layers cannot be cut; fit on features of its last layer (layer=-1)")


def _tokenizer(recipe: Recipe, *, pairs: bool, types: bool) -> PreTrainedTokenizerFast:
    """A tokenizer that joins prompt and reply exactly as the featurizer does, and marks the reply by type 1."""
    original = load_tokenizer(recipe.model)
    backend = getattr(original, "backend_tokenizer", None)
    if backend is None:
        raise InputError(f"{recipe.model}: its tokenizer has no fast form (tokenizer.json) and cannot be exported")
    template = recipe.template
    parts = {"before": template.before, "between": template.between, "after": template.after}
    special = [
        {"id": f"<palate {name}>", "ids": list(ids), "tokens": original.convert_ids_to_tokens(list(ids))}
        for name, ids in parts.items()
        if ids
    ]
    named = {name: [f"<palate {name}>:0"] if ids else [] for name, ids in parts.items()}
    alone = ["$A:1"] if pairs else [*named["before"], *named["between"], "$A:1", *named["after"]]
    both = [*named["before"], "$A:0", *named["between"], "$B:1", *named["after"]]
    backend.post_processor = processors.TemplateProcessing(single=alone, pair=both, special_tokens=special)
    names = ["input_ids", "token_type_ids", "attention_mask"] if types else ["input_ids", "attention_mask"]
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_input_names=names,
        model_max_length=recipe.max_length,
        padding_side="right",
        truncation_side="left",
        **_special_tokens(original),
    )
    made.chat_template = original.chat_template
    return made


def _special_tokens(tokenizer: Any) -> dict[str, Any]:
    names = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
    return {name: getattr(tokenizer, name) for name in names if getattr(tokenizer, name, None) is not None}


def _turn_end(recipe: Recipe) -> list[int]:
    """Tokens that the chat template puts behind a reply, for texts that were made with it."""
    tokenizer = load_tokenizer(recipe.model)
    if not recipe.causal or not tokenizer.chat_template:
        return []
    mark = "palate reply goes here"
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": mark}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    after: Sequence[str] = text.rsplit(mark, 1)
    return list(tokenizer(after[1], add_special_tokens=False)["input_ids"]) if len(after) == 2 else []
