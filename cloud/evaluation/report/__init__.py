"""Shows a whole evaluation as one HTML file that needs nothing else: no network, no script."""

from cloud.evaluation.report.page import write_report

__all__ = ["write_report"]
