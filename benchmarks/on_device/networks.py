"""The network that is measured, in the forms that peers take."""

from pathlib import Path
from typing import Any


def without_map(network: bytes) -> bytes:
    """Return a `.tflite` file's bytes without its output `local`: MediaPipe takes one vector a picture."""
    import flatbuffers
    from ai_edge_litert.schema_py_generated import ModelT

    model: Any = ModelT.InitFromPackedBuf(network, 0)
    (subgraph,) = model.subgraphs
    subgraph.outputs = [each for each in subgraph.outputs if len(subgraph.tensors[each].shape) == 2]
    model.signatureDefs = None
    model.metadata = None
    builder = flatbuffers.Builder(len(network))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def untrained_network(folder: Path, dimension: int, size: int) -> Path:
    """Write the bundled models' network with random weights, for Keras: it computes as much."""
    from dataclasses import replace

    from cloud.training.network import build_network, save_network
    from cloud.training.recipe import Recipe

    recipe = replace(Recipe(), dimension=dimension, input_size=size)
    save_network(build_network(recipe, weights="none"), recipe, folder)
    return folder / "network.keras"
