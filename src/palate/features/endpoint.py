"""Features from an OpenAI-compatible embeddings endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from palate.backends.openai import EmbeddingClient, EndpointConfig
from palate.features.base import Featurizer, fingerprint_of
from palate.progress import Progress, silent

__all__ = ["EndpointFeatures"]

_VERSION = 1


class EndpointFeatures(Featurizer):
    """A vector for each reply from a server's `/embeddings`.

    The response alone is sent by default, for the reason given at `LanguageModelFeatures`; texts are cut at
    `max_characters`, from the end of the response, or from the start of the prompt.

    Args:
        config: the settings; or give them by name.
        client: what `palate.backends.openai.EmbeddingClient` takes beside its settings (`api_key`, `transport`, …).
    """

    name: ClassVar[str] = "endpoint"

    class Config(EndpointConfig):
        """Settings of features from an embeddings endpoint."""

        prompt: bool = Field(False, description="Whether the prompt is sent too, before the response.")
        normalise: bool = Field(True, description="Scale vectors to length 1.")
        max_characters: int = Field(
            20_000, ge=16, description="Most characters sent of a text; half of it at most is left to the prompt."
        )
        batch_size: int = Field(64, ge=1, description="Texts per request.")

    def __init__(self, config: Config | None = None, *, client: dict[str, Any] | None = None, **settings: Any) -> None:
        if config is not None and settings:
            config = config.replace(**settings)
        self.config = self.Config(**settings) if config is None else config
        endpoint = {name: getattr(self.config, name) for name in EndpointConfig.model_fields}
        self._client = EmbeddingClient(EndpointConfig(**endpoint), **(client or {}))
        self.uses_prompt = self.config.prompt

    @property
    def fingerprint(self) -> str:
        """Fixed by the address, the model's name and the settings; a server that changes its model is not noticed."""
        kept = ("model", "base_url", "prompt", "normalise", "max_characters")
        return fingerprint_of(self.name, _VERSION, {name: getattr(self.config, name) for name in kept})

    @cached_property
    def dim(self) -> int:
        """Width of the vectors; asks the server once, if nothing was embedded yet."""
        return self._client.embed(["width"]).shape[1]

    def embed(self, items: Sequence[tuple[str, str]], *, progress: Progress = silent) -> np.ndarray:
        """(n, dim) float32.

        Raises:
            EndpointError: the server did not answer after all tries, refused, or answered nonsense.
        """
        if len(items) == 0:
            return np.zeros((0, self.dim), np.float32)
        texts = [self._text(prompt, response) for prompt, response in items]
        number = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        vectors = self._client.embed(list(number), batch_size=self.config.batch_size, progress=progress)
        if self.config.normalise:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors[[number[text] for text in texts]]

    def _text(self, prompt: str, response: str) -> str:
        room = self.config.max_characters
        if not self.config.prompt or not prompt:
            return response[:room]
        response = response[: max(room - len(prompt), room // 2)]
        return f"{prompt[max(0, len(prompt) - (room - len(response))) :]}\n\n{response}"
