"""Palate learns what each person prefers from pairwise choices, and makes language models fit them.

    import palate

    print(palate.audit(rows))                                   is there anything to personalize?
    model = palate.fit(rows, features="smollm2", method="hierarchical")
    me = model.adapt(my_rows)                                   five to twenty answers of a new person
    me.score(prompt, replies)                                   which reply do I prefer?
    me.ask(pool)                                                which question to ask me next?
    palate.bench(rows)                                          which method, how much better, for whom?

Importing this package is cheap; what a function needs is imported when it is called.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from palate.api import audit, bench, drift, fit, interpret, load_model, read, write_report

__version__ = "0.1.0"

__all__ = ["__version__", "audit", "bench", "drift", "fit", "interpret", "load_model", "read", "write_report"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("palate.api"), name)
    raise AttributeError(f"module 'palate' has no attribute {name!r}; it has: {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
