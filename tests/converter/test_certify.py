"""What a certificate says of files that were really run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from converter.certify import LabeledPicture, Way, certify, question_of
from edge.certificate import Certificate, EdgeTpuMapping
from edge.delegates import PLAIN, XNNPACK
from edge.disk import sha256_file
from edge.embedder import Embedder
from edge.errors import BadNetwork, ShelfsightError
from edge.model import Model, Variant
from edge.reference import embed_reference
from tests.conftest import DATA
from tests.converter.conftest import compiled

TINY, BROKEN = DATA / "tiny-int8", DATA / "broken-models"


def labeled(count: int, first: int = 0, *, product: str | None = "") -> list[LabeledPicture]:
    """Give `count` photos of four products of two kinds, each lit differently."""
    packs = np.random.default_rng(1).integers(0, 256, (4, 4, 4, 3)).astype(np.uint8)
    photos = []
    for number in range(first, first + count):
        draw = np.random.default_rng((3, number))
        pack = np.kron(packs[number % 4], np.ones((8, 8, 1), np.uint8))
        noise = draw.normal(draw.uniform(-20, 20), 30, pack.shape)
        picture = np.clip(pack + noise, 0, 255).astype(np.uint8)
        sku = f"pack-{number % 4}" if product == "" else product
        photos.append(LabeledPicture(picture, f"{number:012x}", f"kind-{number % 2}", sku))
    return photos


def measure(model: Model, **changes: object) -> Certificate:
    settings: dict[str, object] = {"representative": {"kind-0": ["0" * 12]}}
    photos = {"compared": labeled(16, 100), "references": labeled(12)}
    photos |= {name: changes.pop(name) for name in tuple(changes) if name in photos}  # type: ignore[misc]
    return certify(model, photos["compared"], photos["references"], **settings | changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    from edge.model import open_model

    return measure(open_model(TINY))


def test_every_file_is_measured_against_the_float_one(certificate: Certificate, tiny_model: Model) -> None:
    int8, out, exact = certificate.files
    assert [each.variant for each in certificate.files] == ["int8", "int8-out", "float32"]
    assert certificate.float_sha256 == exact.sha256 == tiny_model.variant("float32").sha256
    assert (exact.cosines.mean, exact.cosines.least, exact.recall_change, exact.flipped) == (1, 1, 0, 0)
    assert (exact.top1_agreement, exact.top5_agreement) == (1, 1)
    for each in (int8, out):
        assert each.photos == 16 and 0.95 < each.cosines.least <= each.cosines.p01 <= each.cosines.p05 < 1
        assert each.recall is not None and each.recall_change is not None
        assert exact.recall is not None
        assert each.recall_change == pytest.approx(100 * (each.recall - exact.recall), abs=0.011)
        assert [one.category for one in each.categories] == ["kind-0", "kind-1"]
        assert 0 < each.latency_ms[0] <= each.latency_ms[1]
        assert each.runtime.split()[0] in {"ai-edge-litert", "tflite-runtime", "tensorflow"}
    assert certificate.compared == tuple(each.name for each in labeled(16, 100))
    assert Certificate.from_bytes(certificate.to_bytes()) == certificate


def test_cosines_are_those_of_the_embedder(certificate: Certificate, tiny_model: Model) -> None:
    vectors = []
    for name in ("float32", "int8"):
        path = tiny_model.path(tiny_model.variant(name))
        embedder = Embedder.open(path, dimension=16, input_size=32)
        vectors.append(np.stack([embedder.embed(each.picture).vector for each in labeled(16, 100)]))
    found = np.sum(vectors[0] * vectors[1], axis=1)
    assert certificate.files[0].cosines.mean == pytest.approx(float(found.mean()), abs=1e-5)
    assert certificate.files[0].cosines.least == pytest.approx(float(found.min()), abs=1e-5)


def test_references_are_those_of_the_file_for_the_cpu(tiny_model: Model) -> None:
    """A file answers differently when the references beside it are its own: the release's are the CPU's."""
    seen: list[str] = []
    measure(tiny_model, progress=lambda what, done, of: seen.append(what))
    told = {what for what in seen if what.startswith("references")}
    assert told == {"references with tiny-int8.tflite", "references with tiny-float32.tflite"}
    embedder = Embedder.open(TINY / "tiny-int8.tflite", dimension=16, input_size=32)
    assert embed_reference(embedder, labeled(1)[0].picture).shape == (16,)


def test_each_way_of_running_is_measured_once(tiny_model: Model) -> None:
    ways = (Way(), Way(delegate=XNNPACK), Way(delegate=PLAIN))
    found = [(each.variant, each.delegate) for each in measure(tiny_model, ways=ways).files]
    assert len(found) == len(set(found))
    assert {name for name, _ in found} == {"int8", "int8-out", "float32"}
    assert {delegate for _, delegate in found} <= {"xnnpack", "none"} and ("int8", "none") in found


def test_a_photo_that_is_a_reference_too_does_not_find_itself() -> None:
    question = question_of(labeled(4), [*labeled(2), *labeled(2, 100)])
    assert question.own.tolist() == [0, 1, -1, -1]
    unlabeled = question_of(labeled(2, product=None), labeled(3, product=None))
    assert unlabeled.products.tolist() == [-1, -1] and unlabeled.references.tolist() == [0, 1, 2]


def test_without_labels_agreement_stands_in_for_recall(tiny_model: Model) -> None:
    photos = {"compared": labeled(16, 100, product=None), "references": labeled(12, product=None)}
    for each in measure(tiny_model, **photos).files:
        assert (each.recall, each.recall_change, each.categories) == (None, None, ())


def test_a_stricter_decision_of_one_file_flips_its_answers(tiny_model: Model) -> None:
    before = measure(tiny_model).files[0]
    int8, *others = tiny_model.variants
    strict = replace(int8, decision=replace(int8.decision, match_confidence=1.0))
    after = measure(replace(tiny_model, variants=(strict, *others))).files[0]
    assert after.flipped > before.flipped
    assert after.top1_agreement == before.top1_agreement


def edge_tpu_variant(folder: Path, data: bytes, name: str = "edgetpu") -> Variant:
    path = folder / f"{name}.tflite"
    path.write_bytes(data)
    like = replace(_tiny("int8-out"), name=name, file=path.name, target="edgetpu")
    return replace(like, sha256=sha256_file(path), size=len(data))


def _tiny(name: str) -> Variant:
    from edge.model import open_model

    return open_model(TINY).variant(name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path in TINY.glob("*.tflite"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_what_a_file_was_compiled_from_stands_in_for_it(folder: Path, tiny_model: Model) -> None:
    source = folder / "tiny-int8-out.tflite"
    variant = edge_tpu_variant(folder, compiled(source.read_bytes()))
    model = replace(tiny_model, variants=(*tiny_model.variants, variant), folder=folder)
    mapping = EdgeTpuMapping(6, 6, (), 20124, True, "edgetpu_compiler 16.0")
    told = measure(model, stand_ins={"edgetpu": source}, edge_tpu={"edgetpu": mapping})
    (measured,) = told.of_file(variant.sha256)
    assert measured.measured_sha256 == sha256_file(source) != measured.sha256
    assert measured.edge_tpu == mapping
    (by_table,) = measure(model, stand_ins={"edgetpu": source}).of_file(variant.sha256)
    assert by_table.edge_tpu is not None
    assert (by_table.edge_tpu.mapped, by_table.edge_tpu.compiler) == (6, None)


def test_a_compiled_file_alone_is_refused_with_what_is_missing(folder: Path, tiny_model: Model) -> None:
    variant = edge_tpu_variant(folder, compiled((folder / "tiny-int8-out.tflite").read_bytes()))
    model = replace(tiny_model, variants=(*tiny_model.variants, variant), folder=folder)
    with pytest.raises(BadNetwork, match=r"edgetpu.tflite is compiled .* give the file that it was compiled"):
        measure(model)


def _with_file(change: Callable[[bytes], bytes]) -> Callable[[Path, Model], Model]:
    def apply(folder: Path, model: Model) -> Model:
        path = folder / "tiny-int8.tflite"
        path.write_bytes(change(path.read_bytes()))
        return replace(model, folder=folder)

    return apply


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_with_file(lambda data: data[:20000]), "tiny-int8.tflite is cut or damaged"),
        (_with_file(lambda data: (BROKEN / "input-48.tflite").read_bytes()), "takes uint8"),
        (_with_file(lambda data: (BROKEN / "dimension-8.tflite").read_bytes()), "not an embedding and its"),
        (_with_file(lambda data: (BROKEN / "nan.tflite").read_bytes()), "NaN"),
        (_with_file(compiled), "compiled for an Edge TPU, and its variant is for the target cpu"),
        (lambda folder, model: replace(model, folder=folder / "nowhere"), "cannot be read"),
        (lambda folder, model: replace(model, variants=model.variants[:2]), "no float32 file"),
    ],
)
def test_files_that_cannot_be_measured_are_refused(
    spoil: Callable[[Path, Model], Model], told: str, folder: Path, tiny_model: Model
) -> None:
    with pytest.raises(ShelfsightError, match=told):
        measure(spoil(folder, tiny_model))


def test_a_file_of_another_network_is_refused(folder: Path, tiny_model: Model) -> None:
    from ai_edge_litert.schema_py_generated import ModelT

    data = bytearray((folder / "tiny-int8.tflite").read_bytes())
    model = ModelT.InitFromPackedBuf(bytes(data), 0)
    weights = max((each.data for each in model.buffers if each.data is not None), key=len)
    start = bytes(data).index(bytes(weights))
    data[start : start + len(weights)] = np.roll(weights, 5000).tobytes()
    (folder / "tiny-int8.tflite").write_bytes(data)
    with pytest.raises(BadNetwork, match=r"tiny-int8.tflite strays from its network"):
        measure(replace(tiny_model, folder=folder))


def test_without_photos_nothing_is_certified(tiny_model: Model) -> None:
    for missing in ("compared", "references"):
        with pytest.raises(BadNetwork, match="no photos to compare"):
            measure(tiny_model, **{missing: []})
