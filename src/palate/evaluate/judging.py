"""Language models that are asked what people prefer, as contenders named on the command line.

    judge                                            the bundled model, nothing known of the person but their profile
    judge:preset=rag                                 the three own comparisons with the nearest prompts
    judge:preset=profile,model=gpt-4o-mini,base_url=https://api.openai.com/v1

Every answer is kept on disk by its content: a killed run resumes, and the same question costs nothing again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from palate.backends.base import ChatBackend
from palate.config import Config
from palate.errors import ConfigError
from palate.evaluate.texts import TextContender
from palate.features import make
from palate.files import cache_directory
from palate.models.judge import JudgeConfig, JudgeRewardModel

__all__ = ["JUDGE", "JudgeContenderConfig", "judge_contender"]

JUDGE = "judge"
"""The name of such a contender."""

_PRESETS = {"zero_shot": JudgeConfig.zero_shot, "rag": JudgeConfig.rag, "profile": JudgeConfig.stated_profile}


class JudgeContenderConfig(Config):
    """Who judges in a benchmark, and how much; settings of `JudgeConfig` may stand beside these."""

    model: str = Field(
        "smollm2",
        min_length=1,
        description="With `base_url` the model's name on that server; else a bundled name, a folder or a hub name.",
    )
    base_url: str | None = Field(
        None, description="Address of an OpenAI-compatible server, up to and with /v1; None runs the model here."
    )
    preset: str | None = Field(
        None,
        description="'zero_shot', 'rag' (three own comparisons) or 'profile' (in their own words, with certainty).",
    )
    similarity: str = Field("minilm", description="Featurizer that finds the nearest comparisons.")
    cap: int = Field(300, ge=1, description="Comparisons asked of seen people, and of new people.")
    k: int = Field(20, ge=0, description="After how many answers new people are asked.")

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.preset is not None and self.preset not in _PRESETS:
            raise ValueError(f"preset={self.preset!r} is unknown; there are: {', '.join(_PRESETS)}")
        return self


def judge_contender(label: str, settings: Mapping[str, Any]) -> TextContender:
    """The contender of that name.

    Args:
        label: its name in the tables.
        settings: of `JudgeContenderConfig` and `JudgeConfig`.

    Raises:
        ConfigError: a setting that neither has.
        MissingModelError: a bundled model that is not there and cannot be fetched.
    """
    own = {name: value for name, value in settings.items() if name in JudgeContenderConfig.model_fields}
    rest = {name: value for name, value in settings.items() if name not in own}
    unknown = sorted(set(rest) - set(JudgeConfig.model_fields))
    if unknown:
        known = ", ".join([*JudgeContenderConfig.model_fields, *JudgeConfig.model_fields])
        raise ConfigError(f"unknown setting {unknown[0]!r} of judge; there are: {known}")
    who = JudgeContenderConfig(**own)
    how = (_PRESETS[who.preset]() if who.preset else JudgeConfig()).replace(**rest)
    near = make(who.similarity) if how.examples and how.choose != "recent" else None
    backend = _backend(who)
    if who.base_url is None and "workers" not in rest:
        how = how.replace(workers=1)
    return TextContender(label, JudgeRewardModel(backend, how, similarity=near), cap=who.cap, ks=(who.k,))


def _backend(who: JudgeContenderConfig) -> ChatBackend:
    cache = cache_directory() / "judge"
    if who.base_url is None:
        from palate.backends.causal import LocalChat

        return LocalChat(who.model, cache=cache)
    from palate.backends.openai import ChatClient

    return ChatClient(model=who.model, base_url=who.base_url, cache=cache)
