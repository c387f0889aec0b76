"""The report: one self-contained, offline HTML file about a benchmark, an audit, a reward model's tastes or a study."""

from palate.report.atlas import write_atlas
from palate.report.page import write_audit_report, write_report
from palate.report.study import write_study_report

__all__ = ["write_atlas", "write_audit_report", "write_report", "write_study_report"]
