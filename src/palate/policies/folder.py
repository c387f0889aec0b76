"""The folder of a saved policy: the base model untouched and not in it, what was learned beside it.

config.json                    settings, name and revision of the base model; written last
adapter_model.safetensors      LoRA, with adapter_config.json, as peft reads them (or model/ where all weights were trained)
users.safetensors              the soft tokens that all share, and the axes along which people differ
people.safetensors             the training people; only where asked for
README.md                      the card
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from palate.backends.hub import fetch
from palate.backends.huggingface import load_causal, load_tokenizer, revision
from palate.errors import FingerprintError, InputError, StorageError, VersionError
from palate.files import atomic_path, read_json, write_json, write_text
from palate.policies.adapters import load_base, without_notices
from palate.policies.card import policy_card
from palate.policies.config import PolicyConfig
from palate.policies.network import PolicyNetwork
from palate.policies.people import PeopleTable
from palate.policies.sequences import PromptFormat
from palate.policies.user_model import UserModel

if TYPE_CHECKING:
    from palate.policies.policy import Policy

__all__ = ["FORMAT_VERSION", "read_policy", "write_policy", "writing_into"]

FORMAT_VERSION = 1
"""Version of the saved folder; one with a higher number is refused."""

_CONFIG, _USERS, _PEOPLE, _MODEL, _ADAPTER = (
    "config.json",
    "users.safetensors",
    "people.safetensors",
    "model",
    "adapter_config.json",
)

Kind = TypeVar("Kind", bound="Policy")


@contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Inside the block, a folder that cannot be written, or a full disk, is a `StorageError`."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        # The writer of safetensors reports a full disk only in words.
        full = getattr(error, "errno", None) == errno.ENOSPC or "os error 28" in str(error)
        if full:
            raise StorageError(f"{folder}: the disk is full; free some space and run again") from None
        raise StorageError(f"{folder}: cannot be written ({error}); choose another folder") from None


def write_policy(policy: Policy, folder: str | os.PathLike[str], *, people: bool, local_names: bool = True) -> Path:
    """Write a policy; arguments as in `Policy.save_pretrained`, `local_names=False` leaves names of local folders out."""
    from palate import __version__

    target = Path(folder)
    with writing_into(target):
        target.mkdir(parents=True, exist_ok=True)
        # Settings of an earlier policy here must not be taken for those of half-written new weights.
        (target / _CONFIG).unlink(missing_ok=True)
        _write_model(policy, target)
    users = policy.network.users
    arrays = {"centres": users.centres, **({} if users.mixture is None else {"mixture": users.mixture})}
    shared = {name: part.detach().float().cpu().numpy() for name, part in arrays.items()}
    with writing_into(target), atomic_path(target / _USERS) as temporary:
        save_file({**shared, "axes": policy.axes}, temporary)
    with_people = people and policy.people is not None
    if with_people:
        with writing_into(target):
            policy.people.save(target / _PEOPLE)
    else:
        (target / _PEOPLE).unlink(missing_ok=True)
    named = local_names or not Path(policy.base).expanduser().exists()
    config = {
        "format": FORMAT_VERSION,
        "palate": __version__,
        "kind": "policy",
        "base": policy.base if named else None,
        "base_revision": policy.base_revision,
        "template": policy.form.digest,
        "fingerprint": policy.fingerprint,
        "data": policy.info,
        "dim": users.dim,
        "people": len(policy.people) if with_people else None,
        "settings": policy.config.model_dump(mode="json"),
    }
    write_text(target / "README.md", policy_card(config))
    write_json(target / _CONFIG, config)
    return target


def _write_model(policy: Policy, target: Path) -> None:
    if not policy.config.lora_rank:
        policy.network.model.save_pretrained(target / _MODEL)
        return
    # peft would ask a hub whether the base's vocabulary changed, unless told that no embedding is to be saved.
    policy.network.model.save_pretrained(target, save_embedding_layers=False)
    adapter = read_json(target / _ADAPTER)
    write_json(target / _ADAPTER, {**adapter, "base_model_name_or_path": None, "revision": None})


def read_policy(
    kind: type[Kind], folder: str | os.PathLike[str], *, base: str | None, dtype: str | None, device: str
) -> Kind:
    """The policy in a folder or a repository of the hub; see `Policy.from_pretrained`."""
    source = fetch(os.fspath(folder))
    config = _read_config(source)
    name = base or config["base"]
    if name is None:
        raise InputError(f"{source}: its base model was a local folder; pass base=, where that model is here")
    if revision(name) != config["base_revision"]:
        raise FingerprintError(
            f"{source}: tuned from another base model than {name} ({config['base_revision'][:12]}, here "
            f"{revision(name)[:12]}); pass base=, the model it was tuned from"
        )
    settings = PolicyConfig(**config["settings"]).replace(device=device, **({} if dtype is None else {"dtype": dtype}))
    form = PromptFormat(load_tokenizer(name), settings.user_text_format)
    if form.digest != config["template"]:
        raise FingerprintError(f"{source}: the chat template of {name} has changed since; restore it, or tune again")
    try:
        shared = load_file(source / _USERS)
        people = PeopleTable.load(source / _PEOPLE) if config["people"] is not None else None
        network = PolicyNetwork(_read_model(source, name, settings), _users(shared, config, settings))
    except (SafetensorError, OSError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{source}: damaged ({reason}); save the policy again") from None
    network.prepare(share_prompts=settings.share_prompts)
    policy = kind(network, form, settings, name, people=people, axes=shared["axes"], info=config["data"])
    if policy.fingerprint != config["fingerprint"]:
        raise InputError(f"{source}: weights and settings are of two different policies; save the policy again")
    return policy


def _read_model(source: Path, base: str, settings: PolicyConfig) -> Any:
    if not settings.lora_rank:
        return load_causal(str(source / _MODEL), dtype="float32", device=settings.device)
    from peft import PeftModel

    model = load_base(base, settings)
    with without_notices():
        return PeftModel.from_pretrained(model, str(source), torch_device=str(model.device))


def _users(shared: dict[str, np.ndarray], config: dict[str, Any], settings: PolicyConfig) -> UserModel:
    users = UserModel(
        settings.user_model, 0, settings.user_tokens, config["dim"], settings.clusters, common=settings.common
    )
    with torch.no_grad():
        users.centres.copy_(torch.from_numpy(shared["centres"]))
        if users.mixture is not None:
            users.mixture.copy_(torch.from_numpy(shared["mixture"]))
    return users


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / _CONFIG
    try:
        config = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{folder}: no policy here ({_CONFIG} is missing); write one with palate tune (or a reward model with palate fit)"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: damaged ({error}); save the policy again") from None
    if not isinstance(config, dict) or config.get("kind") != "policy":
        raise InputError(f"{path}: not the settings of a policy; reward models are read by palate.load_model")
    if config["format"] > FORMAT_VERSION:
        raise VersionError(
            f"{path}: format {config['format']} is newer than this Palate reads ({FORMAT_VERSION}); upgrade palate"
        )
    wanted = {"base", "base_revision", "template", "fingerprint", "data", "dim", "people", "settings"}
    if wanted - config.keys():
        missing = ", ".join(sorted(wanted - config.keys()))
        raise InputError(f"{path}: damaged, {missing} missing; save the policy again")
    return config
