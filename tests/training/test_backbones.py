"""The networks an embedder may stand on."""

from pathlib import Path

import numpy as np
import pytest

from cloud.training.recipe import BACKBONES
from edge.errors import BadSetting

pytestmark = pytest.mark.training


def test_efficientnet_lite_has_the_size_that_its_authors_state() -> None:
    from cloud.training import efficientnet_lite

    model = efficientnet_lite.build(64, 1000)
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert trainable == 4_652_008


def test_the_first_layer_of_vgg_makes_of_our_input_what_its_authors_fed() -> None:
    import keras

    from cloud.training.backbones import INPUT_OFFSET, INPUT_SCALE, build_backbone

    backbone = build_backbone("vgg16", 32, "none")
    raw = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.float32)
    first = keras.Model(backbone.input, backbone.get_layer("to_caffe_input").output)
    wanted = keras.applications.vgg16.preprocess_input(raw.copy())
    np.testing.assert_allclose(first(raw * INPUT_SCALE + INPUT_OFFSET), wanted, atol=1e-3)
    assert backbone.output.shape == (None, 1, 1, 512)


@pytest.mark.parametrize("with_top", [True, False])
def test_weights_of_a_file_are_taken_with_and_without_their_classifier(
    tmp_path: Path, with_top: bool
) -> None:
    import keras

    from cloud.training.backbones import build_backbone

    settings = {"classes": 1001, "classifier_activation": None} if with_top else {}
    theirs = keras.applications.MobileNetV3Small(
        input_shape=(64, 64, 3),
        weights=None,
        include_top=with_top,
        minimalistic=True,
        include_preprocessing=False,
        **settings,
    )
    path = tmp_path / "any.weights.h5"
    theirs.save_weights(path)
    ours = build_backbone("mobilenet_v3_small_minimalistic", 64, str(path))
    assert ours.output.shape == (None, 2, 2, 576)
    np.testing.assert_array_equal(ours.get_weights()[0], theirs.get_weights()[0])


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    import keras

    from cloud.training.backbones import build_backbone

    path = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save_weights(path)
    with pytest.raises(BadSetting, match="are not weights of mobilenet_v3_small_minimalistic"):
        build_backbone("mobilenet_v3_small_minimalistic", 64, str(path))
    with pytest.raises(BadSetting, match="is not a file"):
        build_backbone("mobilenet_v3_small_minimalistic", 64, str(tmp_path / "none.h5"))
    with pytest.raises(BadSetting, match="no ImageNet weights"):
        build_backbone("efficientnet_lite0", 64, "imagenet")


@pytest.mark.parametrize("name", [name for name in BACKBONES if name not in ("resnet50", "inception_v3")])
def test_every_backbone_gives_a_map(name: str) -> None:
    from cloud.training.backbones import build_backbone

    model = build_backbone(name, 64, "none")
    assert len(model.output.shape) == 4 and model.input.shape == (None, 64, 64, 3)
