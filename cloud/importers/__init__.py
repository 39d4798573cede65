"""Brings products and photos into the catalog, from the layouts people have them in."""

from cloud.importers.plan import ImportPlan, PlannedPhoto, Refusal
from cloud.importers.run import ImportReport, import_folder, import_plan, read_plan

__all__ = [
    "ImportPlan",
    "ImportReport",
    "PlannedPhoto",
    "Refusal",
    "import_folder",
    "import_plan",
    "read_plan",
]
