"""The rooms and their doors, kept by machine: the import contracts, and what an import really loads."""

import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent


def loaded_by(statement: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter holds after `statement`."""
    script = (
        f"{statement}\nimport sys\nprint('\\n'.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(finished.stdout.split())


def test_the_import_contracts_of_the_design_are_kept() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    finished = subprocess.run([linter, "--no-cache"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.mark.parametrize(
    "module",
    ["edge", "edge.matcher", "edge.installation", "edge.updater", "edge.outbox", "devices.commands.match"],
)
def test_a_device_never_loads_the_clouds_libraries(module: str) -> None:
    assert loaded_by(f"import {module}").isdisjoint(
        {"tensorflow", "keras", "flask", "sqlalchemy", "cv2", "cloud"}
    )


def test_answering_a_photo_needs_no_update_machinery() -> None:
    assert loaded_by("import edge.matcher").isdisjoint({"tuf", "urllib3", "cryptography", "sqlite3"})


def test_the_web_process_never_loads_a_model_or_an_index() -> None:
    assert loaded_by("import cloud.app").isdisjoint({"tensorflow", "keras", "annoy", "ai_edge_litert"})


def test_every_package_init_is_cheap() -> None:
    loaded = loaded_by("import edge, converter, cloud, devices")
    assert loaded.isdisjoint({"numpy", "PIL", "flask", "sqlalchemy", "tensorflow", "click"})


def test_every_error_is_grouped_by_what_the_caller_does_next() -> None:
    from edge import errors

    groups = set(errors.ShelfsightError.__subclasses__())
    leaves = [leaf for group in groups for leaf in group.__subclasses__()]
    assert {group.__name__ for group in groups} == {
        "SkipPhoto", "SkipRecord", "KeepRelease", "StepBack", "NextDelegate", "TryLater", "FixSetup",
    }  # fmt: skip
    for leaf in leaves:
        assert f"{leaf.__name__}  " in (errors.__doc__ or ""), (
            f"{leaf.__name__} is missing from the tree in edge/errors.py"
        )
    assert errors.HashMismatch.code == "hash_mismatch"


def test_a_plain_install_brings_what_a_device_needs_and_no_framework() -> None:
    brought, waiting = set(), ["shelfsight"]
    while waiting:
        name = waiting.pop()
        brought.add(name)
        for line in requires(name) or []:
            requirement = Requirement(line)
            needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if needed and canonicalize_name(requirement.name) not in brought:
                waiting.append(canonicalize_name(requirement.name))
    assert {"ai-edge-litert", "annoy", "tuf", "pillow"} <= brought
    assert brought.isdisjoint({"tensorflow", "keras", "flask", "sqlalchemy", "opencv-python-headless"})
