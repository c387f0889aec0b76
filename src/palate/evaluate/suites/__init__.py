"""Published protocols as one command each: `palate bench --suite NAME`.

A suite is a plan of cells, each computed once and kept, and a summary of them as rows beside the published numbers. A new one
is a module with a `SUITE` and a line in `SUITES`.
"""

from palate.evaluate.suites.base import SUITES, Cell, Suite, open_suite, run_suite
from palate.evaluate.suites.result import Finding, SuiteResult

__all__ = ["SUITES", "Cell", "Finding", "Suite", "SuiteResult", "open_suite", "run_suite"]
