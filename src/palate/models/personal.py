"""What everybody who talks in texts shares: the `RewardModel` protocol, one person's model, and reading a history."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from safetensors import SafetensorError

from palate.data.dataset import PreferenceDataset
from palate.data.formats import USER_COLUMNS, read
from palate.errors import InputError
from palate.files import atomic_path
from palate.progress import Progress, silent
from palate.types import UserState, UserStates

if TYPE_CHECKING:
    from palate.models.export import Exported

__all__ = ["History", "PersonalModel", "Question", "RewardModel", "one_person", "read_state"]

Question: TypeAlias = tuple[str, str, str]
"""Prompt, left reply, right reply."""

History: TypeAlias = Any
"""One person's comparisons: a `PreferenceDataset`, or anything that `palate.data.read` reads (a user column may be
missing), or (prompt, chosen, rejected) triples; None for nobody in particular."""

_SOMEBODY = "somebody"


class RewardModel(Protocol):
    """A model of what people prefer, on texts."""

    scalar: bool

    def adapt(self, history: History = None, *, user_text: str = "", progress: Progress = silent) -> PersonalModel:
        """The model of one person, from what they chose and what they say of themselves."""

    def prefer(
        self,
        questions: Sequence[Question],
        states: UserStates,
        user_index: np.ndarray | None = None,
        *,
        progress: Progress = silent,
    ) -> np.ndarray:
        """(m,) probability that the person of each question prefers left; all of the first without `user_index`."""

    def reward(
        self,
        texts: Sequence[tuple[str, str]],
        states: UserStates,
        *,
        base_reward: Sequence[float] | None = None,
        progress: Progress = silent,
    ) -> np.ndarray:
        """(people, n) rewards of (prompt, reply) pairs; an `InputError` where `scalar` is False."""


@dataclass(frozen=True)
class PersonalModel:
    """What one person prefers.

    Args:
        model: the model that was adapted.
        state: what it knows about the person; a value without id, to be stored and given back.
    """

    model: RewardModel
    state: UserState

    def score(
        self,
        prompt: str,
        replies: Sequence[str],
        *,
        base_reward: Sequence[float] | None = None,
        progress: Progress = silent,
    ) -> np.ndarray:
        """How much the person likes each reply to a prompt.

        Args:
            prompt: the prompt they all answer.
            replies: n texts.
            base_reward: (n,) their scores, where the model was fitted on scores that are no function.
            progress: called while texts are embedded, or a judge is asked.

        Returns:
            (n,) float64. Rewards in logits: only their differences mean anything. Of a model without rewards (a judge):
            the share of the other replies to which each is preferred, from n(n - 1) / 2 questions.
        """
        _check_texts([prompt, *replies])
        if self.model.scalar:
            texts = [(prompt, reply) for reply in replies]
            return self.model.reward(texts, self.state.batch, base_reward=base_reward, progress=progress)[0]
        n = len(replies)
        first, second = np.triu_indices(n, k=1)
        pairs = zip(first.tolist(), second.tolist(), strict=True)
        questions = [(prompt, replies[i], replies[j]) for i, j in pairs]
        won = self.model.prefer(questions, self.state.batch, progress=progress)
        wins = np.bincount(first, won, n) + np.bincount(second, 1.0 - won, n)
        return wins / (n - 1) if n > 1 else np.full(n, 0.5)

    def prefer(self, prompt: str, left: str, right: str, *, base_reward: tuple[float, float] | None = None) -> float:
        """Probability that the person prefers `left` to `right`.

        Args:
            prompt: the prompt they both answer.
            left, right: two replies.
            base_reward: their scores, where the model was fitted on scores that are no function.
        """
        _check_texts([prompt, left, right])
        given = {} if base_reward is None else {"base_reward": [base_reward]}
        return float(self.model.prefer([(prompt, left, right)], self.state.batch, **given)[0])

    def export_classifier(self, folder: str | os.PathLike[str], *, dtype: str = "float32") -> Exported:
        """Write this person's reward as a sequence classifier; see `palate.models.export.export_classifier`."""
        from palate.models.export import export_classifier

        return export_classifier(self.model, self.state.batch, folder, dtype=dtype)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the person's state, atomically; `load_person` of the model reads it.

        Raises:
            StorageError: the disk is full, or the folder cannot be written.
        """
        with atomic_path(path) as temporary:
            temporary.write_bytes(self.state.to_bytes())


def read_state(path: str | os.PathLike[str]) -> UserState:
    """The state that `PersonalModel.save` wrote.

    Raises:
        InputError: there is no such file, or it holds no state.
    """
    try:
        return UserState.from_bytes(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); adapt first and save the state") from None
    except (SafetensorError, ValueError, KeyError, OverflowError, MemoryError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{path}: not the state of a person ({reason[:80]}); adapt again and save the state") from None


def one_person(history: History) -> PreferenceDataset | None:
    """The comparisons of one person as a data set; None for no history at all.

    Raises:
        InputError: they are of several people.
        DataError: rows are bad.
    """
    if history is None or (isinstance(history, Sequence) and not len(history)):
        return None
    dataset = read(_named(history))
    people = np.unique(dataset.user)
    if len(people) > 1:
        few = ", ".join(repr(dataset.users[i]) for i in people[:3])
        raise InputError(f"the history is of {len(people)} people ({few}, …); adapt to one at a time")
    return dataset


def _named(history: History) -> Any:
    """The history with a user column, where it may lack one."""
    if isinstance(history, Sequence) and not isinstance(history, str):
        return [_row(row) for row in history]
    columns = getattr(history, "columns", None)
    if columns is None or {str(column).strip().lower() for column in columns} & set(USER_COLUMNS):
        return history
    if hasattr(history, "with_columns"):
        import polars as pl

        return history.with_columns(pl.lit(_SOMEBODY).alias("user"))
    return history.assign(user=_SOMEBODY)


def _row(row: Any) -> Any:
    if isinstance(row, Mapping):
        return row if {str(name).strip().lower() for name in row} & set(USER_COLUMNS) else {**row, "user": _SOMEBODY}
    if isinstance(row, Sequence) and not isinstance(row, str) and len(row) == 3:
        return {"user": _SOMEBODY, "prompt": row[0], "chosen": row[1], "rejected": row[2]}
    raise InputError(f"history row {row!r}: give a dictionary, or a triple of prompt, chosen and rejected")


def _check_texts(texts: Sequence[str]) -> None:
    for text in texts:
        if not isinstance(text, str):
            raise InputError(f"{text!r} is a {type(text).__name__}; prompts and replies must be texts")
