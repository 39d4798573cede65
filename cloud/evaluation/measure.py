"""The whole measurement: who is asked about what, and what is told of it.

Queries are the catalog's test photos. References are its in-store photos of every other split (packshots
where there are none); in a second round its packshots alone, as on the day before anybody has photographed a
shelf. A test photo of which a reference is a copy is left out: it would measure memory.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from cloud.assembly import embed_catalog
from cloud.catalog import Catalog, ReferencePhoto
from cloud.embeddings import EmbeddingCache
from cloud.evaluation.bench import Progress, UnreadPhoto, ask, installed
from cloud.evaluation.domain import measure_second_domain
from cloud.evaluation.exact import Drift, exact_file, measure_drift, recorded_drift
from cloud.evaluation.scores import (
    Answered,
    Confusion,
    Scores,
    Verdicts,
    count_verdicts,
    score,
    share,
    worst_confusions,
)
from cloud.look_alikes import FINGERPRINT_SIDE, Fingerprint, fingerprint, near_pairs
from edge.errors import BadSetting, SkipPhoto
from edge.image import decode
from edge.model import Model, Variant
from edge.products import Product
from edge.segments import Content

_CONFUSIONS = 12
_EXAMPLES = 4
_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured. Shares are 0..1; None stands where there was nothing to measure with.

    Attributes:
        model: Name of the model.
        variant: Name of the model file that a device runs.
        photos: Test photos of products with a reference photo: those that were scored.
        references: In-store reference photos that were searched in.
        packshots: Packshots that were searched in alone, in the second round.
        products: Products with an in-store reference photo.
        scores: Answers from the in-store photos.
        packshot_fine_top1: Right products, from packshots alone.
        verdicts: What a device would say of them.
        strangers: Test photos of products without any reference photo.
        strangers_unknown: Share of the strangers that are answered `unknown`, as they should be.
        drift: What quantization costs.
        second_domain_top1: Right kinds in the second domain.
        ms_per_photo_p50: Median milliseconds from a photo's bytes to its answer, one thread.
        left_out: Test photos that are a copy of a reference, and references with the bytes of a test photo.
        unread: Photos that could not be decoded.
        confusions: What was taken for what, most often first.
        answers: What was answered to each of the photos that were scored.
    """

    model: str
    variant: str
    photos: int
    references: int
    packshots: int
    products: int
    scores: Scores | None
    packshot_fine_top1: float | None
    verdicts: Verdicts | None
    strangers: int
    strangers_unknown: float | None
    drift: Drift | None
    second_domain_top1: float | None
    ms_per_photo_p50: float | None
    left_out: int
    unread: tuple[UnreadPhoto, ...]
    confusions: tuple[Confusion, ...]
    answers: tuple[Answered, ...] = field(default=(), repr=False)

    def to_record(self) -> dict[str, object]:
        """Return the JSON object that `evaluate --json` prints."""
        return {
            **_rounded_fields(self.scores, "fine_top1", "coarse_top1", "fine_top5"),
            "packshot_fine_top1": _rounded(self.packshot_fine_top1),
            **_rounded_fields(self.drift, "int8_minus_float", "mean_cosine"),
            "ms_per_photo_p50": _rounded(self.ms_per_photo_p50),
            "second_domain_top1": _rounded(self.second_domain_top1),
            **_rounded_fields(self.drift, "int8_agreement"),
            "verdicts": _rounded_fields(self.verdicts, "match", "unsure", "unknown", "match_is_right"),
            "strangers": self.strangers,
            "strangers_unknown": _rounded(self.strangers_unknown),
            "model": self.model,
            "variant": self.variant,
            "photos": self.photos,
            "references": self.references,
            "packshots": self.packshots,
            "products": self.products,
            "left_out": self.left_out,
            "unread": [asdict(photo) for photo in self.unread],
            "confusions": [
                {"sku": each.sku, "answered": each.answered, "count": each.count, "photos": each.photos}
                for each in self.confusions
            ],
        }


def evaluate(
    catalog: Catalog,
    model: Model,
    *,
    cache: EmbeddingCache,
    variant: str | None = None,
    exact: Path | None = None,
    second_domain: Path | None = None,
    chosen: "ChosenPhotos | None" = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a model on the catalog's test photos, as a device would answer them.

    Args:
        catalog: test photos and references.
        model: the model to measure.
        cache: embeddings of reference photos from earlier runs.
        variant: the model file to measure; without it the first for the CPU.
        exact: the float file to compare with; without it the model folder's own, if it has one, or else what
            its `parity` record says.
        second_domain: a folder with train/KIND/ and test/KIND/ photos of other things.
        chosen: what `choose_photos` chose, where several models are asked about the same photos.
        progress: told of each step.

    Raises:
        BadSetting: the catalog has no test photos, or no reference photos.
        NoRelease: none of the reference photos can be read.
        BadModel: the model has no such variant, or a file is not what model.json says.
        ModelBroken: a network does not load, or answers with nothing usable.
        RuntimeMissing: no TFLite runtime runs here.
        StorageUnusable: the cache or the temporary folder cannot be used.
    """
    tell = progress or (lambda task, done, total: None)
    asked = model.variant(variant)
    photos = chosen or choose_photos(catalog, tell)
    products = catalog.products()
    round_of = Round(model, asked, products, catalog, cache, tell)
    unread: list[UnreadPhoto] = []

    content = round_of.embed(photos.references, unread)
    with installed(model, asked, content) as matcher:
        answers, unanswered = ask(matcher, photos.queries, catalog.photos, tell)
    unread.extend(unanswered)
    answered = [answer for answer in answers if answer.photo.sku in content.rows]
    strangers = [answer for answer in answers if answer.photo.sku not in content.rows]
    packshot_top1 = round_of.packshot_top1(photos.packshots, answers, unread)
    domain = (
        measure_second_domain(model, asked, second_domain, cache=cache, progress=tell)
        if second_domain
        else None
    )
    return Evaluation(
        model=model.name,
        variant=asked.name,
        photos=len(answered),
        references=len(photos.references),
        packshots=len(photos.packshots),
        products=len(content.rows),
        scores=score(answered, {product.sku: product for product in products}),
        packshot_fine_top1=packshot_top1,
        verdicts=count_verdicts(answered),
        strangers=len(strangers),
        strangers_unknown=share(each.verdict == "unknown" for each in strangers),
        drift=_drift(round_of, exact, answered, photos.references),
        second_domain_top1=domain.top1 if domain else None,
        ms_per_photo_p50=float(np.median([answer.ms for answer in answers])) if answers else None,
        left_out=photos.left_out,
        unread=tuple(dict.fromkeys(unread)),
        confusions=worst_confusions(answered, count=_CONFUSIONS, examples=_EXAMPLES),
        answers=tuple(answered),
    )


@dataclass(frozen=True, slots=True)
class ChosenPhotos:
    """Who is asked about what: test photos, the photos to answer with, and the packshots for a second round.

    `references` are the in-store photos, or the packshots where there are none; `left_out` counts test photos
    that are a copy of a reference, and references with the bytes of a test photo.
    """

    queries: tuple[ReferencePhoto, ...]
    references: tuple[ReferencePhoto, ...]
    packshots: tuple[ReferencePhoto, ...]
    left_out: int


def choose_photos(catalog: Catalog, progress: Progress) -> ChosenPhotos:
    """Choose what is asked and what it is answered with; no test photo is among the references.

    Raises:
        BadSetting: the catalog has no test photos, or no reference photos.
    """
    queries = catalog.test_photos()
    if not queries:
        raise BadSetting(
            "the catalog has no test photos: import some from a folder test/SKU/ beside train/SKU/, "
            "or from a table with split `test`"
        )
    references = catalog.reference_photos()
    if not references:
        raise BadSetting("the catalog has no reference photos to answer with: import some first")
    copies = _copies_of_references(catalog, queries, references, progress)
    in_store = tuple(reference for reference in references if reference.kind == "in-store")
    packshots = tuple(reference for reference in references if reference.kind == "packshot")
    return ChosenPhotos(
        queries=tuple(query for query in queries if query.sha256 not in copies),
        references=in_store or packshots,
        packshots=packshots,
        left_out=len(copies) + catalog.withheld_count(),
    )


@dataclass(frozen=True, slots=True)
class Round:
    """What every round of asking shares."""

    model: Model
    variant: Variant
    products: Sequence[Product]
    catalog: Catalog
    cache: EmbeddingCache
    progress: Progress

    def embed(self, references: Sequence[ReferencePhoto], unread: list[UnreadPhoto]) -> Content:
        """Embed references into the content of a release; those that cannot be are added to `unread`."""
        embedded = embed_catalog(
            self.model,
            self.variant,
            products=self.products,
            references=references,
            photos=self.catalog.photos,
            cache=self.cache,
            progress=lambda done, total: self.progress("Embedding reference photos", done, total),
        )
        source_of = {reference.sha256: reference.source for reference in references}
        unread.extend(UnreadPhoto(source_of[each.sha256], each.reason) for each in embedded.refused)
        return embedded.content

    def packshot_top1(
        self, packshots: Sequence[ReferencePhoto], answers: Sequence[Answered], unread: list[UnreadPhoto]
    ) -> float | None:
        """Search the answered photos again in packshots alone, by the embeddings that they have already."""
        content = self.embed(packshots, unread)
        asked = [answer for answer in answers if answer.photo.sku in content.rows]
        if not asked:
            return None
        with installed(self.model, self.variant, content) as matcher:
            rule = matcher.variant.decision.score
            found = [matcher.index.search(answer.vector, 1, rule)[0].sku for answer in asked]
        return share(sku == answer.photo.sku for sku, answer in zip(found, asked, strict=True))


def _copies_of_references(
    catalog: Catalog,
    queries: Sequence[ReferencePhoto],
    references: Sequence[ReferencePhoto],
    progress: Progress,
) -> set[str]:
    """Return the SHA-256 names of test photos that some reference is a copy of, whatever its bytes are."""
    fingerprints: dict[str, Fingerprint] = {}
    names = sorted({photo.sha256 for photo in (*queries, *references)})
    for done, name in enumerate(names, start=1):
        progress("Looking for copies", done, len(names))
        try:
            fingerprints[name] = fingerprint(decode(catalog.photos.read(name), shrink_to=FINGERPRINT_SIDE))
        except SkipPhoto:
            continue  # it is told of when it is to be answered or embedded
    tests = {query.sha256 for query in queries}
    mixed = (pair for pair in near_pairs(fingerprints) if len(tests.intersection(pair)) == 1)
    return {name for pair in mixed for name in pair if name in tests}


def _drift(
    round_of: Round,
    exact: Path | None,
    answers: Sequence[Answered],
    references: Sequence[ReferencePhoto],
) -> Drift | None:
    exact_model = exact_file(round_of.model, exact)
    if exact_model is None:
        return recorded_drift(round_of.model)
    return measure_drift(
        exact_model,
        round_of.variant.decision.score,
        answers,
        references,
        photos=round_of.catalog.photos,
        cache=round_of.cache,
        progress=round_of.progress,
    )


def _rounded_fields(values: Scores | Drift | Verdicts | None, *names: str) -> dict[str, float | None]:
    return {name: _rounded(getattr(values, name, None)) for name in names}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
