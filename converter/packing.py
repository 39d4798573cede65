"""Writes a `.tflite` file anew with one named buffer more, and its weights where processors want them.

The format wants every buffer to begin at a multiple of 16 bytes, and the TFLite converter does not keep to
it: its last steps pack the file with Python objects that know of no alignment. Here they are taught it.
"""

from typing import Any, Final

import flatbuffers
import numpy as np

from converter.graph import read_graph
from edge.errors import BadNetwork

_ALIGNMENT: Final = 16


class _AligningBuilder(flatbuffers.Builder):  # type: ignore[misc]
    """A builder that begins every list of bytes at a multiple of 16."""

    def StartVector(self, elem_size: int, count: int, alignment: int) -> Any:  # noqa: N802, the library's name
        return super().StartVector(elem_size, count, _ALIGNMENT if elem_size == 1 else alignment)


def pack_with(data: bytes, name: str, key: str, content: bytes) -> bytes:
    """Return the file with a buffer that its metadata list under `key`; one of that key is replaced.

    The network in it stays what it was, to the bit. The same arguments give the same bytes, and a file that
    comes from here is given back as it is where it has the content already.

    Args:
        data: a `.tflite` file.
        name: what to call it.
        key: such as `TFLITE_METADATA`.
        content: what the buffer holds.

    Raises:
        BadNetwork: not a TFLite file, or one that does not survive being packed.
    """
    from ai_edge_litert.schema_py_generated import BufferT, MetadataT, ModelT

    before = read_graph(data, name)
    model = ModelT.InitFromPackedBuf(data, 0)
    model.metadata = model.metadata or []
    entry = next((each for each in model.metadata if each.name == key.encode()), None)
    if entry is None:
        entry = MetadataT(name=key, buffer=len(model.buffers))
        model.metadata.append(entry)
        model.buffers.append(BufferT())
    model.buffers[entry.buffer].data = np.frombuffer(content, np.uint8)
    packed = pack(model, len(data) + len(content))
    after = read_graph(packed, name)
    if (after.tensors, after.operations) != (before.tensors, before.operations):
        raise BadNetwork(f"{name} has parts that are not known here: update Shelfsight")
    return packed


def pack(model: Any, size: int) -> bytes:
    """Write a `ModelT` of the schema as a file; `size` is about how many bytes it will have."""
    builder = _AligningBuilder(size)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
