"""Why this product: where in a picture the similarity comes from, and what separates it from the next.

The embedding is the mean of the local map, so the similarity to a reference is a sum over the places of the
map (A. Stylianou, R. Souvenir, R. Pless: Visualizing Deep Similarity Networks, WACV 2019). Nothing is
estimated: the numbers of a map add up to the similarity, and those of a difference to the margin.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.embedder import Embedding
from edge.errors import Incompatible, NoRelease
from edge.matcher import Answer, Candidate
from edge.segments import SegmentStack

EXPLANATION_FORMAT = 1

Map = NDArray[np.float32]

_PLACES = (
    ("upper left", "top", "upper right"),
    ("left", "middle", "right"),
    ("lower left", "bottom", "lower right"),
)
# A ninth of the picture that holds less than so much of a sum does not deserve to be named for it: of an even
# map each ninth holds 0.11.
_NAMED_SHARE = 0.25
_DIGITS = 5


@dataclass(frozen=True, slots=True)
class Place:
    """Where most of a sum lies: a ninth of the picture by its name, or `all over` it.

    `amount` is the whole sum, in units of similarity; `share` (0..1) is the part of it that lies there.
    """

    name: str
    share: float
    amount: float


@dataclass(frozen=True, slots=True)
class Likeness:
    """How like a picture is to one candidate, place by place.

    Attributes:
        candidate: The product, with its similarity, score and confidence.
        reference: float32 (dimension,), unit length: the product's reference photo most like the picture.
        contributions: float32 (h, w), what each place of the picture adds to the similarity; its sum.
    """

    candidate: Candidate
    reference: NDArray[np.float32]
    contributions: Map


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an answer is what it is: its first candidate, the runner-up, and what separates the two.

    Attributes:
        verdict: The answer's: `match`, `unsure` or `unknown`.
        reason: The answer's, as in `edge.matcher.Answer`.
        first: The candidate that was answered, or came nearest to it.
        runner_up: The next candidate; None where a release holds one product alone.
    """

    verdict: str
    reason: str
    first: Likeness
    runner_up: Likeness | None

    @property
    def margin(self) -> float | None:
        """How much more like the picture the first is than the runner-up, by their best reference photos.

        It may be negative: candidates are ordered by all their reference photos together (`edge.scoring`).
        """
        if self.runner_up is None:
            return None
        return self.first.candidate.similarity - self.runner_up.candidate.similarity

    @property
    def difference(self) -> Map | None:
        """What each place adds to the margin, float32 (h, w): above zero for the first, below against it."""
        if self.runner_up is None:
            return None
        return self.first.contributions - self.runner_up.contributions

    def places(self) -> tuple[Place, Place] | None:
        """Say where the difference speaks for the first, and where for the runner-up."""
        difference = self.difference
        if difference is None:
            return None
        return find_place(difference), find_place(-difference)

    def to_record(self) -> dict[str, object]:
        """Return the JSON object that is described in docs/explanation.md, less the photo's name."""
        rows, columns = self.first.contributions.shape
        return {
            "format": EXPLANATION_FORMAT,
            "verdict": self.verdict,
            "reason": self.reason,
            "grid": {"rows": rows, "columns": columns},
            "answer": likeness_record(self.first),
            "runner_up": None if self.runner_up is None else likeness_record(self.runner_up),
            "difference": self._difference_record(),
            "words": list(self.words()),
        }

    def words(self) -> tuple[str, ...]:
        """Say in sentences what was most like the picture, what came next, and what separates them."""
        first = self.first.candidate
        said = [f"{_name(first)} is {_AS[self.verdict]}, with similarity {first.similarity:.3f}."]
        places = self.places()
        if self.runner_up is None or places is None or self.margin is None:
            return (*said, "There is no other product to compare it with.")
        second = self.runner_up.candidate
        said.append(f"The runner-up is {_name(second)}, with similarity {second.similarity:.3f}.")
        if self.margin >= 0:
            said.append(f"The margin is {self.margin:.3f}: {_weigh(*places)}.")
        else:
            said.append(
                f"Its best reference photo is {-self.margin:.3f} nearer; it comes second because its photos "
                f"together score {second.score:.3f}, and those of {_name(first)} {first.score:.3f}."
            )
        return tuple(said)

    def _difference_record(self) -> dict[str, object] | None:
        difference, places = self.difference, self.places()
        if difference is None or places is None or self.margin is None:
            return None
        return {
            "margin": round(self.margin, _DIGITS),
            "map": map_record(difference),
            "for_answer": _place_record(places[0]),
            "for_runner_up": _place_record(places[1]),
        }


_AS = {
    "match": "the answer",
    "unsure": "the likeliest of the short list",
    "unknown": "the nearest, but not near enough to be the answer",
}


def explain_answer(answer: Answer, stack: SegmentStack) -> Explanation:
    """Explain an answer by the reference photos most like the picture, from the release that gave it.

    Raises:
        NoRelease: there is no candidate to explain, for the catalog is empty.
        Incompatible: the answer is not from this release.
    """
    if answer.embedding is None or not answer.candidates:
        raise NoRelease(
            "there is no candidate to explain: the release holds no reference photo; add some and publish"
        )
    looked_at = [_explain_candidate(answer.embedding, each, stack) for each in answer.candidates[:2]]
    return Explanation(
        answer.verdict, answer.reason, looked_at[0], looked_at[1] if len(looked_at) > 1 else None
    )


def similarity_map(query: Embedding, reference: NDArray[np.float32]) -> Map:
    """Split the similarity of a picture to a reference vector over the places of the picture's local map.

    `reference` is float32 (dimension,), of any length but zero. The result is float32 (h, w): what each place
    contributes, negative where it speaks against; its sum is the similarity. What int8 rounding leaves
    between the embedding and the mean of its map is spread over all places alike.

    To see the same pair from the other side, give the reference picture's embedding and the query's vector.

    Raises:
        Incompatible: vectors of two dimensions, or one without direction.
    """
    length = float(np.linalg.norm(reference))
    pooled = query.local.mean(axis=(0, 1))
    scale = float(np.linalg.norm(pooled))
    if reference.shape != query.vector.shape or length == 0.0 or scale == 0.0:
        raise Incompatible(
            f"a map of {query.local.shape} cannot be compared with a vector of {reference.shape} and length "
            f"{length:g}: take both from one model"
        )
    direction = reference / np.float32(length)
    places = query.local.shape[0] * query.local.shape[1]
    contributions = query.local @ direction / np.float32(places * scale)
    rounding = float(query.vector @ direction) - float(contributions.sum())
    return (contributions + np.float32(rounding / places)).astype(np.float32)


def find_place(contributions: Map) -> Place:
    """Find the ninth of the picture where most of what is above zero lies."""
    above = np.maximum(contributions, 0.0)
    amount = float(above.sum())
    ninths = _thirds(above.shape[0]) @ above @ _thirds(above.shape[1]).T
    row, column = divmod(int(ninths.argmax()), 3)
    share = float(ninths[row, column]) / amount if amount > 0 else 0.0
    if share < _NAMED_SHARE:
        return Place("all over", 1.0 if amount > 0 else 0.0, amount)
    return Place(_PLACES[row][column], share, amount)


def likeness_record(likeness: Likeness) -> dict[str, object]:
    """Return the JSON object of one candidate and its map."""
    candidate = likeness.candidate
    return {
        "sku": candidate.product.sku,
        "title": candidate.product.title,
        "similarity": round(candidate.similarity, _DIGITS),
        "score": round(candidate.score, _DIGITS),
        "confidence": round(candidate.confidence, 4),
        "map": map_record(likeness.contributions),
    }


def map_record(contributions: Map) -> list[list[float]]:
    """Return a map as lists of its rows, top to bottom, each from left to right."""
    return [[round(float(value), _DIGITS) for value in row] for row in contributions]


def _explain_candidate(embedding: Embedding, candidate: Candidate, stack: SegmentStack) -> Likeness:
    rows = stack.rows_of(candidate.product.sku)
    if len(rows) == 0:
        raise Incompatible(
            f"this release has no reference photo of {candidate.product.sku!r}: explain an answer with the "
            "release that gave it"
        )
    vectors = stack.vectors(rows)
    reference = vectors[int(np.argmax(vectors @ embedding.vector))]
    return Likeness(candidate, reference, similarity_map(embedding, reference))


def _thirds(cells: int) -> NDArray[np.float32]:
    """Weigh `cells` equal parts of a side by how much of each lies in its first, second and last third."""
    edges = np.arange(cells + 1) / cells * 3
    parts = [np.clip(edges, third, third + 1) for third in range(3)]
    return np.array([np.diff(part) * cells / 3 for part in parts], np.float32)


def _weigh(for_first: Place, for_second: Place) -> str:
    said = f"{for_first.amount:.3f} speaks for it ({_where(for_first)})"
    if for_second.amount < 0.005:
        return said
    return f"{said}, {for_second.amount:.3f} for the runner-up ({_where(for_second)})"


def _where(place: Place) -> str:
    if place.name == "all over":
        return "all over the picture"
    where = "in the middle" if place.name == "middle" else f"at the {place.name}"
    return f"{place.share:.0%} of it {where}"


def _place_record(place: Place) -> dict[str, object]:
    return {
        "place": place.name,
        "share": round(place.share, 3),
        "amount": round(place.amount, _DIGITS),
    }


def _name(candidate: Candidate) -> str:
    return candidate.product.title or candidate.product.sku
