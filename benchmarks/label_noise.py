"""Measure how well `catalog check` finds wrong labels, by filing photos wrongly on purpose.

    python benchmarks/label_noise.py ../shared/data/grocery-store --out benchmarks/results/label-noise.json

Of the photos of one part of a catalog a share is filed under another product: any other, or one of the same
category, which is how people err. Precision is the share of the doubted photos that had been filed wrongly,
recall the share of the wrongly filed ones that are doubted; both over all draws. Test photos are never used.

A model that was fitted to these very photos, with their right labels, finds nearly all: the part `validation`
(photos it was not fitted to) and a second folder of other things (`--second DIR`, one sub-folder a kind) tell
what to expect of photos that are new.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from cloud.bundled import find_model
from cloud.catalog import Catalog, ReferencePhoto
from cloud.embeddings import EmbeddingCache
from cloud.importers import ImportPlan, import_plan, read_plan
from cloud.outliers import doubt_labels, find_doubts
from cloud.workspace import Workspace
from edge.model import Model, open_model

Vectors = dict[str, np.ndarray]
_SURENESS = (0.5, 0.7, 0.9, 1.01)


@dataclass(frozen=True, slots=True)
class Found:
    """What was found, over all draws: counts, shares, and how often a doubt of that confidence was right."""

    filed_wrongly: int
    doubted: int
    precision: float
    recall: float
    suspect_is_right: float
    share_estimated: float
    right_by_confidence: dict[str, tuple[int, float]]


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("catalog", type=Path)
    parser.add_argument("--second", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--share", type=float, default=0.03)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    model = open_model(find_model(arguments.model))
    result: dict[str, object] = {
        "model": model.name,
        "variant": model.variants[0].sha256,
        "share": arguments.share,
        "draws": arguments.draws,
    }
    for folder in filter(None, (arguments.catalog, arguments.second)):
        result[folder.name] = measure(folder, model, arguments.share, arguments.draws)
    text = json.dumps(result, indent=1) + "\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


def measure(folder: Path, model: Model, share: float, draws: int) -> dict[str, object]:
    """Measure one catalog: as it is, then with wrong labels in each of its parts."""
    photos, vectors, categories = embed(folder, model)
    untouched = find_doubts(photos, vectors)
    result: dict[str, object] = {
        "photos": len(photos),
        "products": len({photo.sku for photo in photos}),
        "doubted_as_it_is": len(untouched.found),
        "of_these_packshots": sum(doubt.photo.kind == "packshot" for doubt in untouched.found),
        "sources_doubted_as_it_is": [doubt.photo.source for doubt in untouched.found],
    }
    for split in sorted({photo.split for photo in photos} - {"reference"}):
        places = [place for place, photo in enumerate(photos) if photo.split == split]
        for kind in ("any", "same_category"):
            if kind == "any" or len(set(categories.values())) > 1:
                alike = categories if kind == "same_category" else {}
                found = _found(_Part(photos, vectors, places, alike), share, draws)
                result[f"{split}_{kind}"] = asdict(found)
    return result


def embed(folder: Path, model: Model) -> tuple[list[ReferencePhoto], Vectors, dict[str, str]]:
    """Import a folder without its test photos and embed it; return photos, vectors, categories by SKU."""
    plan = read_plan(folder)
    photos = tuple(photo for photo in plan.photos if photo.split != "test")
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Workspace.create(Path(scratch))
        catalog = Catalog(workspace.sessions(), workspace.photo_storage())
        import_plan(catalog, ImportPlan(plan.products, photos, ()))
        with EmbeddingCache(workspace.cache) as cache:
            doubt_labels(catalog, model, cache)
            references = catalog.reference_photos()
            names = [photo.sha256 for photo in references]
            vectors = dict(cache.known(model.variant("int8").sha256, names))
        return references, vectors, {product.sku: product.category for product in catalog.products()}


@dataclass(frozen=True, slots=True)
class _Part:
    """The photos of a catalog with their vectors, and the places of those that are filed wrongly on purpose.

    With `categories` (by SKU) they are filed under a product of the same category, where there is one.
    """

    photos: Sequence[ReferencePhoto]
    vectors: Vectors
    places: Sequence[int]
    categories: dict[str, str]

    def file_wrongly(self, share: float, seed: int) -> tuple[list[ReferencePhoto], dict[ReferencePhoto, str]]:
        """File a share of the photos under another SKU; return all photos, and the true SKU of those."""
        random = np.random.default_rng(seed)
        skus = sorted({photo.sku for photo in self.photos})
        filed = list(self.photos)
        truth: dict[ReferencePhoto, str] = {}
        for place in random.choice(self.places, round(share * len(self.places)), replace=False).tolist():
            photo = self.photos[place]
            others = [sku for sku in skus if sku != photo.sku]
            category = self.categories.get(photo.sku)
            alike = [sku for sku in others if category and self.categories[sku] == category]
            filed[place] = replace(photo, sku=str(random.choice(alike or others)))
            truth[filed[place]] = photo.sku
        return filed, truth


def _found(part: _Part, share: float, draws: int) -> Found:
    wrongly, shares = 0, []
    doubted: list[tuple[float, bool, bool]] = []  # confidence, filed wrongly, the suspect is what it was
    for seed in range(draws):
        filed, truth = part.file_wrongly(share, seed)
        doubts = find_doubts(filed, part.vectors)
        wrongly += len(truth)
        shares.append(doubts.share or 0.0)
        for doubt in doubts.found:
            was = truth.get(doubt.photo)
            doubted.append((doubt.confidence, was is not None, was == doubt.suspect))
    hits = [doubt for doubt in doubted if doubt[1]]
    return Found(
        filed_wrongly=wrongly,
        doubted=len(doubted),
        precision=round(len(hits) / max(1, len(doubted)), 4),
        recall=round(len(hits) / max(1, wrongly), 4),
        suspect_is_right=round(sum(doubt[2] for doubt in hits) / max(1, len(hits)), 4),
        share_estimated=round(float(np.mean(shares)), 4),
        right_by_confidence={
            f"{low}-{min(high, 1.0)}": _share_of([hit for sure, hit, _ in doubted if low <= sure < high])
            for low, high in pairwise(_SURENESS)
        },
    )


def _share_of(hits: Sequence[bool]) -> tuple[int, float]:
    return len(hits), round(sum(hits) / max(1, len(hits)), 3)


if __name__ == "__main__":
    main()
