"""`palate demo`: the whole way on shipped data."""
from palate.cli.console import verb
__all__ = ["demo"]
@verb
def demo() -> None:
    """x"""
