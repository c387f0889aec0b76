"""PersonalLLM: eight replies to each prompt, scored by ten reward models, which are the people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from palate.data.build import gather, score_pairs
from palate.data.readers import RawTable
from palate.data.source import Source, hub_parquet
from palate.data.streams import Rows

__all__ = ["REWARD_MODELS", "SOURCES", "comparisons", "convert"]

REWARD_MODELS = (
    "gemma_2b",
    "gemma_7b",
    "mistral_raft",
    "mistral_ray",
    "mistral_weqweasdas",
    "llama3_sfairx",
    "oasst_deberta_v3",
    "beaver_7b",
    "oasst_pythia_7b",
    "oasst_pythia_1b",
)
"""The endings of the score columns; each is one person."""

N_REPLIES = 8

PAIRS = tuple((first, first + 1) for first in range(0, N_REPLIES, 2))
"""Replies 1 and 2, 3 and 4, 5 and 6, 7 and 8: four pairs a prompt that share no reply."""


def convert(files: Mapping[str, Rows]) -> RawTable:
    """Four comparisons per prompt and reward model; `part` keeps the publisher's train and test."""
    parts = [(rows, partial(comparisons, part=name.removesuffix(".parquet"))) for name, rows in files.items()]
    needs = ("prompt", "response_1", f"response_{N_REPLIES}", f"response_1_{REWARD_MODELS[0]}")
    return gather("personalllm", parts, needs=needs)


def comparisons(row: Mapping[str, Any], part: str) -> Iterator[dict[str, Any]]:
    """The comparisons of one prompt.

    Args:
        row: prompt, response_1 … response_8, response_1_gemma_2b and so on.
        part: "train" or "test".
    """
    numbers = range(1, N_REPLIES + 1)
    replies = [row.get(f"response_{number}") for number in numbers]
    if all(row.get(f"response_{number}_{model}") is None for number in numbers for model in REWARD_MODELS):
        raise ValueError("has no score of any reward model")
    for model in REWARD_MODELS:
        scores = [row.get(f"response_{number}_{model}") for number in numbers]
        for left, right, label in score_pairs(replies, scores, pairs=PAIRS):
            yield {
                "user": model,
                "prompt": row["prompt"],
                "left": replies[left],
                "right": replies[right],
                "label": label,
                "source_part": part,
                "subset": row.get("subset"),
                "score_left": float(scores[left]),
                "score_right": float(scores[right]),
            }


SOURCES = (
    Source(
        name="personalllm",
        title="ten reward models as people choose between eight replies to 10,402 prompts: about 416,000 pairs",
        licence="not stated where we looked; see the home page",
        attribution="PersonalLLM, Zollo, Siah et al. (ICLR 2025)",
        citation="Zollo, Siah et al. (2025). PersonalLLM: tailoring LLMs to individual preferences. ICLR 2025.",
        home="https://huggingface.co/datasets/namkoong-lab/PersonalLLM",
        options={"on_error": "skip"},
        files=tuple(hub_parquet("namkoong-lab/PersonalLLM", "default", part) for part in ("train", "test")),
        convert=convert,
        fields=("prompt, subset, response_1 … response_8", "response_{1…8}_{reward model}, ten models"),
        rule=(
            "each reward model is a person who prefers the reply that it scores higher; four pairs a prompt that share no "
            "reply (1-2, 3-4, 5-6, 7-8); equal scores are a tie"
        ),
        verified="the address by the paper; the fields by the publisher's program and by LoRe's",
        unverified=(
            "the licence, and which eight of the ten models Paper A takes; beaver_7b is a cost model whose score the "
            "publisher's program uses as it is, and so do we; the files were not fetched"
        ),
    ),
)
