"""The folder of a saved model: writing it, and reading its settings."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from palate.errors import InputError, VersionError
from palate.features import available
from palate.features.base_reward import save_base_reward
from palate.files import read_json, write_json, write_text
from palate.models.card import model_card

if TYPE_CHECKING:
    from palate.models.reward_model import FeatureRewardModel

__all__ = ["CONFIG", "FORMAT_VERSION", "METHOD", "read_config", "write_folder"]

FORMAT_VERSION = 1
"""Version of the saved folder; one with a higher number is refused."""

CONFIG, METHOD = "config.json", "method.safetensors"
"""The files of a saved model."""


def write_folder(
    model: FeatureRewardModel,
    folder: str | os.PathLike[str],
    *,
    people: bool,
    results: Any = None,
    local_names: bool = True,
) -> Path:
    """Write a fitted model: weights, settings and card.

    Args:
        model: fitted.
        folder: made where it is missing.
        people: also the ids and states of the training people.
        results: of a benchmark, for the card.
        local_names: keep names of local files and folders; False for a model that goes elsewhere.

    Raises:
        StorageError: the folder cannot be written, or the disk is full.
    """
    target, method = Path(folder), model.method
    config = _settings(model, people)
    if not local_names:
        config = _nameless(config)
    if not people:
        method = copy.copy(method)
        method.states_ = method.states_.take(np.zeros(0, np.int64))
    # The settings come last and name the weights: a folder that was half overwritten does not load.
    method.save(target / METHOD)
    write_text(target / "README.md", model_card(config, results))
    write_json(target / CONFIG, config)
    return target


def _settings(model: FeatureRewardModel, people: bool) -> dict[str, Any]:
    from palate import __version__

    features, users = model.features, model.users_
    by_name = features is None or isinstance(features, (str, Path))
    return {
        "format": FORMAT_VERSION,
        "palate": __version__,
        "kind": "features",
        "features": (str(features) if features is not None else "none") if by_name else None,
        "feature_options": model.feature_options if by_name else {},
        "feature_fingerprint": model.featurizer.fingerprint,
        "base_reward": save_base_reward(model.base_reward),
        "method": model.method.name,
        "fingerprint": model.method.fingerprint_,
        "data": model.info_,
        "users": list(users) if people and users is not None else None,
    }


def _nameless(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without names of local files and folders: whoever loads them must pass features= or base_reward=."""
    kept = dict(config)
    features = kept["features"]
    if features is not None and features not in available() and Path(features).expanduser().exists():
        kept |= {"features": None, "feature_options": {}}
    base = kept["base_reward"]
    if base is not None and base["kind"] == "classifier" and Path(base["settings"]["model"]).expanduser().exists():
        kept["base_reward"] = None
    return kept


def read_config(folder: Path) -> dict[str, Any]:
    """The settings of a saved model, checked."""
    path = folder / CONFIG
    try:
        config = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{folder}: no Palate model here ({CONFIG} is missing); write one with save_pretrained"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: damaged ({error}); save the model again") from None
    if not isinstance(config, dict) or not isinstance(config.get("format"), int):
        raise InputError(f"{path}: not the settings of a Palate model; write one with save_pretrained")
    if config["format"] > FORMAT_VERSION:
        raise VersionError(
            f"{path}: format {config['format']} is newer than this Palate reads ({FORMAT_VERSION}); upgrade palate"
        )
    lacking = {"kind", "features", "feature_options", "feature_fingerprint", "base_reward", "fingerprint", "data"}
    lacking = (lacking | {"users"}) - config.keys()
    if lacking:
        raise InputError(f"{path}: damaged, {', '.join(sorted(lacking))} missing; save the model again")
    if config["kind"] != "features":
        raise InputError(
            f"{path}: holds a model of kind {config['kind']!r}, not of features; load it with its own class"
        )
    return config
