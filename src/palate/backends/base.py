"""What Palate asks of a language model that can chat, wherever it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

__all__ = ["ChatBackend", "Messages"]

Messages: TypeAlias = Sequence[Mapping[str, str]]
"""A conversation: `{"role": "system" | "user" | "assistant", "content": text}`, oldest first."""


class ChatBackend(Protocol):
    """Anything that answers a conversation: an endpoint, a local model, or a script in a test."""

    def chat(self, messages: Messages, *, temperature: float = 0.0, max_tokens: int = 256) -> str:
        """The model's next message.

        Args:
            messages: the conversation so far.
            temperature: 0 takes the likeliest token every time.
            max_tokens: the answer is cut after so many tokens.
        """
