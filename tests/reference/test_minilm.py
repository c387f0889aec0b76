"""MiniLM vectors against sentence-transformers, an independent pipeline over the same weights."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from palate.backends import bundled
from palate.features import make

TEXTS = ["Blue.", "There are many colours; my favourite is a warm red.", "x " * 400, "Voilà: naïveté 🙂", "10. Ça va?"]


@pytest.mark.slow
@pytest.mark.model
def test_minilm_vectors_are_those_of_sentence_transformers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library = pytest.importorskip("sentence_transformers", reason="comes with the package of MiniLM")
        model = library.SentenceTransformer(str(bundled.get("minilm")), device="cpu", local_files_only=True)
        expected = model.encode(TEXTS, normalize_embeddings=True)
    ours = make("minilm", dtype="float32", device="cpu").embed([("any prompt", text) for text in TEXTS])
    np.testing.assert_allclose(ours, expected, atol=1e-5)
