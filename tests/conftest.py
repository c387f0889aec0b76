"""Makes modules that lie beside this file importable from all tests."""
