"""Everything that decides how an embedder is trained, as one value and as a TOML file."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from edge.errors import BadSetting

BACKBONES = (
    "mobilenet_v2",
    "mobilenet_v3_large_minimalistic",
    "mobilenet_v3_small_minimalistic",
    "efficientnet_lite0",
    "resnet50",
    "vgg16",
    "inception_v3",
)
# What may be changed between the training and a later finish of the same run.
FINISHING = frozenset({"keep", "calibration_photos"})


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train; with the photos it determines the run.

    Attributes:
        backbone: one of `BACKBONES`.
        weights: where the backbone begins: `imagenet` (Keras downloads them), `none`, or the path of a file.
        input_size: side of the square input in pixels.
        dimension: length of the embedding.
        frozen_layers: share 0..1 of the backbone's lowest layers that stay as they were.
        freeze_norms: batch norms keep their statistics and factors, unless the weights are `none`; needed
            where they are folded.
        keep: share 0..1 of the beginning weights in the finished network, `keep * begun + (1 - keep) *
            trained` (weight interpolation, Wortsman et al. 2022): more of it forgets less of the world
            outside the catalog. Nothing is kept of `none`.
        fit_splits: splits whose photos are trained on; `test` never may be.
        fit_kinds: kinds of photos that are trained on.
        epochs, batch, learning_rate, weight_decay, warmup_epochs: AdamW with a cosine schedule.
        softmax_scale, label_smoothing: of the cosine softmax over products.
        crop_area: smallest share of the photo's area in a random crop.
        rotation: largest turn in degrees, either way.
        jitter: largest change of brightness, contrast and saturation, as a share.
        flip: mirror every other picture; off for products told apart by their lettering.
        picture_size: side in pixels at which photos are kept for cropping.
        calibration_photos: how many photos the int8 conversion looks at.
        seed: determines order, crops and new weights.
    """

    backbone: str = "mobilenet_v2"
    weights: str = "imagenet"
    input_size: int = 224
    dimension: int = 256
    frozen_layers: float = 0.0
    freeze_norms: bool = True
    keep: float = 0.25
    fit_splits: tuple[str, ...] = ("train", "reference")
    fit_kinds: tuple[str, ...] = ("in-store", "packshot")
    epochs: int = 12
    batch: int = 32
    learning_rate: float = 2e-4
    weight_decay: float = 0.004
    warmup_epochs: float = 1.0
    softmax_scale: float = 16.0
    label_smoothing: float = 0.1
    crop_area: float = 0.25
    rotation: float = 0.0
    jitter: float = 0.3
    flip: bool = True
    picture_size: int = 288
    calibration_photos: int = 300
    seed: int = 7

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            BadSetting: a field is out of its range.
        """
        if self.backbone not in BACKBONES:
            raise BadSetting(f"backbone {self.backbone!r} is not known: take one of {', '.join(BACKBONES)}")
        if "test" in self.fit_splits:
            raise BadSetting("fit_splits names 'test', whose photos only measure: take it out")
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if not low <= value <= high:
                raise BadSetting(f"{name} is {value}: choose a value from {low} to {high}")

    @property
    def kept(self) -> float:
        """The share that is really kept: random weights are not worth keeping."""
        return 0.0 if self.weights == "none" else self.keep

    @classmethod
    def read(cls, path: Path) -> "Recipe":
        """Read a recipe from a TOML file; fields that it leaves out have their defaults.

        Raises:
            BadSetting: it cannot be read, is no TOML, or has an unknown field or a wrong value.
        """
        try:
            return cls.from_record(tomllib.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise BadSetting(f"recipe {path} cannot be read ({error.strerror}): check the path") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadSetting(f"recipe {path} is not TOML ({error}): mend it") from error

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> "Recipe":
        """Make a recipe from parsed TOML.

        Raises:
            BadSetting: an unknown field or a value of the wrong type.
        """
        defaults = asdict(cls())
        values: dict[str, object] = {}
        for name, value in record.items():
            if name not in defaults:
                raise BadSetting(f"a recipe has no field {name!r}: its fields are {', '.join(defaults)}")
            values[name] = _as_type_of(defaults[name], name, value)
        return replace(cls(), **values)  # type: ignore[arg-type]

    def to_record(self) -> dict[str, object]:
        """Return the recipe as plain values, lists for tuples."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }

    def to_toml(self) -> str:
        """Write the recipe as TOML, one field a line."""
        # JSON's strings, numbers, booleans and lists are TOML's too.
        return "".join(f"{name} = {json.dumps(value)}\n" for name, value in self.to_record().items())

    def check_same_training(self, other: "Recipe") -> None:
        """Refuse to go on with a run that was begun with another recipe; `FINISHING` fields may differ.

        Raises:
            BadSetting: a field that shapes the training differs.
        """
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if field.name not in FINISHING and mine != theirs:
                raise BadSetting(
                    f"the run was begun with {field.name} = {theirs!r}, not {mine!r}: "
                    "go on with that, or begin a run of another --name"
                )


_RANGES = (
    ("input_size", 32, 1024),
    ("dimension", 8, 4096),
    ("frozen_layers", 0, 1),
    ("keep", 0, 1),
    ("epochs", 1, 10_000),
    ("batch", 1, 65_536),
    ("learning_rate", 0, 10),
    ("weight_decay", 0, 1),
    ("warmup_epochs", 0, 1000),
    ("softmax_scale", 1, 256),
    ("label_smoothing", 0, 0.9),
    ("crop_area", 0.01, 1),
    ("rotation", 0, 180),
    ("jitter", 0, 0.9),
    ("picture_size", 32, 2048),
    ("calibration_photos", 1, 100_000),
)


def _as_type_of(default: object, name: str, value: object) -> object:
    """Return `value` in the type of the field's default; whole numbers may stand for fractions."""
    if (
        isinstance(default, tuple)
        and isinstance(value, list)
        and all(isinstance(item, str) for item in value)
    ):
        return tuple(value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(default):
        raise BadSetting(f"{name} = {value!r} is not of the type of its default, {default!r}: correct it")
    return value
