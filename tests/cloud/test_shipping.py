"""Which files of a model are shipped, and which are refused before anything is signed."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cloud.shipping import choose_files
from edge.certificate import CERTIFICATE_FILE, CategoryRecall
from edge.errors import BadModel, BadNetwork, NotCertified
from edge.model import Model, open_model
from tests.cloud.conftest import certificate_of, certify, with_file


@pytest.fixture
def model(several_model: Model, tmp_path: Path) -> Model:
    """Give a copy of the model with a file for every target, to be spoiled."""
    return open_model(Path(shutil.copytree(several_model.folder, tmp_path / "model")))


@pytest.mark.parametrize(
    ("targets", "shipped"),
    [
        ((), ["int8", "edgetpu", "float16"]),
        (("all",), ["int8", "edgetpu", "float16"]),
        (("cpu",), ["int8"]),
        (("gpu",), ["int8", "float16"]),
        (("edgetpu", "gpu"), ["int8", "edgetpu", "float16"]),
        (("float32",), ["int8", "float32"]),
        (("all", "float32"), ["int8", "float32", "edgetpu", "float16"]),
    ],
)
def test_the_files_for_the_cpu_come_first_and_float32_comes_only_when_it_is_named(
    several_model: Model, targets: tuple[str, ...], shipped: list[str]
) -> None:
    shipment = choose_files(several_model, targets, 0.5)
    assert [variant.name for variant in shipment.variants] == shipped
    assert [variant.name for variant in shipment.runnable] == [name for name in shipped if name != "edgetpu"]
    assert shipment.certificate == (several_model.folder / CERTIFICATE_FILE).read_bytes()


def test_a_file_that_no_edge_tpu_would_run_is_left_out_with_a_reason(several_model: Model) -> None:
    (left_out,) = choose_files(several_model, ("edgetpu",), 0.5).left_out
    assert left_out.variant.name == "edgetpu-int8"
    assert "not compiled" in left_out.reason
    assert "edgetpu_compiler" in left_out.reason
    assert choose_files(several_model, (), 0.5).left_out == ()  # nobody asked for it


def test_every_shipped_file_comes_with_what_was_measured_of_it(several_model: Model) -> None:
    for file in choose_files(several_model, (), 0.5).files:
        (measured,) = file.measured
        assert measured.sha256 == file.variant.sha256
        assert file.recall_change == measured.recall_change
        assert file.flipped == measured.flipped


def test_of_several_measurements_of_a_file_the_worst_is_told(model: Model) -> None:
    found = certificate_of(model)
    other = [
        replace(each, runtime="tflite-runtime 2.14", recall_change=-0.4, flipped=0.3) for each in found.files
    ]
    certify(model, replace(found, files=(*found.files, *other)))
    file = choose_files(model, ("cpu",), 0.5).files[0]
    assert (len(file.measured), file.recall_change, file.flipped) == (2, -0.42, 0.3)


@pytest.mark.parametrize("target", ["gpu", "edgetpu", "float32", "cpu"])
def test_a_target_that_the_model_has_no_file_for_is_refused_when_it_is_named(
    several_model: Model, target: str
) -> None:
    rest = tuple(variant for variant in several_model.variants if variant.target != target)
    model = replace(several_model, variants=rest)
    with pytest.raises(BadModel, match=f"no file for target {target}: convert it with --target {target}"):
        choose_files(model, (target,), 0.5)
    if target != "cpu":
        assert target not in [each.target for each in choose_files(model, (), 0.5).variants]


def test_a_target_of_a_later_shelfsight_is_passed_over(several_model: Model) -> None:
    variants = (*several_model.variants, replace(several_model.variant(), name="npu", target="npu"))
    shipment = choose_files(replace(several_model, variants=variants), (), 0.5)
    assert "npu" not in [variant.name for variant in shipment.variants]


# What must not be signed ----------------------------------------------------------------------------------


def test_a_model_without_a_certificate_is_refused(model: Model) -> None:
    (model.folder / CERTIFICATE_FILE).unlink()
    with pytest.raises(NotCertified, match=r"certificate\.json is not there.*shelfsight-convert"):
        choose_files(model, (), 0.5)


@pytest.mark.parametrize("garbage", [b"", b"{}", b"[]", b"\xff"])
def test_a_certificate_that_is_none_is_refused(model: Model, garbage: bytes) -> None:
    (model.folder / CERTIFICATE_FILE).write_bytes(garbage)
    with pytest.raises(BadModel, match=r"certificate\.json"):
        choose_files(model, (), 0.5)


@pytest.mark.parametrize("change", [{"model": "another"}, {"space": "0" * 16}])
def test_a_certificate_of_another_model_is_refused(model: Model, change: dict[str, str]) -> None:
    certify(model, replace(certificate_of(model), **change))
    with pytest.raises(NotCertified, match="certify it anew"):
        choose_files(model, (), 0.5)


@pytest.mark.parametrize("name", ["int8", "float16", "edgetpu"])
def test_a_file_that_nobody_measured_is_refused(model: Model, name: str) -> None:
    found = certificate_of(model)
    files = tuple(each for each in found.files if each.variant != name)
    certify(model, replace(found, files=files))
    with pytest.raises(NotCertified, match=f"file {name} of model tiny-several has no parity certificate"):
        choose_files(model, (), 0.5)


def test_a_file_beyond_the_tolerance_is_refused_with_the_categories_that_suffered(model: Model) -> None:
    found = certificate_of(model)
    suffered = (CategoryRecall("tea", 90, 0.9, -4.0), CategoryRecall("milk", 90, 0.9, -1.5))
    files = tuple(
        replace(each, recall_change=-1.25, categories=suffered) if each.variant == "float16" else each
        for each in found.files
    )
    certify(model, replace(found, files=files))
    with pytest.raises(NotCertified, match=r"float16.*loses 1\.25 points.*tea -4\.0, milk -1\.5"):
        choose_files(model, (), 0.5)
    assert len(choose_files(model, (), 1.25).files) == 3
    assert len(choose_files(model, ("cpu",), 0.5).files) == 1


@pytest.mark.parametrize(
    ("misfit", "says"),
    [
        ("int8-input", "takes int8"),
        ("float-input", "takes float32"),
        ("dynamic", "settles the sides"),
        ("input-48", r"takes uint8 \[1, 48, 48, 3\]"),
        ("dimension-8", r"gives \[1, 8\]"),
        ("tiny_edgetpu", "compiled for an Edge TPU"),
    ],
)
@pytest.mark.parametrize("name", ["int8", "float16"])
def test_a_file_that_devices_could_not_run_is_refused_although_it_is_certified(
    model: Model, broken_models: Path, misfit: str, says: str, name: str
) -> None:
    spoiled = with_file(model, name, (broken_models / f"{misfit}.tflite").read_bytes())
    with pytest.raises(BadNetwork, match=says):
        choose_files(spoiled, (), 0.5)


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("name", ["int8", "edgetpu"])
def test_a_file_that_was_cut_is_refused_although_it_is_certified(
    model: Model, share: float, name: str
) -> None:
    data = model.path(model.variant(name)).read_bytes()
    spoiled = with_file(model, name, data[: max(1, int(share * len(data)))])
    with pytest.raises(BadNetwork, match=r"\.tflite"):
        choose_files(spoiled, (), 0.5)


def test_a_file_that_is_not_the_one_in_the_model_folder_is_refused(model: Model) -> None:
    path = model.path(model.variant("float16"))
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(BadModel, match=r"is not the one that model\.json names"):
        choose_files(model, (), 0.5)
