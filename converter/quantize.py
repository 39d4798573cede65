"""From a float network to its `.tflite` files; the only door to the TFLite converter.

    target   weights            activations   input   outputs   made for
    cpu      int8 per channel   int8          uint8   float32   LiteRT with XNNPACK
    edgetpu  int8 per channel   int8          uint8   uint8     the vendor's compiler (`converter.compiler`)
    gpu      float16            float         uint8   float32   GPU delegates
    float32  float32            float         uint8   float32   measuring what the others lose

The batch is 1. In the int8 files the quantization of the input is the normalization: a pixel is its own
quantized value, and nothing has to be computed for it. The others cast and rescale in the graph. The two int8
files are one network (`converter.eight_bits`). Each file has its TFLite metadata (`converter.metadata`).
"""

import io
import os
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from converter.admission import check_network_file
from converter.eight_bits import answer_in_uint8
from converter.equalize import equalize
from converter.metadata import describe
from converter.network_file import NetworkNote, read_note
from converter.rounding import round_weights
from edge.errors import BadNetwork
from edge.image import Picture

TARGETS = ("cpu", "gpu", "edgetpu", "float32")
PRECISIONS = {"cpu": "int8", "gpu": "float16", "edgetpu": "int8", "float32": "float32"}
# What Keras, zipfile and h5py raise at a file that is cut, spoiled or of another kind.
_UNREADABLE = (
    AttributeError,
    BadZipFile,
    EOFError,
    IndexError,
    KeyError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    zlib.error,
)
_NAME = "network"  # without one Keras counts, and the tensors of every file have other names
_BATCH = 16
_ROUNDING_PHOTOS = 96  # enough to know the second moments of a layer's inputs
_LARGEST_BYTES = 512 * 2**20


def convert(network: Path, representative: Sequence[Picture], target: str) -> bytes:
    """Convert the `network.keras` at that path, with its `network.json`, to the bytes of a `.tflite` file.

    Raises:
        BadNetwork: as `convert_each`.
    """
    return dict(convert_each(network, representative, (target,)))[target]


def convert_each(
    network: Path, representative: Sequence[Picture], targets: Sequence[str]
) -> Iterator[tuple[str, bytes]]:
    """Convert a network for several targets, in the order given; what the int8 files share is done once.

    Args:
        network: the float network, `network.keras` with its `network.json` beside it.
        representative: pictures (S, S, 3) of real photos, from which the int8 files learn the range of every
            activation; 100 to 500, balanced over the kinds of products.
        targets: some of `TARGETS`.

    Yields:
        Each target and the bytes of its file.

    Raises:
        BadNetwork: the network cannot be read or converted, its weights are not finite, its shapes are not
            fixed, there are no representative pictures, or a file is not what a device expects.
    """
    for target in targets:
        if target not in TARGETS:
            raise BadNetwork(f"target {target!r} is not known: take one of {', '.join(TARGETS)}")
    note = read_note(network)
    _check_pictures(representative, note)
    tensorflow, keras = _load_tensorflow()
    exact = _open(keras, network, note)
    int8: bytes | None = None
    for target in targets:
        if PRECISIONS[target] == "int8":
            if int8 is None:
                rounded = _open(keras, network, note)
                _prepare_int8(tensorflow, keras, rounded, representative, note)
                int8 = _convert_int8(tensorflow, _fixed_batch(keras, rounded, note), representative, note)
            file = answer_in_uint8(int8, "the int8 file") if target == "edgetpu" else int8
        else:
            file = _convert_float(tensorflow, _raw_input(keras, exact, note), half=target == "gpu")
        file = describe(file, f"the file for {target}", note)
        _check_file(tensorflow, file, representative[0], note, target)
        yield target, file


def _load_tensorflow() -> tuple[Any, Any]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    try:
        import keras
        import tensorflow
    except ImportError as error:
        raise BadNetwork(f"converting needs TensorFlow ({error}): pip install 'shelfsight[train]'") from error
    return tensorflow, keras


def _check_pictures(pictures: Sequence[Picture], note: NetworkNote) -> None:
    if not pictures:
        raise BadNetwork(
            "there are no photos to learn the ranges of activations from: give a folder of some 300"
        )
    shape = (note.input_size, note.input_size, 3)
    for picture in pictures:
        if picture.shape != shape or picture.dtype != np.uint8:
            raise BadNetwork(
                f"a representative picture is {picture.dtype} {picture.shape}, not uint8 {shape}: "
                "resize it with edge.image.fit"
            )


def _open(keras: Any, network: Path, note: NetworkNote) -> Any:
    """Load the network and refuse what would become a file that answers nonsense."""
    try:
        model = keras.models.load_model(network, compile=False)
    except _UNREADABLE as error:
        told = " ".join(str(error).split())[:200]
        raise BadNetwork(f"{network} is not a Keras network ({told}): train again") from error
    for variable in model.variables:
        if not np.all(np.isfinite(variable.numpy())):
            raise BadNetwork(
                f"{network}: weight {variable.path} is not finite: train again with a smaller rate"
            )
    size = note.input_size
    if tuple(model.input_shape[1:]) != (size, size, 3):
        raise BadNetwork(
            f"{network} takes {model.input_shape}, not (batch, {size}, {size}, 3) as its network.json says: "
            "shapes must be fixed"
        )
    shapes = sorted((tuple(output.shape[1:]) for output in model.outputs), key=len)
    ranks = [len(shape) for shape in shapes]
    if ranks != [1, 3] or {shape[-1] for shape in shapes} != {note.dimension} or None in shapes[1]:
        raise BadNetwork(
            f"{network} gives {shapes}, not an embedding and its map of {note.dimension} channels"
        )
    return model


def _fixed_batch(keras: Any, model: Any, note: NetworkNote) -> Any:
    """Give the network a batch of 1; without it the file's batch would be -1, which phones refuse."""
    inputs = keras.Input(batch_shape=(1, note.input_size, note.input_size, 3), name="picture")
    return keras.Model(inputs, model(inputs), name=_NAME)


def _raw_input(keras: Any, model: Any, note: NetworkNote) -> Any:
    """Give the network a batch of 1 of raw uint8 pixels, normalized inside."""
    inputs = keras.Input(batch_shape=(1, note.input_size, note.input_size, 3), dtype="uint8", name="picture")
    normalize = keras.layers.Rescaling(
        note.input_scale, offset=note.input_offset, dtype="float32", name="normalize"
    )
    return keras.Model(inputs, model(normalize(inputs)), name=_NAME)


def _prepare_int8(
    tensorflow: Any, keras: Any, model: Any, pictures: Sequence[Picture], note: NetworkNote
) -> None:
    """Change the weights in place to ones that int8 holds better; the network computes what it did."""
    batches = [
        np.stack(pictures[start : start + _BATCH]).astype(np.float32) * note.input_scale + note.input_offset
        for start in range(0, len(pictures), _BATCH)
    ]
    equalize(keras, model, batches)
    some = batches[:: max(1, len(batches) * _BATCH // _ROUNDING_PHOTOS)]
    round_weights(keras, tensorflow, model, some)


def _convert_int8(tensorflow: Any, model: Any, pictures: Sequence[Picture], note: NetworkNote) -> bytes:
    def samples() -> Iterator[list[Any]]:
        for picture in (_with_extremes(pictures[0]), *pictures):
            yield [picture[np.newaxis].astype(np.float32) * note.input_scale + note.input_offset]

    converter = tensorflow.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
    converter.representative_dataset = samples
    converter.target_spec.supported_ops = [tensorflow.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tensorflow.uint8
    converter.inference_output_type = tensorflow.float32
    return _run(converter)


def _with_extremes(picture: Picture) -> Picture:
    """Return the picture with one black and one white pixel: the input's range must be 0..255."""
    changed = picture.copy()
    changed[0, 0], changed[0, 1] = 0, 255
    return changed


def _convert_float(tensorflow: Any, model: Any, *, half: bool) -> bytes:
    converter = tensorflow.lite.TFLiteConverter.from_keras_model(model)
    if half:
        converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tensorflow.float16]
    return _run(converter)


def _run(converter: Any) -> bytes:
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):  # Keras tells where it saved a copy
            warnings.simplefilter("ignore")
            file: bytes = converter.convert()
    except (RuntimeError, ValueError, TypeError) as error:
        raise BadNetwork(
            f"the TFLite converter refused the network ({error}): choose another backbone"
        ) from error
    return file


def _check_file(tensorflow: Any, file: bytes, picture: Picture, note: NetworkNote, target: str) -> None:
    """Run the file once, and refuse one that a device would refuse.

    Raises:
        BadNetwork: dynamic shapes, another input than raw uint8 pixels, or outputs that are not finite.
    """
    if not 0 < len(file) <= _LARGEST_BYTES:
        raise BadNetwork(f"the converted file has {len(file)} bytes: no device takes it")
    size, dimension = note.input_size, note.dimension
    check_network_file(file, "the converted file", input_size=size, dimension=dimension, target=target)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tf.lite.Interpreter says that it will move to ai-edge-litert
        interpreter = tensorflow.lite.Interpreter(model_content=file, num_threads=1)
    interpreter.allocate_tensors()
    (taken,) = interpreter.get_input_details()
    scale, zero = taken["quantization"]
    if scale and (abs(scale / note.input_scale - 1) > 0.02 or abs(zero * scale + note.input_offset) > 0.02):
        raise BadNetwork(
            f"the converted file reads a pixel as {scale} * (raw - {zero}), not as it was trained"
        )
    interpreter.set_tensor(taken["index"], picture[np.newaxis])
    interpreter.invoke()
    wanted = np.uint8 if target == "edgetpu" else np.float32
    for tensor in interpreter.get_output_details():
        values = interpreter.get_tensor(tensor["index"])
        nothing = tensor["quantization"][1]  # which number stands for zero
        if tensor["dtype"] is not wanted or not np.all(np.isfinite(values)) or np.all(values == nothing):
            raise BadNetwork(f"the converted file gives {tensor['dtype']} values that are zero or not finite")
