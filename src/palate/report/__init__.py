"""The report: one self-contained, offline HTML file about a benchmark or an audit."""

from palate.report.page import write_audit_report, write_report

__all__ = ["write_audit_report", "write_report"]
