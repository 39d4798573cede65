"""Makes networks that do harm where they are run: `python -m tests.data.make_harmful_models`.

Each takes a picture of 32 pixels and gives what a model of 16 components gives, and is well formed; what is
wrong shows when it runs. They are not trained. It takes TensorFlow; what it makes is committed.

    hangs.tflite    never comes to an end
    greedy.tflite   wants 650 MB for two layers between small ones
    dies.tflite     calls itself without end, which kills the process that opens it
"""

from collections.abc import Callable
from copy import copy
from pathlib import Path

import flatbuffers
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

from edge.disk import write_atomically

HERE = Path(__file__).parent / "broken-models"
_GREED = 9_000  # side of a square of float32: 324 MB

Twist = Callable[[tf.Tensor], tf.Tensor]


def convert(twist: Twist) -> bytes:
    """Convert a network that looks at the mean color, with something in the middle of it."""

    @tf.function(input_signature=[tf.TensorSpec((1, 32, 32, 3), tf.uint8)])
    def network(picture: tf.Tensor) -> dict[str, tf.Tensor]:
        seen = tf.nn.avg_pool2d(tf.cast(picture, tf.float32), 8, 8, "VALID")
        local = tf.tile(seen, (1, 1, 1, 6))[..., :16] + 1.0
        mean = twist(tf.reduce_mean(local, axis=(1, 2)))
        return {"embedding": mean, "local": local}

    module = tf.Module()
    module.network = network
    converter = tf.lite.TFLiteConverter.from_concrete_functions([network.get_concrete_function()], module)
    return bytes(converter.convert())


def hang(mean: tf.Tensor) -> tf.Tensor:
    """Go round for ever: a number that is made smaller is never large."""
    turns = tf.while_loop(
        lambda turn: tf.reduce_all(turn < 1e30), lambda turn: tf.minimum(turn * 0.5, mean), [mean * 0.0]
    )
    return mean + turns[0]


def be_greedy(mean: tf.Tensor) -> tf.Tensor:
    """Make a square out of one number, and one number out of the square."""
    square = tf.tile(tf.reshape(mean[0, :1], (1, 1)), (_GREED, _GREED))
    return mean + tf.reduce_max(square * tf.reshape(mean[0, :1], (1, 1)))


def call_itself(model: bytes) -> bytes:
    """Let the body of a loop be that very loop."""
    tree = schema.ModelT.InitFromPackedBuf(model, 0)
    loop = next(
        each for each in tree.subgraphs[0].operators if isinstance(each.builtinOptions, schema.WhileOptionsT)
    )
    body = tree.subgraphs[loop.builtinOptions.bodySubgraphIndex]
    again = copy(loop)
    again.inputs, first = body.inputs, len(body.tensors)
    body.tensors += [copy(body.tensors[each]) for each in body.inputs]
    again.outputs = body.outputs = list(range(first, len(body.tensors)))
    body.operators = [again]
    builder = flatbuffers.Builder(1024)
    builder.Finish(tree.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def main() -> None:
    """Write the files."""
    hangs = convert(hang)
    for name, data in {"hangs": hangs, "greedy": convert(be_greedy), "dies": call_itself(hangs)}.items():
        write_atomically(HERE / f"{name}.tflite", data)


if __name__ == "__main__":
    main()
