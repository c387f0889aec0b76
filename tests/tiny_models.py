"""Random Hugging Face models of a few layers, saved as folders, for tests that need no download."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|im_start|>", "<|im_end|>", "[CLS]", "[SEP]", "[PAD]")


def tokenizer(*, chat: bool = False, encoder: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes: every text has as many tokens as bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {sign: number for number, sign in enumerate([*SPECIAL, *alphabet])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(list(SPECIAL))
    options = {"pad_token": "[PAD]"}
    if encoder:
        special = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
        raw.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
        options |= {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    else:
        options |= {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    made = PreTrainedTokenizerFast(tokenizer_object=raw, **options)
    if chat:
        made.chat_template = CHAT
    return made


def save(folder: Path, kind: str, *, chat: bool = False) -> str:
    """A "llama", "gpt2" or "bert" folder; returns its path."""
    torch.manual_seed(0)
    made = tokenizer(chat=chat, encoder=kind == "bert")
    sizes = {"vocab_size": len(made), "pad_token_id": made.pad_token_id}
    if kind == "llama":
        sizes |= {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
        tokens = {"bos_token_id": made.bos_token_id, "eos_token_id": made.eos_token_id}
        config = LlamaConfig(num_hidden_layers=4, max_position_embeddings=512, **sizes, **tokens)
        # Larger than usual, so that random layers change what passes through them.
        config.initializer_range = 0.2
        model = LlamaForCausalLM(config)
    elif kind == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(n_layer=3, n_embd=32, n_head=4, n_positions=512, **sizes))
    else:
        sizes |= {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
        model = BertModel(BertConfig(num_hidden_layers=2, max_position_embeddings=256, initializer_range=0.2, **sizes))
    model.save_pretrained(folder)
    made.save_pretrained(folder)
    return str(folder)


def save_classifier(folder: Path, kind: str = "llama", *, chat: bool = False, labels: int = 1) -> str:
    """A sequence classifier with random weights, "llama" or "bert"; returns its path."""
    torch.manual_seed(1)
    made = tokenizer(chat=chat, encoder=kind == "bert")
    sizes = {"vocab_size": len(made), "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
    sizes |= {"num_hidden_layers": 2, "num_labels": labels, "initializer_range": 0.2}
    if kind == "llama":
        config = LlamaConfig(max_position_embeddings=512, num_key_value_heads=2, pad_token_id=None, **sizes)
        model = LlamaForSequenceClassification(config)
    else:
        model = BertForSequenceClassification(
            BertConfig(max_position_embeddings=256, pad_token_id=made.pad_token_id, **sizes)
        )
    model.eval().save_pretrained(folder)
    made.save_pretrained(folder)
    return str(folder)
