"""Side features of people: what they say of themselves, and attributes such as a country, as numbers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from palate.errors import InputError
from palate.features.base import Featurizer
from palate.features.table import embed_items
from palate.progress import Progress, silent
from palate.types import Comparisons, Items

if TYPE_CHECKING:
    from palate.data import PreferenceDataset
    from palate.models.base import Method

__all__ = ["USER_TEXT", "PeopleFeatures", "attributes_of"]

USER_TEXT = "user_text"
"""The name of what people say of themselves, beside the names of attribute columns."""

_MOST_VALUES = 50


@dataclass(frozen=True)
class PeopleFeatures:
    """How people become numbers: their text embedded, each attribute one column per value; NaN for what is not known.

    Args:
        text: whether the user's text is embedded.
        values: attribute -> its values in the training data, sorted.
    """

    text: bool
    values: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, dataset: PreferenceDataset, names: Sequence[str], method: Method | None = None) -> Self:
        """The values that the attributes have in a data set.

        Args:
            dataset: of the training people.
            names: "user_text", or extra columns of the data.
            method: that is to use them.

        Raises:
            InputError: the method does not; there is no such text or column, or it has as many values as an id would.
        """
        if method is not None and not (method.traits.linear and method.traits.adapts):
            raise InputError(
                f"{method.name} does not use what is known about people; use hierarchical or factor, or no side="
            )
        if USER_TEXT in names and dataset.user_text is None:
            raise InputError(f"{dataset.name} says nothing about people in words: no column {USER_TEXT} with any text")
        values = {}
        for name in dict.fromkeys(names):
            if name == USER_TEXT:
                continue
            found = tuple(sorted({value for value in attributes_of(dataset, name) if value}))
            if not 2 <= len(found) <= _MOST_VALUES:
                raise InputError(
                    f"column {name!r} has {len(found)} values; an attribute of people has 2 to {_MOST_VALUES}: group them, "
                    "or leave it out"
                )
            values[name] = found
        return cls(USER_TEXT in names, values)

    def __call__(
        self,
        texts: Sequence[str],
        attributes: Mapping[str, Sequence[str]],
        featurizer: Featurizer,
        *,
        cache: bool | str | os.PathLike[str] | None = True,
        progress: Progress = silent,
    ) -> np.ndarray:
        """(n, q) float64 side features of n people.

        Args:
            texts: what each says of themselves, "" for nothing.
            attributes: name -> value of each person, "" for unknown; a value that training did not have is unknown too.
            featurizer: embeds the texts.
            cache, progress: as in `palate.features.featurize`.

        Raises:
            InputError: an attribute that was not learned.
        """
        strange = [name for name in attributes if name not in self.values]
        if strange:
            raise InputError(
                f"attribute {strange[0]!r} was not learned; the model knows: {', '.join(self.values) or 'none'}"
            )
        n = len(texts)
        parts = [np.zeros((n, 0))]
        if self.text:
            vectors = np.full((n, featurizer.dim), np.nan)
            said = [person for person, text in enumerate(texts) if text.strip()]
            if said:
                # As a reply: that is the text which every featurizer reads.
                pairs = [("", texts[person]) for person in said]
                vectors[said] = embed_items(featurizer, pairs, cache=cache, progress=progress)
            parts.append(vectors)
        for name, known in self.values.items():
            column = attributes.get(name, [""] * n)
            table = np.full((n, len(known)), np.nan)
            for person, value in enumerate(column):
                if value in known:
                    table[person] = [float(value == other) for other in known]
            parts.append(table)
        return np.concatenate(parts, axis=1)

    def beside(
        self, comparisons: Comparisons, dataset: PreferenceDataset, featurizer: Featurizer, **options: Any
    ) -> Comparisons:
        """The comparisons of a data set with the side features of its people; columns that it lacks are unknown."""
        if not self.text and not self.values:
            return comparisons
        texts = dataset.user_text or [""] * dataset.n_users
        attributes = {name: attributes_of(dataset, name) for name in self.values if name in dataset.extra}
        return replace(comparisons, user_features=self(texts, attributes, featurizer, **options))

    def one(
        self, text: str, attributes: Mapping[str, str], dim: int, featurizer: Featurizer, **options: Any
    ) -> Comparisons:
        """One person without any comparison, over no items of width `dim`."""
        features = self([text], {name: [value] for name, value in attributes.items()}, featurizer, **options)
        items, none = Items.of(np.zeros((0, dim)), base_reward=np.zeros(0)), np.zeros(0)
        return Comparisons.of(items, none, none, none, none, n_users=1, user_features=features)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the settings of a saved model."""
        return {"text": self.text, "values": {name: list(values) for name, values in self.values.items()}}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(saved["text"], {name: tuple(values) for name, values in saved["values"].items()})


def attributes_of(dataset: PreferenceDataset, column: str) -> tuple[str, ...]:
    """The value of an extra column for each person, the first that is not empty in row order; "" where there is none.

    Raises:
        InputError: there is no such column.
    """
    if column not in dataset.extra:
        there = ", ".join(dataset.extra) or "none"
        raise InputError(f"{dataset.name} has no column {column!r}; the extra columns are: {there}")
    found = [""] * dataset.n_users
    for person, value in zip(dataset.user.tolist(), dataset.extra[column].tolist(), strict=True):
        text = "" if value is None or value != value else str(value).strip()
        if text and not found[person]:
            found[person] = text
    return tuple(found)
