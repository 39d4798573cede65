"""Explains an answer beside the reference photos that it rests on, which a device does not hold.

The photo is embedded and answered by the device's own code, from a release of the catalog as it is now that
nobody else gets to see. It is judged by the model's own thresholds: those that a publish fits to a shop's
labeled photos change the verdict, never what is explained here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud.assembly import embed_catalog
from cloud.catalog import Catalog, ReferencePhoto
from cloud.embed import Progress
from cloud.embeddings import EmbeddingCache
from cloud.evaluation.bench import installed
from edge.explain import Explanation, Likeness, Map, explain_answer, map_record, similarity_map
from edge.explain_picture import LEGEND, Panel, draw_heat_map, draw_sheet, map_panels, strongest_of
from edge.image import Picture, decode, fit
from edge.matcher import Matcher
from edge.model import Model, Variant

SHOWN_SIDE = 720


@dataclass(frozen=True, slots=True)
class ExplainedReference:
    """The reference photo of a candidate that is most like the query, and what in it is like the query.

    `contributions`, float32 (h, w), add up to the similarity of the two as the network sees them; that of the
    candidate is to the reference as a release holds it, in int8, and may differ by 0.002.
    """

    photo: ReferencePhoto
    picture: Picture
    contributions: Map


@dataclass(frozen=True, slots=True)
class CatalogExplanation:
    """An explanation with its reference photos, in the order of the candidates: first, then the runner-up."""

    picture: Picture
    explanation: Explanation
    references: tuple[ExplainedReference, ...]

    def to_record(self) -> dict[str, object]:
        """Return the JSON object that is described in docs/explanation.md, less photo and model."""
        record = self.explanation.to_record()
        for name, reference in zip(("answer", "runner_up"), self.references, strict=False):
            side = record[name]
            assert isinstance(side, dict)
            side["reference"] = _reference_record(reference)
        return record


def explain_photo(
    photo: bytes,
    *,
    model: Model,
    variant: Variant,
    catalog: Catalog,
    cache: EmbeddingCache,
    progress: Progress | None = None,
) -> CatalogExplanation:
    """Answer a photo from the catalog and find what in it and in the reference photos made the answer.

    Raises:
        SkipPhoto: the photo cannot be decoded, or a reference photo that answered is gone from the storage.
        NoRelease: the catalog has no usable reference photo.
        BadModel, ModelBroken, Incompatible, RuntimeMissing: the model does not run here.
        StorageUnusable: the catalog, the cache or the temporary folder cannot be used.
    """
    picture = decode(photo, shrink_to=max(SHOWN_SIDE, model.input_size))
    photos = catalog.reference_photos()
    embedded = embed_catalog(
        model,
        variant,
        products=catalog.products(),
        references=photos,
        photos=catalog.photos,
        cache=cache,
        progress=progress,
    )
    with installed(model, variant, embedded.content) as matcher:
        answer = matcher.match_photo(photo, top=2)
        explanation = explain_answer(answer, matcher.stack)
        assert answer.embedding is not None, "a matcher always says what its network saw"
        references = tuple(
            _explain_reference(
                likeness, answer.embedding.vector, photos, embedded.vectors, catalog=catalog, matcher=matcher
            )
            for likeness in (explanation.first, explanation.runner_up)
            if likeness is not None
        )
    return CatalogExplanation(picture, explanation, references)


def draw_catalog_explanation(explained: CatalogExplanation) -> Picture:
    """Draw query and reference side by side, each with its map, and below them the runner-up's pair.

    A row is: the photo (below it what separates the two candidates), where in it the likeness to the
    candidate lies, where in the candidate's reference photo the likeness to the photo lies, that photo.
    """
    explanation = explained.explanation
    panels = map_panels(explained.picture, explanation)
    photo, maps, difference = panels[0], (panels[1], *panels[2:3]), panels[3:]
    strongest = strongest_of(reference.contributions for reference in explained.references)
    sheet: list[Panel] = []
    for rank, (begin, of_query, reference) in enumerate(
        zip((photo, *difference), maps, explained.references, strict=True), start=1
    ):
        heat = draw_heat_map(reference.picture, reference.contributions, strongest=strongest)
        sheet += [
            begin,
            of_query,
            Panel(heat, f"{rank}. in its reference photo", ("what of it is like the photo",)),
            Panel(
                reference.picture,
                "The reference photo",
                (
                    reference.photo.source.rsplit("/", 1)[-1],
                    f"{reference.photo.kind}, {reference.photo.split}",
                ),
            ),
        ]
    return draw_sheet((*explanation.words(), LEGEND), sheet, columns=4)


def _explain_reference(
    likeness: Likeness,
    query: NDArray[np.float32],
    photos: Sequence[ReferencePhoto],
    known: Mapping[str, NDArray[np.float32]],
    *,
    catalog: Catalog,
    matcher: Matcher,
) -> ExplainedReference:
    """Find the photo behind the likeness's reference vector, and look at the pair from its side."""
    sku = likeness.candidate.product.sku
    own = [photo for photo in photos if photo.sku == sku and photo.sha256 in known]
    # A release holds vectors in int8 and no names of photos: the nearest by the exact vectors is the one.
    photo = max(own, key=lambda each: float(known[each.sha256] @ likeness.reference))
    data = catalog.photos.read(photo.sha256)
    size = matcher.release.input_size
    seen = matcher.embedder.embed(fit(decode(data, shrink_to=size), size))
    shown = decode(data, shrink_to=SHOWN_SIDE)
    return ExplainedReference(photo, shown, similarity_map(seen, query))


def _reference_record(reference: ExplainedReference) -> dict[str, object]:
    rows, columns = reference.contributions.shape
    return {
        "source": reference.photo.source,
        "sha256": reference.photo.sha256,
        "kind": reference.photo.kind,
        "split": reference.photo.split,
        "grid": {"rows": rows, "columns": columns},
        "map": map_record(reference.contributions),
    }
