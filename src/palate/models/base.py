"""The contract every method of personal reward modelling obeys: arrays in, arrays out.

A method never sees a text, a person's id or a store. `Method` is the public face (checks, base rewards,
fingerprints, saving); a method implements the four hooks `_fit`, `_adapt`, `_prefer` and, where scalar, `_reward`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from palate.config import Config
from palate.errors import InputError, NotFittedError, VersionError
from palate.files import atomic_path
from palate.progress import Progress, silent
from palate.rng import RNGLike, normalise
from palate.types import Comparisons, Items, UserStates, array_digest

if TYPE_CHECKING:
    from palate.models.training import Objective

__all__ = ["FORMAT_VERSION", "Method", "Traits"]

FORMAT_VERSION = 1
"""Version of the saved form; a file with a higher one is refused."""


@dataclass(frozen=True)
class Traits:
    """What a method promises beyond the contract. Declared, never probed.

    Args:
        scalar: has `reward`; preferences follow from one number per item and person.
        linear: has `basis` and `offset`; states carry `mean` (n, r) and `covariance` (n, r, r).
        posterior: has `sample`; `prefer` is the posterior predictive.
        trainable: has `module` and `objective`, so that the training loop can put a language model under it.
        exchangeable: the order of a person's rows does not matter.
        weighted: a row of weight 2 counts as two rows.
        deterministic: the same `rng` gives the same fit.
        adapts: a new person's rows change the state (a pooled reward does not adapt).
        needs: what the items must carry: any of "features", "keys", "base_reward".
        population: has `spread`: it learns how people are spread, not only where each one stands.
        remembers: what single training people chose is among the weights, not in their states alone; without it there
            is no method, so a folder without people still tells on them.
    """

    scalar: bool = True
    linear: bool = False
    posterior: bool = False
    trainable: bool = False
    exchangeable: bool = True
    weighted: bool = True
    deterministic: bool = True
    adapts: bool = True
    needs: frozenset[str] = frozenset()
    population: bool = False
    remembers: bool = False


class Method(ABC):
    """A way to learn what each person prefers.

    The logit of a comparison is `base_scale_ · (base_left - base_right)` plus what the method learns; without
    `base_reward` the first term is zero. Attributes learned by `fit` end in an underscore and are arrays, numbers,
    strings, dicts of arrays, or `UserStates`; nothing else survives `save`.

    Args:
        config: the settings; or give them by name.
    """

    name: ClassVar[str]
    traits: ClassVar[Traits]
    Config: ClassVar[type[Config]] = Config

    states_: UserStates
    prior_: UserStates
    base_scale_: float
    fingerprint_: str

    def __init__(self, config: Config | None = None, **settings: Any) -> None:
        if config is not None and settings:
            config = config.replace(**settings)
        self.config = self.Config(**settings) if config is None else config

    # -- the public face ------------------------------------------------------------------------------------------

    def fit(self, comparisons: Comparisons, *, rng: RNGLike = None, progress: Progress = silent) -> Self:
        """Learn from the training people; forgets any earlier fit.

        Args:
            comparisons: rows of `n_users` people; sets `states_` (in their order) and `prior_` (one state).
            rng: seed or generator (SPEC 7); the same one gives the same fit.
            progress: called now and then.

        Raises:
            InputError: the items lack something in `traits.needs`, or there is no row to learn from.
        """
        for name in [name for name in vars(self) if name.endswith("_") and not name.startswith("_")]:
            delattr(self, name)
        self._check_items(comparisons.items)
        if len(comparisons) == 0 or not comparisons.weight.any():
            raise InputError(f"{self.name}: no comparison to learn from; pass at least one row with a positive weight")
        self.dim_ = comparisons.items.dim
        self.has_base_ = comparisons.items.base_reward is not None
        self.base_scale_ = _fit_base_scale(comparisons)
        self._fit(comparisons, self._base_margin_rows(comparisons), normalise(rng), progress)
        self._seal()
        return self

    def adapt(self, comparisons: Comparisons) -> UserStates:
        """The states of `comparisons.n_users` people from their rows; who has no row gets the prior.

        Returns:
            `n_users` states, in order. The method itself does not change.
        """
        self._check_fitted()
        self._check_items(comparisons.items)
        if not self.traits.adapts:
            return self.prior_.repeat(comparisons.n_users)
        states = self._adapt(comparisons, self._base_margin_rows(comparisons))
        return _stamped(states, self.fingerprint_)

    def prefer(self, left: Items, right: Items, states: UserStates, user_index: np.ndarray) -> np.ndarray:
        """Probability that person `user_index[i]` prefers `left[i]` to `right[i]`, row by row.

        Args:
            left, right: m items each.
            states: of some people, from this fitted method.
            user_index: (m,) rows of `states`.

        Returns:
            (m,) float64 in [0, 1]; the posterior predictive where the method has a posterior.
        """
        self._check_fitted()
        self._check_items(left)
        self._check_items(right)
        states.require(self.name, self.fingerprint_)
        user_index = np.asarray(user_index, np.int64)
        if not len(left) == len(right) == len(user_index):
            raise InputError(
                f"{len(left)} left, {len(right)} right items and {len(user_index)} users; the three must be equal"
            )
        return self._prefer(left, right, states, user_index, self._base_margin(left, right))

    def reward(self, items: Items, states: UserStates) -> np.ndarray:
        """Posterior mean reward of every item for every person.

        Returns:
            (len(states), n) float64; only differences within a prompt mean anything.
        """
        if not self.traits.scalar:
            raise InputError(f"{self.name} has no scalar reward, only preferences between two items; use prefer")
        self._check_fitted()
        self._check_items(items)
        states.require(self.name, self.fingerprint_)
        reward = self._reward(items, states)
        return reward if not self.has_base_ else reward + self.base_scale_ * items.base_reward

    def objective(self, comparisons: Comparisons) -> Objective:
        """What the language model under the features would be trained for, from the fitted method on.

        Args:
            comparisons: of the training people, in the order of the fit; their rows may be others.

        Raises:
            InputError: the method is not trainable by gradients (trait `trainable`), or not with these settings.
        """
        if not self.traits.trainable:
            raise InputError(f"{self.name} cannot train a language model; let another method do it: trainer='factor'")
        self._check_fitted()
        self._check_items(comparisons.items)
        if comparisons.n_users != len(self.states_):
            raise InputError(
                f"{comparisons.n_users} people, and {self.name} was fitted to {len(self.states_)}; give the same people"
            )
        return self._objective(comparisons, self._base_margin_rows(comparisons))

    # -- what a method implements ---------------------------------------------------------------------------------

    @abstractmethod
    def _fit(self, comparisons: Comparisons, offset: np.ndarray, rng: np.random.Generator, progress: Progress) -> None:
        """Learn; set `states_` and `prior_` (use `_states`). `offset` (m,) is added to every logit, fixed."""

    @abstractmethod
    def _adapt(self, comparisons: Comparisons, offset: np.ndarray) -> UserStates:
        """States from rows; `offset` (m,) as in `_fit`."""

    @abstractmethod
    def _prefer(
        self, left: Items, right: Items, states: UserStates, user_index: np.ndarray, offset: np.ndarray
    ) -> np.ndarray:
        """Preferences; `offset` (m,) is added to the logit before any averaging."""

    def _reward(self, items: Items, states: UserStates) -> np.ndarray:
        """(n_users, n) rewards without the base reward; needed where `traits.scalar`."""
        raise InputError(f"{self.name} declares a scalar reward but has none")

    def _objective(self, comparisons: Comparisons, offset: np.ndarray) -> Objective:
        """The objective at the weights of the fit; needed where `traits.trainable`. `offset` as in `_fit`."""
        raise InputError(f"{self.name} declares itself trainable but has no objective")

    def _states(self, count: int, arrays: Mapping[str, np.ndarray] | None = None, **columns: Any) -> UserStates:
        """States of this method (`columns`: `ragged=`, `texts=`)."""
        return UserStates(self.name, getattr(self, "fingerprint_", ""), count, arrays or {}, **columns)

    # -- saving ---------------------------------------------------------------------------------------------------

    def _seal(self) -> None:
        """Give what was learned its fingerprint, which the states carry too."""
        self.fingerprint_ = ""
        header, arrays = self._dump()
        self.fingerprint_ = array_digest(arrays, json.dumps(header, sort_keys=True))
        self.states_ = _stamped(self.states_, self.fingerprint_)
        self.prior_ = _stamped(self.prior_, self.fingerprint_)

    def save(self, path: str | Path) -> None:
        """Write the fitted method as one safetensors file, atomically."""
        from safetensors.numpy import save_file

        self._check_fitted()
        header, arrays = self._dump()
        header["fingerprint"] = self.fingerprint_
        with atomic_path(path) as temporary:
            contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
            save_file(contiguous, temporary, {"palate": json.dumps(header)})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            VersionError: the file was written by a newer Palate.
            InputError: it holds another method.
        """
        from safetensors import safe_open

        with safe_open(path, framework="numpy") as file:
            header = json.loads(file.metadata()["palate"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header["format"] > FORMAT_VERSION:
            raise VersionError(
                f"{path}: format {header['format']} is newer than this Palate reads ({FORMAT_VERSION}); upgrade palate"
            )
        if header["method"] != cls.name:
            raise InputError(
                f"{path} holds the method {header['method']!r}, not {cls.name!r}; load it with palate.models.load_method"
            )
        return cls._restore(header, arrays)

    @classmethod
    def _restore(cls, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        method = cls(cls.Config(**header["config"]))
        method.fingerprint_ = header["fingerprint"]
        for name, value in header["values"].items():
            setattr(method, name, value)
        nested: dict[str, dict[str, np.ndarray]] = {}
        for name, array in arrays.items():
            attribute, _, rest = name.partition("/")
            if rest:
                nested.setdefault(attribute, {})[rest] = array
            else:
                setattr(method, name, array)
        for name in header["dicts"]:
            setattr(method, name, nested.get(name, {}))
        for name, state in header["states"].items():
            setattr(method, name, UserStates.from_arrays(state, nested.get(name, {})))
        return method

    def _dump(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        header: dict[str, Any] = {
            "format": FORMAT_VERSION,
            "method": self.name,
            "config": self.config.model_dump(mode="json"),
        }
        header |= {"values": {}, "dicts": [], "states": {}}
        arrays: dict[str, np.ndarray] = {}
        for name, value in sorted(vars(self).items()):
            if not name.endswith("_") or name.startswith("_") or name == "fingerprint_":
                continue
            if isinstance(value, np.ndarray):
                arrays[name] = value
            elif isinstance(value, UserStates):
                header["states"][name], columns = value.to_arrays()
                arrays |= {f"{name}/{key}": array for key, array in columns.items()}
            elif isinstance(value, dict):
                header["dicts"].append(name)
                arrays |= {f"{name}/{key}": np.asarray(array) for key, array in value.items()}
            elif isinstance(value, (bool, int, float, str)) or value is None:
                header["values"][name] = value
            else:
                raise TypeError(
                    f"{self.name}.{name} is a {type(value).__name__}; learned attributes must be arrays, numbers, texts or states"
                )
        return header, arrays

    # -- checks and the base reward -------------------------------------------------------------------------------

    def _check_fitted(self) -> None:
        if not getattr(self, "fingerprint_", ""):
            raise NotFittedError(f"{self.name} is not fitted; call fit first")

    def _check_items(self, items: Items) -> None:
        if "features" in self.traits.needs and items.dim == 0:
            raise InputError(
                f"{self.name} needs item features and these items have none; choose features= (minilm, smollm2, …)"
            )
        if "keys" in self.traits.needs and len(items) and not np.any(items.keys >= 0):
            raise InputError(
                f"{self.name} needs known items and all keys are -1; it cannot score texts it has never seen"
            )
        if "base_reward" in self.traits.needs and items.base_reward is None:
            raise InputError(f"{self.name} needs base_reward; pass the scores of your reward model")
        if not np.isfinite(items.features).all():
            raise InputError("item features have NaN or infinite values; embed those texts again")
        if hasattr(self, "dim_") and items.dim != self.dim_:
            raise InputError(
                f"items have {items.dim} features, {self.name} was fitted with {self.dim_}; use the same featurizer"
            )
        if hasattr(self, "has_base_") and self.has_base_ and items.base_reward is None:
            raise InputError(
                f"{self.name} was fitted on top of a base reward and these items have none; pass their scores as base_reward="
            )

    def _base_margin(self, left: Items, right: Items) -> np.ndarray:
        """(m,) what the base reward adds to the logit."""
        if not self.has_base_ or self.base_scale_ == 0.0:
            return np.zeros(len(left))
        return self.base_scale_ * (left.base_reward - right.base_reward)

    def _base_margin_rows(self, comparisons: Comparisons) -> np.ndarray:
        base = comparisons.items.base_reward
        if not self.has_base_ or base is None:
            return np.zeros(len(comparisons))
        return self.base_scale_ * (base[comparisons.left] - base[comparisons.right])


def _fit_base_scale(comparisons: Comparisons) -> float:
    """The non-negative scale that makes the base reward's margins logits (one-parameter Bradley–Terry).

    A reward model's scores have no unit; a scale of 0 says that they do not agree with these people at all.
    """
    base = comparisons.items.base_reward
    if base is None:
        return 0.0
    from palate.models.likelihood import fit_weights

    margin = base[comparisons.left] - base[comparisons.right]
    spread = float(np.sqrt(np.average(margin**2, weights=comparisons.weight)))
    if spread == 0.0:
        return 0.0
    weights = fit_weights((margin / spread)[:, None], comparisons.label, comparisons.weight, l2=1e-3)
    return max(0.0, float(weights[0])) / spread


def _stamped(states: UserStates, fingerprint: str) -> UserStates:
    from dataclasses import replace

    return replace(states, fingerprint=fingerprint)
