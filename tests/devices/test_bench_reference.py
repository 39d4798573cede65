"""Figures are held beside a reference where both were measured alike, and what they amount to is said."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from devices.bench import BenchReport, Warm
from devices.bench_reference import (
    REFERENCES,
    Reference,
    compare,
    describe_machine,
    find_reference,
    read_reference,
)
from devices.bench_stages import STAGES, Spread, StageTimes
from devices.bench_table import sentences, table
from devices.bench_verdict import judge, keep
from devices.config import Settings, profile_names
from devices.execution_report import ExecutionReport
from edge.embedder import Embedder
from edge.errors import BadSetting, TryLater
from edge.model import Model
from tests.devices.conftest import Shelfsight

ALIKE: Mapping[str, str | int] = {"vectors": 10_000, "delegate": "xnnpack"}


def reference(figures: Mapping[str, float], conditions: Mapping[str, str | int] = ALIKE) -> Reference:
    return Reference("kiosk-x86", "a kiosk", "2026-01-01", conditions, figures)


@pytest.fixture
def report(tiny_model: Model) -> BenchReport:
    """Give a report of a quiet machine."""
    times = StageTimes({name: Spread(2.0, 2.5) for name in STAGES}, Spread(12.0, 14.0), 0.1, 1.9, 9.0)
    execution = ExecutionReport(2, "xnnpack", "xnnpack", "int8", "ai-edge-litert 2.3.0")
    warm = Warm(times, {1: 80.0, 2: 150.0}, "scan", tiny_model.variant("int8"), execution)
    return BenchReport(warm, 0.4, 80.0, 0.002, 10_000, tiny_model, 1)


def reference_of(report: BenchReport, **changed: float) -> Reference:
    return reference({**report.figures(), **changed}, report.conditions())


def test_a_figure_may_lie_three_tenths_off_either_way() -> None:
    there = reference({"a_ms": 10.0, "b_ms": 10.0, "c_ms": 10.0, "d_ms": 10.0})
    here = {"a_ms": 7.01, "b_ms": 12.99, "c_ms": 6.9, "d_ms": 13.1}
    compared = compare(there, ALIKE, here)
    assert [each.outcome for each in compared.figures] == ["within", "within", "better", "worse"]
    assert compared.figures[3].ratio == pytest.approx(1.31)


def test_of_photos_a_second_more_is_better_and_of_all_else_less() -> None:
    there = reference({"photos_per_s_2": 100.0, "rss_mb": 100.0, "cold_start_s": 1.0})
    compared = compare(there, ALIKE, {"photos_per_s_2": 60.0, "rss_mb": 60.0, "cold_start_s": 1.4})
    assert [each.outcome for each in compared.figures] == ["worse", "better", "worse"]


def test_a_tenth_of_a_millisecond_is_never_out_of_the_band() -> None:
    compared = compare(reference({"decide_ms": 0.05}), ALIKE, {"decide_ms": 0.14})
    assert compared.figures[0].outcome == "within"


def test_figures_that_only_one_of_the_two_has_are_left_out() -> None:
    compared = compare(reference({"a_ms": 1.0, "photos_per_s_4": 9.0}), ALIKE, {"a_ms": 1.0, "b_ms": 1.0})
    assert [each.name for each in compared.figures] == ["a_ms"]


def test_nothing_is_compared_with_what_was_measured_otherwise() -> None:
    compared = compare(reference({"a_ms": 1.0}), {**ALIKE, "vectors": 500, "threads": 2}, {"a_ms": 9.0})
    assert compared.figures == ()
    assert compared.differs == ("vectors 500 here, 10000 there", "threads 2 here, unknown there")


def test_what_is_kept_is_read_again(report: BenchReport, tmp_path: Path) -> None:
    keep(report, tmp_path / "mine.json")
    found = find_reference("kiosk-x86", tmp_path / "mine.json")
    assert found is not None
    assert found.conditions == report.conditions()
    assert found.figures == pytest.approx(report.figures())
    assert found.source == str(tmp_path / "mine.json")
    verdict = judge(report, Settings(data=tmp_path), found)
    assert verdict.passes
    assert verdict.comparison is not None
    assert len(verdict.comparison.of("within")) == len(report.figures())


def test_a_run_on_a_machine_that_stalled_is_no_reference_and_does_not_pass(
    report: BenchReport, tmp_path: Path
) -> None:
    stalled = replace(report, stalled_share=0.042)
    with pytest.raises(TryLater, match=r"stalled for 4\.2% of the time"):
        keep(stalled, tmp_path / "mine.json")
    assert not (tmp_path / "mine.json").exists()
    verdict = judge(stalled, Settings(data=tmp_path), reference_of(report))
    assert not verdict.passes
    assert "DOES NOT COUNT: the machine stalled for 4.2%" in "\n".join(sentences(stalled, verdict))


@pytest.mark.parametrize(
    ("changed", "passes"), [({}, True), ({"total_ms": 9.0}, False), ({"rss_mb": 200.0}, True)]
)
def test_only_what_is_worse_keeps_a_run_from_passing(
    report: BenchReport, tmp_path: Path, changed: dict[str, float], passes: bool
) -> None:
    verdict = judge(report, Settings(data=tmp_path), reference_of(report, **changed))
    assert verdict.passes is passes
    said = "\n".join(sentences(report, verdict))
    assert ("every figure is within 30%" in said) is (not changed)
    assert ("worse than the reference by more than 30%: total_ms (1.33 times)" in said) is (not passes)


def test_what_goes_beyond_the_budget_is_said_and_does_not_pass(report: BenchReport, tmp_path: Path) -> None:
    tight = Settings(data=tmp_path, latency_ms=13.0, memory_mb=64.0)
    verdict = judge(report, tight, reference_of(report))
    assert verdict.over == (
        "an answer takes 14.0 ms (99 %), and may take 13 ms",
        "a process takes 80 MB, and may take 64 MB",
    )
    assert not verdict.passes
    assert verdict.to_record()["budget"] == {
        "latency_ms": 13.0,
        "memory_mb": 64.0,
        "over": list(verdict.over),
    }


def test_without_a_reference_it_is_said_how_to_keep_one(report: BenchReport, tmp_path: Path) -> None:
    assert find_reference("raspberry-pi-5") is None
    verdict = judge(report, Settings(data=tmp_path), None)
    assert not verdict.passes
    assert "keep yours with --keep-reference FILE" in "\n".join(sentences(report, verdict))


def test_the_table_has_every_figure_beside_its_reference(report: BenchReport) -> None:
    known = reference_of(report, total_ms=10.0)
    lines = table(report, compare(known, report.conditions(), report.figures())).splitlines()
    assert next(line for line in lines if line.startswith("photo to answer")).split() == (
        ["photo", "to", "answer", "12.00", "ms", "14.00", "ms", "10.00", "ms", "1.20"]
    )
    compared = [line for line in lines if line.endswith(("1.00", "1.20"))]
    assert len(compared) == len(report.figures())
    assert "unaccounted           0.10 ms" in lines


@pytest.mark.parametrize("path", sorted(REFERENCES.glob("*.json")), ids=lambda path: path.stem)
def test_a_committed_reference_is_of_a_profile_and_names_its_machine(path: Path, report: BenchReport) -> None:
    assert path.stem in profile_names()
    found = find_reference(path.stem)
    assert found is not None
    assert found.source == path.stem
    assert found.machine
    assert set(found.conditions) == set(report.conditions())
    assert {*report.figures()} <= {*found.figures, "photos_per_s_2"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not json", "is not JSON"),
        ("[]", "must be an object"),
        ('{"format": 2}', "has format 2, and this Shelfsight reads 1"),
        ('{"format": 1, "machine": "", "measured": "x"}', "machine must be a text"),
        (
            '{"format": 1, "machine": "m", "measured": "x", "conditions": {}, "figures": {"a_ms": 0}}',
            "a_ms must be a number",
        ),
        (
            '{"format": 1, "machine": "m", "measured": "x", "conditions": {"threads": 1.5}, "figures": {}}',
            "threads must be a text",
        ),
    ],
)
def test_a_file_that_is_no_reference_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(BadSetting, match=said):
        read_reference(path, "mine")


def test_a_machine_is_described_by_its_processor(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text("model name\t: Some CPU\nflags\t\t: fpu avx2 avx512_vnni\n")
    assert describe_machine(tmp_path).startswith("Some CPU (AVX512 VNNI), a")
    (tmp_path / "proc" / "cpuinfo").write_text("processor\t: 0\nFeatures\t: neon\n")
    assert describe_machine(tmp_path).startswith("a")


def test_strict_exits_1_where_a_figure_is_worse_than_in_the_file_of_an_earlier_run(
    tiny_model: Model, tmp_path: Path, shelfsight: Shelfsight
) -> None:
    path, network = tmp_path / "mine.json", tiny_model.path(tiny_model.variant())
    embedder = Embedder.open(network, dimension=tiny_model.dimension, input_size=tiny_model.input_size)
    arguments = ["bench", "--model", tiny_model.folder, "--vectors", 100, "--rounds", 10, "--against", path]
    conditions = {
        "network_mb": 0,
        "precision": "int8",
        "input_size": 32,
        "dimension": 16,
        "runtime": embedder.runtime.split()[0],
        "delegate": embedder.delegate,
        "threads": 1,
        "vectors": 100,
    }
    record = {"format": 1, "machine": "a dream", "measured": "2026-01-01", "conditions": conditions}
    path.write_text(json.dumps({**record, "figures": {"rss_mb": 1.0}}))
    done = shelfsight(*arguments, "--strict", "--json", "--profile", "kiosk-x86")
    assert done.exit_code == 1, done.output
    said = json.loads(done.output)
    assert said["profile"] == "kiosk-x86"
    assert said["reference"]["machine"] == "a dream"
    assert said["reference"]["figures"]["rss_mb"]["outcome"] == "worse"
    assert said["passes"] is False
