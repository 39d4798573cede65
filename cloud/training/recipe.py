"""Everything that decides how an embedder is trained, as one value and as a TOML file."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
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
LOSSES = (
    "cosine_softmax",
    "arcface",
    "sub_center_arcface",
    "proxy_anchor",
    "multi_similarity",
    "supervised_contrastive",
)
LESSONS = ("relations", "cosine", "logits")
HEADS = ("learned", "principal", "whitened")
# What may be changed between the training and a later finish of the same run.
FINISHING = frozenset({"keep", "head", "head_dimension", "calibration_photos"})


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
        head: the projection of the finished network (`cloud.training.heads`): `learned`, or computed from
            what its backbone, mixed by `keep`, sees in the fitted photos: `principal` axes forget less of
            other things; `whitened` ones count little what varies within products.
        head_dimension: length of the finished embedding: any of a computed head, at most `dimension` of a
            learned one, whose principal axes are kept; 0 is `dimension`.
        fit_splits: splits whose photos are trained on; `test` never may be. With `validation` among them
            nothing is left to calibrate by: the decision has to come from a model that did without.
        fit_kinds: kinds of photos that are trained on.
        epochs, batch, learning_rate, weight_decay, warmup_epochs: AdamW with a cosine schedule.
        losses: weight of each loss over products, by its name in `LOSSES`; those named are added up.
        softmax_scale, label_smoothing: of the cosine softmax over products, and of that over categories.
        margin: of the losses that have one.
        sub_centers: centers a product, of the losses that may have several.
        center_bias: a bias is learned for the center of each product.
        dropout: share of the pooled features that is dropped before the embedding.
        category_weight: of a cosine softmax over categories beside the losses over products; 0 is none.
        products_per_batch, photos_per_product: P products with K photos each make a batch, instead of `batch`
            photos in a plain shuffle; 0 is the latter.
        hard_share: share of a batch's products that is drawn as look-alikes of the others.
        packshots_per_batch: packshots that every batch has on top.
        train_sizes: sides of the pictures in equal stages of the training, smallest first (progressive
            resolution); empty is `input_size` throughout. Validation and finish are always at `input_size`.
        ema: momentum a step of the average of the weights that is validated and finished (Polyak and
            Juditsky 1992); 0 is no average.
        teachers: paths of `network.keras` files, with their `network.json`, to learn from as well.
        teacher_weight: of what is learned from the teachers.
        lesson: what is learned from them, one of `LESSONS`.
        remember: weight of staying able to tell, from the embedding, what the beginning backbone saw.
        leave_out: SKUs that are neither fitted nor validated.
        crop_area: smallest share of the photo's area in a random crop.
        rotation: largest turn in degrees, either way.
        jitter: largest change of brightness, contrast and saturation, as a share.
        flip: mirror every other picture; off for products told apart by their lettering.
        perspective, blur, motion, noise, jpeg, low_resolution, glare, color_temperature, occlusion, paste:
            share 0..1 of the views that get what a shop's camera does to them (`cloud.training.augment`).
        exposure: largest change of the light, in stops, either way.
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
    head: str = "learned"
    head_dimension: int = 0
    fit_splits: tuple[str, ...] = ("train", "reference")
    fit_kinds: tuple[str, ...] = ("in-store", "packshot")
    epochs: int = 12
    batch: int = 32
    learning_rate: float = 2e-4
    weight_decay: float = 0.004
    warmup_epochs: float = 1.0
    losses: Mapping[str, float] = field(default_factory=lambda: {"cosine_softmax": 1.0})
    softmax_scale: float = 16.0
    label_smoothing: float = 0.1
    margin: float = 0.2
    sub_centers: int = 3
    center_bias: bool = False
    dropout: float = 0.0
    category_weight: float = 0.0
    products_per_batch: int = 0
    photos_per_product: int = 0
    hard_share: float = 0.0
    packshots_per_batch: int = 0
    train_sizes: tuple[int, ...] = ()
    ema: float = 0.0
    teachers: tuple[str, ...] = ()
    teacher_weight: float = 1.0
    lesson: str = "relations"
    remember: float = 0.0
    leave_out: tuple[str, ...] = ()
    crop_area: float = 0.25
    rotation: float = 0.0
    jitter: float = 0.3
    flip: bool = True
    perspective: float = 0.0
    blur: float = 0.0
    motion: float = 0.0
    noise: float = 0.0
    jpeg: float = 0.0
    low_resolution: float = 0.0
    glare: float = 0.0
    color_temperature: float = 0.0
    exposure: float = 0.0
    occlusion: float = 0.0
    paste: float = 0.0
    picture_size: int = 288
    calibration_photos: int = 300
    seed: int = 7

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            BadSetting: a field is out of its range.
        """
        _check_name("backbone", self.backbone, BACKBONES)
        _check_name("lesson", self.lesson, LESSONS)
        _check_name("head", self.head, HEADS)
        if self.head_dimension > self.dimension and self.head == "learned":
            raise BadSetting(
                f"head_dimension is {self.head_dimension}, and a learned head has at most the "
                f'{self.dimension} it was trained with: choose fewer, or head = "whitened"'
            )
        if "test" in self.fit_splits:
            raise BadSetting("fit_splits names 'test', whose photos only measure: take it out")
        for name, low, high in _RANGES:
            _check_range(name, getattr(self, name), low, high)
        for size in self.train_sizes:
            _check_range("train_sizes", size, 32, 1024)
        for name, weight in self.losses.items():
            _check_name("losses", name, LOSSES)
            _check_range(f"losses.{name}", weight, 0, 1000)
        if not any(self.losses.values()):
            raise BadSetting(f"losses names none with a weight: name one of {', '.join(LOSSES)}")
        products, photos = self.products_per_batch, self.photos_per_product
        if (products == 0) != (photos == 0):
            raise BadSetting(
                f"products_per_batch is {products} and photos_per_product {photos}: set both, or neither"
            )

    @property
    def kept(self) -> float:
        """The share that is really kept: random weights are not worth keeping."""
        return 0.0 if self.weights == "none" else self.keep

    @property
    def finished_dimension(self) -> int:
        """The length of the finished network's embedding."""
        return self.head_dimension or self.dimension

    def size_at(self, epoch: int) -> int:
        """Return the side of the pictures that the network is fitted to in `epoch`, counted from 0."""
        sizes = self.train_sizes or (self.input_size,)
        return sizes[min(len(sizes) - 1, epoch * len(sizes) // self.epochs)]

    @classmethod
    def read(cls, path: Path) -> "Recipe":
        """Read a recipe from a TOML file; fields that it leaves out have their defaults.

        A table `tune` is passed over: it says what `cloud.training.search_space` may change.

        Raises:
            BadSetting: it cannot be read, is no TOML, or has an unknown field or a wrong value.
        """
        try:
            record = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadSetting(f"recipe {path} cannot be read ({error.strerror}): check the path") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadSetting(f"recipe {path} is not TOML ({error}): mend it") from error
        return cls.from_record({name: value for name, value in record.items() if name != "tune"})

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

    def shown(self) -> dict[str, object]:
        """Return the recipe as plain values for others to see: files by their names, not where they lay."""
        weights = self.weights if self.weights in ("imagenet", "none") else Path(self.weights).name
        teachers = tuple("/".join(Path(path).parts[-2:]) for path in self.teachers)
        return replace(self, weights=weights, teachers=teachers).to_record()

    def to_toml(self) -> str:
        """Write the recipe as TOML, one field a line."""
        return "".join(f"{name} = {_as_toml(value)}\n" for name, value in self.to_record().items())

    def check_same_training(self, other: "Recipe") -> None:
        """Refuse to go on with a run that was begun with another recipe; `FINISHING` fields may differ.

        Raises:
            BadSetting: a field that shapes the training differs.
        """
        for name in (each.name for each in fields(self)):
            mine, theirs = getattr(self, name), getattr(other, name)
            if name not in FINISHING and mine != theirs:
                raise BadSetting(
                    f"the run was begun with {name} = {theirs!r}, not {mine!r}: "
                    "go on with that, or begin a run of another --name"
                )


_RANGES = (
    ("input_size", 32, 1024),
    ("dimension", 8, 4096),
    ("head_dimension", 0, 4096),
    ("frozen_layers", 0, 1),
    ("keep", 0, 1),
    ("epochs", 1, 10_000),
    ("batch", 1, 65_536),
    ("learning_rate", 0, 10),
    ("weight_decay", 0, 1),
    ("warmup_epochs", 0, 1000),
    ("softmax_scale", 1, 256),
    ("label_smoothing", 0, 0.9),
    ("margin", 0, 2),
    ("sub_centers", 1, 64),
    ("dropout", 0, 0.9),
    ("category_weight", 0, 1000),
    ("products_per_batch", 0, 65_536),
    ("photos_per_product", 0, 65_536),
    ("hard_share", 0, 1),
    ("packshots_per_batch", 0, 65_536),
    ("ema", 0, 0.999999),
    ("teacher_weight", 0, 1000),
    ("remember", 0, 1000),
    ("crop_area", 0.01, 1),
    ("rotation", 0, 180),
    ("jitter", 0, 0.9),
    ("perspective", 0, 1),
    ("blur", 0, 1),
    ("motion", 0, 1),
    ("noise", 0, 1),
    ("jpeg", 0, 1),
    ("low_resolution", 0, 1),
    ("glare", 0, 1),
    ("color_temperature", 0, 1),
    ("exposure", 0, 4),
    ("occlusion", 0, 1),
    ("paste", 0, 1),
    ("picture_size", 32, 2048),
    ("calibration_photos", 1, 100_000),
)


_WHOLE_NUMBERS = frozenset({"train_sizes"})  # the other lists are of strings


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise BadSetting(f"{name} is {value}: choose a value from {low} to {high}")


def _check_name(field_name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise BadSetting(f"{field_name} {value!r} is not known: take one of {', '.join(known)}")


def _as_toml(value: object) -> str:
    """Write a value as TOML: of JSON, it has all but the objects."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {json.dumps(weight)}" for name, weight in value.items()) + "}"
    return json.dumps(value)


def _as_type_of(default: object, name: str, value: object) -> object:
    """Return `value` in the type of the field's default; whole numbers may stand for fractions."""
    if isinstance(default, tuple) and isinstance(value, list):
        wanted = int if name in _WHOLE_NUMBERS else str
        if all(type(item) is wanted for item in value):
            return tuple(value)
    if isinstance(default, dict) and isinstance(value, dict) and all(map(_is_number, value.values())):
        return {key: float(weight) for key, weight in value.items()}
    if isinstance(default, float) and _is_number(value):
        return float(value)  # type: ignore[arg-type]  # mypy does not see through `_is_number`
    if type(value) is not type(default) or isinstance(default, tuple | dict):
        raise BadSetting(f"{name} = {value!r} is not of the type of its default, {default!r}: correct it")
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
