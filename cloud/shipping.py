"""Chooses the network files of a model that a release ships, and refuses those that must not be signed.

    model folder + targets + tolerance -> Shipment -> cloud.publishing

A file is shipped when devices can run it (`converter.admission`) and when it was measured to be the network
that it was made from (`edge.certificate`). Nothing is run here.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from cloud.assembly import model_bytes
from converter.admission import check_graph
from converter.graph import read_graph
from edge.certificate import CERTIFICATE_FILE, Certificate, FileCertificate, read_certificate
from edge.errors import BadModel, NotCertified
from edge.model import Model, Variant

TARGETS: Final = ("cpu", "gpu", "edgetpu", "float32")
EVERY_TARGET: Final = "all"
_USUAL: Final = ("cpu", "gpu", "edgetpu")
"""What is shipped where nobody says otherwise: float32 is what the others are compared with."""


@dataclass(frozen=True, slots=True)
class ShippedFile:
    """A file that goes into a release, and what it was measured to do, by runtime and delegate.

    `compiled` says that only an Edge TPU runs it.
    """

    variant: Variant
    measured: tuple[FileCertificate, ...]
    compiled: bool

    @property
    def recall_change(self) -> float | None:
        """Points of recall against the float network where it does worst; None where nothing was labeled."""
        changes = [each.recall_change for each in self.measured if each.recall_change is not None]
        return min(changes, default=None)

    @property
    def flipped(self) -> float:
        """The share (0..1) of the pictures that it decides otherwise than the float network, at most."""
        return max(each.flipped for each in self.measured)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that was asked for and is not shipped, and why."""

    variant: Variant
    reason: str


@dataclass(frozen=True, slots=True)
class Shipment:
    """The files that a release ships, those for the CPU first, and the certificate that vouches for them."""

    files: tuple[ShippedFile, ...]
    left_out: tuple[LeftOut, ...]
    certificate: bytes

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The variants of all files."""
        return tuple(each.variant for each in self.files)

    @property
    def runnable(self) -> tuple[Variant, ...]:
        """The variants that any computer can run, the first for the CPU first; it embeds the catalog."""
        return tuple(each.variant for each in self.files if not each.compiled)


def choose_files(model: Model, targets: Collection[str], tolerance: float) -> Shipment:
    """Choose the model's files of these `targets`, and check each of them; that for the CPU is always one.

    `all`, or no target at all, stands for every one that the model has a file for, but for float32. A file
    may lose `tolerance` points of recall.

    Raises:
        BadModel: the model has no file for a target that is named, none for the CPU, or a damaged one.
        BadNetwork: a file that devices could not run.
        NotCertified: a file without a certificate, with that of another model, or one that lost too much.
    """
    certificate = _certificate(model)
    files: list[ShippedFile] = []
    left_out: list[LeftOut] = []
    wanted = _wanted(model, targets)
    # The CPU's come first: the first of them embeds the catalog, and older devices look no further.
    for variant in sorted(model.variants, key=lambda each: each.target != "cpu"):
        if variant.target not in wanted:
            continue
        compiled = _check_file(model, variant)
        if variant.target == "edgetpu" and not compiled:
            if "edgetpu" in targets:  # who did not ask for it need not be told at every publish
                reason = "it is not compiled, so no Edge TPU would run it: compile it with edgetpu_compiler"
                left_out.append(LeftOut(variant, reason))
            continue
        certificate.check(variant.name, variant.sha256, tolerance)
        files.append(ShippedFile(variant, certificate.of_file(variant.sha256), compiled))
    return Shipment(tuple(files), tuple(left_out), certificate.to_bytes())


def _wanted(model: Model, targets: Collection[str]) -> frozenset[str]:
    own = {variant.target for variant in model.variants}
    named = {"cpu", *targets} - {EVERY_TARGET}
    for target in sorted(named - own):
        raise BadModel(
            f"model {model.name} in {model.folder} has no file for target {target}: convert it with "
            f"--target {target}"
        )
    usual = own & set(_USUAL) if EVERY_TARGET in targets or not targets else set()
    return frozenset(named | usual)


def _certificate(model: Model) -> Certificate:
    certificate = read_certificate(model.folder)
    if certificate is None:
        raise NotCertified(
            f"model {model.name} has no parity certificate ({model.folder / CERTIFICATE_FILE} is not there): "
            "certify it with shelfsight-convert, or train again"
        )
    if (certificate.model, certificate.space) != (model.name, model.space):
        raise NotCertified(
            f"{model.folder / CERTIFICATE_FILE} certifies model {certificate.model} of space "
            f"{certificate.space}, and this is model {model.name} of space {model.space}: certify it anew"
        )
    return certificate


def _check_file(model: Model, variant: Variant) -> bool:
    """Refuse a file that devices could not run; return whether it is compiled for an Edge TPU."""
    name = str(model.path(variant))
    graph = read_graph(model_bytes(model, variant), name)
    check_graph(graph, name, input_size=model.input_size, dimension=model.dimension, target=variant.target)
    return graph.compiled_for_edge_tpu
