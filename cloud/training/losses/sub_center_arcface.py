"""Sub-center ArcFace: several centers a product, for products that do not look the same in every photo."""

from cloud.training.losses.arcface import ArcFace


class SubCenterArcFace(ArcFace):
    """ArcFace to the nearest of several centers of a product (Deng et al. 2020).

        cos(angle_k) = max_j cos(x, w_jk)

    A photo pulls only the center that it is nearest to: a packshot, a package's back or a wrong label
    gets a center of its own instead of spoiling the common one.

    Args:
        products, scale, margin, smoothing, bias: as of `ArcFace`.
        sub_centers: centers of each product; 3 in the paper.
    """

    def __init__(
        self,
        products: int,
        *,
        sub_centers: int = 3,
        scale: float = 16.0,
        margin: float = 0.5,
        smoothing: float = 0.0,
        bias: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(
            products,
            scale=scale,
            margin=margin,
            smoothing=smoothing,
            bias=bias,
            per_product=sub_centers,
            name=name,
        )
