"""Looks the catalog over: what a person should mend before it is trained on or shipped."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from cloud.catalog import Catalog, ReferencePhoto
from cloud.look_alikes import Fingerprint, fingerprint, near_pairs
from edge.errors import SkipPhoto
from edge.image import Picture, decode, quality_problem

Progress = Callable[[int, int], None]

_SMALLEST_GOOD_SIDE = 96  # pixels; smaller photos are blown up before the network sees them
_PROBLEMS = {
    "too_dark": "is nearly black: take it again with light",
    "too_bright": "is nearly white: take it again with less light",
    "nothing_in_view": "shows nothing but one color: take it again",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to mend: whose it is, which photo (empty for the product itself), a code and a sentence."""

    sku: str
    source: str
    problem: str
    reason: str


def inspect_catalog(catalog: Catalog, progress: Progress | None = None) -> list[Finding]:
    """Look at every photo and product; return what to mend, sorted by SKU and photo.

    `progress` is told how many photos are done, and of how many.

    Raises:
        StorageUnusable: the database cannot be read.
    """
    tell = progress or (lambda done, total: None)
    photos = [*catalog.reference_photos(), *catalog.test_photos()]
    findings = _inspect_products(catalog)
    fingerprints: dict[str, Fingerprint] = {}
    seen: list[ReferencePhoto] = []
    tell(0, len(photos))
    for done, photo in enumerate(photos, start=1):
        try:
            picture = decode(catalog.photos.read(photo.sha256), shrink_to=_SMALLEST_GOOD_SIDE)
        except SkipPhoto as error:
            findings.append(Finding(photo.sku, photo.source, error.code, str(error)))
        else:
            findings.extend(_inspect_picture(photo, picture))
            fingerprints[photo.sha256] = fingerprint(picture)
            seen.append(photo)
        tell(done, len(photos))
    findings.extend(_inspect_duplicates(seen, fingerprints))
    return sorted(findings, key=lambda finding: (finding.sku, finding.source, finding.problem))


def _inspect_products(catalog: Catalog) -> list[Finding]:
    counts = catalog.photo_counts()
    findings: list[Finding] = []
    by_gtin: dict[str, str] = {}
    for product in catalog.products():
        if not counts.get(product.sku):
            reason = "has no photo, so no device can know it: add one"
            findings.append(Finding(product.sku, "", "no_photo", reason))
        if product.gtin is not None:
            other = by_gtin.setdefault(product.gtin, product.sku)
            if other != product.sku:
                reason = f"has the same GTIN {product.gtin} as {other}: correct one of them"
                findings.append(Finding(product.sku, "", "same_gtin", reason))
    return findings


def _inspect_picture(photo: ReferencePhoto, picture: Picture) -> Iterable[Finding]:
    height, width = picture.shape[:2]
    if min(height, width) < _SMALLEST_GOOD_SIDE:
        reason = f"is {width} x {height} pixels: take one of at least {_SMALLEST_GOOD_SIDE} on the short side"
        yield Finding(photo.sku, photo.source, "small", reason)
    problem = quality_problem(picture)
    if problem is not None:
        yield Finding(photo.sku, photo.source, problem, _PROBLEMS.get(problem, problem))


def _inspect_duplicates(
    photos: Sequence[ReferencePhoto], fingerprints: Mapping[str, Fingerprint]
) -> Iterable[Finding]:
    by_hash: dict[str, list[ReferencePhoto]] = {}
    for photo in photos:
        by_hash.setdefault(photo.sha256, []).append(photo)
    for same in by_hash.values():
        for photo in same[1:]:
            yield _duplicate(photo, same[0])
    # The photo that comes later is the one to look at: test photos come after all references.
    place = {name: number for number, name in enumerate(by_hash)}
    for one, other in sorted(near_pairs(fingerprints)):
        first, second = sorted((one, other), key=place.__getitem__)
        yield _duplicate(by_hash[second][0], by_hash[first][0])


def _duplicate(photo: ReferencePhoto, twin: ReferencePhoto) -> Finding:
    if photo.sku != twin.sku:
        problem = "same_photo_two_products"
        reason = f"looks the same as {twin.source} of product {twin.sku}: one of them is filed wrongly"
    elif photo.split == "test" and twin.split != "test":
        problem = "test_photo_is_reference"
        reason = f"is a test photo and looks the same as the reference {twin.source}: remove one of them"
    else:
        problem = "near_duplicate"
        reason = f"looks the same as {twin.source}: one of them is enough"
    return Finding(photo.sku, photo.source, problem, reason)
