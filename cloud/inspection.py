"""Looks the catalog over: what a person should mend before it is trained on or shipped."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from cloud.catalog import Catalog, ReferencePhoto
from cloud.look_alikes import (
    FINGERPRINT_SIDE,
    Fingerprint,
    altered_fingerprints,
    altered_pairs,
    fingerprint,
    near_pairs,
)
from cloud.outliers import Doubt
from edge.errors import SkipPhoto
from edge.image import Picture, decode, fit
from edge.quality import Problem, quality_problem

Progress = Callable[[int, int], None]

_SMALLEST_GOOD_SIDE = 96  # pixels; smaller photos are blown up before the network sees them
_SEEN_SIDE = 224  # pixels; about what networks are given, and what `edge.quality` was measured at
_PROBLEMS: Mapping[Problem, str] = {
    "too_dark": "is nearly black: take it again with light",
    "too_bright": "is nearly white: take it again with less light",
    "nothing_in_view": "shows nothing but one color: take it again",
    "too_far": "shows its product very small: take it from nearer, or cut it out",
    "glare": "is washed out by a light: take it again, turned away from the light",
    "blurred": "is blurred all over: take it again and hold still",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to mend.

    Attributes:
        sku: whose it is.
        source: which photo; empty for the product itself.
        problem: a code.
        reason: a sentence that says what is wrong and what to do.
        suspect: the product that a doubtful photo looks like.
        confidence: how sure that is, 0..1.
        witnesses: the photos that speak for it, nearest first.
    """

    sku: str
    source: str
    problem: str
    reason: str
    suspect: str | None = None
    confidence: float | None = None
    witnesses: tuple[str, ...] = ()


def inspect_catalog(catalog: Catalog, progress: Progress | None = None) -> list[Finding]:
    """Look at every photo and product; return what to mend, sorted by SKU and photo.

    `progress` is told how many photos are done, and of how many. Whether photos are filed under the right
    product takes a model: `cloud.outliers` asks one.

    Raises:
        StorageUnusable: the database cannot be read.
    """
    tell = progress or (lambda done, total: None)
    photos = [*catalog.reference_photos(), *catalog.test_photos()]
    findings = _inspect_products(catalog)
    looks = _Looks({}, {})
    readable: list[ReferencePhoto] = []
    tell(0, len(photos))
    for done, photo in enumerate(photos, start=1):
        try:
            encoded = catalog.photos.read(photo.sha256)
            picture = decode(encoded, shrink_to=_SEEN_SIDE)
        except SkipPhoto as error:
            findings.append(Finding(photo.sku, photo.source, error.code, str(error)))
        else:
            findings.extend(_inspect_picture(photo, picture.shape, fit(picture, _SEEN_SIDE)))
            looks.remember(photo.sha256, decode(encoded, shrink_to=FINGERPRINT_SIDE))
            readable.append(photo)
        tell(done, len(photos))
    findings.extend(_inspect_duplicates(readable, looks))
    return sort_findings(findings)


def doubt_findings(doubts: Iterable[Doubt]) -> list[Finding]:
    """Return the photos that look filed wrongly as things to mend."""
    return [
        Finding(
            doubt.photo.sku,
            doubt.photo.source,
            "label_doubted",
            doubt.reason,
            suspect=doubt.suspect,
            confidence=doubt.confidence,
            witnesses=tuple(witness.photo.source for witness in doubt.against),
        )
        for doubt in doubts
    ]


def sort_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings by SKU and photo."""
    return sorted(findings, key=lambda finding: (finding.sku, finding.source, finding.problem))


@dataclass(frozen=True, slots=True)
class _Looks:
    """How photos look from afar, by their SHA-256: as they are, and as they would be altered."""

    whole: dict[str, Fingerprint]
    altered: dict[str, tuple[Fingerprint, ...]]

    def remember(self, sha256: str, picture: Picture) -> None:
        if sha256 not in self.whole:
            self.whole[sha256] = fingerprint(picture)
            self.altered[sha256] = altered_fingerprints(picture)


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


def _inspect_picture(photo: ReferencePhoto, shape: tuple[int, ...], seen: Picture) -> Iterable[Finding]:
    height, width = shape[:2]
    small = min(height, width) < _SMALLEST_GOOD_SIDE
    if small:
        reason = f"is {width} x {height} pixels: take one of at least {_SMALLEST_GOOD_SIDE} on the short side"
        yield Finding(photo.sku, photo.source, "small", reason)
    problem = quality_problem(seen)
    if problem is not None and not (small and problem == "blurred"):  # blown up, it cannot be sharp
        yield Finding(photo.sku, photo.source, problem, _PROBLEMS[problem])


def _inspect_duplicates(photos: Sequence[ReferencePhoto], looks: _Looks) -> Iterable[Finding]:
    by_hash: dict[str, list[ReferencePhoto]] = {}
    for photo in photos:
        by_hash.setdefault(photo.sha256, []).append(photo)
    for same in by_hash.values():
        for photo in same[1:]:
            yield _duplicate(photo, same[0], "looks the same as")
    copies = near_pairs(looks.whole)
    altered = altered_pairs(looks.whole, looks.altered) - copies
    # The photo that comes later is the one to look at: validation after train, test after all references.
    place = {name: number for number, name in enumerate(sorted(by_hash, key=_rank(by_hash)))}
    for pairs, likeness in ((copies, "looks the same as"), (altered, "is a mirrored or cropped copy of")):
        for one, other in sorted(pairs):
            first, second = sorted((one, other), key=place.__getitem__)
            yield _duplicate(by_hash[second][0], by_hash[first][0], likeness)


def _rank(by_hash: Mapping[str, Sequence[ReferencePhoto]]) -> Callable[[str], int]:
    splits = ("reference", "train", "validation", "test")
    return lambda name: max(1, splits.index(by_hash[name][0].split))


def _duplicate(photo: ReferencePhoto, twin: ReferencePhoto, likeness: str) -> Finding:
    if photo.sku != twin.sku:
        problem = "same_photo_two_products"
        reason = f"{likeness} {twin.source} of product {twin.sku}: one of them is filed wrongly"
    elif photo.split == "test" and twin.split != "test":
        problem = "test_photo_is_reference"
        reason = f"is a test photo and {likeness} the reference {twin.source}: remove one of them"
    elif photo.split == "validation" and twin.split != "validation":
        problem = "validation_photo_is_reference"
        reason = (
            f"is a validation photo and {likeness} {twin.source}, which is trained on: it cannot tell what "
            "was learned from what was remembered, so remove one of them"
        )
    else:
        problem = "near_duplicate"
        reason = f"{likeness} {twin.source}: one of them is enough"
    return Finding(photo.sku, photo.source, problem, reason)
