"""A chat model in this process: the bundled one, a model folder, or a name on the hub."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import Any

from palate.backends.base import Messages
from palate.backends.huggingface import load_causal, load_tokenizer, revision
from palate.errors import InputError

__all__ = ["LocalChat"]


class LocalChat:
    """A `ChatBackend` on transformers; loaded at the first question.

    A model of 135M parameters follows simple requests at best: fine to try a recipe out, not to simulate people.

    Args:
        model: "smollm2", a folder, or a name on the hub; it must have a chat template.
        device: auto, cpu, cuda, mps.
    """

    def __init__(self, model: str = "smollm2", *, device: str = "auto") -> None:
        self.model, self.device = model, device
        # Threads would only wait for each other inside one model.
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"LocalChat({self.model}, {revision(self.model)[:16]})"

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        tokenizer = load_tokenizer(self.model)
        if not tokenizer.chat_template:
            raise InputError(f"{self.model}: has no chat template; take an instruct model")
        return tokenizer, load_causal(self.model, device=self.device)

    def chat(self, messages: Messages, *, temperature: float = 0.0, max_tokens: int = 256) -> str:
        """The model's next message; see `palate.backends.base.ChatBackend`.

        Raises:
            InputError: no such model, or it has no chat template.
            MissingModelError: it is not on this machine and cannot be fetched.
        """
        import torch

        with self._lock, torch.inference_mode():
            tokenizer, model = self._loaded
            inputs = tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                add_generation_prompt=True,
                return_tensors="pt",
                return_dict=True,
            ).to(model.device)
            room = getattr(model.config, "max_position_embeddings", None)
            length = inputs["input_ids"].shape[1]
            if room is not None and length + max_tokens > room:
                raise InputError(
                    f"{self.model}: {length} tokens asked, and it reads {room - max_tokens}; leave long texts out"
                )
            drawn = (
                {"do_sample": True, "temperature": temperature, "top_p": 1.0}
                if temperature > 0
                else {"do_sample": False}
            )
            if temperature == 0.0:
                drawn |= {"temperature": None, "top_p": None, "top_k": None}
            out = model.generate(**inputs, max_new_tokens=max_tokens, pad_token_id=tokenizer.pad_token_id, **drawn)
            return tokenizer.decode(out[0, length:], skip_special_tokens=True)
