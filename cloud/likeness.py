"""Which products of the catalog a proposal's photos look like, asked with the device's own code."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cloud.catalog import Catalog
from cloud.embed import Progress, embed_queries, embed_references, fitted_pictures
from cloud.embeddings import EmbeddingCache
from cloud.proposals import Proposal, Proposals
from edge.errors import SkipPhoto
from edge.explain_picture import Panel, draw_sheet
from edge.image import Picture, decode
from edge.model import Model

_SHOWN_SIDE = 400
_MOST_SHOWN = 40  # panels; a taller picture is opened by few programs


@dataclass(frozen=True, slots=True)
class Alike:
    """A product of the catalog that a proposal looks like.

    `photo` is the product's photo that is most like one of the proposal's, `similarity` the cosine of the
    two, `score` what the product scores for that photo by all of its own (`edge.scoring`), and `verdict` what
    a device would say of it today: `match` means that the two would be taken for each other.
    """

    sku: str
    title: str
    photo: str
    similarity: float
    score: float
    verdict: str

    def to_record(self) -> dict[str, object]:
        """Return the JSON object that `proposals show --json` prints."""
        return {
            "sku": self.sku,
            "title": self.title,
            "photo": self.photo,
            "similarity": round(self.similarity, 4),
            "verdict": self.verdict,
        }


def find_alike(
    proposal: Proposal,
    proposals: Proposals,
    catalog: Catalog,
    model: Model,
    cache: EmbeddingCache,
    *,
    top: int = 3,
    progress: Progress | None = None,
) -> list[Alike]:
    """List the products most like the photos of a proposal that are here, most alike first.

    The product that the proposal would be added to is not among them.

    Raises:
        BadModel, ModelBroken, Incompatible, RuntimeMissing: the model does not run here.
        StorageUnusable: database or cache cannot be used.
    """
    variant = model.variant()
    own = {proposal.product.sku, proposal.known.sku if proposal.known else proposal.product.sku}
    references = [photo for photo in catalog.reference_photos() if photo.sku not in own]
    asked = fitted_pictures(proposals.photos, proposal.here, model.input_size)
    held = fitted_pictures(catalog.photos, {each.sha256 for each in references}, model.input_size)
    queries = embed_queries(model, variant, asked, cache=cache).vectors
    vectors = embed_references(model, variant, held, cache=cache, progress=progress).vectors
    references = [each for each in references if each.sha256 in vectors]
    if not queries or not references:
        return []
    rows = np.stack([vectors[each.sha256] for each in references])
    products = np.array([each.sku for each in references])  # sorted by SKU
    skus, starts, counts = np.unique(products, return_index=True, return_counts=True)
    best: dict[str, Alike] = {}
    titles = {product.sku: product.title for product in catalog.products()}
    for vector in queries.values():
        similarities = rows @ vector
        scores = variant.decision.score.scores(similarities, starts, counts)
        for place in np.argsort(-scores)[:top].tolist():
            sku, score = str(skus[place]), float(scores[place])
            if sku not in best or score > best[sku].score:
                span = slice(starts[place], starts[place] + counts[place])
                nearest = int(starts[place] + np.argmax(similarities[span]))
                sure = variant.decision.confidences([score])[0]
                best[sku] = Alike(
                    sku=sku,
                    title=titles.get(sku, ""),
                    photo=references[nearest].sha256,
                    similarity=float(similarities[nearest]),
                    score=score,
                    verdict=variant.decision.verdict(score, sure),
                )
    return sorted(best.values(), key=lambda each: -each.score)[:top]


def draw_proposals(
    found: Sequence[tuple[Proposal, Sequence[Alike]]], proposals: Proposals, catalog: Catalog
) -> Picture:
    """Draw the photos of proposals, and beside those of each the products that it looks like.

    Raises:
        PhotoUnreadable: there is nothing to draw.
    """
    panels: list[Panel] = []
    for proposal, alike in found:
        name = proposal.product.title or proposal.product.sku
        shown = [(proposals.photos.path(sha256), f"proposed: {name}", "") for sha256 in proposal.here]
        shown += [
            (catalog.photos.path(each.photo), f"{each.sku} {each.title}", f"similarity {each.similarity:.2f}")
            for each in alike
        ]
        for path, title, line in shown:
            try:
                picture = decode(path.read_bytes(), shrink_to=_SHOWN_SIDE)
            except (SkipPhoto, OSError):
                continue
            panels.append(Panel(picture, title, (line or proposal.product.sku,)))
    heading = f"{len(found)} proposed product{'s' if len(found) != 1 else ''}"
    more = f", the first {_MOST_SHOWN} of {len(panels)} photos" if len(panels) > _MOST_SHOWN else ""
    blank = Panel(np.full((16, 16, 3), 255, np.uint8), "no photo is here", ())
    return draw_sheet((heading + more,), panels[:_MOST_SHOWN] or [blank], columns=4)
