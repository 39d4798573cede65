"""The certificate as it is written, read, and held against a file."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.certificate import (
    CERTIFICATE_FILE,
    CategoryRecall,
    Certificate,
    Cosines,
    EdgeTpuMapping,
    FileCertificate,
    read_certificate,
)
from edge.errors import BadModel, NotCertified

INT8, EDGE_TPU, SOURCE, FLOAT = ("a" * 64, "b" * 64, "c" * 64, "f" * 64)
MEASURED = FileCertificate(
    variant="int8",
    sha256=INT8,
    measured_sha256=INT8,
    target="cpu",
    precision="int8",
    size=3057832,
    runtime="ai-edge-litert 2.3.0",
    delegate="xnnpack",
    machine="Linux x86_64",
    photos=296,
    cosines=Cosines(0.9981, 0.9985, 0.9962, 0.9911, 0.9802),
    top1_agreement=0.9875,
    top5_agreement=0.9921,
    recall=0.8805,
    recall_change=-0.31,
    categories=(
        CategoryRecall("Apple", 60, 0.9, -1.67),
        CategoryRecall("Milk", 40, 0.95, 0.0),
        CategoryRecall("Pear", 20, 0.7, -5.0),
        CategoryRecall("Plum", 20, 0.7, 5.0),
    ),
    flipped=0.0236,
    latency_ms=(3.41, 4.9),
)
COMPILED = replace(
    MEASURED,
    variant="edgetpu",
    sha256=EDGE_TPU,
    measured_sha256=SOURCE,
    target="edgetpu",
    recall=None,
    recall_change=None,
    categories=(),
    edge_tpu=EdgeTpuMapping(
        67, 66, (("DEQUANTIZE", "Operation is working on an unsupported data type"),), 2586688, True, "c 16.0"
    ),
)
WHOLE = Certificate(
    model="grocery",
    space="d23af4f2ccdf23c9",
    float_sha256=FLOAT,
    representative={"Apple": ("0a1b2c3d4e5f",), "Milk": ()},
    compared=("1234567890ab", "abcdef123456"),
    files=(MEASURED, COMPILED),
)


def record(certificate: Certificate = WHOLE) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(certificate.to_bytes())
    return found


def read(changed: dict[str, Any]) -> Certificate:
    return Certificate.from_bytes(json.dumps(changed).encode())


def test_what_is_written_is_read_again_and_written_alike() -> None:
    again = Certificate.from_bytes(WHOLE.to_bytes())
    assert again == WHOLE and again.to_bytes() == WHOLE.to_bytes()


def test_fields_of_a_later_version_survive() -> None:
    later = record() | {"photos_from": "the split test"}
    later["files"][0]["watts"] = 2.5
    again = read(later)
    assert (again.extra, again.files[0].extra) == ({"photos_from": "the split test"}, {"watts": 2.5})
    assert record(again) == later


def test_a_newer_format_is_refused_by_its_number() -> None:
    with pytest.raises(BadModel, match="has format 2, and this Shelfsight reads formats up to 1"):
        read(record() | {"format": 2})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("float_sha256", "no hash"),
        ("files", {}),
        ("representative", ["Apple"]),
        ("compared", [7]),
        ("model", None),
    ],
)
def test_a_field_that_cannot_be_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(BadModel, match=field):
        read(record() | {field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("top1_agreement", 1.5),
        ("recall", -0.1),
        ("photos", 0),
        ("size", 0),
        ("cosines", {"mean": 2.0}),
        ("latency_ms", {"p50": -1}),
        ("edge_tpu", {"operations": "many"}),
        ("categories", [{"category": "Apple", "photos": 0}]),
        ("sha256", "a"),
    ],
)
def test_a_measurement_that_cannot_be_is_refused(field: str, value: object) -> None:
    changed = record()
    changed["files"][0][field] = value
    with pytest.raises(BadModel, match=r"certificate\.json"):
        read(changed)


def test_a_cut_certificate_is_refused() -> None:
    data = WHOLE.to_bytes()
    for length in range(0, len(data) - 1, 37):
        with pytest.raises(BadModel, match=r"certificate\.json"):
            Certificate.from_bytes(data[:length])


def test_a_file_within_the_tolerance_passes() -> None:
    WHOLE.check("int8.tflite", INT8)
    WHOLE.check("int8.tflite", INT8, tolerance=0.31)


def test_a_file_beyond_it_is_refused_with_the_categories_that_suffered_worst_first() -> None:
    with pytest.raises(NotCertified, match=r"int8.tflite of model grocery loses 0.31 points of recall in "):
        WHOLE.check("int8.tflite", INT8, tolerance=0.3)
    with pytest.raises(NotCertified, match=r"\(worst: Pear -5.0, Apple -1.7\)"):
        WHOLE.check("int8.tflite", INT8, tolerance=0.3)


def test_without_labels_each_other_name_counts_as_lost() -> None:
    with pytest.raises(NotCertified, match=r"edgetpu.tflite .* loses 1.25 points"):
        WHOLE.check("edgetpu.tflite", EDGE_TPU)
    WHOLE.check("edgetpu.tflite", EDGE_TPU, tolerance=1.25)


def test_any_runtime_in_which_it_strays_counts() -> None:
    slow = replace(MEASURED, runtime="tflite-runtime 2.14.0", delegate="none", recall_change=-0.9)
    both = replace(WHOLE, files=(MEASURED, slow))
    with pytest.raises(NotCertified, match=r"0.90 points of recall in tflite-runtime 2.14.0 with none"):
        both.check("int8.tflite", INT8)


def test_a_file_that_was_not_measured_is_refused() -> None:
    with pytest.raises(NotCertified, match=r"file other.tflite of model grocery has no parity certificate"):
        WHOLE.check("other.tflite", "d" * 64, tolerance=100)


def test_a_model_folder_has_a_certificate_or_none(tmp_path: Path) -> None:
    assert read_certificate(tmp_path) is None
    (tmp_path / CERTIFICATE_FILE).write_bytes(WHOLE.to_bytes())
    assert read_certificate(tmp_path) == WHOLE
    (tmp_path / CERTIFICATE_FILE).write_text("{}")
    with pytest.raises(BadModel, match=str(tmp_path)):
        read_certificate(tmp_path)
    (tmp_path / "a" / CERTIFICATE_FILE).mkdir(parents=True)
    with pytest.raises(BadModel, match="cannot be read"):
        read_certificate(tmp_path / "a")
