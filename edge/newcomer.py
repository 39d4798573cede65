"""What speaks against adding a product from these photos: whom it would be taken for, and what is odd.

A product that is added is asked for from then on, and one that looks like another takes that one's answers
away. So before it is added each photo is asked twice: who would it be today, and who would it be once the
product's other photos are known? Nothing is decided here: a person sees both, and says.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.decision import Decision
from edge.embedder import Embedding
from edge.image import Picture
from edge.index import Hit
from edge.matcher import Matcher
from edge.quality import quality_problem
from edge.reference import embed_reference

KINDS: Final = ("look_alike", "close", "odd", "quality", "same_gtin", "same_photo")

_QUALITY: Final = {
    "too_dark": "is nearly black: take it again with light",
    "too_bright": "is nearly white: take it again with less light",
    "nothing_in_view": "shows nothing: take it again with the product in the middle",
    "too_far": "shows the product very small: take it from nearer",
    "glare": "is washed out by a light: turn the product away from it",
    "blurred": "is blurred: hold still and take it again",
}


@dataclass(frozen=True, slots=True)
class Look:
    """One photo of the newcomer, as the network sees it.

    `name` is what people call the photo, `picture` `uint8` (S, S, 3); `query` is what it is when it is asked,
    `reference`, float32 (D,), what it is when it is asked for.
    """

    name: str
    picture: Picture
    query: Embedding
    reference: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Concern:
    """One thing that speaks against adding the photos.

    Attributes:
        kind: One of `KINDS`: `look_alike` (would be answered as another product), `close` (another would make
            the answer unsure), `odd` (does not resemble the other photos), `quality`, `same_gtin`,
            `same_photo`.
        photo: Which photo, empty where it is about the product.
        sku: The other product, None where there is none.
        title: What people call that one.
        similarity: Cosine of the photo and the other's most similar one, None where there is no other.
        sentence: The same in words.
    """

    kind: str
    photo: str
    sku: str | None
    title: str
    similarity: float | None
    sentence: str

    def to_record(self) -> dict[str, object]:
        """Return the JSON object that `shelfsight add --json` prints."""
        return {
            "kind": self.kind,
            "photo": self.photo,
            "sku": self.sku,
            "title": self.title,
            "similarity": None if self.similarity is None else round(self.similarity, 4),
            "sentence": self.sentence,
        }


def take_look(matcher: Matcher, name: str, picture: Picture) -> Look:
    """Look at a photo, `uint8` (S, S, 3) as the model takes it, both as a question and as a reference.

    Raises:
        ModelBroken: The network answers with nothing usable.
    """
    embedder = matcher.embedder
    return Look(name, picture, embedder.embed(picture), embed_reference(embedder, picture))


def find_concerns(matcher: Matcher, sku: str, looks: Sequence[Look]) -> list[Concern]:
    """Ask each photo of the newcomer `sku` against all other products and against its own other photos.

    Raises:
        ModelBroken: The network answers with nothing usable.
    """
    problems = {look.name: quality_problem(look.picture) for look in looks}
    # What a bad photo resembles means nothing: it is compared with nothing, and nothing with it.
    good = [look for look in looks if problems[look.name] is None]
    judged = _Judged(matcher, sku, good)
    concerns = [
        Concern("quality", name, None, "", None, f"{name} {_QUALITY[problem]}")
        for name, problem in problems.items()
        if problem is not None
    ]
    found = (judged.likeness(place) or judged.oddness(place) for place in range(len(good)))
    return concerns + [each for each in found if each is not None]


class _Judged:
    """The newcomer's photos among all products."""

    def __init__(self, matcher: Matcher, sku: str, looks: Sequence[Look]) -> None:
        self._matcher = matcher
        self._decision: Decision = matcher.variant.decision
        self._sku = sku
        self._looks = looks
        known = matcher.stack.vectors(matcher.stack.rows_of(sku))
        new = np.array([look.reference for look in looks], np.float32).reshape(len(looks), known.shape[1])
        self._references = np.concatenate([known, new])
        self._known = len(known)

    def likeness(self, place: int) -> Concern | None:
        """Say which other product this photo is, or could be, taken for."""
        look = self._looks[place]
        others = self._others(look)
        if not others:
            return None
        other = others[0]
        decision, own = self._decision, self._own_score(place)
        today = decision.confidences([hit.score for hit in others])[0]
        if decision.verdict(other.score, today) != "match":
            return None  # nobody takes it for that one, even while it is not known itself
        if own is None or other.score >= own:
            return self._concern("look_alike", look, other)
        # It comes first, but not by enough to be the answer.
        close = decision.confidences([own, other.score])[0] < decision.match_confidence
        return self._concern("close", look, other) if close else None

    def oddness(self, place: int) -> Concern | None:
        """Say whether this photo does not resemble the others, which resemble each other."""
        similarities = self._similarities(place)
        if len(similarities) == 0 or float(similarities.max()) >= self._decision.unknown_similarity:
            return None
        look = self._looks[place]
        sentence = (
            f"{look.name} does not resemble the other photos (similarity {similarities.max():.2f} at most): "
            "is it of the same product?"
        )
        return Concern("odd", look.name, None, "", float(similarities.max()), sentence)

    def _similarities(self, place: int) -> NDArray[np.float32]:
        """Compare a photo with the references of its own product but for itself, float32 (n,)."""
        others = np.delete(self._references, self._known + place, axis=0)
        vector = self._looks[place].query.vector
        return np.asarray(others @ (vector / np.linalg.norm(vector)), np.float32)

    def _own_score(self, place: int) -> float | None:
        similarities = self._similarities(place)
        if len(similarities) == 0:
            return None
        begins, counts = np.zeros(1, np.intp), np.array([len(similarities)], np.intp)
        return float(self._decision.score.scores(similarities, begins, counts)[0])

    def _others(self, look: Look) -> list[Hit]:
        """Return the two other products that score best for a photo, best first."""
        hits = self._matcher.index.search(look.query.vector, 3, self._decision.score)
        return [hit for hit in hits if hit.sku != self._sku][:2]

    def _concern(self, kind: str, look: Look, other: Hit) -> Concern:
        title = self._matcher.stack.products[other.sku].title
        called = f"{other.sku} ({title})" if title else other.sku
        does = "would be answered as" if kind == "look_alike" else "is easily taken for"
        sentence = f"{look.name} {does} {called}, similarity {other.similarity:.2f}"
        return Concern(kind, look.name, other.sku, title, other.similarity, sentence)
