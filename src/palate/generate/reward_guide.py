"""The guide of ARGS: a reward of the text so far, with each token that might come next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from palate.errors import InputError
from palate.generate.base import prompt_text
from palate.generate.ranking import without_cache
from palate.generate.reading import PrefixFeatures, can_grow
from palate.models.personal import RewardModel
from palate.models.reward_model import FeatureRewardModel
from palate.types import Items, UserState, UserStates

if TYPE_CHECKING:
    from palate.generate.guided import Steering
    from palate.generate.samplers import LocalSampler
    from palate.policies.sequences import Prompt

__all__ = ["RewardGuide", "Share"]

Share = Literal["personal", "whole"]


class RewardGuide:
    """g_u(x, y_≤t) = r_u(x, y_≤t) − r_0(x, y_≤t), or r_u itself.

    With features that are a mean over a causal model's states, in the sampler's own tokens (features="smollm2" and the
    sampler "smollm2"), each token costs one pass of k tokens through the layers that are used, with cached keys and values.
    Any other reward model reads the k texts anew at every token, which is slow.

    Args:
        model: with rewards.
        share: "personal" leaves out what everybody likes, so that the plain model changes only where this person differs;
            "whole" is the published reward.
        radius: guard: what is the person's own counts only among tokens to which the shared reward is indifferent, by
            max(0, 1 − |r_0(y) − r_0(y*)| / radius) with y* the plain model's likeliest; None guards nothing.

    Raises:
        InputError: the model only prefers, or the radius is not positive.

    Source: Khanov, Burapacheep and Li 2024 (ARGS).
    """

    def __init__(self, model: RewardModel, *, share: Share = "personal", radius: float | None = None) -> None:
        if not model.scalar:
            raise InputError("guided decoding needs a reward, and this model only prefers; use best_of_n")
        if share not in ("personal", "whole"):
            raise InputError(f"share={share!r}: must be personal or whole")
        if radius is not None and not radius > 0:
            raise InputError(f"radius={radius}: must be above 0; leave it out for no guard")
        self.model, self.share, self.radius = without_cache(model), share, radius
        self.prior = model.adapt().state

    def open(self, messages: Prompt, state: UserState, sampler: LocalSampler, room: int) -> Steering:
        """See `palate.generate.guided.Guide.open`."""
        weigh = _Weigh(self.model, UserStates.concatenate([state.batch, self.prior.batch]), self.share, self.radius)
        prompt = prompt_text(messages)
        model = self.model
        # A base reward reads texts; it cancels in the personal share.
        by_features = isinstance(model, FeatureRewardModel) and (self.share == "personal" or not model.method.has_base_)
        if by_features and can_grow(model.featurizer, sampler):
            return _Growing(PrefixFeatures(model.featurizer, prompt, room), weigh, sampler.stops)
        return _Rereading(prompt, weigh, sampler)


class _Weigh:
    """From rewards of a person and of nobody to what guides."""

    def __init__(self, model: RewardModel, states: UserStates, share: Share, radius: float | None = None) -> None:
        self.model, self.states, self.share, self.radius = model, states, share, radius

    def features(self, features: np.ndarray, plain: int = 0) -> np.ndarray:
        """(k,) of replies with these features (k, d), of which number `plain` is the plain model's own."""
        method = self.model.method
        base = np.zeros(len(features)) if method.has_base_ else None
        return self._of(method.reward(Items.of(features, base_reward=base), self.states), plain)

    def texts(self, texts: list[tuple[str, str]]) -> np.ndarray:
        """(k,) of these (prompt, reply) pairs."""
        return self._of(self.model.reward(texts, self.states))

    def _of(self, rewards: np.ndarray, plain: int = 0) -> np.ndarray:
        """(k,) from the rewards (2, k) of the person and of nobody."""
        shared = rewards[1] - rewards[1, plain]
        own = rewards[0] - rewards[0, plain] - shared
        if self.radius is not None:
            own = own * np.maximum(0.0, 1.0 - np.abs(shared) / self.radius)
        return own if self.share == "personal" else shared + own


class _Growing:
    """Features that grow with each token. To end the reply is worth what it is worth so far."""

    def __init__(self, prefix: PrefixFeatures, weigh: _Weigh, stops: frozenset[int]) -> None:
        self._prefix, self._weigh, self._stops = prefix, weigh, stops

    def score(self, tokens: np.ndarray, logits: np.ndarray) -> np.ndarray:
        features, _ = self._prefix.look(tokens)
        ends = np.isin(tokens, list(self._stops))
        features[ends] = self._prefix.mean
        nothing_yet = self._prefix.count == 0 and ends.any() and not ends.all()
        # An empty reply has no reward to compare others with.
        scores = self._weigh.features(features, int(np.argmin(ends)) if nothing_yet else 0)
        if nothing_yet:
            # There is nothing yet that ending could be worth: it neither gains nor loses.
            scores[ends] = scores[~ends].mean()
        return scores

    def accept(self, token: int) -> None:
        self._prefix.accept(token)


class _Rereading:
    """Texts that are scored anew with each token, all candidates at once."""

    def __init__(self, prompt: str, weigh: _Weigh, sampler: LocalSampler) -> None:
        self._prompt, self._weigh = prompt, weigh
        self._tokenizer, self._stops = sampler.form.tokenizer, sampler.stops
        self._said: list[int] = []

    def score(self, tokens: np.ndarray, logits: np.ndarray) -> np.ndarray:
        rows = [[*self._said, *([] if token in self._stops else [token])] for token in tokens.tolist()]
        texts = [self._tokenizer.decode(row, skip_special_tokens=True) for row in rows]
        written = np.array([bool(text.strip()) for text in texts])
        scores = np.zeros(len(texts))
        if written.any():
            distinct = list(dict.fromkeys(text for text, some in zip(texts, written, strict=True) if some))
            found = dict(zip(distinct, self._weigh.texts([(self._prompt, text) for text in distinct]), strict=True))
            scores[written] = [found[text] for text, some in zip(texts, written, strict=True) if some]
            scores[~written] = scores[written].mean()
        return scores

    def accept(self, token: int) -> None:
        self._said.append(token)
