"""Published data sets, a file per family: where each lives, and how its rows become comparisons."""

from palate.data.public import (
    arena,
    community,
    convarg,
    helpsteer,
    multipref,
    personalllm,
    polis,
    prism,
    psoups,
    tldr,
    ultrafeedback,
)

__all__ = ["PUBLIC"]

PUBLIC = (
    *convarg.SOURCES,
    *polis.SOURCES,
    *psoups.SOURCES,
    *personalllm.SOURCES,
    *prism.SOURCES,
    *tldr.SOURCES,
    *ultrafeedback.SOURCES,
    *arena.SOURCES,
    *multipref.SOURCES,
    *helpsteer.SOURCES,
    *community.SOURCES,
)
"""All of them, in the order of the docs."""
