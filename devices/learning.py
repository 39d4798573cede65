"""Teaches this device a product from photos, proposes it to the cloud, and lets it go when a release has it.

It answers from the moment it is on the disk, whether the server can be reached or not. No photo leaves the
device but those of a product that a person proposed on purpose.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Final

import numpy as np

from edge.errors import (
    BadProduct,
    PhotoUnreadable,
    ServerBusy,
    ServerUnreachable,
    ShelfsightError,
    SkipPhoto,
    TransferBroken,
    TryLater,
)
from edge.events import uuid7
from edge.image import decode, decode_to_fit, encode_jpeg, shrink
from edge.local_products import MOST_PHOTOS, LocalProduct, LocalProducts
from edge.newcomer import Concern, Look, find_concerns, take_look
from edge.products import Product
from edge.reference import embed_reference
from edge.segments import SegmentStack, quantize_rows

if TYPE_CHECKING:
    from devices.device import Device
    from edge.heartbeat import Settled
    from edge.matcher import Matcher
    from edge.transport import Transport

PHOTO_SIDE: Final = 448
"""Pixels of a kept photo's shorter side: twice what the bundled networks see, and enough for a person."""

_QUALITY: Final = 90
_MOST_TOLD: Final = 200  # ids in one heartbeat, which has room for about 400


@dataclass(frozen=True, slots=True)
class Learned:
    """What came of teaching a product.

    Attributes:
        added: Whether the device knows it now.
        product: The product, as the device answers it.
        photos: How many photos it has in this answer to the command, new ones only.
        concerns: What speaks against it; without `anyway` they kept it from being added.
        state: `proposed` or `kept`, empty where it was not added.
        ms: How long it took, in milliseconds, until it could be recognized.
    """

    added: bool
    product: Product
    photos: int
    concerns: tuple[Concern, ...]
    state: str
    ms: float

    def to_record(self) -> dict[str, object]:
        """Return the JSON object that `shelfsight add --json` prints."""
        return {
            "added": self.added,
            **self.product.to_record(),
            "photos": self.photos,
            "state": self.state,
            "concerns": [concern.to_record() for concern in self.concerns],
            "ms": round(self.ms, 1),
        }


def kept_photo(photo: bytes) -> bytes:
    """Return what is kept of a photo: a JPEG, upright, no larger than needed, without place and time.

    Raises:
        SkipPhoto: It cannot be decoded.
    """
    return encode_jpeg(shrink(decode(photo, shrink_to=PHOTO_SIDE), PHOTO_SIDE), quality=_QUALITY)


def learn(
    device: "Device",
    product: Product,
    photos: Sequence[tuple[str, bytes]],
    *,
    anyway: bool = False,
    propose: bool | None = None,
    shrunk: bool = False,
) -> Learned:
    """Teach `device` a product from photos (what people call each, its bytes); it answers it from then on.

    What speaks against it is returned and nothing is added, unless `anyway`. `propose` says whether the cloud
    is told; None: as the settings say. `shrunk` says that the photos are from `kept_photo` already. A product
    that the release knows gets further photos and keeps its record.

    Raises:
        SkipPhoto: A photo cannot be decoded; nothing was added.
        BadProduct: No photo, or too many photos or products.
        NoRelease, RuntimeMissing, StepBack: There is nothing to see photos with.
        NoSpace, StorageUnusable: The device folder cannot be written.
    """
    began = perf_counter()
    kept = _kept(photos, shrunk=shrunk)
    local = LocalProducts(device.settings.data)
    looks, concerns, entry, form = device.ask(lambda matcher: _look(matcher, local, product, kept))
    concerns = [*_known_already(local, product, kept, form.products), *concerns]
    if not concerns or anyway:
        proposes = device.settings.propose if propose is None else propose
        entry = replace(
            entry,
            state="proposed" if proposes else "kept",
            look_alikes=tuple(dict.fromkeys(concern.sku for concern in concerns if concern.sku)),
        )
        rows = {
            sha256: quantize_rows(look.reference[np.newaxis], form.scale)[0]
            for sha256, look in zip(entry.photos, looks, strict=True)
        }
        local.add(
            entry,
            {sha256: kept[sha256][1] for sha256 in entry.photos},
            dimension=form.dimension,
            scale=form.scale,
            rows=rows,
        )
        tell_proposals(device)
    added = not concerns or anyway
    return Learned(
        added=added,
        product=form.products.get(product.sku, product),
        photos=len(entry.photos),
        concerns=tuple(concerns),
        state=entry.state if added else "",
        ms=1000 * (perf_counter() - began),
    )


def rebuild(local: LocalProducts, matcher: "Matcher", at_once: int | None = None) -> None:
    """Embed photos that have no vector yet in the space of the release that `matcher` answers from.

    `at_once` is how many at most; None: all of them.

    Raises:
        ModelBroken: The network answers with nothing usable.
        NoSpace, StorageUnusable: The device folder cannot be written.
    """
    stack = matcher.stack
    missing = local.missing(stack.space, stack.dimension, stack.scale)
    if missing is None:
        return
    rows, lost = {}, []
    for sha256 in missing[:at_once]:
        try:
            picture = decode_to_fit(local.photo(sha256), matcher.release.input_size)
        except SkipPhoto:
            lost.append(sha256)  # it has rotted; the product's other photos stand for it
            continue
        vector = embed_reference(matcher.embedder, picture)
        rows[sha256] = quantize_rows(vector[np.newaxis], stack.scale)[0]
    local.rebuild(stack.space, stack.dimension, stack.scale, rows, lost)


# With the server ------------------------------------------------------------------------------------------


def tell_proposals(device: "Device") -> None:
    """Put the events of what was proposed into the outbox, until the server has taken their photos.

    It takes photos of what it was told of alone, so an event that a full outbox dropped is told again. Outbox
    and server know an event by its id: told twice, it counts once.

    Raises:
        NoSpace, StorageUnusable: The outbox or the device folder cannot be written.
    """
    local = LocalProducts(device.settings.data)
    untold = [each for each in local.all() if each.state == "proposed" and (not each.told or each.unsent)]
    for each in untold:
        with device.outbox() as outbox:
            outbox.add(each.to_event(device.device_id() or device.settings.name))
        if not each.told:
            local.update(each.id, lambda now: replace(now, told=True))


def send_photos(device: "Device", transport: "Transport", path: str) -> int:
    """Send the photos of proposals that the server does not have yet; return how many went.

    `path` is the device's own on the server. What breaks off or is not wanted now goes on at the next visit.

    Raises:
        AccessDenied: A person has to enroll this device.
        NoSpace, StorageUnusable: The device folder cannot be written.
    """
    local = LocalProducts(device.settings.data)
    sent = 0
    for id_, sha256 in [(each.id, photo) for each in local.all() for photo in each.unsent]:
        try:
            transport.put_bytes(f"{path}/photos/{sha256}", local.photo(sha256), content_type="image/jpeg")
        except (ServerUnreachable, ServerBusy, TransferBroken):
            break
        except (TryLater, SkipPhoto):
            continue  # this one is refused, or has rotted
        local.update(id_, partial(_with_sent, photo=sha256))
        sent += 1
    return sent


def _with_sent(product: LocalProduct, photo: str) -> LocalProduct:
    return replace(product, sent=product.sent | {photo})


def waiting_proposals(device: "Device") -> list[str]:
    """List the ids of proposals that the server may have settled, for the heartbeat; other ones each time."""
    from random import SystemRandom

    current = device.installation.current_version()
    local = LocalProducts(device.settings.data).all()
    ids = [each.id for each in local if _is_open(each) and not each.is_in(current)]
    return ids if len(ids) <= _MOST_TOLD else SystemRandom().sample(ids, _MOST_TOLD)


def settle(device: "Device", settled: Mapping[str, "Settled"]) -> None:
    """Take what the server said of proposals, and let go of what the releases on this device have.

    A release that has a product takes it over in the moment in which it begins to answer and not before. Its
    photos and vectors stay as long as the device could step back to a release without it. What was refused
    goes at once, and `shelfsight status` says so.

    Raises:
        NoSpace, StorageUnusable: The device folder cannot be written.
    """
    local = LocalProducts(device.settings.data)
    if local.is_empty():
        return
    before = local.all()
    current = device.installation.current_version()
    products = _with_release(device, [_as_settled(each, settled.get(each.id)) for each in before], current)
    held = [current, *device.installation.confirmed()]
    changed = {
        each.id: None if all(each.is_in(version) for version in held) else each
        for each, was in zip(products, before, strict=True)
        if each != was or each.until is not None
    }
    local.replace(changed)


def _as_settled(product: LocalProduct, settled: "Settled | None") -> LocalProduct:
    if settled is None or not _is_open(product):
        return product
    if settled.state == "refused":
        return replace(product, state="refused", photos=(), sent=frozenset())
    return replace(product, state=settled.state, until=settled.release)


def _with_release(
    device: "Device", products: Sequence[LocalProduct], current: int | None
) -> list[LocalProduct]:
    """Note of products that the release in use has that it has them, whatever the server says."""

    def asked(product: LocalProduct) -> bool:
        newer = current is not None and product.release < current
        return newer and not product.known and product.answers and not product.is_in(current)

    if not any(asked(each) for each in products):
        return list(products)
    try:
        stack = _open_stack(device)
    except (ShelfsightError, OSError):
        return list(products)  # a release that cannot be read takes nothing over
    return [
        replace(each, until=current) if asked(each) and len(stack.rows_of(each.product.sku)) else each
        for each in products
    ]


def _open_stack(device: "Device") -> SegmentStack:
    from edge.release import Release

    folder = device.installation.current()
    release = Release.from_bytes((folder / "release.json").read_bytes())
    return SegmentStack.open([(folder / sha256, sha256) for sha256 in release.segments])


def _is_open(product: LocalProduct) -> bool:
    return product.told and product.state in ("proposed", "accepted", "merged")


# The photos -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Form:
    """Of the release that answers: the form of its rows, and its products."""

    dimension: int
    scale: float
    products: Mapping[str, Product]


def _kept(photos: Sequence[tuple[str, bytes]], *, shrunk: bool) -> dict[str, tuple[str, bytes]]:
    """Shrink the photos: what people call each and its bytes, by SHA-256."""
    if not photos:
        raise BadProduct("no photo was given: take at least one, better three from different sides")
    if len(photos) > MOST_PHOTOS:
        raise BadProduct(f"{len(photos)} photos are too many: give at most {MOST_PHOTOS} of one product")
    kept: dict[str, tuple[str, bytes]] = {}
    for name, photo in photos:
        try:
            small = photo if shrunk else kept_photo(photo)
        except SkipPhoto as error:
            raise type(error)(f"{name}: {error}") from error
        kept.setdefault(hashlib.sha256(small).hexdigest(), (name, small))
    return kept


def _look(
    matcher: "Matcher", local: LocalProducts, product: Product, kept: Mapping[str, tuple[str, bytes]]
) -> tuple[list[Look], list[Concern], LocalProduct, _Form]:
    """See the photos that are new with the device's own network."""
    here = {photo for each in local.all() if each.product.sku == product.sku for photo in each.photos}
    new = [sha256 for sha256 in kept if sha256 not in here]
    if not new:
        raise PhotoUnreadable(f"product {product.sku!r} has these photos already: take other ones")
    size, stack = matcher.release.input_size, matcher.stack
    looks = [take_look(matcher, kept[sha256][0], decode_to_fit(kept[sha256][1], size)) for sha256 in new]
    learned = {each.product.sku for each in local.all() if not each.known}
    entry = LocalProduct(
        id=uuid7(),
        at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        product=product,
        photos=tuple(new),
        state="kept",
        release=matcher.release.version,
        space=stack.space,
        known=product.sku not in learned and len(stack.rows_of(product.sku)) > 0,
    )
    form = _Form(stack.dimension, stack.scale, stack.products)
    return looks, find_concerns(matcher, product.sku, looks), entry, form


def _known_already(
    local: LocalProducts,
    product: Product,
    kept: Mapping[str, tuple[str, bytes]],
    products: Mapping[str, Product],
) -> list[Concern]:
    """Say which other product has the number under the bar code, or a photo, already."""
    found = []
    others = [each for each in local.all() if each.product.sku != product.sku and each.answers]
    known = [*products.values(), *(each.product for each in others)]
    twin = next(
        (each for each in known if product.gtin and each.gtin == product.gtin and each.sku != product.sku),
        None,
    )
    if twin is not None:
        sentence = f"GTIN {product.gtin} is known as sku {twin.sku}{f' ({twin.title})' if twin.title else ''}"
        found.append(Concern("same_gtin", "", twin.sku, twin.title, None, sentence))
    for each in others:
        for sha256 in sorted(kept.keys() & set(each.photos)):
            name, other = kept[sha256][0], each.product
            sentence = f"{name} is known as a photo of sku {other.sku}"
            found.append(Concern("same_photo", name, other.sku, other.title, 1.0, sentence))
    return found
