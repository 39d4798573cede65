"""`shelfsight-convert` as a person calls it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from converter.command import main


@pytest.mark.training
def test_all_targets_are_written_and_reported(network: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "notes.txt").write_text("no photo")
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    result = CliRunner().invoke(main, [str(network), str(photos), str(tmp_path / "out"), "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert [line["target"] for line in report] == ["cpu", "gpu", "edgetpu", "float32"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        Path(line["file"]).name for line in report
    )
    assert all(line["mean_cosine"] > 0.99 and line["photos"] == 24 for line in report)
    told = [line["edge_tpu"] for line in report if "edge_tpu" in line]
    assert len(told) == 1, "of the file for the Edge TPU alone"
    assert told[0]["refused"] is None and 0 < told[0]["mapped"] <= told[0]["operations"]


def test_the_edge_tpu_is_told_of_in_words(network: Path, photos: Path, tmp_path: Path) -> None:
    words = [str(network), str(photos), str(tmp_path / "out"), "--target", "edgetpu"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.stderr
    assert "an Edge TPU would run" in result.stdout


def test_a_folder_without_photos_is_one_sentence_and_exit_1(network: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [str(network), str(tmp_path), str(tmp_path / "out")])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ") and "no photo that can be read" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_missing_network_is_one_sentence_and_exit_1(photos: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [str(tmp_path / "network.keras"), str(photos), str(tmp_path / "out")])
    assert result.exit_code == 1 and "network.json cannot be read" in result.stderr


def test_an_unknown_target_is_wrong_usage() -> None:
    assert CliRunner().invoke(main, ["a", "b", "c", "--target", "tpu"]).exit_code == 2
