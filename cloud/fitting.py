"""Embeds the catalog for a release, and gives each of its network files the decision that fits the shop.

    catalog + shipment -> rows of the first file, which every device searches
                       -> a decision for every file, asked of those rows

How alike a photo and a row are depends on the file that looked at the photo: a threshold of one file is wrong
for another.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cloud.assembly import EmbeddedCatalog, embed_catalog, embed_rows
from cloud.catalog import Catalog, ReferencePhoto
from cloud.embed import Progress, embed_queries, fitted_pictures
from cloud.embeddings import EmbeddingCache
from cloud.shipping import Shipment, ShippedFile
from cloud.thresholds import LEAST_PHOTOS, FittedDecision, fit_decision, may_ask
from edge.model import Decision, Model, Variant


@dataclass(frozen=True, slots=True)
class FittedCatalog:
    """The catalog in vectors, and the shipped variants with their decisions, in the shipment's order.

    The decisions were fitted to `calibration_photos` labeled photos, which are not in the content; 0: they
    are the model's own. `references` are all photos that may be shown to devices.
    """

    embedded: EmbeddedCatalog
    variants: tuple[Variant, ...]
    calibration_photos: int
    references: Sequence[ReferencePhoto] = field(default=(), repr=False)


def fit_catalog(
    model: Model,
    shipment: Shipment,
    catalog: Catalog,
    *,
    wrong_rate: float | None,
    cache_folder: Path,
    progress: Progress | None = None,
) -> FittedCatalog:
    """Embed the catalog with the first file, and fit the decisions of all files where its photos allow it.

    With a `wrong_rate` a match of any file needs the confidence at which at most this share is wrong.

    Raises:
        ModelBroken, RuntimeMissing, Incompatible: the model does not run here.
        BadSetting: a rate of wrong answers that was not calibrated.
        StorageUnusable: the cache or the catalog cannot be used.
    """
    references = catalog.reference_photos()
    with EmbeddingCache(cache_folder) as cache:

        def embed(
            photos: Sequence[ReferencePhoto], how: Callable[..., EmbeddedCatalog] = embed_rows
        ) -> EmbeddedCatalog:
            return how(
                model,
                shipment.runnable[0],
                products=catalog.products(),
                references=photos,
                photos=catalog.photos,
                cache=cache,
                progress=progress,
            )

        asked = may_ask(references, _named(model, "fitted_validation"))
        if len(asked) < LEAST_PHOTOS:
            return FittedCatalog(embed(references), _decided(shipment, {}, wrong_rate), 0, references)
        embedded = embed(references, embed_catalog)
        pictures = fitted_pictures(catalog.photos, (photo.sha256 for photo in asked), model.input_size)
        fitted: dict[str, FittedDecision] = {}
        for variant in shipment.runnable:
            queries = embed_queries(model, variant, pictures, cache=cache, progress=progress)
            found = fit_decision(references, embedded.vectors, queries.vectors, _named(model, "fitted_skus"))
            if found is None:  # too few photos or products, whoever looks at them
                return FittedCatalog(embedded, _decided(shipment, {}, wrong_rate), 0, references)
            fitted[variant.name] = found
        # What a decision was fitted to is no reference: it would not hold for what those photos find.
        photos = fitted[shipment.runnable[0].name].photos
        content = embed([reference for reference in references if reference not in photos]).content
    return FittedCatalog(
        replace(embedded, content=content),
        _decided(shipment, fitted, wrong_rate),
        len(photos),
        references,
    )


def _named(model: Model, what: str) -> frozenset[str]:
    """Return the products or photos that the network was fitted to, as far as the model folder says so."""
    named = model.extra.get(what)
    return frozenset(str(sku) for sku in named) if isinstance(named, list) else frozenset()


def _decided(
    shipment: Shipment, fitted: Mapping[str, FittedDecision], wrong_rate: float | None
) -> tuple[Variant, ...]:
    def decided(file: ShippedFile) -> Decision:
        # What only an Edge TPU runs takes the first file's fitted decision: both are int8 files of one
        # network, and differ less than this shop and the one that the model's own decision is from.
        fitted_to = shipment.runnable[0] if file.compiled else file.variant
        decision = fitted[fitted_to.name].decision if fitted else file.variant.decision
        if wrong_rate is None:
            return decision
        return replace(decision, match_confidence=decision.match_confidence_for(wrong_rate))

    return tuple(replace(each.variant, decision=decided(each)) for each in shipment.files)
