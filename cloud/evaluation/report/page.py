"""Puts the report together: what was measured, as charts, tables and pictures on one page."""

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from cloud.catalog import Catalog
from cloud.evaluation.bench import Progress
from cloud.evaluation.figures import notes
from cloud.evaluation.measure import Evaluation
from cloud.evaluation.report import sections
from cloud.evaluation.report.map import draw_map
from cloud.evaluation.report.scorecard import Row, comparisons, score_rows, summary
from cloud.evaluation.report.thumbs import Thumbs
from cloud.evaluation.whole import WholeEvaluation
from cloud.workspace import Workspace
from edge.disk import write_atomically

_TEMPLATE: Final = "evaluation.html"


def write_report(workspace: Workspace, whole: WholeEvaluation, path: Path, progress: Progress) -> None:
    """Write the report of a whole evaluation to `path`, one HTML file.

    Raises:
        StorageUnusable: `path` cannot be written, or the catalog not be read.
        NoSpace: the disk is full.
    """
    environment = Environment(
        loader=PackageLoader("cloud"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(_TEMPLATE).render(_context(workspace, whole, progress))
    write_atomically(path, page.encode())


def _context(workspace: Workspace, whole: WholeEvaluation, progress: Progress) -> dict[str, Any]:
    catalog = Catalog(workspace.sessions(), workspace.photo_storage())
    thumbs = Thumbs(catalog)
    titles = {product.sku: product.title or product.sku for product in catalog.products()}
    answered = whole.main.shop
    shop = answered if isinstance(answered, Evaluation) and answered.answers else None
    rows = score_rows(whole)
    makers: dict[str, Callable[[], object]] = {
        "confusions": lambda: sections.confusion_rows(shop, titles, thumbs) if shop else [],
        "worst": lambda: sections.worst_products(shop, titles, thumbs) if shop else [],
        "knowing": lambda: sections.knowing(whole, shop) if shop else None,
        "newcomers": lambda: sections.newcomer_charts(whole),
        "spoiled": lambda: sections.spoiled_rows(whole, catalog.photos),
        "domains": lambda: sections.domain_charts(whole),
        "drift_chart": lambda: sections.drift_chart(whole),
        "map": lambda: draw_map(shop.answers, titles, thumbs) if shop else None,
        "trainings": lambda: sections.trainings(whole, workspace.runs),
    }
    made: dict[str, Any] = {}
    for done, (name, make) in enumerate(makers.items(), start=1):
        made[name] = make()
        progress("Drawing the report", done, len(makers))
    return {
        **made,
        "whole": whole,
        "main": whole.main,
        "shop": shop,
        "rows": rows,
        "summary": summary(rows),
        "comparisons": comparisons(whole),
        "invokes": sections.invoke_times(whole),
        "notes": notes(whole),
        "missing": _missing(rows),
        "version": version("shelfsight"),
    }


def _missing(rows: list[Row]) -> dict[str, list[str]]:
    """Group the keys that were not measured by their reason: many miss for one."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.reason is not None:
            found.setdefault(row.reason, []).append(row.key)
    return found
