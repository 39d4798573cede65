"""From a picture to an answer: which product of the catalog this is, if it is one.

    matcher = Matcher.open(Path("releases/7"))
    answer = matcher.match_photo(Path("apple.jpg").read_bytes())

Think of it as an installed release, opened: its network, its vectors, its thresholds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from edge.categories import CategoryGuess, guess_category
from edge.disk import sha256_file
from edge.embedder import AnyEmbedder, Embedder, Embedding
from edge.errors import (
    BadManifest,
    FormatTooNew,
    Incompatible,
    ModelBroken,
    SegmentBroken,
    SkipPhoto,
    StepBack,
    StorageUnusable,
    TrialFailed,
)
from edge.image import Picture, decode_to_fit, fit, load_photo
from edge.index import Hit, IndexRecord, SearchIndex, prepare_index
from edge.model import Decision, Variant, choose_variant
from edge.products import Product
from edge.quality import PROBLEMS, quality_problem
from edge.release import Golden, Release
from edge.release_files import opened_segments
from edge.segments import Segment, SegmentStack

GOLDEN_TOLERANCE = 0.02
"""How far a similarity may stray from the signed one: runtimes and processors round int8 differently."""

KIN = 12
"""How many further candidates are searched for: a category is guessed from them."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A product that it may be: cosine similarity -1..1 of its best reference photo, and confidence 0..1.

    `score` is what candidates are ordered by: what all its reference photos say together (`edge.scoring`).
    """

    product: Product
    similarity: float
    confidence: float
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Timings:
    """How long an answer took, in milliseconds; `decode_ms` includes the resize, `total_ms` all of it."""

    decode_ms: float
    embed_ms: float
    search_ms: float
    total_ms: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What a release says of one picture.

    Attributes:
        verdict: `match` (the first candidate is it), `unsure` (one of the candidates, or none) or `unknown`
            (not in the catalog).
        candidates: The products that score best, best first.
        release: Version of the release that answered.
        reason: Why this verdict: `clear`, `close_runner_up`, `below_confidence`, `low_similarity`,
            `empty_catalog`, or what is wrong with the picture (`too_dark`, `too_bright`, `nothing_in_view`,
            `glare`, `blurred`, `too_far`).
        timings: How long it took.
        embedding: What the network saw, for `edge.explain`.
        category: What kind of thing it is, also where the product is unknown; None where nothing can be said.
    """

    verdict: str
    candidates: tuple[Candidate, ...]
    release: int
    reason: str
    timings: Timings
    embedding: Embedding | None
    category: CategoryGuess | None = None

    @property
    def knownness(self) -> float:
        """How sure it is that the product is in the catalog at all, 0..1: the first candidate's confidence.

        It tells known products from strangers as well as a measure that was fitted to that alone.
        """
        return self.candidates[0].confidence if self.candidates else 0.0

    def to_record(self) -> dict[str, object]:
        """Return the JSON object that `shelfsight match --json` prints, less the photo's name."""
        return {
            "verdict": self.verdict,
            "category": self.category.name if self.category else None,
            "candidates": [
                {
                    "sku": candidate.product.sku,
                    "title": candidate.product.title,
                    "similarity": round(candidate.similarity, 4),
                    "confidence": round(candidate.confidence, 4),
                }
                for candidate in self.candidates
            ],
            "release": self.release,
            "reason": self.reason,
            "timings_ms": {
                "decode": round(self.timings.decode_ms, 2),
                "embed": round(self.timings.embed_ms, 2),
                "search": round(self.timings.search_ms, 2),
                "total": round(self.timings.total_ms, 2),
            },
        }


class Matcher:
    """One installed release, opened to answer. For one thread at a time: the network's memory is one.

    Attributes:
        release: What was signed.
        variant: Which of its network files answers, with its thresholds.
        stack: The vectors and products.
        embedder: The network.
        index: The search over the vectors.
    """

    def __init__(
        self,
        release: Release,
        variant: Variant,
        stack: SegmentStack,
        embedder: AnyEmbedder,
        index: SearchIndex,
    ) -> None:
        self.release = release
        self.variant = variant
        self.stack = stack
        self.embedder = embedder
        self.index = index

    @classmethod
    def open(cls, folder: Path, *, variant: str | None = None, threads: int = 1) -> "Matcher":
        """Open the release in `folder`: release.json, its hash-named files, index.ann and index.json.

        Every file's hash is checked before it is mapped. `variant` names one of the release's network files;
        without it the first for the CPU answers. `threads` is what one run of the network may use. Whoever
        runs networks in another way gives a matcher its parts: see `open_vectors`.

        Raises:
            StepBack: a file is missing or spoiled, or the network does not work: take the release before.
            Incompatible: its parts do not fit together, or it has no such variant.
            RuntimeMissing: no TFLite runtime runs here.
        """
        vectors = open_vectors(folder)
        release = vectors.release
        chosen = choose_variant(release.variants, variant, f"release {release.version}", Incompatible)
        check_model(folder / chosen.sha256, chosen)
        embedder = Embedder.open(
            folder / chosen.sha256,
            dimension=release.dimension,
            input_size=release.input_size,
            threads=threads,
        )
        return cls(release, chosen, vectors.stack, embedder, vectors.index)

    def match_photo(self, photo: bytes, *, top: int = 5) -> Answer:
        """Decode a photo's bytes and answer it with at most `top` candidates (at least one).

        Raises:
            SkipPhoto: the photo cannot be decoded.
            ModelBroken: the network answers with nothing usable.
        """
        start = perf_counter()
        fitted = decode_to_fit(photo, self.release.input_size)
        return self._answer(fitted, top, start, perf_counter())

    def match(
        self, picture: Picture, *, top: int = 5, fit: Callable[[Picture, int], Picture] = fit
    ) -> Answer:
        """Answer a picture, `uint8` (height, width, 3) RGB of any size, with at most `top` candidates.

        `fit` brings it to the side that the network takes: a camera may know a quicker way.

        Raises:
            PhotoUnreadable: not a picture.
            ModelBroken: the network answers with nothing usable.
        """
        start = perf_counter()
        return self._answer(fit(picture, self.release.input_size), top, start, perf_counter())

    def _answer(self, fitted: Picture, top: int, start: float, decoded: float) -> Answer:
        embedding = self.embedder.embed(fitted)
        embedded = perf_counter()
        # A runner-up is needed to judge the best one, even if only one is asked for.
        decision = self.variant.decision
        hits = self.index.search(embedding.vector, max(top, 2), decision.score, spare=KIN)
        searched = perf_counter()
        confidences = decision.confidences([hit.score for hit in hits])
        verdict, reason = _judge(decision, hits, confidences, fitted)
        candidates = tuple(
            Candidate(self.stack.products[hit.sku], hit.similarity, confidence, hit.score)
            for hit, confidence in zip(hits[: max(top, 1)], confidences, strict=False)
        )
        category = self._category(hits, confidences, verdict, reason)
        timings = Timings(
            decode_ms=(decoded - start) * 1000,
            embed_ms=(embedded - decoded) * 1000,
            search_ms=(searched - embedded) * 1000,
            total_ms=(perf_counter() - start) * 1000,
        )
        return Answer(verdict, candidates, self.release.version, reason, timings, embedding, category)

    def _category(
        self, hits: list[Hit], confidences: tuple[float, ...], verdict: str, reason: str
    ) -> CategoryGuess | None:
        """Guess the category, unless nothing can be seen in the picture."""
        if not hits or reason in PROBLEMS:
            return None
        products = self.stack.products
        return guess_category(
            [(products[hit.sku], hit.score) for hit in hits],
            confidences[0],
            self.variant.decision.category_temperature,
            is_match=verdict == "match",
        )


@dataclass(frozen=True, slots=True)
class Vectors:
    """A release without its network: what was signed, the vectors and products, the search over them.

    `stack` is what is searched, `local` the segment of this device's own products on top of it, if any.
    """

    release: Release
    stack: SegmentStack
    index: SearchIndex
    local: Segment | None = None

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The release's own segments, checked and mapped."""
        return self.stack.segments if self.local is None else self.stack.segments[:-1]


Local = Callable[[SegmentStack], Segment | None]
"""Gives the delta of products that were enrolled on this device, for a release's own stack to go under.

It leaves out what the release knows by now; None: there is nothing to add.
"""


def open_vectors(folder: Path, previous: Vectors | None = None, local: Local | None = None) -> Vectors:
    """Open all of the release in `folder` that is no network; every file's hash is checked.

    What the release has in common with the `previous` one, which this process has open, was checked and
    mapped then, and is used as it is: opening costs what is new. `local` goes on top of what was signed.

    Raises:
        StepBack: a file is missing or spoiled: take the release before.
        Incompatible: its parts do not fit together.
    """
    release = _read_release(folder)
    stack = _open_stack(release, folder, previous.segments if previous else ())
    record = IndexRecord.read(folder / "index.json")
    own = local(stack) if local is not None else None
    if own is not None:
        stack = stack.with_local(own)
    held = previous.index if previous else None
    index = SearchIndex.open(stack, folder / "index.ann", record, release.recipe, held)
    return Vectors(release, stack, index, own)


def prepare_release_folder(folder: Path, previous: Vectors | None = None) -> None:
    """Build what a release does not carry: index.ann from its segments, and index.json about it.

    `folder` holds release.json and the hash-named segments. The merged content is recomputed and must give
    the signed hash. An index that lies there already, carried over from a release with the same base, is kept
    if it is whole. Segments that are open in `previous` are not read again.

    Raises:
        SegmentBroken: a segment is not what was signed, or their merge is not.
        Incompatible: the segments belong to another model than the release.
        StepBack: there is no release.json that can be read.
        NoSpace: the disk is full.
        StorageUnusable: the folder cannot be written.
    """
    release = _read_release(folder)
    stack = _open_stack(release, folder, previous.segments if previous else ())
    alone = stack.segments[0].sha256 if len(stack.segments) == 1 else None
    merged = alone if alone == release.merged_sha256 else stack.merged_sha256()
    if merged != release.merged_sha256:
        raise SegmentBroken(
            f"the segments of release {release.version} merge to {merged}, not to the signed "
            f"{release.merged_sha256}: publish it again"
        )
    rule = release.variants[0].decision.score  # one is measured for all: they differ little
    prepare_index(stack, folder, release.recipe, rule)


def check_golden(matcher: Matcher, folder: Path) -> None:
    """Answer the golden photos of the release in `folder` and compare with the signed answers.

    The verdict and, at a match, the product must be the same, and the similarity within `GOLDEN_TOLERANCE`.

    Raises:
        TrialFailed: a golden photo is missing or spoiled, or answered in another way.
        ModelBroken: the network answers with nothing usable.
    """
    for golden in matcher.release.golden:
        where = f"golden photo {golden.photo[:12]} of release {matcher.release.version}"
        try:
            answer = matcher.match_photo(_load_golden(folder / golden.photo, golden), top=1)
        except (SkipPhoto, StorageUnusable) as error:
            raise TrialFailed(f"{where} cannot be answered ({error})") from error
        best = answer.candidates[0] if answer.candidates else None
        similarity = best.similarity if best else 0.0
        sku = best.product.sku if best and answer.verdict == "match" else None
        if (answer.verdict, sku) != (golden.verdict, golden.sku if golden.verdict == "match" else None):
            raise TrialFailed(
                f"{where} is answered {answer.verdict} ({sku}), not {golden.verdict} ({golden.sku}) as "
                "signed: this device's runtime computes something else"
            )
        if abs(similarity - golden.similarity) > GOLDEN_TOLERANCE:
            raise TrialFailed(
                f"{where} has similarity {similarity:.4f}, not {golden.similarity:.4f} as signed: "
                "this device's runtime computes something else"
            )


def _judge(
    decision: Decision, hits: list[Hit], confidences: tuple[float, ...], fitted: Picture
) -> tuple[str, str]:
    """Return the verdict and its reason."""
    if not hits:
        return "unknown", "empty_catalog"
    problem = quality_problem(fitted)
    if problem is not None:
        return "unsure", problem
    best = hits[0].score
    verdict = decision.verdict(best, confidences[0])
    if verdict == "match":
        return verdict, "clear"
    if verdict == "unknown":
        return verdict, "low_similarity"
    # Would it be a match if the others were not there?
    alone = decision.confidences([best])[0] >= decision.match_confidence
    return verdict, "close_runner_up" if alone and len(hits) > 1 else "below_confidence"


def _read_release(folder: Path) -> Release:
    path = folder / "release.json"
    try:
        return Release.from_bytes(path.read_bytes())
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise StepBack(f"{folder} is no installed release ({path}: {reason}): sync again") from error
    except (BadManifest, FormatTooNew) as error:
        raise StepBack(f"the installed {path} cannot be used ({error}): sync again") from error


def _open_stack(release: Release, folder: Path, held: Sequence[Segment] = ()) -> SegmentStack:
    paths = [(folder / sha256, sha256) for sha256 in opened_segments(release, folder)]
    stack = SegmentStack.open(paths, held)
    found = (stack.space, stack.dimension, stack.scale)
    if found != (release.space, release.dimension, release.row_scale):
        raise Incompatible(
            f"the segments of release {release.version} have space, dimension and scale {found}, not "
            f"{(release.space, release.dimension, release.row_scale)}: embed the catalog with its model"
        )
    return stack


def check_model(path: Path, variant: Variant) -> None:
    """Check that the network file at `path` is the one that was signed as `variant`.

    Raises:
        ModelBroken: it is missing, or another.
    """
    try:
        found = sha256_file(path)
    except StorageUnusable as error:
        raise ModelBroken(f"model file {path} is missing: sync again") from error
    if found != variant.sha256:
        raise ModelBroken(f"model file {path} has sha256 {found}, not its own name: sync again")


def _load_golden(path: Path, golden: Golden) -> bytes:
    photo = load_photo(path)
    if sha256_file(path) != golden.photo:
        raise TrialFailed(f"golden photo {path} is not what its name says: sync again")
    return photo
