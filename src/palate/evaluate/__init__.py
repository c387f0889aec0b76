"""What works, for whom, and how sure: the audit, the benchmark, metrics and results.

The functions `palate.audit` and `palate.bench` are the short way; they live in `palate.evaluate.audit` and
`palate.evaluate.benchmark`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "Budget": "palate.evaluate.tuning",
    "Contender": "palate.evaluate.contenders",
    "Results": "palate.evaluate.results",
    "SklearnBaseline": "palate.evaluate.baseline",
    "Standing": "palate.evaluate.standing",
    "Setup": "palate.evaluate.planning",
    "plan": "palate.evaluate.planning",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
