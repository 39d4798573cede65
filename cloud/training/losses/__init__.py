"""The losses of the training, one file each, composable by weights.

| name in the recipe's `losses` | `softmax_scale` | `margin` | also |
|---|---|---|---|
| `cosine_softmax` | s | | `label_smoothing`, `center_bias` |
| `arcface` | s | m, radians | `label_smoothing`, `center_bias` |
| `sub_center_arcface` | s | m, radians | `label_smoothing`, `center_bias`, `sub_centers` |
| `proxy_anchor` | a | d, a cosine | |
| `multi_similarity` | | | compares pairs within a batch: sample P x K |
| `supervised_contrastive` | 1 / t | | compares pairs within a batch: sample P x K |

All are made of `keras.ops` and run on every backend of Keras.
"""

from collections.abc import Callable, Mapping

from cloud.training.losses.arcface import ArcFace
from cloud.training.losses.base import ProductLoss
from cloud.training.losses.cosine_softmax import CosineSoftmax
from cloud.training.losses.multi_similarity import MultiSimilarity
from cloud.training.losses.proxy_anchor import ProxyAnchor
from cloud.training.losses.sub_center_arcface import SubCenterArcFace
from cloud.training.losses.supervised_contrastive import SupervisedContrastive
from cloud.training.recipe import Recipe
from edge.errors import BadSetting

__all__ = [
    "ArcFace",
    "CosineSoftmax",
    "MultiSimilarity",
    "ProductLoss",
    "ProxyAnchor",
    "SubCenterArcFace",
    "SupervisedContrastive",
    "make_losses",
]


def _cosine_softmax(recipe: Recipe, products: int) -> ProductLoss:
    return CosineSoftmax(
        products,
        scale=recipe.softmax_scale,
        smoothing=recipe.label_smoothing,
        bias=recipe.center_bias,
        name="cosine_softmax",
    )


def _arcface(recipe: Recipe, products: int) -> ProductLoss:
    return ArcFace(
        products,
        scale=recipe.softmax_scale,
        margin=recipe.margin,
        smoothing=recipe.label_smoothing,
        bias=recipe.center_bias,
        name="arcface",
    )


def _sub_center_arcface(recipe: Recipe, products: int) -> ProductLoss:
    return SubCenterArcFace(
        products,
        sub_centers=recipe.sub_centers,
        scale=recipe.softmax_scale,
        margin=recipe.margin,
        smoothing=recipe.label_smoothing,
        bias=recipe.center_bias,
        name="sub_center_arcface",
    )


def _proxy_anchor(recipe: Recipe, products: int) -> ProductLoss:
    return ProxyAnchor(products, scale=recipe.softmax_scale, margin=recipe.margin, name="proxy_anchor")


def _multi_similarity(recipe: Recipe, products: int) -> ProductLoss:
    return MultiSimilarity(name="multi_similarity")


def _supervised_contrastive(recipe: Recipe, products: int) -> ProductLoss:
    return SupervisedContrastive(temperature=1 / recipe.softmax_scale, name="supervised_contrastive")


_MAKERS: Mapping[str, Callable[[Recipe, int], ProductLoss]] = {
    "cosine_softmax": _cosine_softmax,
    "arcface": _arcface,
    "sub_center_arcface": _sub_center_arcface,
    "proxy_anchor": _proxy_anchor,
    "multi_similarity": _multi_similarity,
    "supervised_contrastive": _supervised_contrastive,
}
_OF_PAIRS = frozenset({"multi_similarity", "supervised_contrastive"})


def make_losses(recipe: Recipe, products: int) -> list[tuple[str, float, ProductLoss]]:
    """Make the recipe's losses for that many products: name, weight and layer of each, in the recipe's order.

    Raises:
        BadSetting: a loss that learns from pairs of photos, and a recipe that never samples one.
    """
    chosen = [(name, weight) for name, weight in recipe.losses.items() if weight]
    for name, _ in chosen:
        if name in _OF_PAIRS and recipe.photos_per_product == 1 and not recipe.packshots_per_batch:
            raise BadSetting(
                f"{name} compares photos of one product within a batch, and photos_per_product is 1: "
                "choose at least 2"
            )
    return [(name, float(weight), _MAKERS[name](recipe, products)) for name, weight in chosen]
