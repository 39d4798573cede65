"""Chooses the golden photos of a release and writes down how the devices' own code answers them.

A device that installs the release answers the same photos with the same files; another answer means that its
runtime, its processor or its disk is not what the release was made for, and it keeps the release it has.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from cloud.catalog import ReferencePhoto
from cloud.photos import PhotoStorage
from edge.errors import SkipPhoto
from edge.matcher import Matcher
from edge.release import Golden, Release

GOLDEN_PHOTOS: Final = 4
_TRIED: Final = 16
_LARGEST: Final = 512 * 1024  # bytes; every device fetches them


def golden_candidates(
    references: Sequence[ReferencePhoto], photos: PhotoStorage, previous: Release | None = None
) -> list[tuple[str, bytes]]:
    """Choose (sku, photo) pairs that may become golden: the previous release's, then a spread of products.

    Photos that are too large to be sent to every device, or cannot be read, are passed over.
    """
    kept = {golden.photo for golden in previous.golden} if previous is not None else set()
    first_of: dict[str, ReferencePhoto] = {}
    for reference in references:
        first_of.setdefault(reference.sku, reference)
    spread = list(first_of.values())
    step = max(1, len(spread) // _TRIED)
    chosen: dict[str, tuple[str, bytes]] = {}
    for reference in [each for each in references if each.sha256 in kept] + spread[::step]:
        if len(chosen) >= _TRIED:
            break
        try:
            photo = photos.read(reference.sha256)
        except SkipPhoto:
            continue
        if len(photo) <= _LARGEST:
            chosen.setdefault(reference.sha256, (reference.sku, photo))
    return list(chosen.values())


def answer_golden(
    matcher: Matcher, candidates: Sequence[tuple[str, bytes]], kept: Collection[str] = ()
) -> list[tuple[Golden, bytes]]:
    """Answer the candidates and return the best few with their photos.

    Right answers come first; among them those in `kept` (photo SHA-256s that devices hold already), then the
    surest, because an answer close to a threshold may fall to its other side on another processor.
    """
    answered = []
    for sku, photo in candidates:
        try:
            answered.append(_answer(matcher, sku, photo, kept))
        except SkipPhoto:
            continue
    answered.sort(key=lambda each: each.rank)
    return [(each.golden, each.photo) for each in answered[:GOLDEN_PHOTOS]]


@dataclass(frozen=True, slots=True)
class _Answered:
    golden: Golden
    photo: bytes
    rank: tuple[bool, bool, float]  # ascending: wrong, not kept, unsure


def _answer(matcher: Matcher, sku: str, photo: bytes, kept: Collection[str]) -> _Answered:
    answer = matcher.match_photo(photo)
    best = answer.candidates[0] if answer.candidates else None
    sha256 = hashlib.sha256(photo).hexdigest()
    golden = Golden(
        photo=sha256,
        verdict=answer.verdict,
        sku=best.product.sku if best is not None and answer.verdict == "match" else None,
        similarity=best.similarity if best is not None else 0.0,
    )
    confidence = best.confidence if best is not None else 0.0
    return _Answered(golden, photo, (golden.sku != sku, sha256 not in kept, -confidence))
