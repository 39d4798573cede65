"""A small network as `train` writes them, and photos for it."""

import json
from pathlib import Path

import numpy as np
import pytest

from edge.embedder import Embedder
from edge.image import encode_jpeg

SIZE, DIMENSION = 32, 8


def pictures(count: int) -> list[np.ndarray]:
    """Give `count` smooth random pictures (32, 32, 3)."""
    draw = np.random.default_rng(5)
    coarse = draw.integers(0, 256, (count, 4, 4, 3)).astype(np.uint8)
    return [np.kron(picture, np.ones((8, 8, 1), np.uint8)) for picture in coarse]


def write_note(folder: Path, **changes: object) -> None:
    note = {"backbone": "toy", "space": "0123456789abcdef", "input_size": SIZE, "dimension": DIMENSION}
    (folder / "network.json").write_text(
        json.dumps(note | {"input_scale": 1 / 127.5, "input_offset": -1.0} | changes)
    )


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a network of every kind of layer that the converter changes; channels of very different size."""
    import keras

    keras.utils.set_random_seed(2)
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(16, 3, strides=2, padding="same")(inputs)
    x = keras.layers.ReLU(6.0)(x)
    depthwise = keras.layers.DepthwiseConv2D(3, padding="same", name="depthwise")
    x = keras.layers.ReLU(6.0, name="bounded")(keras.layers.BatchNormalization(name="norm")(depthwise(x)))
    project = keras.layers.Conv2D(24, 1, use_bias=False, name="project")
    local = keras.layers.Conv2D(DIMENSION, 1, name="local")(project(x))
    embedding = keras.layers.GlobalAveragePooling2D(name="embedding")(local)
    model = keras.Model(inputs, {"embedding": embedding, "local": local})
    factors = np.geomspace(0.01, 1, 16).astype(np.float32)
    gamma, *rest = model.get_layer("norm").get_weights()
    model.get_layer("norm").set_weights([gamma * factors, *rest])
    (kernel,) = project.get_weights()
    project.set_weights([kernel / factors[:, None]])
    folder = tmp_path_factory.mktemp("network")
    model.save(folder / "network.keras")
    write_note(folder)
    return folder / "network.keras"


def embed_all(path: Path, looked_at: list[np.ndarray], size: int = SIZE) -> np.ndarray:
    """Embed pictures with a network file."""
    embedder = Embedder.open(path, dimension=DIMENSION, input_size=size)
    return np.stack([embedder.embed(picture).vector for picture in looked_at])


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give 120 photos of 6 products in 3 categories, all that a product has alike, and two that are none."""
    folder = tmp_path_factory.mktemp("shop")
    draw = np.random.default_rng(8)
    for product, base in enumerate(pictures(6)):
        place = folder / f"kind-{product // 2}" / f"product-{product}"
        place.mkdir(parents=True)
        for number in range(20):
            noise = draw.normal(0, 25, base.shape)
            picture = np.clip(base + noise, 0, 255).astype(np.uint8)
            (place / f"{number:02}.jpg").write_bytes(encode_jpeg(picture))
    (folder / "kind-0" / "product-0" / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    (folder / "notes.txt").write_text("no photo")
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number, picture in enumerate(pictures(24)):
        (folder / f"{number:02}.jpg").write_bytes(encode_jpeg(picture))
    return folder


def compiled(data: bytes) -> bytes:
    """Give the file that the vendor's compiler would make of this one: one operation, and the same ends."""
    import flatbuffers
    from ai_edge_litert.schema_py_generated import ModelT

    model = ModelT.InitFromPackedBuf(data, 0)
    (subgraph,) = model.subgraphs
    code, step = model.operatorCodes[0], subgraph.operators[0]
    code.builtinCode = code.deprecatedBuiltinCode = 32  # CUSTOM
    code.customCode = "edgetpu-custom-op"
    step.opcodeIndex, step.inputs, step.outputs = 0, subgraph.inputs, subgraph.outputs
    step.builtinOptions, step.builtinOptionsType = None, 0
    subgraph.operators, model.operatorCodes = [step], [code]
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
