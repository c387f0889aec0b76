"""Methods of personal reward modelling behind one contract."""

from palate.models.base import Method, Traits
from palate.models.registry import available, get, load_method, make

__all__ = ["Method", "Traits", "available", "get", "load_method", "make"]
