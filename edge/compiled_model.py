"""LiteRT's way of giving a whole network to a GPU or NPU, with the methods of an interpreter."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


class CompiledInterpreter:
    """A LiteRT `CompiledModel` that is used like an interpreter. For one thread at a time."""

    def __init__(self, model: Any, reader: Any) -> None:
        """Take the compiled network, and an interpreter of the same file that tells of its tensors."""
        self._model = model
        self._inputs: list[dict[str, Any]] = reader.get_input_details()
        self._outputs: list[dict[str, Any]] = reader.get_output_details()
        self._arrays = {
            each["index"]: np.zeros(each["shape"], each["dtype"]) for each in (*self._inputs, *self._outputs)
        }
        self._into, self._out_of = model.create_input_buffers(0), model.create_output_buffers(0)
        signature = model.get_signature_by_index(0)
        self._input_order = self._order(self._inputs, signature, model.get_input_tensor_details)
        self._output_order = self._order(self._outputs, signature, model.get_output_tensor_details)

    def allocate_tensors(self) -> None:
        """Do nothing: the buffers are there."""

    def invoke(self) -> None:
        """Run the network on what stands in the input tensors.

        Raises:
            RuntimeError: it cannot be run.
        """
        for buffer, index in zip(self._into, self._input_order, strict=True):
            buffer.write(self._arrays[index])
        self._model.run_by_index(0, self._into, self._out_of)
        for buffer, index in zip(self._out_of, self._output_order, strict=True):
            array = self._arrays[index]
            array[...] = buffer.read(array.size, array.dtype).reshape(array.shape)

    def get_input_details(self) -> list[dict[str, Any]]:
        """Describe the inputs, as an interpreter does."""
        return self._inputs

    def get_output_details(self) -> list[dict[str, Any]]:
        """Describe the outputs, as an interpreter does."""
        return self._outputs

    def tensor(self, tensor_index: int) -> Callable[[], NDArray[Any]]:
        """Return what gives the array of an input or output."""
        return lambda: self._arrays[tensor_index]

    def _order(self, details: list[dict[str, Any]], signature: Any, told: Callable[[str], Any]) -> list[int]:
        """Return the indices of tensors in the order of the buffers; the two are matched by name."""
        index_of = {each["name"]: each["index"] for each in details}
        return [index_of[each["name"]] for each in told(signature["key"]).values()]
