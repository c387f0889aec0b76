"""Value heads: what will come of a reply that has begun, one head for each base reward (VAS).

    V_k(x, y_≤t) = E[φ_k(x, y) | x, y_≤t],   y completed by the plain model;      V_u = Σ_k λ_u,k V_k

φ_k are the base rewards of a linear method, its basis, and λ_u a person's weights: heads are learned once, and weights
combine them at decode time. A head is linear in h_t = (mean state of the reply so far, state of its last token, 1), and is
fitted by least-squares temporal differences with traces, the fixed point that TD(λ) is on its way to:

    Σ_t z_t (h_t − h_{t+1})ᵀ w_k + η w_k = Σ z_T φ_k(x, y),      z_t = λ z_{t−1} + h_t,      h_{T+1} = 0

(no discount, a reward at the end alone). λ = 1 is ridge regression on final rewards. η is chosen on prompts held out.

Source: Han et al. 2024 (VAS; λ = .95, γ = 1); LSTD(λ) by Boyan 1999.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from palate.errors import FingerprintError, InputError
from palate.files import atomic_path
from palate.generate.base import prompt_text
from palate.generate.reading import PrefixFeatures, can_grow
from palate.models.linear import LinearMethod
from palate.models.reward_model import FeatureRewardModel
from palate.policies.generation import Sampling
from palate.progress import Progress, silent
from palate.rng import RNGLike, normalise
from palate.types import Items, UserState

if TYPE_CHECKING:
    from palate.features.language_model import LanguageModelFeatures
    from palate.generate.guided import Steering
    from palate.generate.reward_guide import Share
    from palate.generate.samplers import LocalSampler
    from palate.policies.sequences import Prompt

__all__ = ["ValueGuide", "ValueHeads", "fit_values", "least_squares_td"]

_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class ValueHeads:
    """One value head for each base reward of a fitted method, and one for the reward that all share.

    Args:
        fingerprint: of the method.
        centre, scale: (p,) of h_t, which is centred and scaled before the heads.
        weights: (p + 1, K + 1); the last row is the constant, the last column the shared reward.
        explained: (K + 1,) share of the final rewards' variance within prompts that the heads foretell over all prefixes of
            held-out prompts; 0 or less says that a head knows nothing.
    """

    fingerprint: str
    centre: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    explained: np.ndarray

    def values(self, mean: np.ndarray, last: np.ndarray) -> np.ndarray:
        """(k, K + 1) values of k prefixes with these mean states (k, d) and last states (k, d)."""
        states = (np.concatenate([mean, last], 1) - self.centre) / self.scale
        return states @ self.weights[:-1] + self.weights[-1]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the heads as one safetensors file, atomically.

        Raises:
            StorageError: the disk is full, or the folder cannot be written.
        """
        from safetensors.numpy import save_file

        names = ("centre", "scale", "weights", "explained")
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in names}
        with atomic_path(path) as temporary:
            save_file(arrays, temporary, {"palate-values": self.fingerprint})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: there is no such file, or it holds no value heads.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                arrays: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return cls(fingerprint=file.metadata()["palate-values"], **arrays)
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise InputError(f"{path}: no value heads ({error}); make them with fit_values and save them") from None


class ValueGuide:
    """g_u(x, y_≤t) = Σ_k λ_u,k V_k(x, y_≤t): where the text is going, in the rewards of one person.

    To end the reply is worth its reward as it stands.

    Args:
        model: a reward model with a linear method, on features that `RewardGuide` reads fast.
        heads: from `fit_values` with this model.
        share: as in `RewardGuide`.

    Raises:
        FingerprintError: the heads are of another model.
    """

    def __init__(self, model: FeatureRewardModel, heads: ValueHeads, *, share: Share = "personal") -> None:
        _check_linear(model)
        if heads.fingerprint != model.fingerprint:
            raise FingerprintError(
                f"value heads of {heads.fingerprint[:12]} do not belong to the model {model.fingerprint[:12]}; fit them again"
            )
        if share not in ("personal", "whole"):
            raise InputError(f"share={share!r}: must be personal or whole")
        self.model, self.heads, self.share = model, heads, share
        self.prior = model.adapt().state

    def open(self, messages: Prompt, state: UserState, sampler: LocalSampler, room: int) -> Steering:
        """See `palate.generate.guided.Guide.open`."""
        _check_reads(self.model, sampler)
        lift, shared = state["mean"], 1.0
        if self.share == "personal":
            lift, shared = lift - self.prior["mean"], 0.0
        prefix = PrefixFeatures(self.model.featurizer, prompt_text(messages), room)
        return _Foretelling(prefix, self, np.append(lift, shared), sampler.stops)


class _Foretelling:
    """Values of the prefixes that each token would make."""

    def __init__(self, prefix: PrefixFeatures, guide: ValueGuide, lift: np.ndarray, stops: frozenset[int]) -> None:
        self._prefix, self._guide, self._lift, self._stops = prefix, guide, lift, stops

    def score(self, tokens: np.ndarray, logits: np.ndarray) -> np.ndarray:
        means, states = self._prefix.look(tokens)
        scores = self._guide.heads.values(means, states) @ self._lift
        ends = np.isin(tokens, list(self._stops))
        if ends.any():
            if self._prefix.count:
                scores[ends] = _base_rewards(self._guide.model.method, self._prefix.mean[None])[0] @ self._lift
            elif not ends.all():
                scores[ends] = scores[~ends].mean()
        return scores

    def accept(self, token: int) -> None:
        self._prefix.accept(token)


def fit_values(
    model: FeatureRewardModel,
    sampler: LocalSampler,
    prompts: Sequence[Prompt],
    *,
    replies: int = 4,
    trace: float = 0.95,
    max_tokens: int = 96,
    temperature: float = 1.0,
    rng: RNGLike = 0,
    progress: Progress = silent,
) -> ValueHeads:
    """Value heads from the plain model's own replies to some prompts.

    Args:
        model: a reward model with a linear method (hierarchical, factor) on features that `RewardGuide` reads fast.
        sampler: the plain model.
        prompts: at least four, like those to be answered; a fifth of them judges η.
        replies: sampled to each.
        trace: λ of the traces.
        max_tokens, temperature: of the replies.
        rng: of the draws.
        progress: called with the number of prompts done.

    Raises:
        InputError: too few prompts, or a model whose replies cannot be read token by token.
    """
    _check_linear(model)
    _check_reads(model, sampler)
    if len(prompts) < 4:
        raise InputError(f"{len(prompts)} prompts; value heads need at least 4, of which one judges")
    if not 0 <= trace <= 1:
        raise InputError(f"trace={trace}: must be from 0 to 1")
    if replies < 2 or not temperature > 0:
        raise InputError(
            f"replies={replies}, temperature={temperature:g}: what judges the heads is how replies to one prompt differ; draw at least "
            "2 at a temperature above 0"
        )
    rng, sampling = normalise(rng), Sampling(max_tokens=max_tokens, temperature=temperature)
    courses: list[tuple[int, np.ndarray, np.ndarray]] = []
    for number, prompt in enumerate(prompts):
        texts = sampler.sample(prompt, replies, rng=rng, sampling=sampling).texts
        found = [_course(model.featurizer, prompt_text(prompt), text) for text in texts if text]
        courses += [
            (number, course, _base_rewards(model.method, course[-1:, : course.shape[1] // 2])[0]) for course in found
        ]
        progress(number + 1, len(prompts), "value heads")
    judging = {number for number in range(len(prompts)) if number % 5 == 4} or {len(prompts) - 1}
    for part, told in ((True, "judge"), (False, "learn from")):
        if not any((number in judging) is part for number, _, _ in courses):
            raise InputError(
                f"the plain model's replies to the prompts that value heads {told} are all empty; give other prompts"
            )
    everything = np.concatenate([course for _, course, _ in courses])
    centre, scale = everything.mean(0), np.maximum(everything.std(0), 1e-6)
    scaled = [(number, _with_constant((course - centre) / scale), final) for number, course, final in courses]
    learning = [(course, final) for number, course, final in scaled if number not in judging]
    held = [row for row in scaled if row[0] in judging]
    tries = [least_squares_td(learning, trace, penalty) for penalty in _PENALTIES]
    best = int(np.argmax([np.mean(_explained(held, weights)) for weights in tries]))
    weights = least_squares_td([(course, final) for _, course, final in scaled], trace, _PENALTIES[best])
    return ValueHeads(model.fingerprint, centre, scale, weights, _explained(held, tries[best]))


def least_squares_td(courses: Sequence[tuple[np.ndarray, np.ndarray]], trace: float, penalty: float) -> np.ndarray:
    """(p, K) weights of linear values from courses that end with rewards; see the module's first lines.

    Args:
        courses: (states (T, p), final rewards (K,)) each.
        trace: λ.
        penalty: η per state seen; the last coordinate, the constant, is not penalised.
    """
    p, k = courses[0][0].shape[1], len(courses[0][1])
    left, right, seen = np.zeros((p, p)), np.zeros((p, k)), 0
    for states, final in courses:
        traces = np.empty_like(states)
        trailing = np.zeros(p)
        for step, state in enumerate(states):
            trailing = trace * trailing + state
            traces[step] = trailing
        following = np.vstack([states[1:], np.zeros(p)])
        left += traces.T @ (states - following)
        right += np.outer(traces[-1], final)
        seen += len(states)
    ridge = np.full(p, penalty * seen)
    ridge[-1] = 1e-9 * seen
    return np.linalg.solve(left + np.diag(ridge), right)


def _course(features: LanguageModelFeatures, prompt: str, reply: str) -> np.ndarray:
    """(T, 2d) float64: after each token of a reply, the mean state so far and the state of the token."""
    text = features.encode_texts([(prompt, reply)])[0]
    states, _ = features.reader.extend(torch.tensor([text.ids]))
    own = states[0, text.start : text.stop].double().cpu().numpy()
    means = np.cumsum(own, 0) / np.arange(1, len(own) + 1)[:, None]
    return np.concatenate([means, own], 1)


def _base_rewards(method: LinearMethod, features: np.ndarray) -> np.ndarray:
    """(n, K + 1) base rewards and the shared one of replies with these features (n, d)."""
    base = np.zeros(len(features)) if method.has_base_ else None
    items = Items.of(features, base_reward=base)
    return np.concatenate([method.basis(items), method.offset(items)[:, None]], 1)


def _explained(courses: Sequence[tuple[int, np.ndarray, np.ndarray]], weights: np.ndarray) -> np.ndarray:
    """(K,) share of the variance within prompts of final rewards that values foretell over all prefixes."""
    lost = spread = np.zeros(weights.shape[1])
    for number in {number for number, _, _ in courses}:
        own = [(course, final) for other, course, final in courses if other == number]
        average = np.mean([final for _, final in own], 0)
        guess = np.mean([(course @ weights).mean(0) for course, _ in own], 0)
        for course, final in own:
            lost = lost + np.mean((course @ weights - guess - (final - average)) ** 2, 0)
            spread = spread + (final - average) ** 2
    return np.where(spread > 0, 1.0 - lost / np.maximum(spread, 1e-300), 0.0)


def _with_constant(states: np.ndarray) -> np.ndarray:
    return np.concatenate([states, np.ones((len(states), 1))], 1)


def _check_linear(model: FeatureRewardModel) -> None:
    if not isinstance(model, FeatureRewardModel) or not model.method.traits.linear:
        raise InputError("value heads need a linear method (hierarchical, factor), whose base rewards they foretell")


def _check_reads(model: FeatureRewardModel, sampler: LocalSampler) -> None:
    if not can_grow(model.featurizer, sampler):
        raise InputError(
            "value heads read the reply token by token: fit the model on features of the sampler's own language model "
            "(features='smollm2' with the sampler smollm2)"
        )
