"""The report: one self-contained, offline HTML file about a benchmark, an audit or a reward model's tastes."""

from palate.report.atlas import write_atlas
from palate.report.page import write_audit_report, write_report

__all__ = ["write_atlas", "write_audit_report", "write_report"]
