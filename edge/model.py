"""A model folder: network files, and in `model.json` all that it takes to read their answers.

The thresholds belong to a variant and not to the model: an int8 file measures similarity a little differently
from the float network that it was made from. Nothing here loads a network.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge.decision import Decision, WrongRate, decision_record, read_decision
from edge.disk import write_atomically
from edge.errors import BadModel, ShelfsightError
from edge.fields import Fields, canonical_json, parse_json

__all__ = [
    "MODEL_FORMAT",
    "Decision",
    "Model",
    "Variant",
    "WrongRate",
    "choose_variant",
    "decision_format",
    "open_model",
    "read_variant",
    "variant_record",
    "write_model",
]

MODEL_FORMAT = 2
"""The newest `format` of model.json that this Shelfsight reads."""

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SPACE = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Variant:
    """Name one network file of a model: what it runs on, how exact it is, how its answers are judged.

    `file` is its name in the model folder (in a release, its sha256), `size` its bytes; `target` is cpu, gpu,
    edgetpu or float32, `precision` int8, float16 or float32.
    """

    name: str
    file: str
    sha256: str
    size: int
    target: str
    precision: str
    decision: Decision
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Model:
    """Describe one float network and the files made of it.

    `space` is the identity of the float network: embeddings of two spaces never meet. Every file takes
    `uint8 [1, input_size, input_size, 3]` and gives an embedding of `dimension`. `row_scale` is the value of
    one step of the int8 rows that the cloud makes of its embeddings. `extra` holds unknown fields.
    """

    name: str
    space: str
    dimension: int
    input_size: int
    row_scale: float
    variants: tuple[Variant, ...]
    folder: Path
    extra: Mapping[str, object] = field(default_factory=dict)

    def variant(self, name: str | None = None) -> Variant:
        """Return the variant of this name; without a name, the first for the CPU.

        Raises:
            BadModel: the model has none such.
        """
        return choose_variant(self.variants, name, f"model {self.name}", BadModel)

    def path(self, variant: Variant) -> Path:
        """Return where the variant's network file lies."""
        return self.folder / variant.file


def open_model(folder: Path) -> Model:
    """Read and check `model.json` in a model folder; the network files themselves are not opened.

    Raises:
        BadModel: no model.json, of a newer format, with a field missing or impossible, or a file missing or
            of another size.
    """
    path = folder / "model.json"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadModel(
            f"{folder} is no model folder: {path} cannot be read; give a folder with one"
        ) from error
    reader = Fields(str(path), parse_json(data, str(path), BadModel), BadModel)
    found = reader.integer("format", least=1)
    if found > MODEL_FORMAT:
        raise BadModel(
            f"{path} has format {found}, and this Shelfsight reads formats up to {MODEL_FORMAT}; "
            "update Shelfsight"
        )
    model = Model(
        name=reader.text("name"),
        space=reader.matching("space", _SPACE, "16 hex digits"),
        dimension=reader.integer("dimension", least=1, most=65536),
        input_size=reader.integer("input_size", least=16, most=4096),
        row_scale=reader.number("row_scale", above=0.0),
        variants=reader.each("variants", read_variant),
        folder=folder,
        extra=reader.rest(),
    )
    if found < decision_format(model.variants):
        raise BadModel(
            f"{path} has format {found}, and its decision is one of format "
            f"{decision_format(model.variants)}: write {decision_format(model.variants)}"
        )
    _check_files(model)
    return model


def write_model(model: Model, folder: Path) -> None:
    """Write `model.json` into `folder` as canonical JSON, atomically.

    Raises:
        BadModel: a value that JSON cannot hold.
        NoSpace: the disk is full.
        StorageUnusable: the folder cannot be written.
    """
    record: dict[str, object] = {
        **model.extra,
        "format": decision_format(model.variants),
        "name": model.name,
        "space": model.space,
        "dimension": model.dimension,
        "input_size": model.input_size,
        "row_scale": model.row_scale,
        "variants": [variant_record(variant) for variant in model.variants],
    }
    try:
        data = canonical_json(record)
    except (TypeError, ValueError) as error:
        raise BadModel(f"model {model.name} cannot be written as JSON: {error}") from error
    write_atomically(folder / "model.json", data + b"\n")


def decision_format(variants: Sequence[Variant]) -> int:
    """Return the lowest `format` of a model or release whose readers judge these variants' answers right.

    A reader of format 1 would take the best reference photo's similarity for the score.
    """
    return 1 if all(variant.decision.is_plain for variant in variants) else 2


def choose_variant(
    variants: Sequence[Variant], name: str | None, owner: str, refuse: type[ShelfsightError]
) -> Variant:
    """Return the variant of this name; without a name, the first for the CPU.

    Raises:
        ShelfsightError: of the kind `refuse`, naming the `owner` (a model, a release): there is none such.
    """
    for variant in variants:
        if variant.name == name or (name is None and variant.target == "cpu"):
            return variant
    wanted = "for the CPU" if name is None else f"named {name!r}"
    known = ", ".join(variant.name for variant in variants) or "none at all"
    raise refuse(f"{owner} has no variant {wanted}: choose one of its own ({known})")


def read_variant(reader: Fields) -> Variant:
    """Take the fields of one variant, as they stand in model.json and release.json.

    Raises:
        ShelfsightError: of the kind that `reader` refuses with: a field missing or impossible.
    """
    return Variant(
        name=reader.text("name"),
        file=reader.matching("file", _FILE_NAME, "a plain file name"),
        sha256=reader.sha256("sha256"),
        size=reader.integer("size", least=1),
        # Of a later Shelfsight, words that are not known here yet: such a variant is kept, and never chosen.
        target=reader.text("target"),
        precision=reader.text("precision"),
        decision=read_decision(reader.inner("decision")),
        extra=reader.rest(),
    )


def variant_record(variant: Variant) -> dict[str, object]:
    """Return the variant as the JSON object that `read_variant` reads."""
    return {
        **variant.extra,
        "name": variant.name,
        "file": variant.file,
        "sha256": variant.sha256,
        "size": variant.size,
        "target": variant.target,
        "precision": variant.precision,
        "decision": decision_record(variant.decision),
    }


def _check_files(model: Model) -> None:
    where = model.folder / "model.json"
    if not model.variants:
        raise BadModel(f"{where} lists no variants: convert the network first")
    names = [variant.name for variant in model.variants]
    if len(set(names)) != len(names):
        raise BadModel(f"{where} names a variant twice ({', '.join(names)}): rename one")
    for variant in model.variants:
        try:
            size = model.path(variant).stat().st_size
        except OSError as error:
            raise BadModel(f"{model.path(variant)} is missing: copy the whole model folder") from error
        if size != variant.size:
            raise BadModel(
                f"{model.path(variant)} is {size} bytes, not {variant.size}: copy the model folder again"
            )
