"""Measures how far each file of a model strays from its float network: the parity certificate.

    files x ways to run them -> vectors, once each -> converter.answers -> edge.certificate.Certificate

References are embedded as a release does it: once, by the file for the CPU, whatever file then answers.
Nothing here knows where photos come from or where the certificate goes.
"""

import hashlib
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np

from converter import answers
from converter.admission import check_graph
from converter.answers import Answers, Question, Vectors
from converter.edgetpu import check_edge_tpu, mapping_of
from converter.graph import read_graph
from converter.parity import check_parity, compare
from edge.certificate import Certificate, EdgeTpuMapping, FileCertificate
from edge.delegates import XNNPACK, Delegate
from edge.embedder import Embedder
from edge.errors import BadNetwork
from edge.image import Picture
from edge.model import Model, Variant
from edge.reference import embed_reference

Progress = Callable[[str, int, int], None]  # (what, done, of)
_RUNS: Final = 200
_WARM_RUNS: Final = 5
_LONGEST_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class LabeledPicture:
    """A photo to compare files on, or a reference.

    Attributes:
        picture: uint8 (S, S, 3), as the model takes it.
        name: SHA-256 of the photo's bytes, or its beginning.
        category: what kind of thing it shows.
        product: which product; None where nobody said so.
    """

    picture: Picture
    name: str
    category: str
    product: str | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """One way of running files: the name of a runtime (None: the first that runs here) and a delegate."""

    runtime: str | None = None
    delegate: Delegate = XNNPACK


@dataclass(frozen=True, slots=True)
class FileRun:
    """What one file gave in one runtime with one delegate.

    Attributes:
        variant: the file.
        queries: its embeddings of the photos, float32 (n, D), unit length.
        references: the embeddings of the references that are searched with them, float32 (m, D).
        runtime, delegate, latency_ms: as in `FileCertificate`.
        measured_sha256: of the file that was run.
        edge_tpu: for files of the target edgetpu.
    """

    variant: Variant
    queries: Vectors = field(repr=False)
    references: Vectors = field(repr=False)
    runtime: str
    delegate: str
    latency_ms: tuple[float, float]
    measured_sha256: str
    edge_tpu: EdgeTpuMapping | None = None


def certify(
    model: Model,
    compared: Sequence[LabeledPicture],
    references: Sequence[LabeledPicture],
    *,
    representative: Mapping[str, Sequence[str]],
    ways: Sequence[Way] = (Way(),),
    stand_ins: Mapping[str, Path] | None = None,
    edge_tpu: Mapping[str, EdgeTpuMapping] | None = None,
    progress: Progress | None = None,
) -> Certificate:
    """Run every file of a model in every way that is asked for, and compare it with the float32 file.

    Args:
        model: its files, one of them float32, each with its decision.
        compared: the photos that are asked about; where one is among the references by its name, it does not
            find itself.
        references: the photos that they are searched among; one without a product is its own.
        representative: names of the photos that the ranges of int8 files were learned from, by category.
        ways: how the files are run.
        stand_ins: by name of a variant that is compiled for an Edge TPU, the file that it was compiled from.
        edge_tpu: by name of such a variant, what its compiler says that it maps.
        progress: told of each photo.

    Raises:
        BadNetwork: no photos or no references, a file that no device runs or that strays too far, no float32
            file to compare with, or a compiled one without a stand-in.
        BadModel, RuntimeMissing, ModelBroken, Incompatible, DelegateFailed: a file cannot be run.
    """
    if not compared or not references:
        raise BadNetwork("there are no photos to compare the files on: give a folder of some 300")
    tell = progress or _silent
    paths = {each.name: _runnable(model, each, (stand_ins or {}).get(each.name)) for each in model.variants}
    exact = _exact(model.variants)
    cpu = next((each for each in model.variants if each.target == "cpu"), None)
    known: dict[str, Vectors] = {}

    def searched(variant: Variant) -> Vectors:
        by = variant if cpu is None or variant is exact else cpu
        if by.name not in known:
            embedder = _open(paths[by.name], model, Way(), threads=_threads())
            pictures = [each.picture for each in references]
            known[by.name] = _embed_references(embedder, pictures, tell, by)
        return known[by.name]

    runs = []
    for variant in model.variants:
        for way in ways:
            path = paths[variant.name]
            queries = _embed(_open(path, model, way, threads=_threads()), compared, tell, variant)
            timed = _open(path, model, way, threads=1)
            runs.append(
                FileRun(
                    variant=variant,
                    queries=queries,
                    references=searched(variant),
                    runtime=timed.runtime,
                    delegate=timed.delegate,
                    latency_ms=latency(timed, [each.picture for each in compared[:_RUNS]]),
                    measured_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
                    edge_tpu=_mapping(variant, path, (edge_tpu or {}).get(variant.name)),
                )
            )
    return certificate_of(
        model.name,
        model.space,
        _each_once(runs),
        question_of(compared, references),
        representative=representative,
        compared=[each.name for each in compared],
    )


def certificate_of(
    model: str,
    space: str,
    runs: Sequence[FileRun],
    question: Question,
    *,
    representative: Mapping[str, Sequence[str]],
    compared: Sequence[str],
) -> Certificate:
    """Write the certificate of files that have been run, the float32 one among them.

    Raises:
        BadNetwork: there is no float32 file among them, or a file strays so far that it is another network.
    """
    exact_variant = _exact([run.variant for run in runs])
    exact = next(run for run in runs if run.variant is exact_variant)
    exact_answers = answers.answer(exact.queries, exact.references, question, exact.variant.decision)
    files = []
    for run in runs:
        check_parity(compare(exact.queries, run.queries), run.variant.file)
        given = answers.answer(run.queries, run.references, question, run.variant.decision)
        files.append(_certified(run, exact, exact_answers, given, question))
    return Certificate(
        model=model,
        space=space,
        float_sha256=exact.variant.sha256,
        representative={name: tuple(photos) for name, photos in sorted(representative.items())},
        compared=tuple(compared),
        files=tuple(files),
    )


def question_of(compared: Sequence[LabeledPicture], references: Sequence[LabeledPicture]) -> Question:
    """Number the products of photos and references."""
    numbers: dict[str, int] = {}
    labels = [
        # A reference that nobody labeled is a product of its own: the same one is named or it is not.
        numbers.setdefault(f"product {each.product}" if each.product else f"photo {each.name}", len(numbers))
        for each in references
    ]
    places = {each.name: place for place, each in enumerate(references)}
    return Question(
        products=np.array(
            [numbers.get(f"product {each.product}", -1) if each.product else -1 for each in compared],
            np.int64,
        ),
        categories=tuple(each.category for each in compared),
        references=np.array(labels, np.int64),
        own=np.array([places.get(each.name, -1) for each in compared], np.int64),
    )


def latency(embedder: Embedder, pictures: Sequence[Picture]) -> tuple[float, float]:
    """Time single runs of a network: p50 and p99 in milliseconds, of at most 200 runs or 3 seconds."""
    for number in range(_WARM_RUNS):
        embedder.invoke(pictures[number % len(pictures)])
    times: list[float] = []
    end = perf_counter() + _LONGEST_S
    while len(times) < _RUNS and (perf_counter() < end or len(times) < _WARM_RUNS):
        begin = perf_counter()
        embedder.invoke(pictures[len(times) % len(pictures)])
        times.append(perf_counter() - begin)
    median, slow = np.quantile(times, (0.5, 0.99)) * 1000
    return round(float(median), 3), round(float(slow), 3)


def _certified(
    run: FileRun, exact: FileRun, exact_answers: Answers, given: Answers, question: Question
) -> FileCertificate:
    variant = run.variant
    top1, top5 = answers.agreement(exact_answers, given)
    return FileCertificate(
        variant=variant.name,
        sha256=variant.sha256,
        measured_sha256=run.measured_sha256,
        target=variant.target,
        precision=variant.precision,
        size=variant.size,
        runtime=run.runtime,
        delegate=run.delegate,
        machine=f"{platform.system()} {platform.machine()}",
        photos=len(run.queries),
        cosines=answers.cosines(exact.queries, run.queries),
        top1_agreement=top1,
        top5_agreement=top5,
        recall=answers.recall(given, question),
        recall_change=answers.recall_change(exact_answers, given, question),
        categories=answers.by_category(exact_answers, given, question),
        flipped=answers.flipped(exact_answers, given),
        latency_ms=run.latency_ms,
        edge_tpu=run.edge_tpu,
    )


def _exact(variants: Sequence[Variant]) -> Variant:
    exact = next((each for each in variants if each.precision == "float32"), None)
    if exact is None:
        raise BadNetwork("there is no float32 file to compare the others with: convert it too")
    return exact


def _runnable(model: Model, variant: Variant, stand_in: Path | None) -> Path:
    """Return the file that is run for a variant here: itself, or what it was compiled from.

    Raises:
        BadNetwork: no device runs it, or it is compiled for an Edge TPU and nothing stands in.
    """
    path = model.path(variant)
    for file in (path, stand_in) if stand_in else (path,):
        graph = read_graph(_read(file), file.name)
        size, dimension = model.input_size, model.dimension
        check_graph(graph, file.name, input_size=size, dimension=dimension, target=variant.target)
    if graph.compiled_for_edge_tpu:
        raise BadNetwork(
            f"{path.name} is compiled for an Edge TPU, which this machine does not run it on: give the file "
            "that it was compiled from beside it, to be measured in its place"
        )
    return stand_in or path


def _mapping(variant: Variant, path: Path, told: EdgeTpuMapping | None) -> EdgeTpuMapping | None:
    if variant.target != "edgetpu":
        return None
    return told or mapping_of(check_edge_tpu(read_graph(_read(path), path.name)))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadNetwork(f"{path} cannot be read ({error.strerror}): convert the network again") from error


def _open(path: Path, model: Model, way: Way, *, threads: int) -> Embedder:
    return Embedder.open(
        path,
        dimension=model.dimension,
        input_size=model.input_size,
        threads=threads,
        runtime=way.runtime,
        delegate=way.delegate,
    )


def _embed(
    embedder: Embedder, compared: Sequence[LabeledPicture], tell: Progress, variant: Variant
) -> Vectors:
    vectors = []
    for number, each in enumerate(compared):
        vectors.append(embedder.embed(each.picture).vector)
        tell(f"photos with {variant.file}", number + 1, len(compared))
    return np.stack(vectors)


def _embed_references(
    embedder: Embedder, pictures: Sequence[Picture], tell: Progress, variant: Variant
) -> Vectors:
    vectors = []
    for number, picture in enumerate(pictures):
        vectors.append(embed_reference(embedder, picture))
        tell(f"references with {variant.file}", number + 1, len(pictures))
    return np.stack(vectors)


def _each_once(runs: Sequence[FileRun]) -> list[FileRun]:
    """Leave out what ran twice in the same way, because a runtime took another delegate than was asked."""
    return list({(run.variant.name, run.runtime, run.delegate): run for run in reversed(runs)}.values())[::-1]


def _threads() -> int:
    return os.cpu_count() or 1


def _silent(what: str, done: int, of: int) -> None:
    pass
