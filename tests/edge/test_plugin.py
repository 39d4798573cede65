"""`edge` inside somebody else's program: what it brings along, and what it leaves alone."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.installation import Installation
from edge.release import Release
from tests.edge.drawn_release import photograph

README = Path(__file__).parents[2] / "README.md"
PLUGIN = """
import sys
from pathlib import Path

from edge.installation import Installation
from edge.matcher import Matcher

matcher = Matcher.open(Installation(Path(sys.argv[1])).current())
answer = matcher.match_photo(Path(sys.argv[2]).read_bytes())
best = answer.candidates[0]
print(answer.verdict, best.product.sku)
"""
NEVER = {"tensorflow", "keras", "flask", "sqlalchemy", "cv2", "tuf", "cloud", "devices", "converter"}


@pytest.fixture
def data(release_folder: Path, tmp_path: Path) -> Path:
    """Give the data folder of a device that has installed the release of the ten packs."""
    release_bytes = (release_folder / "release.json").read_bytes()
    release = Release.from_bytes(release_bytes)
    installation = Installation(tmp_path / "data")
    staging = installation.staging(release.version)
    for entry in release.files:
        shutil.copy(release_folder / entry.name, staging / entry.name)
    installation.install(release, release_bytes)
    installation.try_out(release.version, lambda folder: None)
    return tmp_path / "data"


def run(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def modules_after(script: str, *arguments: str) -> set[str]:
    told = run(script + "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))", *arguments)
    return set(json.loads(told.splitlines()[-1]))


def test_ten_lines_answer_a_photo_and_nothing_is_printed_by_us(
    data: Path, packs: dict[str, NDArray[np.uint8]], tmp_path: Path
) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(photograph(packs["pack-8"]))
    assert run(PLUGIN, str(data), str(photo)) == "match pack-8\n"


def test_the_example_of_the_readme_is_the_one_that_is_run_here() -> None:
    assert PLUGIN.strip() in README.read_text(encoding="utf-8")


def test_an_answer_brings_no_framework_no_server_and_no_thread(
    data: Path, packs: dict[str, NDArray[np.uint8]], tmp_path: Path
) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(photograph(packs["pack-8"]))
    script = PLUGIN + "\nimport threading\nassert threading.active_count() == 1"
    loaded = modules_after(script, str(data), str(photo))
    assert loaded.isdisjoint(NEVER)
    assert "numpy" in loaded


def test_importing_the_package_alone_brings_only_its_errors() -> None:
    extra = modules_after("import edge") - modules_after("")
    assert {name for name in extra if name.startswith("edge")} == {"edge", "edge.errors"}
    assert "numpy" not in extra
    assert len(extra) < 25


def test_a_release_is_left_as_it_was_found(
    data: Path, packs: dict[str, NDArray[np.uint8]], tmp_path: Path
) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(photograph(packs["pack-8"]))
    before = state_of(data)
    run(PLUGIN, str(data), str(photo))
    assert state_of(data) == before


def state_of(folder: Path) -> dict[Path, tuple[bytes, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
