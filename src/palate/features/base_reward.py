"""The reward model that somebody already has: its scores of the items, from a classifier, columns, a function or an array.

Palate leaves that model as it is and learns what each person wants on top of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
from pydantic import Field

from palate.config import Config
from palate.errors import ConfigError, FingerprintError, InputError
from palate.features.base import Featurizer, fingerprint_of
from palate.features.cache import FeatureCache, embed_cached
from palate.progress import Progress, silent

if TYPE_CHECKING:
    from palate.backends.causal import ReplyLikelihood
    from palate.backends.classifier import SequenceScores
    from palate.data import PreferenceDataset

__all__ = [
    "BaseReward",
    "ClassifierScores",
    "LikelihoodScores",
    "ScoreColumns",
    "load_base_reward",
    "name_base_reward",
    "save_base_reward",
    "score_items",
    "score_texts",
]

_VERSION = 1
"""Raise it when the same model gives other scores."""

_TOLERANCE = 1e-6


class ClassifierScores(Featurizer):
    """Scores of a sequence classifier of transformers with one label, one number per (prompt, reply).

    See `palate.backends.classifier.SequenceScores` for the text it reads. Nothing is loaded before the first `embed`.
    """

    name: ClassVar[str] = "reward model"
    dim = 1

    class Config(Config):
        """Settings of a base reward that a classifier gives."""

        model: str = Field(
            min_length=1, description="Model folder, or name on the hub, of a classifier with one label."
        )
        max_length: int = Field(
            2048, ge=16, description="Most tokens read; a longer text loses its middle. Cut to what the model reads."
        )
        dtype: str = Field("auto", description="Number type: auto, float32, bfloat16 or float16.")
        device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps.")
        batch_tokens: int | None = Field(
            None, ge=1, description="Most tokens in a batch, with padding. None: 1,024 on a CPU, 32,768 on a GPU."
        )

    def __init__(self, config: Config | None = None, **settings: Any) -> None:
        self.config = self.Config(**settings) if config is None else config

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.config.model!r})"

    @cached_property
    def max_length(self) -> int:
        """Most tokens read, no more than the model can."""
        from palate.backends.huggingface import model_config

        about = model_config(self.config.model)
        limits = (about.get(name) for name in ("max_position_embeddings", "n_positions"))
        return min([self.config.max_length, *(limit for limit in limits if isinstance(limit, int) and limit > 0)])

    @cached_property
    def fingerprint(self) -> str:
        """Fixed by the weights, the chat template and the settings that change a score."""
        from palate.backends.huggingface import model_file, revision

        template = model_file(self.config.model, "chat_template.jinja")
        settings = {
            "weights": revision(self.config.model),
            "template": "" if template is None else template.read_text(encoding="utf-8"),
            "max_length": self.max_length,
            "dtype": self.config.dtype,
        }
        return fingerprint_of(self.name, _VERSION, settings)

    @cached_property
    def _scores(self) -> SequenceScores:
        from palate.backends.classifier import SequenceScores

        config = self.config
        return SequenceScores(config.model, dtype=config.dtype, device=config.device, max_length=self.max_length)

    def embed(self, items: Sequence[tuple[str, str]], *, progress: Progress = silent) -> np.ndarray:
        """(n, 1) float32 scores.

        Raises:
            InputError: there is no such model, it is no reward model, or it gave NaN.
        """
        if len(items) == 0:
            return np.zeros((0, 1), np.float32)
        return self._scores.score(items, batch_tokens=self.config.batch_tokens, progress=progress)[:, None]


class LikelihoodScores(ClassifierScores):
    """How likely a language model finds each reply: mean log-probability of its tokens after the prompt, in nats.

    A reward for those who have no reward model. Nothing is loaded before the first `embed`.
    """

    name: ClassVar[str] = "likelihood"

    class Config(ClassifierScores.Config):
        """Settings of a base reward that a language model gives."""

        model: str = Field(
            "smollm2", min_length=1, description="Bundled name, model folder, or name on the hub, of a causal model."
        )

    @cached_property
    def _scores(self) -> ReplyLikelihood:
        from palate.backends.causal import ReplyLikelihood

        config = self.config
        return ReplyLikelihood(config.model, dtype=config.dtype, device=config.device, max_length=self.max_length)


_SCORERS: Mapping[str, type[ClassifierScores]] = {"classifier": ClassifierScores, "likelihood": LikelihoodScores}
"""Reward models by the kind that a saved model names."""

_LIKELIHOOD = "likelihood:"


@dataclass(frozen=True)
class ScoreColumns:
    """Scores that stand beside each comparison, one for each side, in extra columns of the data.

    Args:
        name: "rm" for the columns `left_rm` and `right_rm`, `rm_left` and `rm_right`, or, for the preferred and the other
            reply, `chosen_rm` and `rejected_rm` or `rm_chosen` and `rm_rejected`; or both columns by name, as in
            "left_score/right_score".
    """

    name: str

    def columns(self, dataset: PreferenceDataset) -> tuple[str, str] | None:
        """The two columns in this data set; None where it has no such pair."""
        first, slash, second = self.name.partition("/")
        pairs = [(first, second)] if slash else []
        if not slash:
            for one, other in (("left", "right"), ("chosen", "rejected")):
                pairs += [(f"{one}_{first}", f"{other}_{first}"), (f"{first}_{one}", f"{first}_{other}")]
        return next((pair for pair in pairs if all(column in dataset.extra for column in pair)), None)

    def scores(self, dataset: PreferenceDataset) -> np.ndarray:
        """(n_items,) float64.

        Raises:
            InputError: the columns are not there or hold no numbers; an item has no score, or several.
        """
        found = self.columns(dataset)
        if found is None:
            raise InputError(_no_columns(self.name, dataset))
        try:
            sides = [np.asarray(dataset.extra[column], np.float64) for column in found]
        except (TypeError, ValueError):
            raise InputError(
                f"base_reward={self.name!r}: {' or '.join(found)} holds something that is no number"
            ) from None
        if any("chosen" in column for column in found):
            sides = _by_side(self.name, dataset, *sides)
        return _one_each(self.name, dataset, np.concatenate(sides))


BaseReward: TypeAlias = (
    "np.ndarray | str | ScoreColumns | ClassifierScores | Callable[[Sequence[tuple[str, str]]], Sequence[float]]"
)
"""What scores items: an array in the order of `item_texts()`; a function from (prompt, reply) pairs; a reward model's
name or folder; "likelihood:smollm2", any language model's likelihood; the name of score columns; "none"."""


def name_base_reward(base_reward: Any, dataset: PreferenceDataset) -> Any:
    """What a name stands for in this data set: columns that it has, else a model; anything else is returned.

    Raises:
        InputError: a name that is neither a pair of columns nor possibly a model.
    """
    if isinstance(base_reward, os.PathLike):
        base_reward = os.fspath(base_reward)
    if not isinstance(base_reward, str):
        return base_reward
    if base_reward == "none":
        return None
    columns = ScoreColumns(base_reward)
    if columns.columns(dataset) is not None:
        return columns
    if base_reward.startswith(_LIKELIHOOD):
        return LikelihoodScores(model=base_reward.removeprefix(_LIKELIHOOD))
    if "/" in base_reward or Path(base_reward).expanduser().exists():
        return ClassifierScores(model=base_reward)
    raise InputError(_no_columns(base_reward, dataset) + ", and there is no such model folder")


def score_items(
    dataset: PreferenceDataset,
    base_reward: Any,
    *,
    cache: bool | str | os.PathLike[str] | None = True,
    progress: Progress = silent,
) -> np.ndarray | None:
    """(n_items,) float64 base rewards of a data set's items; None where there is no base reward.

    Args:
        dataset: whose items.
        base_reward: see `BaseReward`.
        cache: where a reward model's scores are kept, as in `palate.features.featurize`.
        progress: called with the number of texts scored.

    Raises:
        InputError: scores that are missing, contradict each other, are NaN, or are the same for all items.
    """
    source = name_base_reward(base_reward, dataset)
    if source is None:
        return None
    if isinstance(source, ScoreColumns):
        scores = source.scores(dataset)
    else:
        found = score_texts(source, dataset.item_texts(), cache=cache, progress=progress)
        scores = np.asarray(source if found is None else found, np.float64)
    if scores.shape != (dataset.n_items,):
        raise InputError(
            f"base_reward has shape {scores.shape}; give one score for each of the {dataset.n_items} items, ({dataset.n_items},)"
        )
    if len(scores) > 1 and np.ptp(scores) == 0.0:
        raise InputError(
            f"base_reward is {scores[0]:.6g} for all {len(scores)} items; it prefers nothing: mend it or leave it out"
        )
    return scores


def score_texts(
    base_reward: Any,
    texts: Sequence[tuple[str, str]],
    *,
    cache: bool | str | os.PathLike[str] | None = True,
    progress: Progress = silent,
) -> np.ndarray | None:
    """(n,) float64 scores of any texts; None where the base reward knows those of its data only (columns, an array).

    Args:
        base_reward: a `ClassifierScores`, a function, or something that cannot score new texts.
        texts: n pairs of prompt and reply.
        cache, progress: as in `score_items`.
    """
    if isinstance(base_reward, ClassifierScores):
        store = None
        if cache is not None and cache is not False:
            store = FeatureCache(base_reward.fingerprint, None if cache is True else cache)
        return embed_cached(base_reward, texts, cache=store, progress=progress)[:, 0].astype(np.float64)
    return np.asarray(base_reward(texts), np.float64) if callable(base_reward) else None


def save_base_reward(base_reward: Any) -> dict[str, Any] | None:
    """What a saved model must keep to find its base reward again; None for functions and arrays, which have no name."""
    if isinstance(base_reward, ScoreColumns):
        return {"kind": "columns", "name": base_reward.name}
    if isinstance(base_reward, ClassifierScores):
        settings = base_reward.config.model_dump(mode="json")
        kind = next(name for name, scorer in _SCORERS.items() if scorer is type(base_reward))
        return {"kind": kind, "settings": settings, "fingerprint": base_reward.fingerprint}
    return None


def load_base_reward(saved: Mapping[str, Any] | str | None) -> Any:
    """The inverse of `save_base_reward`; a bare name is the columns of an early version.

    Raises:
        ConfigError: it was saved as something this Palate does not know.
        FingerprintError: the reward model of that name now gives other scores.
    """
    if saved is None:
        return None
    if isinstance(saved, str):
        return ScoreColumns(saved)
    if saved.get("kind") == "columns":
        return ScoreColumns(saved["name"])
    if saved.get("kind") in _SCORERS:
        found = _SCORERS[saved["kind"]](**saved["settings"])
        if found.fingerprint != saved["fingerprint"]:
            raise FingerprintError(
                f"base reward {found.config.model} is {found.fingerprint[:12]}, the model was fitted on "
                f"{saved['fingerprint'][:12]}; bring the old weights back, or fit again"
            )
        return found
    raise ConfigError(f"base reward of kind {saved.get('kind')!r} is unknown; pass base_reward=, as in the fit")


def _no_columns(name: str, dataset: PreferenceDataset) -> str:
    there = ", ".join(dataset.extra) or "none"
    wanted = " or ".join(name.split("/")) if "/" in name else f"left_{name} and right_{name} (or chosen_, rejected_)"
    return f"base_reward={name!r}: no column {wanted}; the extra columns are: {there}"


def _by_side(name: str, dataset: PreferenceDataset, chosen: np.ndarray, rejected: np.ndarray) -> list[np.ndarray]:
    """Scores of left and right from those of the preferred and the other reply."""
    if np.any(dataset.label == 0.5):
        raise InputError(
            f"base_reward={name!r}: {int(np.sum(dataset.label == 0.5))} rows are ties, where nothing was chosen; "
            "give columns for left and right"
        )
    left = dataset.label > 0.5
    return [np.where(left, chosen, rejected), np.where(left, rejected, chosen)]


def _one_each(name: str, dataset: PreferenceDataset, scores: np.ndarray) -> np.ndarray:
    """(n_items,) the score of each item, which must be the same in every row that has it."""
    item = np.concatenate([dataset.left, dataset.right])
    lowest = np.full(dataset.n_items, np.inf)
    highest = np.full(dataset.n_items, -np.inf)
    with np.errstate(invalid="ignore"):
        np.minimum.at(lowest, item, scores)
        np.maximum.at(highest, item, scores)
        apart = highest - lowest > _TOLERANCE * np.maximum(1.0, np.abs(highest))
    wrong = np.flatnonzero(apart | ~np.isfinite(lowest) | ~np.isfinite(highest))
    if len(wrong):
        prompt, response = dataset.item_texts()[wrong[0]]
        raise InputError(
            f"base_reward={name!r}: {len(wrong)} items have no score or several, such as {response[:40]!r} "
            f"to {prompt[:30]!r}; give each item one finite score"
        )
    return lowest
