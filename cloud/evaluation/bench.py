"""Puts a catalog into a release folder as a device has it, and asks the device's code."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from cloud.assembly import make_release, write_release_folder
from cloud.catalog import ReferencePhoto
from cloud.evaluation.scores import Answered
from cloud.photos import PhotoStorage
from edge.disk import storage_error
from edge.errors import SkipPhoto
from edge.matcher import Answer, Matcher
from edge.model import Model, Variant
from edge.segments import Content

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""

_TOP = 5


@dataclass(frozen=True, slots=True)
class UnreadPhoto:
    """A photo that could not be used, and why."""

    source: str
    reason: str


@contextmanager
def installed(model: Model, variant: Variant, content: Content) -> Iterator[Matcher]:
    """Open a release of the content as a device would after installing it; its folder is deleted afterwards.

    Raises:
        NoRelease: the content has no row.
        BadModel: a model file is not what model.json says.
        ModelBroken: the network does not load.
        RuntimeMissing: no TFLite runtime runs here.
        StorageUnusable: the temporary folder cannot be written.
    """
    try:
        folder = TemporaryDirectory(prefix="shelfsight-evaluate-")
    except OSError as error:
        raise storage_error(error, Path("the temporary folder")) from error
    with folder as name:
        write_release_folder(make_release(1, model, (variant,), content), Path(name))
        yield Matcher.open(Path(name), variant=variant.name)


def ask(
    matcher: Matcher,
    queries: Sequence[ReferencePhoto],
    photos: PhotoStorage,
    progress: Progress,
    task: str = "Answering test photos",
) -> tuple[list[Answered], list[UnreadPhoto]]:
    """Answer photos one by one, as a device does; also return those that cannot be decoded.

    Raises:
        ModelBroken: the network answers with nothing usable.
    """
    answers: list[Answered] = []
    unread: list[UnreadPhoto] = []
    for done, query in enumerate(queries, start=1):
        try:
            answer = matcher.match_photo(photos.read(query.sha256), top=_TOP)
        except SkipPhoto as error:
            unread.append(UnreadPhoto(query.source, str(error)))
        else:
            answers.append(_answered(query, answer))
        progress(task, done, len(queries))
    return answers, unread


def _answered(query: ReferencePhoto, answer: Answer) -> Answered:
    assert answer.embedding is not None  # the matcher embedded it: only an event from disk has none
    best = answer.candidates[0] if answer.candidates else None
    return Answered(
        photo=query,
        verdict=answer.verdict,
        skus=tuple(candidate.product.sku for candidate in answer.candidates),
        vector=answer.embedding.vector,
        ms=answer.timings.total_ms,
        reason=answer.reason,
        confidence=best.confidence if best else 0.0,
        knownness=answer.knownness,
        category=answer.category.name if answer.category else None,
    )
