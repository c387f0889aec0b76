"""Frozen values that pass between the rooms: items, comparisons, and what is known about people.

Arrays only. Texts and the ids of people stay in `palate.data` and `palate.store`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from palate.errors import FingerprintError, InputError

__all__ = ["Comparisons", "Items", "Ragged", "UserState", "UserStates"]


@dataclass(frozen=True)
class Items:
    """Things that can be preferred: one row per prompt+response text.

    Args:
        features: (n, d) float32; d may be 0 when only the identity of items is known.
        keys: (n,) int64; the same number is the same known item everywhere, -1 an unknown one.
        prompt: (n,) int32; index of the prompt each item answers.
        prompt_features: (p, d_p) float32 with p > max(prompt), or None.
        base_reward: (n,) float64 scores of a reward model that stays as it is, or None.
    """

    features: np.ndarray
    keys: np.ndarray
    prompt: np.ndarray
    prompt_features: np.ndarray | None = None
    base_reward: np.ndarray | None = None

    def __post_init__(self) -> None:
        n = len(self.features)
        if self.features.ndim != 2:
            raise InputError(f"item features have shape {self.features.shape}; they must be (n, d)")
        for name in ("keys", "prompt", "base_reward"):
            column = getattr(self, name)
            if column is not None and column.shape != (n,):
                raise InputError(f"{name} has shape {column.shape}; with {n} items it must be ({n},)")
        if self.base_reward is not None and not np.all(np.isfinite(self.base_reward)):
            raise InputError("base_reward has NaN or infinite scores; score those items again or leave it out")

    def __len__(self) -> int:
        return len(self.features)

    @property
    def dim(self) -> int:
        """d, the width of the features."""
        return self.features.shape[1]

    def take(self, index: np.ndarray) -> Items:
        """The items at `index` (m,), in that order; prompts keep their numbers."""
        return Items(
            features=self.features[index],
            keys=self.keys[index],
            prompt=self.prompt[index],
            prompt_features=self.prompt_features,
            base_reward=None if self.base_reward is None else self.base_reward[index],
        )

    @classmethod
    def of(
        cls,
        features: np.ndarray,
        *,
        keys: np.ndarray | None = None,
        prompt: np.ndarray | None = None,
        prompt_features: np.ndarray | None = None,
        base_reward: np.ndarray | None = None,
    ) -> Items:
        """Items from a feature matrix; without keys all are unknown, without prompts all answer prompt 0."""
        features = np.asarray(features, dtype=np.float32)
        n = len(features)
        return cls(
            features=features,
            keys=np.full(n, -1, np.int64) if keys is None else np.asarray(keys, np.int64),
            prompt=np.zeros(n, np.int32) if prompt is None else np.asarray(prompt, np.int32),
            prompt_features=prompt_features,
            base_reward=None if base_reward is None else np.asarray(base_reward, np.float64),
        )


@dataclass(frozen=True)
class Comparisons:
    """Pairwise choices of people over a table of items.

    Args:
        items: the table, n rows.
        left, right: (m,) int32 rows of the table.
        user: (m,) int32 in [0, n_users).
        n_users: how many people; some may have no row.
        label: (m,) float64 in [0, 1], the probability that the person prefers left.
        weight: (m,) float64 ≥ 0.
        time: (m,) float64 seconds, or None.
        user_features: (n_users, q) float32 side information on people, or None.
    """

    items: Items
    left: np.ndarray
    right: np.ndarray
    user: np.ndarray
    n_users: int
    label: np.ndarray
    weight: np.ndarray
    time: np.ndarray | None = None
    user_features: np.ndarray | None = None

    def __post_init__(self) -> None:
        m = len(self.left)
        for name in ("right", "user", "label", "weight", "time"):
            column = getattr(self, name)
            if column is not None and column.shape != (m,):
                raise InputError(f"{name} has shape {column.shape}; with {m} comparisons it must be ({m},)")
        if m and (self.user.min() < 0 or self.user.max() >= self.n_users):
            raise InputError(
                f"user numbers run from {self.user.min()} to {self.user.max()}; they must be in [0, {self.n_users})"
            )
        if m and not (np.all(self.label >= 0) and np.all(self.label <= 1)):
            raise InputError("labels must be probabilities in [0, 1]")
        if m and not (np.all(self.weight >= 0) and np.all(np.isfinite(self.weight))):
            raise InputError("weights must be finite and not negative")

    def __len__(self) -> int:
        return len(self.left)

    @classmethod
    def of(
        cls,
        items: Items,
        left: np.ndarray,
        right: np.ndarray,
        user: np.ndarray,
        label: np.ndarray,
        *,
        n_users: int | None = None,
        weight: np.ndarray | None = None,
        time: np.ndarray | None = None,
        user_features: np.ndarray | None = None,
    ) -> Comparisons:
        """Comparisons from plain arrays; weights default to 1, `n_users` to the largest number + 1."""
        user = np.asarray(user, np.int32)
        return cls(
            items=items,
            left=np.asarray(left, np.int32),
            right=np.asarray(right, np.int32),
            user=user,
            n_users=int(user.max(initial=-1)) + 1 if n_users is None else int(n_users),
            label=np.asarray(label, np.float64),
            weight=np.ones(len(user)) if weight is None else np.asarray(weight, np.float64),
            time=None if time is None else np.asarray(time, np.float64),
            user_features=user_features,
        )

    def take(self, rows: np.ndarray) -> Comparisons:
        """Some rows (indices or a mask) over the same items and people."""
        return replace(
            self,
            left=self.left[rows],
            right=self.right[rows],
            user=self.user[rows],
            label=self.label[rows],
            weight=self.weight[rows],
            time=None if self.time is None else self.time[rows],
        )

    def for_users(self, users: np.ndarray) -> Comparisons:
        """The rows of `users` (k,), renumbered so that person `users[i]` is i; row order is kept."""
        users = np.asarray(users)
        number = np.full(self.n_users, -1, np.int32)
        number[users] = np.arange(len(users), dtype=np.int32)
        kept = self.take(number[self.user] >= 0)
        return replace(
            kept,
            user=number[kept.user],
            n_users=len(users),
            user_features=None if self.user_features is None else self.user_features[users],
        )

    def swapped(self) -> Comparisons:
        """The same choices with left and right exchanged."""
        return replace(self, left=self.right, right=self.left, label=1.0 - self.label)

    def counts(self) -> np.ndarray:
        """(n_users,) rows per person."""
        return np.bincount(self.user, minlength=self.n_users)

    def by_user(self) -> tuple[np.ndarray, np.ndarray]:
        """`order` (m,) that groups rows by person, stable, and `offsets` (n_users + 1,) into it."""
        order = np.argsort(self.user, kind="stable")
        return order, np.concatenate([[0], np.cumsum(self.counts())])


@dataclass(frozen=True)
class Ragged:
    """One array per person, of different lengths, in CSR form.

    Args:
        offsets: (n_users + 1,) int64; person i owns `values[offsets[i]:offsets[i + 1]]`.
        values: (total, ...) array.
    """

    offsets: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, person: int) -> np.ndarray:
        return self.values[self.offsets[person] : self.offsets[person + 1]]

    def take(self, index: np.ndarray) -> Ragged:
        """The arrays of the people at `index` (k,), in that order."""
        lengths = np.diff(self.offsets)[index]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        rows = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths) + np.repeat(self.offsets[index], lengths)
        return Ragged(offsets, self.values[rows])


@dataclass(frozen=True)
class UserStates:
    """What a method knows about several people. Values only: no ids, no texts of others, no code.

    Args:
        method: name of the method that made them.
        fingerprint: of the fitted method; a state is refused by any other.
        count: number of people.
        arrays: name -> (count, ...) array.
        ragged: name -> `Ragged` of length `count`.
        texts: name -> `count` strings (a persona, say).
    """

    method: str
    fingerprint: str
    count: int
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    ragged: Mapping[str, Ragged] = field(default_factory=dict)
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, column in [*self.arrays.items(), *self.ragged.items(), *self.texts.items()]:
            if len(column) != self.count:
                raise InputError(f"state {name!r} holds {len(column)} people; it must hold {self.count}")

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, person: int) -> UserState:
        if not -self.count <= person < self.count:
            raise IndexError(f"person {person} of {self.count}")
        return UserState(self.take(np.array([person % self.count])))

    def __iter__(self) -> Iterator[UserState]:
        return (self[person] for person in range(self.count))

    def take(self, index: np.ndarray) -> Self:
        """The states of the people at `index` (k,), in that order, repeats allowed."""
        index = np.asarray(index, np.int64)
        return replace(
            self,
            count=len(index),
            arrays={name: array[index] for name, array in self.arrays.items()},
            ragged={name: column.take(index) for name, column in self.ragged.items()},
            texts={name: tuple(column[i] for i in index) for name, column in self.texts.items()},
        )

    def repeat(self, n: int) -> Self:
        """`n` copies of the first person (how a prior becomes a batch)."""
        return self.take(np.zeros(n, np.int64))

    @classmethod
    def concatenate(cls, parts: Sequence[UserStates]) -> UserStates:
        """Several batches as one; all must come from the same fitted method."""
        if not parts:
            raise InputError("no states to concatenate; pass at least one")
        first = parts[0]
        for part in parts:
            first.require(part.method, part.fingerprint)
        ragged = {}
        for name in first.ragged:
            lengths = np.concatenate([np.diff(part.ragged[name].offsets) for part in parts])
            ragged[name] = Ragged(
                np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
                np.concatenate([part.ragged[name].values for part in parts]),
            )
        return cls(
            method=first.method,
            fingerprint=first.fingerprint,
            count=sum(part.count for part in parts),
            arrays={name: np.concatenate([part.arrays[name] for part in parts]) for name in first.arrays},
            ragged=ragged,
            texts={name: tuple(text for part in parts for text in part.texts[name]) for name in first.texts},
        )

    def require(self, method: str, fingerprint: str) -> None:
        """Refuse states of another method or of another fit.

        Raises:
            FingerprintError: they do not belong to this fitted method.
        """
        if (self.method, self.fingerprint) != (method, fingerprint):
            raise FingerprintError(
                f"state of {self.method} {self.fingerprint[:12]} does not belong to {method} {fingerprint[:12]}; adapt it again"
            )

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """A JSON-able header and plain arrays, for safetensors."""
        header = {
            "method": self.method,
            "fingerprint": self.fingerprint,
            "count": self.count,
            "texts": dict(self.texts),
        }
        arrays = {f"array.{name}": array for name, array in self.arrays.items()}
        for name, column in self.ragged.items():
            arrays[f"offsets.{name}"] = column.offsets
            arrays[f"values.{name}"] = column.values
        return header, arrays

    @classmethod
    def from_arrays(cls, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> UserStates:
        """The inverse of `to_arrays`."""
        ragged = {
            name.removeprefix("offsets."): Ragged(offsets, arrays["values." + name.removeprefix("offsets.")])
            for name, offsets in arrays.items()
            if name.startswith("offsets.")
        }
        return cls(
            method=header["method"],
            fingerprint=header["fingerprint"],
            count=header["count"],
            arrays={name.removeprefix("array."): array for name, array in arrays.items() if name.startswith("array.")},
            ragged=ragged,
            texts={name: tuple(column) for name, column in header["texts"].items()},
        )


@dataclass(frozen=True)
class UserState:
    """What a method knows about one person: a batch of one, frozen, without the person's id."""

    batch: UserStates

    def __post_init__(self) -> None:
        if self.batch.count != 1:
            raise InputError(f"a UserState holds one person, not {self.batch.count}")

    @property
    def method(self) -> str:
        """Name of the method that made it."""
        return self.batch.method

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the fitted method it belongs to."""
        return self.batch.fingerprint

    def __getitem__(self, name: str) -> Any:
        """The person's own array or text of that name."""
        if name in self.batch.texts:
            return self.batch.texts[name][0]
        if name in self.batch.ragged:
            return self.batch.ragged[name][0]
        return self.batch.arrays[name][0]

    def to_bytes(self) -> bytes:
        """The state as one safetensors blob."""
        import json

        from safetensors.numpy import save

        header, arrays = self.batch.to_arrays()
        return save(
            {name: np.asarray(array, order="C") for name, array in arrays.items()}, {"palate": json.dumps(header)}
        )

    @classmethod
    def from_bytes(cls, blob: bytes) -> UserState:
        """The inverse of `to_bytes`."""
        import json

        from safetensors.numpy import load

        length = int.from_bytes(blob[:8], "little")
        header = json.loads(json.loads(blob[8 : 8 + length])["__metadata__"]["palate"])
        return cls(UserStates.from_arrays(header, load(blob)))


def array_digest(arrays: Mapping[str, np.ndarray], *labels: str) -> str:
    """A hex fingerprint of named arrays and labels, independent of the order of names."""
    digest = hashlib.blake2b(digest_size=16)
    for label in labels:
        digest.update(label.encode() + b"\0")
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        digest.update(f"{name}{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
