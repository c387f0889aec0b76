"""Frozen, validated settings. Every public setting of Palate is a field of a `Config`."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from palate.errors import ConfigError

__all__ = ["Config"]


class Config(BaseModel):
    """Base of all settings: frozen, no unknown names, errors as one line.

    Each field carries its documentation as `Field(description=...)`; the docs tests insist on it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise ConfigError(_one_line(type(self), error)) from None

    def replace(self, **changes: Any) -> Self:
        """A copy with some settings changed, validated again."""
        return type(self)(**{**self.model_dump(), **changes})


def _one_line(config: type[Config], error: ValidationError) -> str:
    parts = []
    for problem in error.errors():
        name = ".".join(str(step) for step in problem["loc"]) or "settings"
        if problem["type"] == "extra_forbidden":
            known = ", ".join(config.model_fields)
            parts.append(f"unknown setting {name!r}; {config.__name__} has: {known}")
        else:
            parts.append(f"{name}={problem['input']!r}: {problem['msg'].lower()}")
    return "; ".join(parts)
