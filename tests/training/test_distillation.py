"""What is learned from other networks, measured on numbers that can be reckoned by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from tests.training.conftest import TOY

pytestmark = pytest.mark.training
DRAW = np.random.default_rng(2)


def unit(count: int, length: int) -> np.ndarray:
    vectors = DRAW.normal(size=(count, length)).astype("f4")
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def lessons(taught: list[np.ndarray], lesson: str, **others: object):  # type: ignore[no-untyped-def]
    """Make lessons of teachers that say the same whatever they see."""
    import keras

    from cloud.training.distillation import Lessons

    class Says(keras.layers.Layer):  # type: ignore[misc]
        def __init__(self, said: np.ndarray) -> None:
            super().__init__()
            self.said = said

        def call(self, views: object, training: bool = False) -> object:
            return keras.ops.convert_to_tensor(self.said)

    notes = [SimpleNamespace(input_size=8, dimension=each.shape[1]) for each in taught]
    teachers = [
        SimpleNamespace(embedder=Says(each), note=note) for each, note in zip(taught, notes, strict=True)
    ]
    return Lessons(teachers, lesson, 16.0, **others)  # type: ignore[arg-type]


VIEWS = np.zeros((5, 8, 8, 3), np.float32)


def test_relations_are_learned_whatever_the_length_of_the_embedding() -> None:
    taught = unit(5, 4)
    longer = np.concatenate([taught, np.zeros((5, 3), np.float32)], axis=1)
    layer = lessons([taught], "relations")
    assert float(layer(VIEWS, longer)) == pytest.approx(0, abs=1e-5)
    assert float(layer(VIEWS, unit(5, 7))) > 0.05


def test_several_teachers_are_averaged() -> None:
    one, other = unit(5, 4), unit(5, 4)
    both = lessons([one, other], "relations")
    assert float(both(VIEWS, one)) > 0.01
    assert float(lessons([one, one], "relations")(VIEWS, one)) == pytest.approx(0, abs=1e-5)


def test_products_are_told_apart_as_the_teacher_does() -> None:
    taught, directions = unit(5, 4), unit(3, 4).T
    layer = lessons([taught], "logits", directions=[directions])
    agreeing = 16.0 * taught @ directions
    assert float(layer(VIEWS, unit(5, 4), agreeing)) == pytest.approx(0, abs=1e-5)
    assert float(layer(VIEWS, unit(5, 4), -agreeing)) > 1


def test_the_linear_map_to_a_teacher_is_learned() -> None:
    layer = lessons([unit(5, 6)], "cosine")
    distance = float(layer(VIEWS, unit(5, 4)))
    assert 0 < distance < 2
    assert [tuple(variable.shape) for variable in layer.learned] == [(4, 6)]


def test_nothing_is_forgotten_at_the_beginning() -> None:
    from cloud.training.distillation import Memory
    from cloud.training.heads import begin_head
    from cloud.training.network import build_network, pooled

    network = build_network(TOY)
    views = DRAW.uniform(-1, 1, (12, 64, 64, 3)).astype("f4")
    features = np.array(pooled(network)(views))
    begin_head(network, features, np.arange(12, dtype=np.int32) % 3)
    embedded = features @ network.projection.get_weights()[0][0, 0]
    embedded /= np.linalg.norm(embedded, axis=1, keepdims=True)
    memory = Memory(network)
    assert float(memory(views, embedded)) < 0.01, "12 photos lie within 16 axes"
    assert float(memory(views, unit(12, TOY.dimension))) > 0.1
    assert memory.learned == memory.trainable_weights, "the backbone is frozen"
