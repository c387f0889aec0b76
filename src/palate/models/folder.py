"""The settings of a saved model: reading them, and leaving out what means nothing elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palate.errors import InputError, VersionError
from palate.features import available
from palate.files import read_json

__all__ = ["CONFIG", "FORMAT_VERSION", "METHOD", "nameless", "read_config"]

FORMAT_VERSION = 1
"""Version of the saved folder; one with a higher number is refused."""

CONFIG, METHOD = "config.json", "method.safetensors"
"""The files of a saved model."""


def nameless(config: Mapping[str, Any]) -> dict[str, Any]:
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
