"""The offline install folder: what is refused while it is built, and by its installer on a device."""

import json
import os
import platform
import re
import subprocess
import sys
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tools import wheelhouse
from tools.wheelhouse import Made, NotBuilt

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHER = "aarch64" if platform.machine() == "x86_64" else "x86_64"
NUMBERS = {"x86_64": 62, "aarch64": 183}
HERE = Made("0.1.0", platform.machine(), PYTHON, "camera,kiosk", "2.17", "1.17.3")

linux = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in NUMBERS, reason="wheelhouses are for Linux devices"
)


def library(machine: str, glibc: str = "2.17") -> bytes:
    """Give the first bytes of a library for `machine`, and the name of a version that it needs."""
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + (3).to_bytes(2, "little")
    return head + NUMBERS[machine].to_bytes(2, "little") + bytes(44) + f"GLIBC_{glibc}\0".encode()


def write_wheel(folder: Path, name: str, files: dict[str, bytes | str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / name, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return folder / name


def write_own_wheel(folder: Path) -> Path:
    """Write a wheel of the name shelfsight, so small that installing it takes no time."""
    info = "shelfsight-0.1.0.dist-info"
    return write_wheel(
        folder,
        "shelfsight-0.1.0-py3-none-any.whl",
        {
            "shelfsight_probe.py": "def main():\n    print('it runs')\n",
            f"{info}/METADATA": "Metadata-Version: 2.1\nName: shelfsight\nVersion: 0.1.0\n"
            "Provides-Extra: camera\nProvides-Extra: kiosk\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/entry_points.txt": "[console_scripts]\nshelfsight = shelfsight_probe:main\n",
            f"{info}/RECORD": "",
        },
    )


def make(folder: Path, made: Made = HERE) -> Path:
    """Write a wheelhouse of one small wheel."""
    write_own_wheel(folder / "wheels")
    wheelhouse.finish(folder, made)
    return folder


def install(folder: Path, target: Path, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHON": python, "HOME": str(target.parent)}
    return subprocess.run(
        [folder / "install.sh", target], capture_output=True, text=True, env=environment, check=False
    )


# Building -----------------------------------------------------------------------------------------------


def test_for_this_kind_of_machine_no_other_compiler_is_needed() -> None:
    assert wheelhouse.compiler_for(platform.machine()) == {}


def test_without_a_cross_compiler_the_package_that_has_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotBuilt, match=r"apt-get install g\+\+-(aarch64|x86-64)-linux-gnu"):
        wheelhouse.compiler_for(OTHER)
    assert not list(tmp_path.iterdir())


def test_with_a_cross_compiler_setuptools_is_told_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{OTHER}-linux-gnu-g++").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    told = wheelhouse.compiler_for(OTHER)
    assert told["LDSHARED"] == f"{OTHER}-linux-gnu-g++ -shared"
    assert told["_PYTHON_HOST_PLATFORM"] == f"linux-{OTHER}"


def test_annoy_is_compiled_for_no_particular_cpu_and_pinned() -> None:
    assert not [option for option in wheelhouse.PORTABLE if option.startswith(("-march", "-mcpu", "-mtune"))]
    assert all("," not in option for option in wheelhouse.PORTABLE), "Annoy splits them at commas"
    assert re.fullmatch(r"annoy==[0-9.]+", wheelhouse.pinned("annoy"))


def test_a_wheel_for_another_machine_is_refused_by_name(tmp_path: Path) -> None:
    write_wheel(tmp_path, "a-1-py3-none-any.whl", {"a.py": ""})
    write_wheel(tmp_path, "b-1-cp311-cp311-any.whl", {"b/_b.so": library("x86_64")})
    wheelhouse.check_wheels("x86_64", tmp_path)
    with pytest.raises(
        NotBuilt, match=r"_b\.so of b-1-cp311-cp311-any\.whl is made for x86_64, not for aarch64"
    ):
        wheelhouse.check_wheels("aarch64", tmp_path)


def test_the_least_glibc_is_that_of_the_most_demanding_wheel(tmp_path: Path) -> None:
    write_wheel(tmp_path, "a-1-py3-none-any.whl", {})
    assert wheelhouse.least_glibc(tmp_path) == "2.17"
    write_wheel(tmp_path, "b-1-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl", {})
    assert wheelhouse.least_glibc(tmp_path) == "2.24"
    write_wheel(tmp_path, "c-1-cp311-cp311-linux_x86_64.whl", {"c.so": library("x86_64", "2.34")})
    assert wheelhouse.least_glibc(tmp_path) == "2.34"


def test_a_folder_that_lacks_a_wheel_is_not_complete(tmp_path: Path) -> None:
    write_own_wheel(tmp_path)
    wheelhouse.check_complete("aarch64", tmp_path)
    needy = "Metadata-Version: 2.1\nName: shelfsight\nVersion: 0.2.0\nRequires-Dist: nowhere-to-be-found\n"
    write_wheel(
        tmp_path,
        "shelfsight-0.2.0-py3-none-any.whl",
        {
            "shelfsight-0.2.0.dist-info/METADATA": f"{needy}Provides-Extra: camera\nProvides-Extra: kiosk\n",
            "shelfsight-0.2.0.dist-info/WHEEL": "Wheel-Version: 1.0\nTag: py3-none-any\n",
        },
    )
    (tmp_path / "shelfsight-0.1.0-py3-none-any.whl").unlink()
    with pytest.raises(NotBuilt, match="nowhere-to-be-found"):
        wheelhouse.check_complete("aarch64", tmp_path)


def test_a_processor_that_no_device_has_is_refused() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tools.wheelhouse", "--arch", "mips"],
        capture_output=True,
        text=True,
        cwd=wheelhouse.ROOT,
        check=False,
    )
    assert run.returncode == 2
    assert "choose from" in run.stderr


# Installing ---------------------------------------------------------------------------------------------


@linux
def test_the_installer_makes_an_environment_without_a_network(tmp_path: Path) -> None:
    folder = make(tmp_path / "house")
    assert json.loads((folder / "wheelhouse.json").read_text()) == asdict(HERE)
    run = install(folder, tmp_path / "device")
    assert run.returncode == 0, run.stderr
    assert subprocess.check_output([tmp_path / "device/bin/shelfsight"], text=True) == "it runs\n"


@linux
@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            replace(HERE, machine=OTHER),
            f"this folder is for {OTHER}, and this Python is for {platform.machine()}",
        ),
        (replace(HERE, python="3.99"), f"this folder is for Python 3.99, and this is {PYTHON}"),
        (replace(HERE, glibc="2.99"), "this folder needs glibc 2.99, and this is glibc 2."),
    ],
)
def test_the_installer_refuses_a_machine_that_the_folder_is_not_for(
    made: Made, said: str, tmp_path: Path
) -> None:
    run = install(make(tmp_path / "house", made), tmp_path / "device")
    assert (run.returncode, said in run.stderr) == (1, True), run.stderr
    assert not (tmp_path / "device").exists()


@linux
def test_the_installer_refuses_a_folder_in_which_a_file_has_changed(tmp_path: Path) -> None:
    folder = make(tmp_path / "house")
    with next(folder.glob("wheels/*.whl")).open("ab") as wheel:
        wheel.write(b"x")
    run = install(folder, tmp_path / "device")
    assert run.returncode == 1
    assert "a file is not what it was when the folder was built: copy it again" in run.stderr
    assert not (tmp_path / "device").exists()


@linux
def test_the_installer_names_the_python_that_is_missing(tmp_path: Path) -> None:
    run = install(make(tmp_path / "house"), tmp_path / "device", python="python-of-nobody")
    assert run.returncode == 1
    assert f"this folder is for Python {PYTHON}, and there is no python-of-nobody" in run.stderr
