"""Featurizers by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from palate.errors import ConfigError, InputError
from palate.features.base import Featurizer, NoFeatures

__all__ = ["available", "make"]

_DESCRIPTIONS = {
    "smollm2": "SmolLM2-135M-Instruct, mean over the reply's tokens in its middle layer, 576 numbers; content and style",
    "minilm": "all-MiniLM-L6-v2 on the reply, 384 numbers; topics more than style, fast",
    "style": "18 numbers on length, punctuation, lists and tone words; no model; a null baseline",
    "none": "no features: items are known by their identity alone",
    "openai:MODEL@URL": "an OpenAI-compatible embeddings endpoint",
    "NAME or FOLDER": "any Hugging Face encoder or causal model",
    "FILE.npy": "an array with one row per item, in the order of the data set's item_texts()",
    "FILE.parquet": "vectors by text: response (and prompt), and a list column or number columns",
}


def available() -> dict[str, str]:
    """What `make` takes, with a line on each."""
    return dict(_DESCRIPTIONS)


def make(source: Any, **options: Any) -> Featurizer:
    """A featurizer from its name, or from vectors that exist.

    Args:
        source: one of `available()`; a `Featurizer` (returned as it is); an (n_items, d) array; a mapping from
            response, or from (prompt, response), to vector; None for no features.
        options: settings of the featurizer, e.g. `layer=` and `pooling=` of a language model.

    Raises:
        ConfigError: an unknown or a misspelt name, or options where there are none.
        InputError: vectors that cannot be used.
    """
    if isinstance(source, Featurizer):
        return _without(options, source, source.name)
    if source is None:
        return _without(options, NoFeatures(), "none")
    if isinstance(source, np.ndarray):
        from palate.features.precomputed import AlignedFeatures

        return _without(options, AlignedFeatures(source), "an array")
    if isinstance(source, Mapping):
        from palate.features.precomputed import TextVectors

        return _without(options, TextVectors(source), "a mapping")
    if isinstance(source, (str, Path)):
        return _by_name(str(source), options)
    raise ConfigError(f"features={type(source).__name__}: give a name, a featurizer, an array or a mapping")


def _by_name(name: str, options: dict[str, Any]) -> Featurizer:
    if name == "none":
        return _without(options, NoFeatures(), name)
    if name == "style":
        from palate.features.style import StyleFeatures

        return _without(options, StyleFeatures(), name)
    if name.startswith("openai:"):
        from palate.features.endpoint import EndpointFeatures

        model, _, address = name.removeprefix("openai:").rpartition("@")
        where = {"base_url": address} if model else {}
        return EndpointFeatures(model=model or address, **where, **options)
    if name.endswith((".npy", ".parquet")):
        return _without(options, _read(Path(name)), name)
    from palate.features.language_model import LanguageModelFeatures

    known = ("smollm2", "minilm", "style", "none")
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    if name not in known and close and not Path(name).exists():
        # Asking the hub for a misspelt name would take a minute where there is no network.
        raise ConfigError(f"unknown features {name!r}; did you mean {close[0]!r}?")
    return LanguageModelFeatures(model=name, **options)


def _read(path: Path) -> Featurizer:
    from palate.features.precomputed import AlignedFeatures, TextVectors

    if not path.is_file():
        raise InputError(f"{path}: there is no such file; give a .npy array or a .parquet table of vectors")
    if path.suffix == ".parquet":
        return TextVectors.read(path)
    try:
        return AlignedFeatures(np.load(path, allow_pickle=False))
    except (ValueError, EOFError) as error:
        raise InputError(f"{path}: cannot be used as an array of features ({error})") from None


def _without(options: dict[str, Any], featurizer: Featurizer, what: str) -> Featurizer:
    if options:
        raise ConfigError(f"features from {what} have no settings, so {', '.join(options)} cannot be set")
    return featurizer
