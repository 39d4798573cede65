"""What an import is about to do: its products, its photos, and what it refuses at sight."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from cloud.catalog import Kind, Split
from edge.errors import DuplicateSku
from edge.products import Product

PHOTO_SUFFIXES = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".gif",
        ".bmp",
        ".tif",
        ".tiff",
        ".heic",
        ".heif",
        ".avif",
    }
)
_PACKSHOT_NAMES = ("packshot", "iconic", "catalog")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that was not imported: where it lies, and why."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class PlannedPhoto:
    """A photo file that is to become a photo of product `sku`."""

    sku: str
    path: Path
    kind: Kind
    split: Split
    source: str


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """The whole import before a photo is read; `ignored` counts files that are no photos by their names.

    `places` says of some SKUs in which stores and regions they are sold; the others stay as they are.
    """

    products: tuple[Product, ...]
    photos: tuple[PlannedPhoto, ...]
    refused: tuple[Refusal, ...]
    ignored: int = 0
    places: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class PlanBuilder:
    """Collects a plan; a SKU that comes twice must say the same both times."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ignored = 0
        self._products: dict[str, Product] = {}
        self._first_seen: dict[str, str] = {}
        self._photos: list[PlannedPhoto] = []
        self._refused: list[Refusal] = []
        self._places: dict[str, tuple[str, ...]] = {}

    def source(self, path: Path) -> str:
        """Name a file for people and for sorting: relative to the import, with forward slashes."""
        base = self.root if self.root.is_dir() else self.root.parent
        return (
            (Path(base.name) / path.relative_to(base)).as_posix() if path.is_relative_to(base) else str(path)
        )

    def add_product(self, product: Product, source: str) -> None:
        """Take a product; an empty field says nothing, so repeated rows may leave it out.

        Raises:
            DuplicateSku: the same SKU was given with other data; what came first stays.
        """
        known = self._products.get(product.sku)
        if known is None:
            self._products[product.sku] = product
            self._first_seen[product.sku] = source
            return
        for name in (each.name for each in fields(Product)):
            ours, theirs = getattr(known, name), getattr(product, name)
            if ours and theirs and ours != theirs:
                raise DuplicateSku(
                    f"SKU {product.sku!r} has {name} {theirs!r} here but {ours!r} in "
                    f"{self._first_seen[product.sku]}: give each product its own SKU"
                )
            if theirs and not ours:
                known = replace(known, **{name: theirs})
        self._products[product.sku] = known

    def add_places(self, sku: str, places: Iterable[str]) -> None:
        """Take places of a product that was added before; repeated rows may name further ones."""
        self._places[sku] = tuple(dict.fromkeys((*self._places.get(sku, ()), *places)))

    def add_photo(self, photo: PlannedPhoto) -> None:
        """Take a photo of a product that was added before."""
        self._photos.append(photo)

    def refuse(self, source: str, reason: str) -> None:
        """Note something that will not be imported."""
        self._refused.append(Refusal(source, reason))

    def build(self) -> ImportPlan:
        """Return the plan, products and photos in the order they came."""
        return ImportPlan(
            tuple(self._products.values()),
            tuple(self._photos),
            tuple(self._refused),
            self.ignored,
            self._places,
        )


def is_photo_name(path: Path) -> bool:
    """Tell whether a file calls itself a picture; its bytes are looked at later."""
    return path.suffix.lower() in PHOTO_SUFFIXES


def kind_of(names: Iterable[str]) -> Kind:
    """Tell a packshot from an in-store photo by the names of the file and of the sub-folders above it."""
    return "packshot" if any(name.lower().startswith(_PACKSHOT_NAMES) for name in names) else "in-store"


def title_of(name: str) -> str:
    """Make a title of a folder or class name: `Golden-Delicious` → `Golden Delicious`."""
    return " ".join(name.replace("-", " ").replace("_", " ").split())
