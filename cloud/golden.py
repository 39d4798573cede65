"""Chooses the golden photos of a release and writes down how the devices' own code answers them.

A device that installs the release answers the same photos with one of the same files; another answer means
that its runtime, its processor or its disk is not what the release was made for, and it keeps the release it
has. Hence a photo is golden only if all files answer it alike.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from cloud.catalog import ReferencePhoto
from cloud.photos import PhotoStorage
from edge.errors import SkipPhoto
from edge.image import decode, encode_jpeg, shrink
from edge.matcher import GOLDEN_TOLERANCE, Answer, Matcher
from edge.model import Decision
from edge.release import Golden, Release

GOLDEN_PHOTOS: Final = 4
_TRIED: Final = 64  # photos that can be read; lost ones do not count
_LARGEST: Final = 512 * 1024  # bytes; every device fetches them
_SIDE: Final = 448  # pixels of the shorter side of one that is shrunk
_STRAYED: Final = GOLDEN_TOLERANCE / 2
"""How far files may be apart: a device's own processor adds to that, and the sum must be tolerated."""


def golden_candidates(
    references: Sequence[ReferencePhoto], photos: PhotoStorage, previous: Release | None = None
) -> Iterator[tuple[str, bytes]]:
    """Read (sku, photo) pairs that may become golden: the previous release's, then some products'.

    A photo that is too large to be sent to every device, as those of today's phones are, is shrunk, always to
    the same bytes; one that cannot be read is passed over. Which products have a say goes by their photos'
    hashes: then another product hardly ever changes it, and devices keep the photos that they have.
    """
    held = {golden.photo for golden in previous.golden} if previous is not None else set()
    first_of: dict[str, ReferencePhoto] = {}
    for reference in references:
        first_of.setdefault(reference.sku, reference)
    some = sorted(first_of.values(), key=lambda each: each.sha256)
    chosen = [each for each in references if each.sha256 in held] + some
    readable = _read({each.sha256: each.sku for each in chosen}.items(), photos)
    yield from islice(readable, _TRIED)


def _read(named: Iterable[tuple[str, str]], photos: PhotoStorage) -> Iterator[tuple[str, bytes]]:
    for sha256, sku in named:
        try:
            photo = _small(photos.read(sha256))
        except SkipPhoto:
            continue
        if len(photo) <= _LARGEST:
            yield sku, photo


def _small(photo: bytes) -> bytes:
    return photo if len(photo) <= _LARGEST else encode_jpeg(shrink(decode(photo, shrink_to=_SIDE), _SIDE))


def choose_golden(
    matchers: Sequence[Matcher], candidates: Iterable[tuple[str, bytes]], held: Collection[str] = ()
) -> list[tuple[Golden, bytes]]:
    """Answer the candidates and return the best few with their photos.

    The first matcher's answer is written down; a photo that another one answers otherwise is left out. Right
    answers come first; among them those in `held` (photo SHA-256s that devices have already, the first of the
    candidates), then those farthest from a threshold, because an answer close to one may fall to its other
    side on another processor. Where enough of those in `held` are right, no other candidate is looked at.
    """
    first, *others = matchers
    chosen: list[_Answered] = []
    answered: list[_Answered] = []
    for sku, photo in candidates:
        try:
            each = _answer(first, sku, photo, held)
        except SkipPhoto:
            continue
        if each.right and each.held and _is_alike(each, others):
            chosen.append(each)
            if len(chosen) == GOLDEN_PHOTOS:
                break
        else:
            answered.append(each)
    answered.sort(key=lambda one: (not one.right, not one.held, -one.steadiness))
    alike = (one for one in answered if _is_alike(one, others))
    chosen += islice(alike, GOLDEN_PHOTOS - len(chosen))
    return [(one.golden, one.photo) for one in chosen]


@dataclass(frozen=True, slots=True)
class _Answered:
    """A candidate and its answer: right?, on the devices already?, and how far from the next threshold."""

    golden: Golden
    photo: bytes
    right: bool
    held: bool
    steadiness: float


def _answer(matcher: Matcher, sku: str, photo: bytes, held: Collection[str]) -> _Answered:
    answer = matcher.match_photo(photo)
    golden = _as_golden(answer, photo)
    return _Answered(
        golden=golden,
        photo=photo,
        right=golden.sku == sku,
        held=golden.photo in held,
        steadiness=_steadiness(answer, matcher.variant.decision),
    )


def _as_golden(answer: Answer, photo: bytes) -> Golden:
    best = answer.candidates[0] if answer.candidates else None
    return Golden(
        photo=hashlib.sha256(photo).hexdigest(),
        verdict=answer.verdict,
        sku=best.product.sku if best is not None and answer.verdict == "match" else None,
        similarity=best.similarity if best is not None else 0.0,
    )


def _steadiness(answer: Answer, decision: Decision) -> float:
    """Return how far the confidence is from the nearest threshold of the decision."""
    confidence = answer.candidates[0].confidence if answer.candidates else 0.0
    return min(abs(confidence - each) for each in (decision.match_confidence, decision.unknown_confidence))


def _is_alike(answered: _Answered, others: Iterable[Matcher]) -> bool:
    """Say whether the other files give the answer too that a device will compare its own with."""
    signed = answered.golden
    for matcher in others:
        given = _as_golden(matcher.match_photo(answered.photo), answered.photo)
        strayed = abs(given.similarity - signed.similarity)
        if (given.verdict, given.sku) != (signed.verdict, signed.sku) or strayed > _STRAYED:
            return False
    return True
