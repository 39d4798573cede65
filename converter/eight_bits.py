"""Makes of an int8 file that answers in floats one that answers in uint8, which an Edge TPU runs to the end.

An Edge TPU knows no floats. What turned the numbers of the network into some would go to the CPU, and with it
all that comes after; the device does that itself, and as well. No number of the network changes, so what was
measured and decided of the one file holds of the other.
"""

from typing import Any, Final

from converter.packing import pack
from edge.errors import BadNetwork

_DEQUANTIZE: Final = 6
_QUANTIZE: Final = 114
_INT8, _UINT8 = 9, 3
_SHIFT: Final = 128  # from int8 to uint8


def answer_in_uint8(data: bytes, name: str) -> bytes:
    """Return the file with uint8 outputs, each with the quantization that its numbers had inside.

    Args:
        data: a `.tflite` file whose outputs are float32, computed from int8 by its last operations.
        name: what to call it.

    Raises:
        BadNetwork: an output comes from something else.
    """
    from ai_edge_litert.schema_py_generated import ModelT, OperatorCodeT, QuantizationParametersT

    model = ModelT.InitFromPackedBuf(data, 0)
    (subgraph,) = model.subgraphs
    quantize = OperatorCodeT(deprecatedBuiltinCode=_QUANTIZE, builtinCode=_QUANTIZE, version=1)
    model.operatorCodes.append(quantize)
    left = set(map(int, subgraph.outputs))
    for operation in subgraph.operators:
        if _code(model, operation) != _DEQUANTIZE or not left & set(operation.outputs):
            continue
        source, answer = subgraph.tensors[operation.inputs[0]], subgraph.tensors[operation.outputs[0]]
        if source.type != _INT8:
            continue
        answer.type = _UINT8
        answer.quantization = QuantizationParametersT(
            scale=source.quantization.scale, zeroPoint=source.quantization.zeroPoint + _SHIFT
        )
        operation.opcodeIndex = model.operatorCodes.index(quantize)
        operation.builtinOptions, operation.builtinOptionsType = None, 0
        left -= set(operation.outputs)
    if left:
        raise BadNetwork(f"{name} has outputs that are not made of int8: convert it for the target cpu")
    _forget_unused_codes(model)
    return pack(model, len(data))


def _code(model: Any, operation: Any) -> int:
    code = model.operatorCodes[operation.opcodeIndex]
    return max(int(code.builtinCode), int(code.deprecatedBuiltinCode))


def _forget_unused_codes(model: Any) -> None:
    """Leave one code of each operation that there is: a file of the TFLite converter has no others."""
    kept: dict[tuple[int, int], Any] = {}
    (subgraph,) = model.subgraphs
    for operation in subgraph.operators:
        code = model.operatorCodes[operation.opcodeIndex]
        key = (_code(model, operation), int(code.version))
        kept.setdefault(key, code)
        operation.opcodeIndex = list(kept).index(key)
    model.operatorCodes = list(kept.values())
