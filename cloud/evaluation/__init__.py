"""Measures a model on the catalog's test photos, through the devices' own code and files."""

from cloud.evaluation.measure import Evaluation, evaluate
from cloud.evaluation.scores import Confusion
from cloud.evaluation.sheet import draw_confusions

__all__ = ["Confusion", "Evaluation", "draw_confusions", "evaluate"]
