"""How a reference photo becomes a vector: four looks at it, one direction."""

import numpy as np
import pytest

from edge.embedder import Embedder
from edge.errors import Incompatible, PhotoUnreadable
from edge.image import fit
from edge.model import Model
from edge.reference import CLOSER, embed_reference, reference_views


def noise(size: int) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (size, size, 3), np.uint8)


def open_model_file(model: Model) -> Embedder:
    return Embedder.open(model.path(model.variant()), dimension=model.dimension, input_size=model.input_size)


def test_the_views_are_the_photo_its_mirror_image_and_two_steps_closer() -> None:
    picture = noise(40)
    first, mirrored, *closer = reference_views(picture)
    np.testing.assert_array_equal(first, picture)
    np.testing.assert_array_equal(mirrored[:, ::-1], picture)
    for share, view in zip(CLOSER, closer, strict=True):
        margin = round(40 * (1 - share) / 2)
        np.testing.assert_array_equal(view, fit(picture[margin:-margin, margin:-margin], 40))


def test_a_reference_is_the_mean_direction_of_its_views(tiny_model: Model) -> None:
    embedder, picture = open_model_file(tiny_model), noise(tiny_model.input_size)
    vector = embed_reference(embedder, picture)
    each = [embedder.embed(view).vector for view in reference_views(picture)]
    mean = np.mean(each, axis=0)
    np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)
    assert vector.dtype == np.float32
    assert abs(float(np.linalg.norm(vector)) - 1) < 1e-6


def test_a_photo_and_its_mirror_image_are_nearly_the_same_reference(tiny_model: Model) -> None:
    embedder, picture = open_model_file(tiny_model), noise(tiny_model.input_size)
    mirrored = np.ascontiguousarray(picture[:, ::-1])
    as_asked = embedder.embed(picture).vector @ embedder.embed(mirrored).vector
    as_reference = embed_reference(embedder, picture) @ embed_reference(embedder, mirrored)
    assert as_reference > as_asked


@pytest.mark.parametrize("size", [16, 40])
def test_a_picture_of_another_size_is_refused(tiny_model: Model, size: int) -> None:
    assert size != tiny_model.input_size
    with pytest.raises(Incompatible, match=r"edge\.image\.fit"):
        embed_reference(open_model_file(tiny_model), noise(size))


def test_what_is_no_picture_is_refused(tiny_model: Model) -> None:
    with pytest.raises(PhotoUnreadable):
        embed_reference(open_model_file(tiny_model), np.zeros((32, 32), np.uint8))
