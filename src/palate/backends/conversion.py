"""From a GGUF file to a plain Hugging Face folder in bfloat16, that loads in seconds and can be trained."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

from palate.files import write_json

__all__ = ["convert_gguf", "quiet"]


def convert_gguf(file: Path, target: Path, *, title: str, source_hash: str) -> Path:
    """Write the model in `file` as the folder `target`, with its tokenizer and chat template.

    Args:
        file: the GGUF file.
        target: a folder that does not exist yet.
        title: name of the model, kept in its configuration.
        source_hash: SHA-256 of `file`, kept in `palate.json`.

    Returns:
        `target`.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with quiet():
        # Without dequantize the model keeps GGUF blocks, and can be neither saved nor trained.
        model = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.bfloat16,
            local_files_only=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
        # A max_length from the file would cap every later generation at its own number.
        model.generation_config.max_length = None
        model.config._name_or_path = title
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
    write_json(target / "palate.json", {"title": title, "sha256": source_hash, "file": file.name})
    return target


@contextmanager
def quiet() -> Iterator[None]:
    """Without the bars, notices and warnings that transformers and the hub print while they load; errors come through."""
    import logging

    libraries = [logging.getLogger(name) for name in ("transformers", "huggingface_hub")]
    before = [library.level for library in libraries]
    for library in libraries:
        library.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for library, level in zip(libraries, before, strict=True):
            library.setLevel(level)
