"""Writes the files of a network into a folder, one for each target, compiled where a compiler is at hand."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from converter.compiler import COMPILER, compile_file, find_compiler
from converter.edgetpu import check_edge_tpu, mapping_of
from converter.graph import read_graph
from converter.metadata import describe
from converter.network_file import NetworkNote, read_note
from converter.quantize import PRECISIONS, convert_each
from edge.certificate import EdgeTpuMapping
from edge.decision import Decision
from edge.disk import write_atomically
from edge.image import Picture
from edge.model import Variant

FILE_NAMES: Final = {
    "cpu": "int8.tflite",
    "gpu": "float16.tflite",
    "edgetpu": "edgetpu-int8.tflite",
    "float32": "float32.tflite",
}
COMPILED_NAME: Final = "edgetpu.tflite"
NOT_COMPILED: Final = (
    f"not compiled, for {COMPILER} is not on the PATH: no Edge TPU runs this file until it is"
)


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file for a target.

    Attributes:
        target: as in `converter.quantize`.
        path: the file.
        stand_in: what it was compiled from, for it cannot be run here itself; None where it can.
        edge_tpu: of a file for an Edge TPU, what is mapped of it.
    """

    target: str
    path: Path
    stand_in: Path | None = None
    edge_tpu: EdgeTpuMapping | None = None

    def variant(self, decision: Decision) -> Variant:
        """Return the file as a model has it."""
        data = self.path.read_bytes()
        return Variant(
            name=self.path.stem,
            file=self.path.name,
            sha256=hashlib.sha256(data).hexdigest(),
            size=len(data),
            target=self.target,
            precision=PRECISIONS[self.target],
            decision=decision,
        )


def write_files(
    network: Path, representative: Sequence[Picture], targets: Sequence[str], folder: Path
) -> Iterator[WrittenFile]:
    """Convert a network and write its files into a folder that is there; yields each when it is whole.

    Raises:
        BadNetwork: it cannot be converted (`converter.quantize.convert_each`), or not compiled.
        StorageUnusable, NoSpace: the folder cannot be written.
    """
    note = read_note(network)
    for target, file in convert_each(network, representative, targets):
        if target == "edgetpu":
            yield write_for_edge_tpu(file, note, folder)
        else:
            path = folder / FILE_NAMES[target]
            write_atomically(path, file)
            yield WrittenFile(target, path)


def write_for_edge_tpu(file: bytes, note: NetworkNote, folder: Path) -> WrittenFile:
    """Write a file for an Edge TPU, compiled where the compiler is; else told what the documented table says.

    Raises:
        BadNetwork: the compiler does not take it.
        StorageUnusable, NoSpace: the folder cannot be written.
    """
    path = folder / FILE_NAMES["edgetpu"]
    write_atomically(path, file)
    compiler = find_compiler()
    if compiler is None:
        mapping = mapping_of(check_edge_tpu(read_graph(file, path.name)))
        return WrittenFile("edgetpu", path, edge_tpu=mapping)
    made = compile_file(file, path.name, compiler)
    compiled = path.with_name(COMPILED_NAME)
    # The compiler may leave the metadata out: it is told again.
    write_atomically(compiled, describe(made.file, compiled.name, note))
    return WrittenFile("edgetpu", compiled, stand_in=path, edge_tpu=made.mapping)
