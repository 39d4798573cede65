"""Products that the network never saw: told as unknown while they are absent, and known once enrolled.

The network is a *twin* of the one that is judged: made by the same recipe, with some products left out of the
training. Their test photos are asked of a release without them (are they taken for something else?), then of
releases that know them by a few of their photos each, the network untouched.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cloud.assembly import embed_catalog
from cloud.catalog import Catalog, ReferencePhoto
from cloud.embeddings import EmbeddingCache
from cloud.evaluation.bench import Progress, ask, installed
from cloud.evaluation.openset import OpenSet, open_set
from cloud.evaluation.scores import Answered
from edge.errors import BadSetting
from edge.model import Model, Variant
from edge.products import Product
from edge.segments import Content

SHOTS: Final = (1, 3, 5, 10)
DRAWS: Final = 5
_SEED: Final = 7
_EVERY: Final = 4


@dataclass(frozen=True, slots=True)
class Shots:
    """Share (0..1) of the newcomers' test photos that are told right among all products, for each draw."""

    photos_each: int
    draws: tuple[float, ...]

    @property
    def top1(self) -> float:
        """The mean of the draws."""
        return float(np.mean(self.draws))


@dataclass(frozen=True, slots=True)
class Newcomers:
    """What was measured with the twin.

    Attributes:
        left_out: SKUs of the products that the twin never saw, and that the catalog has test photos of.
        photos: Test photos of these.
        products: Products that they are told from, themselves included.
        shots: How often they are told right, enrolled by so many photos each.
        unknown: How well they are told from known products while they are absent, by what a device goes by.
        told_unknown: Share of them that a device answers `unknown` while they are absent.
        known_lost: Share of the known products' photos that it answers `unknown` all the same.
        answers: What was answered while they were absent: of known products, and of them.
    """

    left_out: tuple[str, ...]
    photos: int
    products: int
    shots: tuple[Shots, ...]
    unknown: OpenSet
    told_unknown: float
    known_lost: float
    answers: tuple[Answered, ...]

    @property
    def strangers(self) -> tuple[Answered, ...]:
        """What was answered to photos of the absent products."""
        return tuple(answer for answer in self.answers if answer.photo.sku in self.left_out)

    @property
    def known(self) -> tuple[Answered, ...]:
        """What was answered to photos of all others."""
        return tuple(answer for answer in self.answers if answer.photo.sku not in self.left_out)


def left_out_of(model: Model) -> tuple[str, ...]:
    """Return the SKUs that a model's recipe says it was not trained on, sorted; () where it says nothing."""
    recipe = model.extra.get("recipe")
    named = recipe.get("leave_out") if isinstance(recipe, Mapping) else None
    return tuple(sorted(str(sku) for sku in named)) if isinstance(named, Sequence) else ()


def unseen_by(model: Model, skus: Iterable[str]) -> tuple[str, ...]:
    """Return those products that a model was not trained on, sorted; where it saw none, every fourth.

    In a shop that the model was not made for all are new to it; some have to stand for those that it knows.
    () where model.json does not say what the model was trained on.
    """
    fitted = model.extra.get("fitted_skus")
    if not isinstance(fitted, Sequence):
        return ()
    known = set(skus)
    unseen = sorted(known - set(map(str, fitted)))
    return tuple(unseen[::_EVERY] if len(unseen) == len(known) else unseen)


def measure_newcomers(
    catalog: Catalog,
    twin: Model,
    left_out: Collection[str],
    queries: Sequence[ReferencePhoto],
    references: Sequence[ReferencePhoto],
    *,
    cache: EmbeddingCache,
    progress: Progress,
) -> Newcomers:
    """Ask the twin about products that it never saw, absent and enrolled.

    Args:
        catalog: the products and the bytes of their photos.
        twin: a model that was not trained on the products of `left_out`.
        left_out: their SKUs; those without test photos, or without photos to enroll, are passed over.
        queries: the catalog's test photos.
        references: in-store photos to answer with. Newcomers are enrolled by those not for validation.
        cache: embeddings from earlier runs.
        progress: told of each step.

    Raises:
        BadSetting: none of them can be asked for, or nothing else is in the catalog.
        BadModel, ModelBroken, RuntimeMissing, StorageUnusable: as `embed_catalog` and `Matcher.open` do.
    """
    variant = twin.variant()
    asked_for = {query.sku for query in queries}
    enrollable = {photo.sku for photo in references if photo.sku in left_out and photo.split != "validation"}
    newcomers = sorted(enrollable & asked_for)
    if not newcomers:
        raise BadSetting(
            f"the catalog has no test photos, or none to enroll by, of the products that {twin.name} "
            f"was not trained on ({len(left_out)} are named): name some that it has"
        )
    usable = [photo for photo in references if photo.sku not in newcomers or photo.split != "validation"]
    content = embed_catalog(
        twin,
        variant,
        products=catalog.products(),
        references=usable,
        photos=catalog.photos,
        cache=cache,
        progress=lambda done, total: progress("Embedding with the twin", done, total),
    ).content
    table = _Table.of(twin, variant, content, newcomers)
    if not table.known:
        raise BadSetting(
            f"the catalog has no photos of other products than {twin.name} was not trained on: import some"
        )
    wanted = [query for query in queries if query.sku in newcomers or query.sku in table.known]
    with installed(twin, variant, table.content({})) as matcher:
        answers, _ = ask(matcher, wanted, catalog.photos, progress, task="Answering without newcomers")
    strangers = [answer for answer in answers if answer.photo.sku in newcomers]
    known = [answer for answer in answers if answer.photo.sku not in newcomers]
    if not strangers or not known:
        raise BadSetting(
            "no test photo of the products that were left out, or none of the others, can be read: "
            "import them again"
        )
    return Newcomers(
        left_out=tuple(newcomers),
        photos=len(strangers),
        products=len(table.known) + len(newcomers),
        shots=_measure_shots(table, strangers, progress),
        unknown=open_set(
            np.array([answer.knownness for answer in known]),
            np.array([answer.is_right for answer in known]),
            np.array([answer.knownness for answer in strangers]),
        ),
        told_unknown=float(np.mean([answer.verdict == "unknown" for answer in strangers])),
        known_lost=float(np.mean([answer.verdict == "unknown" for answer in known])),
        answers=tuple(answers),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """All vectors that releases are made of: rows of known products, and of each newcomer those to draw."""

    twin: Model
    variant: Variant
    products: Mapping[str, Product]
    known: Mapping[str, NDArray[np.int8]]
    newcomers: Mapping[str, NDArray[np.int8]]

    @classmethod
    def of(cls, twin: Model, variant: Variant, content: Content, newcomers: Collection[str]) -> "_Table":
        return cls(
            twin,
            variant,
            content.products,
            {sku: rows for sku, rows in content.rows.items() if sku not in newcomers},
            {sku: rows for sku, rows in content.rows.items() if sku in newcomers},
        )

    def content(self, enrolled: Mapping[str, NDArray[np.int8]]) -> Content:
        """Make the content of a release that knows these rows of newcomers beside all known products."""
        rows = {**self.known, **enrolled}
        products = {sku: self.products[sku] for sku in rows}
        twin = self.twin
        return Content(twin.space, twin.dimension, twin.row_scale, products, dict(sorted(rows.items())))


def _measure_shots(table: _Table, strangers: Sequence[Answered], progress: Progress) -> tuple[Shots, ...]:
    """Enroll the newcomers by a few photos, in several draws; a draw's larger sets hold its smaller ones."""
    measured = []
    orders = [_orders(table.newcomers, draw) for draw in range(DRAWS)]
    for place, count in enumerate(SHOTS):
        draws = []
        for draw, order in enumerate(orders):
            progress("Enrolling newcomers", place * DRAWS + draw, len(SHOTS) * DRAWS)
            enrolled = {sku: rows[order[sku][:count]] for sku, rows in table.newcomers.items()}
            draws.append(_share_right(table, table.content(enrolled), strangers))
        measured.append(Shots(count, tuple(draws)))
    progress("Enrolling newcomers", len(SHOTS) * DRAWS, len(SHOTS) * DRAWS)
    return tuple(measured)


def _orders(newcomers: Mapping[str, NDArray[np.int8]], draw: int) -> dict[str, NDArray[np.int64]]:
    rng = np.random.default_rng((_SEED, draw))
    return {sku: rng.permutation(len(rows)) for sku, rows in sorted(newcomers.items())}


def _share_right(table: _Table, content: Content, strangers: Sequence[Answered]) -> float:
    rule = table.variant.decision.score
    with installed(table.twin, table.variant, content) as matcher:
        found = [matcher.index.search(answer.vector, 1, rule)[0].sku for answer in strangers]
    return float(np.mean([sku == answer.photo.sku for sku, answer in zip(found, strangers, strict=True)]))
