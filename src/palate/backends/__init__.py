"""The only rooms that talk to a language model: Hugging Face models, OpenAI-compatible servers, bundled models.

Modules that need torch or transformers (`huggingface`) are imported on use.
"""

from palate.backends.base import ChatBackend, Messages

__all__ = ["ChatBackend", "Messages"]
