"""The layer that makes of pictures what a shop's cameras might have seen."""

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from cloud.training.augment import geometry, light, occlusion, optics, paste, sensor
from cloud.training.augment.groups import Parameters, group_size
from cloud.training.backbones import INPUT_OFFSET, INPUT_SCALE
from cloud.training.recipe import Recipe


def draw_parameters(
    recipe: Recipe, count: int, size: int, rng: np.random.Generator, is_packshot: NDArray[np.bool_]
) -> Parameters:
    """Draw everything that is random about one batch of views.

    Each effect draws from a stream of its own: switched on, it leaves the others as they were.

    Args:
        recipe: which effects, and on what share of the views.
        count: n, photos in the batch.
        size: S, side of the views in pixels.
        rng: a fresh generator; the same seed gives the same parameters.
        is_packshot: (n,), which photos are packshots.

    Returns:
        Arrays with one row a view, of the same names, shapes and dtypes for every batch of n and S.
    """
    streams = iter(rng.spawn(9))
    return {
        **paste.draw(recipe, count, next(streams), is_packshot),
        **geometry.draw(recipe, count, next(streams)),
        **occlusion.draw(recipe, count, next(streams)),
        **light.draw_glare(recipe, count, next(streams)),
        **optics.draw(recipe, count, size, next(streams)),
        **optics.draw_resolution(recipe, count, next(streams)),
        **light.draw(recipe, count, next(streams)),
        **sensor.draw_noise(recipe, count, size, next(streams)),
        **sensor.draw_jpeg(recipe, count, next(streams)),
    }


def name_effects(recipe: Recipe, parameters: Parameters) -> list[list[str]]:
    """Return for each view of a batch what was done to it, in words for people, in the order it was done."""
    count = len(parameters["box"])
    names: list[list[str]] = [[] for _ in range(count)]

    def tell(what: str, order: str, first: int, end: int, number: str | None = None) -> None:
        for row in range(first, end):
            told = what if number is None else f"{what} {abs(float(parameters[number][row])):.3g}"
            names[parameters[order][row]].append(told)

    for row in range(paste.pasted_views(recipe, count)):
        if parameters["paste_ground"][row]:
            names[parameters["paste_order"][row]].append("pasted")
    covered, hands = group_size(recipe.occlusion, count), occlusion.hands_of(recipe, count)
    unsharp = group_size(recipe.blur, count)
    tell("tilted", "warp_order", 0, group_size(recipe.perspective, count))
    tell("hand", "cover_order", 0, min(hands, covered))
    tell("box", "cover_order", hands, covered)
    tell("glare", "glare_order", 0, group_size(recipe.glare, count))
    tell("unsharp", "blur_order", 0, unsharp)
    tell("moved", "blur_order", unsharp, optics.blurred_views(recipe, count))
    tell("pixels /", "coarse_order", 0, group_size(recipe.low_resolution, count), "coarse")
    for index in np.flatnonzero(parameters["color_shifted"]):
        names[index].append("lamp")
    tell("noise", "noise_order", 0, group_size(recipe.noise, count), "noise_sigma")
    tell("JPEG", "jpeg_order", 0, group_size(recipe.jpeg, count), "jpeg_quality")
    return names


class ShopCamera(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Photographs pictures as a shop's cameras would, in ways that their parameters say.

    Without weights, state or randomness of its own; the same input gives the same views on every backend.
    """

    def __init__(self, recipe: Recipe, count: int, size: int, **others: Any) -> None:
        """Prepare for batches of `count` pictures and views of `size` pixels (recipe: which effects)."""
        super().__init__(dtype="float32", trainable=False, autocast=False, **others)
        self.recipe, self.count, self.size = recipe, count, size

    def call(self, inputs: dict[str, Any]) -> Any:
        """Return views, float32 (n, S, S, 3), normalized for the network, -1..1.

        `inputs` has `pictures`, uint8 (n, P, P, 3), what `draw_parameters` returned, and, if packshots are to
        be laid on photos that are not in the batch, `backgrounds`, uint8 (n, P, P, 3).
        """
        recipe, count = self.recipe, self.count
        pictures = self._of_count(inputs["pictures"])
        pasted = paste.pasted_views(recipe, count)
        if pasted:
            others = self._of_count(inputs["backgrounds"]) if "backgrounds" in inputs else pictures
            pictures = paste.paste(pictures, others, inputs, pasted)
        views = geometry.view(pictures, inputs, geometry.warped_views(recipe, count), self.size)
        views = occlusion.cover(views, inputs, recipe)
        views = light.add_glare(views, inputs, group_size(recipe.glare, count))
        views = optics.blur(views, inputs, optics.blurred_views(recipe, count))
        views = optics.coarsen(views, inputs, group_size(recipe.low_resolution, count))
        views = light.expose(views, inputs, recipe)
        views = sensor.add_noise(views, inputs, group_size(recipe.noise, count))
        views = sensor.compress(views, inputs, group_size(recipe.jpeg, count))
        return ops.clip(views * INPUT_SCALE + INPUT_OFFSET, -1.0, 1.0)

    def compute_output_spec(self, inputs: dict[str, Any]) -> Any:
        """Say what `call` returns; Keras need not trace it for that."""
        return keras.KerasTensor((self.count, self.size, self.size, 3), "float32")

    def _of_count(self, pictures: Any) -> Any:
        """Return the pictures with a shape that is known before any of them is there."""
        return ops.reshape(pictures, (self.count, *pictures.shape[1:]))
