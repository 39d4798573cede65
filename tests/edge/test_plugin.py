"""`edge` inside somebody else's program: what it brings along, and what it leaves alone."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.edge.drawn_release import photograph

README = Path(__file__).parents[2] / "README.md"
PLUGIN = """
import sys
from pathlib import Path

from edge.matcher import Matcher

matcher = Matcher.open(Path(sys.argv[1]))
answer = matcher.match_photo(Path(sys.argv[2]).read_bytes())
best = answer.candidates[0]
print(answer.verdict, best.product.sku)
"""
NEVER = {"tensorflow", "keras", "flask", "sqlalchemy", "cv2", "tuf", "cloud", "devices", "converter"}


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
    release_folder: Path, packs: dict[str, NDArray[np.uint8]], tmp_path: Path
) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(photograph(packs["pack-8"]))
    assert run(PLUGIN, str(release_folder), str(photo)) == "match pack-8\n"


def test_the_example_of_the_readme_is_the_one_that_is_run_here() -> None:
    assert PLUGIN.strip() in README.read_text(encoding="utf-8")


def test_an_answer_brings_no_framework_no_server_and_no_thread(
    release_folder: Path, packs: dict[str, NDArray[np.uint8]], tmp_path: Path
) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(photograph(packs["pack-8"]))
    script = PLUGIN + "\nimport threading\nassert threading.active_count() == 1"
    loaded = modules_after(script, str(release_folder), str(photo))
    assert loaded.isdisjoint(NEVER)
    assert "numpy" in loaded


def test_importing_the_package_alone_brings_only_its_errors() -> None:
    extra = modules_after("import edge") - modules_after("")
    assert {name for name in extra if name.startswith("edge")} == {"edge", "edge.errors"}
    assert "numpy" not in extra
    assert len(extra) < 25


def test_a_release_is_left_as_it_was_found(
    release_folder: Path, packs: dict[str, NDArray[np.uint8]], tmp_path: Path
) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(photograph(packs["pack-8"]))
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in release_folder.iterdir()}
    run(PLUGIN, str(release_folder), str(photo))
    assert before == {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in release_folder.iterdir()
    }
