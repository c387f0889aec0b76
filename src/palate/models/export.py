"""One person's reward, or that of a group of people, as a plain sequence classifier.

For a linear method on features of a language model, reward_u(x) = w_u·x + c with x the pooled hidden states; so language
model, pooling and w_u together are a sequence classifier with one label. What is known of texts by their identity alone
(item effects) is left out: the exported reward of a training text is that of an unknown text.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from palate.errors import InputError
from palate.features.language_model import LanguageModelFeatures
from palate.files import write_text
from palate.rng import derive
from palate.types import Items, UserStates

if TYPE_CHECKING:
    from palate.models.base import Method
    from palate.models.personal import RewardModel
    from palate.models.reward_model import FeatureRewardModel

__all__ = ["Exported", "cluster_people", "export_classifier", "linear_heads", "states_of"]

_PROBES = 8


@dataclass(frozen=True)
class Exported:
    """What `export_classifier` wrote.

    Args:
        folder: where it is.
        stock: True for a class of transformers; False where loading needs `trust_remote_code=True`.
        n_people: how many people's mean reward it is.
    """

    folder: Path
    stock: bool
    n_people: int


def export_classifier(
    model: RewardModel, states: UserStates, folder: str | os.PathLike[str], *, dtype: str = "float32"
) -> Exported:
    """Write the mean reward of some people as a sequence classifier.

    `AutoModelForSequenceClassification.from_pretrained(folder)` gives the reward up to a constant. A stock class of
    transformers serves where the features are the last token of the last layer of a causal model; all other features
    (the default mean over the reply at a middle layer; encoders) need the small `modeling_palate.py` that is written
    beside the weights, and `trust_remote_code=True`. Texts are made by the exported tokenizer, `tokenizer(prompt, reply)`.

    The weights say what these people prefer: treat the folder as personal data.

    Args:
        model: fitted, with a linear method on features of a language model.
        states: of one person, or of several whose mean reward is wanted.
        folder: made where it is missing.
        dtype: number type of the language model on disk: float32, bfloat16 or float16.

    Raises:
        InputError: another kind of features, a method that is not linear in them, or a base reward below it.
        StorageError: the folder cannot be written.
    """
    featurizer = getattr(model, "featurizer", None)
    if not isinstance(featurizer, LanguageModelFeatures):
        what = type(model).__name__ if featurizer is None else f"a model on {featurizer.name} features"
        raise InputError(f"{what} cannot be exported as a classifier; fit on features of a Hugging Face model")
    if dtype not in ("float32", "bfloat16", "float16"):
        raise InputError(f"dtype={dtype!r}: must be float32, bfloat16 or float16")
    if len(states) == 0:
        raise InputError("no people to export; name at least one")
    weights, biases = linear_heads(model.method, states)
    from palate.backends.classifier_export import write_classifier

    target, recipe = Path(folder), featurizer.recipe()
    form = write_classifier(recipe, weights.mean(0), float(biases.mean()), target, dtype=dtype)
    made = Exported(target, form == "stock", len(states))
    write_text(target / "README.md", _readme(made, uses_prompt=recipe.template.uses_prompt))
    return made


def linear_heads(method: Method, states: UserStates) -> tuple[np.ndarray, np.ndarray]:
    """Weights (n, d) and constants (n,) of each person's reward, float64, on texts of unknown identity.

    Read off the method's own rewards at the origin and the unit vectors, and checked at random points.

    Raises:
        InputError: the reward is not linear in the features, or stands on a base reward.
    """
    if method.has_base_:
        raise InputError(
            f"{method.name} was fitted on top of a base reward, which a classifier of its own cannot hold; fit without "
            "base_reward, or add the two models' scores yourself"
        )
    if not method.traits.scalar:
        raise InputError(
            f"{method.name} has no reward, only preferences; export a linear method (hierarchical, factor)"
        )
    d = method.dim_
    probes = derive(0, "export").normal(size=(_PROBES, d)).astype(np.float32)
    points = np.concatenate([np.zeros((1, d)), np.eye(d), probes])
    reward = method.reward(Items.of(points), states)
    bias, weight = reward[:, 0], reward[:, 1 : d + 1] - reward[:, :1]
    line = weight @ probes.T.astype(np.float64) + bias[:, None]
    if not np.allclose(line, reward[:, d + 1 :], rtol=1e-4, atol=1e-4 * (1.0 + np.abs(reward).max())):
        raise InputError(
            f"{method.name} is not linear in the features and cannot be a linear head; use hierarchical, factor, "
            "individual or pooled"
        )
    return weight, bias


def cluster_people(model: FeatureRewardModel, n: int) -> list[tuple[str, ...]]:
    """The training people in `n` groups of like taste, the largest group first (k-means on their weights).

    Args:
        model: fitted, with its people.
        n: how many groups.

    Raises:
        InputError: fewer people than groups, or the model was saved without its people.
    """
    from sklearn.cluster import KMeans

    states, users = model.method.states_, model.users_
    if users is None:
        raise InputError("this model was saved without its people; save it with people=True, or export a single person")
    if not 1 <= n <= len(users):
        raise InputError(f"{n} clusters of {len(users)} people; ask for 1 to {len(users)}")
    # The axes of a linear method are in units of the population's own spread; raw weights are not.
    tastes = states.arrays["mean"] if model.method.traits.linear else linear_heads(model.method, states)[0]
    label = KMeans(n, n_init=10, random_state=0).fit_predict(tastes)
    groups = [tuple(users[i] for i in np.flatnonzero(label == group)) for group in range(n)]
    return sorted(groups, key=lambda group: (-len(group), group))


def states_of(
    model: FeatureRewardModel,
    user: str | None = None,
    users: Sequence[str] | None = None,
    cluster: tuple[int, int] | None = None,
) -> UserStates:
    """The states of one training person, of several, or of the cluster `(which, of how many)`, counted from 1.

    Raises:
        InputError: not exactly one of the three, or somebody the model does not know.
    """
    if sum(choice is not None for choice in (user, users, cluster)) != 1:
        raise InputError("say whom to export in one way: user=, users= or cluster=")
    if cluster is not None:
        which, n = cluster
        groups = cluster_people(model, n)
        if not 1 <= which <= n:
            raise InputError(f"cluster {which} of {n}: there are 1 to {n}")
        users = groups[which - 1]
    wanted = [user] if user is not None else list(users or ())
    if not wanted:
        raise InputError("users= is empty; name at least one person")
    return UserStates.concatenate([model.person(name).state.batch for name in wanted])


def _readme(made: Exported, *, uses_prompt: bool) -> str:
    trust = "" if made.stock else ", trust_remote_code=True"
    texts = "prompts, replies" if uses_prompt else "replies"
    whose = "one person" if made.n_people == 1 else f"{made.n_people} people (their mean)"
    code = (
        "`modeling_palate.py` beside the weights is the model: a language model cut at one layer, pooled over the reply, and "
        "a linear head. Stock classes read the last token of the last layer only, hence `trust_remote_code=True`."
        if not made.stock
        else "A stock class of transformers; no code is loaded from this folder."
    )
    return f"""---
library_name: transformers
tags: [reward-model, personalization, palate]
---

# The reward of {whose}

```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

model = AutoModelForSequenceClassification.from_pretrained(folder{trust})
tokenizer = AutoTokenizer.from_pretrained(folder{trust})
batch = tokenizer({texts}, padding=True, return_tensors="pt")
rewards = model(**batch).logits[:, 0]
```

Rewards are logits up to a constant: only their differences between replies to one prompt mean anything. {code}

The weights say what {"this person prefers" if made.n_people == 1 else "these people prefer"}: they are personal data.
"""
