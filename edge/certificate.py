"""The parity certificate: how far each file of a model strays from its float network, measured, and signed.

It lies as `certificate.json` beside `model.json`, and travels in a release as a file of the role
`certificate`, so that whoever looks at a device can read what its file was shown to do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edge.errors import BadModel, NotCertified
from edge.fields import Fields, canonical_json, parse_json

CERTIFICATE_FORMAT: Final = 1
CERTIFICATE_FILE: Final = "certificate.json"
DEFAULT_TOLERANCE: Final = 0.5
"""Points of recall that a file may lose against the float network before it is refused."""


@dataclass(frozen=True, slots=True)
class Cosines:
    """Cosines between the embeddings of a file and those of the float network, of the same pictures, -1..1.

    `p50`, `p05` and `p01` are what 50, 95 and 99 of 100 pictures reach; `least` is the worst of them.
    """

    mean: float
    p50: float
    p05: float
    p01: float
    least: float


@dataclass(frozen=True, slots=True)
class CategoryRecall:
    """Top-1 recall (0..1) of the float network in one category, and the file's change of it in points."""

    category: str
    photos: int
    recall: float
    change: float


@dataclass(frozen=True, slots=True)
class EdgeTpuMapping:
    """What of a file an Edge TPU runs.

    Attributes:
        operations: how many operations the network has.
        mapped: how many of them the Edge TPU runs.
        fallbacks: name and reason of each that goes to the CPU.
        parameter_bytes: weights and biases of the mapped ones.
        on_chip: whether those fit into its memory of 8 MB.
        compiler: name and version of the compiler that said so; None: the documented table did.
    """

    operations: int
    mapped: int
    fallbacks: tuple[tuple[str, str], ...]
    parameter_bytes: int
    on_chip: bool
    compiler: str | None = None


@dataclass(frozen=True, slots=True)
class FileCertificate:
    """What one file was measured to do in one runtime with one delegate.

    Attributes:
        variant: the name of the variant.
        sha256: of the file that is certified.
        measured_sha256: of the file that was run: another where an Edge TPU has to run the certified one, and
            the file that it was compiled from stood in for it.
        target, precision: as in `edge.model.Variant`.
        size: bytes.
        runtime: name and version, such as `ai-edge-litert 2.3.0`.
        delegate: as in `edge.delegates`.
        machine: what it was measured on, such as `Linux x86_64`.
        photos: how many pictures were compared.
        cosines: to the float network.
        top1_agreement, top5_agreement: share of the pictures of which file and float network name the same
            product first, and of the first five products of the float network those that the file names too.
        recall: share of the labeled pictures of which the file names the right product first; None where no
            picture is labeled.
        recall_change: the same less that of the float network, in points.
        categories: the same by category.
        flipped: share of the pictures that are answered with another verdict or another matched product, each
            file judged by its own decision.
        latency_ms: p50 and p99 of one run of the network, one thread.
        edge_tpu: for files of the target edgetpu.
        extra: fields of a later Shelfsight.
    """

    variant: str
    sha256: str
    measured_sha256: str
    target: str
    precision: str
    size: int
    runtime: str
    delegate: str
    machine: str
    photos: int
    cosines: Cosines
    top1_agreement: float
    top5_agreement: float
    recall: float | None
    recall_change: float | None
    categories: tuple[CategoryRecall, ...]
    flipped: float
    latency_ms: tuple[float, float]
    edge_tpu: EdgeTpuMapping | None = None
    extra: Mapping[str, object] = field(default_factory=dict)

    @property
    def suffered(self) -> tuple[CategoryRecall, ...]:
        """The categories that lost recall, worst first."""
        return tuple(
            sorted((each for each in self.categories if each.change < 0), key=lambda one: one.change)
        )


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was measured of all files of one float network.

    Attributes:
        model, space: the name of the model, and the identity of the float network.
        float_sha256: of the float32 file that the others were compared with.
        representative: SHA-256 (or its beginning) of every photo that the ranges of int8 files were learned
            from, by category.
        compared: the same of every photo that was compared.
        files: one for each file, runtime and delegate.
        extra: fields of a later Shelfsight.
    """

    model: str
    space: str
    float_sha256: str
    representative: Mapping[str, tuple[str, ...]]
    compared: tuple[str, ...]
    files: tuple[FileCertificate, ...]
    extra: Mapping[str, object] = field(default_factory=dict)

    def of_file(self, sha256: str) -> tuple[FileCertificate, ...]:
        """Return what was measured of the file with this hash."""
        return tuple(each for each in self.files if each.sha256 == sha256)

    def check(self, name: str, sha256: str, tolerance: float = DEFAULT_TOLERANCE) -> None:
        """Refuse a file that loses more than `tolerance` points of recall, in any runtime it was measured in.

        Where no photo was labeled, pictures that are named otherwise than by the float network stand in for
        lost recall: that many may have been lost.

        Raises:
            NotCertified: the file `name` was not measured, or strays too far; the categories are named.
        """
        measured = self.of_file(sha256)
        if not measured:
            raise NotCertified(
                f"file {name} of model {self.model} has no parity certificate: certify it with "
                "shelfsight-convert, or train again"
            )
        for each in measured:
            change = each.recall_change
            lost = -change if change is not None else 100 * (1 - each.top1_agreement)
            if lost > tolerance:
                worst = ", ".join(f"{one.category} {one.change:+.1f}" for one in each.suffered[:5])
                where = f" (worst: {worst})" if worst else ""
                raise NotCertified(
                    f"file {name} of model {self.model} loses {lost:.2f} points of recall in {each.runtime} "
                    f"with {each.delegate}, over the tolerance of {tolerance:g}{where}: convert it with more "
                    "typical photos, or allow it with --tolerance"
                )

    def to_bytes(self) -> bytes:
        """Write canonical JSON."""
        record = {
            **self.extra,
            "format": CERTIFICATE_FORMAT,
            "model": self.model,
            "space": self.space,
            "float_sha256": self.float_sha256,
            "representative": {name: list(photos) for name, photos in self.representative.items()},
            "compared": list(self.compared),
            "files": [_file_record(each) for each in self.files],
        }
        return canonical_json(record) + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes, where: str = CERTIFICATE_FILE) -> "Certificate":
        """Read a certificate.

        Raises:
            BadModel: not a certificate, or one of a newer format.
        """
        reader = Fields(where, parse_json(data, where, BadModel), BadModel)
        found = reader.integer("format", least=1)
        if found > CERTIFICATE_FORMAT:
            raise BadModel(
                f"{where} has format {found}, and this Shelfsight reads formats up to {CERTIFICATE_FORMAT}; "
                "update Shelfsight"
            )
        by_category = reader.inner("representative")
        representative = {name: by_category.texts(name) for name in list(by_category.rest())}
        return cls(
            model=reader.text("model"),
            space=reader.text("space"),
            float_sha256=reader.sha256("float_sha256"),
            representative=representative,
            compared=reader.texts("compared"),
            files=reader.each("files", _read_file),
            extra=reader.rest(),
        )


def read_certificate(folder: Path) -> Certificate | None:
    """Read the certificate in a model folder; None where there is none.

    Raises:
        BadModel: it cannot be read, or is none.
    """
    path = folder / CERTIFICATE_FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadModel(f"{path} cannot be read ({error.strerror}): check who may read it") from error
    return Certificate.from_bytes(data, str(path))


def _read_file(reader: Fields) -> FileCertificate:
    inner = reader.inner("cosines")
    latency = reader.inner("latency_ms")
    labeled = "recall" in reader.rest()
    edge_tpu = _read_edge_tpu(reader.inner("edge_tpu")) if "edge_tpu" in reader.rest() else None
    return FileCertificate(
        variant=reader.text("variant"),
        sha256=reader.sha256("sha256"),
        measured_sha256=reader.sha256("measured_sha256"),
        target=reader.text("target"),
        precision=reader.text("precision"),
        size=reader.integer("size", least=1),
        runtime=reader.text("runtime"),
        delegate=reader.text("delegate"),
        machine=reader.text("machine"),
        photos=reader.integer("photos", least=1),
        cosines=Cosines(
            *(inner.number(name, least=-1.001, most=1.001) for name in ("mean", "p50", "p05", "p01", "least"))
        ),
        top1_agreement=reader.number("top1_agreement", least=0, most=1),
        top5_agreement=reader.number("top5_agreement", least=0, most=1),
        recall=reader.number("recall", least=0, most=1) if labeled else None,
        recall_change=reader.number("recall_change", least=-100, most=100) if labeled else None,
        categories=reader.each("categories", _read_category),
        flipped=reader.number("flipped", least=0, most=1),
        latency_ms=(latency.number("p50", least=0), latency.number("p99", least=0)),
        edge_tpu=edge_tpu,
        extra=reader.rest(),
    )


def _read_category(reader: Fields) -> CategoryRecall:
    return CategoryRecall(
        category=reader.text("category"),
        photos=reader.integer("photos", least=1),
        recall=reader.number("recall", least=0, most=1),
        change=reader.number("change", least=-100, most=100),
    )


def _read_edge_tpu(reader: Fields) -> EdgeTpuMapping:
    return EdgeTpuMapping(
        operations=reader.integer("operations"),
        mapped=reader.integer("mapped"),
        fallbacks=reader.each("fallbacks", lambda each: (each.text("operation"), each.text("reason"))),
        parameter_bytes=reader.integer("parameter_bytes"),
        on_chip=reader.take("on_chip") is True,
        compiler=reader.optional_text("compiler"),
    )


def _file_record(each: FileCertificate) -> dict[str, object]:
    record: dict[str, object] = {
        **each.extra,
        "variant": each.variant,
        "sha256": each.sha256,
        "measured_sha256": each.measured_sha256,
        "target": each.target,
        "precision": each.precision,
        "size": each.size,
        "runtime": each.runtime,
        "delegate": each.delegate,
        "machine": each.machine,
        "photos": each.photos,
        "cosines": {
            "mean": each.cosines.mean,
            "p50": each.cosines.p50,
            "p05": each.cosines.p05,
            "p01": each.cosines.p01,
            "least": each.cosines.least,
        },
        "top1_agreement": each.top1_agreement,
        "top5_agreement": each.top5_agreement,
        "categories": [
            {"category": one.category, "photos": one.photos, "recall": one.recall, "change": one.change}
            for one in each.categories
        ],
        "flipped": each.flipped,
        "latency_ms": {"p50": each.latency_ms[0], "p99": each.latency_ms[1]},
    }
    if each.recall is not None:
        record |= {"recall": each.recall, "recall_change": each.recall_change}
    if each.edge_tpu is not None:
        record["edge_tpu"] = {
            "operations": each.edge_tpu.operations,
            "mapped": each.edge_tpu.mapped,
            "fallbacks": [{"operation": name, "reason": reason} for name, reason in each.edge_tpu.fallbacks],
            "parameter_bytes": each.edge_tpu.parameter_bytes,
            "on_chip": each.edge_tpu.on_chip,
            "compiler": each.edge_tpu.compiler,
        }
    return record
