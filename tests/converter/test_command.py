"""`shelfsight-convert` as a person calls it."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from converter.command import main
from edge.certificate import read_certificate
from edge.disk import sha256_file
from tests.converter.conftest import compiled
from tests.converter.test_compiler import WHOLE, compiler

pytestmark = pytest.mark.training
NAMES = {"cpu": "int8", "gpu": "float16", "edgetpu": "edgetpu-int8", "float32": "float32"}


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="module")
def converted(network: Path, shop: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("converted") / "new" / "out"
    return out, call(network, shop, out, "--json")


def test_all_targets_are_written_and_certified(converted: tuple[Path, Result]) -> None:
    out, result = converted
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["certificate.json", *(f"{name}.tflite" for name in NAMES.values())]
    )
    certificate = read_certificate(out)
    assert certificate is not None
    assert {each.target: each.variant for each in certificate.files} == NAMES
    for each in certificate.files:
        path = out / f"{each.variant}.tflite"
        assert (sha256_file(path), path.stat().st_size) == (each.sha256, each.size)
        assert each.measured_sha256 == each.sha256
        assert each.photos == 60 and each.cosines.mean > 0.99 and each.top1_agreement > 0.9
        assert each.recall is not None and {one.category for one in each.categories} == {
            "kind-0",
            "kind-1",
            "kind-2",
        }
        assert 0 < each.latency_ms[0] <= each.latency_ms[1]
        certificate.check(path.name, each.sha256, tolerance=20)
    assert {name: len(photos) for name, photos in certificate.representative.items()} == {
        "kind-0": 20,
        "kind-1": 20,
        "kind-2": 20,
    }
    learned = {name for names in certificate.representative.values() for name in names}
    assert len(certificate.compared) == 60 and not learned & set(certificate.compared)


def test_what_is_printed_is_the_certificate_with_paths_and_metadata(converted: tuple[Path, Result]) -> None:
    out, result = converted
    record = json.loads(result.stdout)
    assert record["float_sha256"] == sha256_file(out / "float32.tflite")
    for each in record["files"]:
        assert Path(each["file"]).is_file()
        assert [tensor["name"] for tensor in each["metadata"]["inputs"]] == ["picture"]
        assert each["metadata"]["version"] == record["space"]
    (told,) = [each["edge_tpu"] for each in record["files"] if "edge_tpu" in each]
    assert told["mapped"] == told["operations"] > 0 and told["compiler"] is None


def test_a_person_is_told_that_the_file_for_an_edge_tpu_is_not_compiled(
    network: Path, photos: Path, tmp_path: Path
) -> None:
    result = call(network, photos, tmp_path / "out", "--target", "edgetpu")
    assert result.exit_code == 0, result.stderr
    assert "by the documented table" in result.stdout
    assert "no Edge TPU runs this file until it is" in result.stdout
    assert "no photo labeled" in result.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"edgetpu-int8.tflite", "certificate.json"}


def test_with_the_vendors_compiler_the_compiled_file_ships_and_its_source_is_measured(
    network: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert call(network, photos, out, "--target", "edgetpu").exit_code == 0
    source = (out / "edgetpu-int8.tflite").read_bytes()
    operations = json.loads((out / "certificate.json").read_text())["files"][0]["edge_tpu"]["operations"]
    log = WHOLE.replace("operations: 6", f"operations: {operations}").replace(
        "CONV_2D                        4", f"CONV_2D  {operations - 2}"
    )
    program = compiler(tmp_path / "bin", log=log, file=compiled(source))
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    result = call(network, photos, out, "--target", "edgetpu")
    assert result.exit_code == 0, result.stderr
    assert "says edgetpu_compiler 16.0" in result.stdout and "not compiled" not in result.stdout
    certificate = read_certificate(out)
    assert certificate is not None
    (measured,) = certificate.files
    assert measured.sha256 == sha256_file(out / "edgetpu.tflite")
    assert measured.measured_sha256 == sha256_file(out / "edgetpu-int8.tflite")
    assert measured.edge_tpu is not None and measured.edge_tpu.mapped == operations


def test_a_compiler_that_fails_leaves_nothing_behind(
    network: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = compiler(tmp_path / "bin", log="Internal compiler error. Aborting!\n", then="sys.exit(1)")
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    result = call(network, photos, tmp_path / "out", "--target", "edgetpu")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].endswith("Internal compiler error. Aborting!")
    assert not (tmp_path / "out").exists()


def test_a_folder_without_photos_is_one_sentence_and_exit_1(network: Path, tmp_path: Path) -> None:
    result = call(network, tmp_path, tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ") and "no photo that can be read" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_cut_network_is_one_sentence_and_what_was_there_stays(
    network: Path, photos: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut" / "network.keras"
    cut.parent.mkdir()
    cut.write_bytes(network.read_bytes()[:-1000])
    (cut.parent / "network.json").write_bytes((network.parent / "network.json").read_bytes())
    out = tmp_path / "out"
    out.mkdir()
    (out / "int8.tflite").write_bytes(b"of yesterday")
    result = call(cut, photos, out)
    assert result.exit_code == 1 and "is not a Keras network" in result.stderr
    assert [path.name for path in out.iterdir()] == ["int8.tflite"]
    assert (out / "int8.tflite").read_bytes() == b"of yesterday"


def test_a_missing_network_is_one_sentence_and_exit_1(photos: Path, tmp_path: Path) -> None:
    result = call(tmp_path / "network.keras", photos, tmp_path / "out")
    assert result.exit_code == 1 and "network.json cannot be read" in result.stderr


def test_a_folder_that_cannot_be_made_is_one_sentence_and_exit_1(
    network: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("a file")
    result = call(network, photos, tmp_path / "out")
    assert result.exit_code == 1 and "error: " in result.stderr


def test_an_unknown_target_is_wrong_usage() -> None:
    assert call("a", "b", "c", "--target", "tpu").exit_code == 2
