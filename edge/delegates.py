"""Which ways there are of running a network file, and which file each of them runs. Nothing is loaded here.

A delegate takes operations of a network off the TFLite kernels: XNNPACK is built into every runtime, the
others are vendors' libraries, which may be missing, made for another processor, or kill the process.
"""

from dataclasses import dataclass
from typing import Final

from edge.errors import BadSetting


@dataclass(frozen=True, slots=True)
class Delegate:
    """One way of running a network file.

    Attributes:
        name: as settings, events and certificates have it.
        target: the `target` of the variants that it runs.
        library: of a vendor's library the file name that the loader looks for; empty where none is needed.
        compiled_model: whether LiteRT's `CompiledModel` runs it, and not the interpreter; such a one is tried
            only where a setting names it.
    """

    name: str
    target: str
    library: str = ""
    compiled_model: bool = False

    @property
    def isolated(self) -> bool:
        """Whether foreign code runs that may take the process with it: it is given one of its own."""
        return bool(self.library) or self.compiled_model


XNNPACK: Final = Delegate("xnnpack", "cpu")
PLAIN: Final = Delegate("none", "cpu")
"""The runtime's own kernels, slower than XNNPACK: the last resort."""

DELEGATES: Final = (
    Delegate("edgetpu", "edgetpu", "libedgetpu.so.1"),
    Delegate("gpu", "gpu", "libtensorflowlite_gpu_delegate.so"),
    Delegate("external", "cpu", "external"),  # which library it is, a setting says
    Delegate("compiled-gpu", "gpu", compiled_model=True),
    Delegate("compiled-npu", "cpu", compiled_model=True),
    XNNPACK,
    PLAIN,
)


def find_delegate(name: str) -> Delegate:
    """Return the delegate of this name.

    Raises:
        BadSetting: there is none such.
    """
    for delegate in DELEGATES:
        if delegate.name == name:
            return delegate
    known = ", ".join(delegate.name for delegate in DELEGATES)
    raise BadSetting(f"delegate {name!r} is not known: choose among {known}")


def delegate_order(names: tuple[str, ...]) -> tuple[Delegate, ...]:
    """Return the delegates in the order in which they are tried: the named ones, then what always runs.

    Raises:
        BadSetting: a name that is not known, or one twice.
    """
    if len(set(names)) != len(names):
        raise BadSetting(f"delegates names one twice ({', '.join(names)}): name each once")
    chosen = tuple(find_delegate(name) for name in names)
    return chosen + tuple(last for last in (XNNPACK, PLAIN) if last not in chosen)
