"""Products that look like one product, answered on the device from its own vectors."""

from edge.errors import BadSetting
from edge.index import Hit, SearchIndex
from edge.segments import SegmentStack


def similar(stack: SegmentStack, index: SearchIndex, sku: str, count: int) -> list[Hit]:
    """List the `count` products most similar to a product, best first, without the product itself.

    Similarity is the cosine of the mean of the product's reference vectors with the other product's nearest
    one. A product that has no reference photo yet looks like nothing: the list is empty.

    Raises:
        BadSetting: A sku that is not in this catalog.
    """
    if sku not in stack.products:
        raise BadSetting(
            f"sku {sku!r} is not among the {len(stack.products)} products here; check its spelling"
        )
    mean = stack.vectors(stack.rows_of(sku)).sum(axis=0)
    if not mean.any():
        return []
    return [hit for hit in index.search(mean, count + 1) if hit.sku != sku][:count]
