"""Makes the small real TFLite models that the tests run: `python -m tests.data.make_tiny_model`.

It takes TensorFlow. The network is not trained: random convolutions of fixed seed, then a projection fitted
in closed form on drawn packs, so that products of other colors and shapes get other embeddings. What it makes
is committed; run it again only to change the models, for another TensorFlow may give other bytes.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import flatbuffers
import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.lite.python import schema_py_generated as schema

from converter.certify import LabeledPicture, certify
from edge.certificate import CERTIFICATE_FILE
from edge.disk import write_atomically
from edge.model import Decision, Model, Variant, write_model

HERE = Path(__file__).parent
SIZE = 32
DIMENSION = 16
ROW_SCALE = 1 / 127
DECISION = Decision(
    match_confidence=0.5, unknown_similarity=0.7, bias=-6.0, similarity_weight=6.0, margin_weight=20.0
)


def draw_pack(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    """Draw a pack as a small network sees it: a ground, a body, two blocks of other colors on it; 0..255."""
    colors = rng.uniform(0, 255, (4, 3))
    pack = np.empty((size, size, 3), np.float32)
    pack[:] = 255 if rng.random() < 0.5 else colors[0]
    pack[size // 8 : -size // 8, size // 5 : -size // 5] = colors[1]
    for color in colors[2:]:
        top, left = rng.integers(size // 8, size // 2, 2)
        height, width = rng.integers(size // 6, size // 2, 2)
        pack[top : top + height, left : left + width] = color
    return pack


def photograph(pack: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
    """See a pack in other light, a little moved, with noise: `uint8`."""
    moved = np.roll(pack, rng.integers(-3, 4, 2), axis=(0, 1))
    lit = moved * rng.uniform(0.7, 1.15) * rng.uniform(0.93, 1.07, 3) + rng.normal(0, 8, pack.shape)
    return np.clip(lit, 0, 255).astype(np.uint8)


def make_features(size: int) -> keras.Model:
    """Build the random convolutions: (size, size, 3) in -1..1 to (size/8, size/8, 72)."""
    picture = keras.Input((size, size, 3))
    x = picture
    for number, (filters, stride) in enumerate(((12, 2), (24, 2), (72, 2))):
        x = keras.layers.Conv2D(
            filters,
            3,
            strides=stride,
            padding="same",
            activation="relu6",
            kernel_initializer=keras.initializers.HeNormal(seed=number + 1),
            bias_initializer=keras.initializers.RandomNormal(stddev=0.3, seed=number + 11),
        )(x)
    return keras.Model(picture, x)


def make_network(size: int, dimension: int) -> keras.Model:
    """Add the projection that tells packs apart and keeps the photos of one together, and the pooling.

    Linear discriminant analysis of the pooled features of 500 packs in 8 photos each; being linear, it
    commutes with the pooling, so it can come before it, and the mean of `local` is `embedding`.
    """
    features = make_features(size)
    rng = np.random.default_rng(3)
    packs = [draw_pack(rng, size) for _ in range(500)]
    photos = np.array([[photograph(pack, rng) for _ in range(8)] for pack in packs])
    flat = photos.reshape(-1, size, size, 3) / 127.5 - 1.0
    pooled = np.concatenate([np.asarray(features(part)) for part in np.array_split(flat, 40)]).mean(
        axis=(1, 2)
    )
    classes = pooled.reshape(500, 8, -1)
    centers = classes.mean(axis=1)
    mean = centers.mean(axis=0)
    within = np.cov((classes - centers[:, np.newaxis]).reshape(4000, -1).T)
    root = np.linalg.inv(
        np.linalg.cholesky(within + 1e-3 * np.trace(within) / len(within) * np.eye(len(within)))
    )
    values, vectors = np.linalg.eigh(root @ np.cov((centers - mean).T) @ root.T)
    projection = root.T @ vectors[:, np.argsort(-values)[:dimension]]
    local = keras.layers.Conv2D(dimension, 1, name="local")
    outputs = local(features.output)
    local.set_weights([projection[np.newaxis, np.newaxis].astype(np.float32), -(mean @ projection)])
    embedding = keras.layers.GlobalAveragePooling2D(name="embedding")(outputs)
    return keras.Model(features.input, {"embedding": embedding, "local": outputs})


def with_batch_of_one(network: keras.Model, size: int) -> keras.Model:
    """Fix the batch: a model without it is converted with a batch of -1."""
    picture = keras.Input((size, size, 3), batch_size=1)
    return keras.Model(picture, network(picture))


def with_raw_input(network: keras.Model, size: int) -> keras.Model:
    """Put the normalization of raw `uint8` pictures before a float network."""
    picture = keras.Input((size, size, 3), batch_size=1, dtype="uint8")
    return keras.Model(picture, network(keras.layers.Rescaling(1 / 127.5, offset=-1.0)(picture)))


def convert_float(network: keras.Model, size: int) -> bytes:
    """Convert a network to float32 TFLite that takes raw pictures."""
    return bytes(tf.lite.TFLiteConverter.from_keras_model(with_raw_input(network, size)).convert())


def convert_int8(network: keras.Model, size: int, output: tf.DType, taken: tf.DType = tf.uint8) -> bytes:
    """Convert a network to int8 TFLite; raw pictures are its input because of how it is calibrated."""

    def representative() -> Iterator[list[NDArray[np.float32]]]:
        rng = np.random.default_rng(5)
        extremes = (np.zeros((size, size, 3)), np.full((size, size, 3), 255))
        packs = [photograph(draw_pack(rng, size), rng) for _ in range(100)]
        for picture in (*extremes, *packs):
            yield [(picture[np.newaxis] / 127.5 - 1.0).astype(np.float32)]

    converter = tf.lite.TFLiteConverter.from_keras_model(with_batch_of_one(network, size))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = taken
    converter.inference_output_type = output
    return bytes(converter.convert())


def convert_float16(network: keras.Model, size: int) -> bytes:
    """Convert a network to TFLite with float16 weights that takes raw pictures."""
    converter = tf.lite.TFLiteConverter.from_keras_model(with_raw_input(network, size))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    return bytes(converter.convert())


def with_all_weights(network: keras.Model, change: Callable[[NDArray[np.float32]], object]) -> keras.Model:
    """Copy a network with the weights of its last convolution changed."""
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    layer = copy.get_layer("local")
    layer.set_weights([change(weights) for weights in layer.get_weights()])
    return copy


def pack_model(tree: schema.ModelT) -> bytes:
    """Write a model's tree back as a TFLite file."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(tree.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def for_edge_tpu(model: bytes) -> bytes:
    """Rename the first operation to the one that the Edge TPU compiler puts for what the chip runs."""
    tree = schema.ModelT.InitFromPackedBuf(model, 0)
    code = tree.operatorCodes[tree.subgraphs[0].operators[0].opcodeIndex]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = b"edgetpu-custom-op"
    return pack_model(tree)


def make_probe() -> bytes:
    """Make the smallest network, relu6: what a runtime must at least be able to run."""
    x = keras.Input((4,), batch_size=1)
    network = keras.Model(x, keras.layers.ReLU(6.0)(x))
    tree = schema.ModelT.InitFromPackedBuf(tf.lite.TFLiteConverter.from_keras_model(network).convert(), 0)
    tree.description = None
    tree.signatureDefs = tree.metadata = None
    tree.buffers = tree.buffers[:1]
    graph = tree.subgraphs[0]
    graph.name = None
    for tensor in graph.tensors:
        tensor.name, tensor.buffer, tensor.quantization = None, 0, None
    return pack_model(tree)


def write_folder(name: str, space: str, files: dict[str, tuple[str, str, bytes]]) -> Model:
    """Write a model folder of (target, precision, file) by the names of the variants."""
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    variants = []
    for variant, (target, precision, data) in files.items():
        file, sha256 = f"tiny-{variant}.tflite", hashlib.sha256(data).hexdigest()
        write_atomically(folder / file, data)
        variants.append(Variant(variant, file, sha256, len(data), target, precision, DECISION))
    model = Model(name, space, DIMENSION, SIZE, ROW_SCALE, tuple(variants), folder)
    write_model(model, folder)
    return model


def write_certificate(model: Model, stand_ins: dict[str, str] | None = None) -> None:
    """Measure the files of a tiny model on drawn packs, and lay the certificate beside them.

    `stand_ins` are the variants that run for those compiled for an Edge TPU.
    """
    rng = np.random.default_rng(9)
    packs = [draw_pack(rng, SIZE) for _ in range(60)]

    def labeled(number: int) -> LabeledPicture:
        picture = photograph(packs[number], rng)
        name = hashlib.sha256(picture.tobytes()).hexdigest()[:12]
        return LabeledPicture(picture, name, f"aisle {number % 3}", f"pack {number}")

    references = [labeled(number) for number in range(len(packs))]
    compared = [labeled(number) for number in range(len(packs)) for _ in range(8)]
    certificate = certify(
        model,
        compared,
        references,
        representative={"packs": [each.name for each in references]},
        stand_ins={name: model.path(model.variant(by)) for name, by in (stand_ins or {}).items()},
    )
    write_atomically(model.folder / CERTIFICATE_FILE, certificate.to_bytes())


def main() -> None:
    """Write the model folders `tiny-int8` and `tiny-several`, and the misfits in `broken-models`."""
    network = make_network(SIZE, DIMENSION)
    weights = b"".join(weight.tobytes() for weight in network.get_weights())
    space = hashlib.sha256(weights).hexdigest()[:16]
    # In this order: names that Keras counts up stand in the files.
    files = {
        "int8": ("cpu", "int8", convert_int8(network, SIZE, tf.float32)),
        "int8-out": ("cpu", "int8", convert_int8(network, SIZE, tf.int8)),
        "float32": ("float32", "float32", convert_float(network, SIZE)),
    }
    write_misfits(network, files["int8"][2])
    full = convert_int8(network, SIZE, tf.uint8)
    several = {
        "float32": files["float32"],
        "edgetpu": ("edgetpu", "int8", for_edge_tpu(full)),
        "edgetpu-int8": ("edgetpu", "int8", full),
        "float16": ("gpu", "float16", convert_float16(network, SIZE)),
        "int8": files["int8"],
    }
    write_certificate(write_folder("tiny-int8", space, files))
    write_certificate(write_folder("tiny-several", space, several), {"edgetpu": "edgetpu-int8"})


def write_misfits(network: keras.Model, int8: bytes) -> None:
    """Write `probe.tflite`, and into `broken-models` the files that are no good."""
    broken = HERE / "broken-models"
    broken.mkdir(exist_ok=True)
    for name, data in {
        "nan": convert_float(with_all_weights(network, lambda w: np.full_like(w, np.nan)), SIZE),
        "zero": convert_float(with_all_weights(network, np.zeros_like), SIZE),
        "input-48": convert_float(make_network(48, DIMENSION), 48),
        "dimension-8": convert_float(make_network(SIZE, 8), SIZE),
        "float-input": bytes(
            tf.lite.TFLiteConverter.from_keras_model(with_batch_of_one(network, SIZE)).convert()
        ),
        "tiny_edgetpu": for_edge_tpu(int8),
        "int8-input": convert_int8(network, SIZE, tf.float32, tf.int8),
        "dynamic": bytes(tf.lite.TFLiteConverter.from_keras_model(network).convert()),
    }.items():
        write_atomically(broken / f"{name}.tflite", data)
    write_atomically(HERE / "probe.tflite", make_probe())


if __name__ == "__main__":
    main()
