"""Checks of the compiled libraries: made for this processor, fitting each other, and running."""

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from devices.built_for import features_here, features_needed
from devices.config import Settings
from devices.doctor.finding import Finding
from devices.doctor.probing import Probed, probe
from edge.elf import machine_of

RUNTIMES = ("ai-edge-litert", "tflite-runtime", "tensorflow")
"""Distributions of TFLite runtimes, in the order in which the embedder tries them."""

# What a device may have that was compiled; what is not installed is passed over.
_COMPILED = (
    "annoy",
    "cryptography",
    "numkong",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "zxing-cpp",
    *RUNTIMES[:2],
)
_THIS_PROGRAM = Path("/proc/self/exe")
_LIBRARY = re.compile(r"\.so(\.[0-9.]+)?$")
_REBUILD_ANNOY = "pip install --force-reinstall --no-deps --no-cache-dir --no-binary annoy annoy"


def check_libraries(_settings: Settings) -> Finding:
    """Compare the processor that each compiled library was made for with this program's; none is loaded."""
    own = machine_of(_THIS_PROGRAM) if _THIS_PROGRAM.exists() else None
    if own is None:
        return Finding("libraries", "ok", "not looked at: this system has other programs than ELF")
    count = 0
    for name in _COMPILED:
        for path in _libraries_of(name):
            count += 1
            try:
                made_for = machine_of(path)
            except OSError as error:
                made_for = f"nobody ({(error.strerror or 'cannot be read').lower()})"
            if made_for != own:
                found = (
                    f"{path.name} of {name} is made for {made_for or 'nobody (no library)'}, not for {own}"
                )
                return Finding("libraries", "fault", found, f"pip install --force-reinstall {name}")
    return Finding("libraries", "ok", f"all {count} are made for {own}")


def check_numpy(_settings: Settings) -> Finding:
    """Let numpy compute something in a process of its own."""
    installed = _installed("numpy") or ""
    result = probe("numpy")
    if result.found is not None:
        return Finding("numpy", "ok", str(result.found))
    cure = "pip install --force-reinstall numpy"
    if result.by_illegal_instruction:
        cure = f"its wheel is for younger CPUs than this one; compile it here: {cure} --no-binary numpy"
    return Finding("numpy", "fault", result.error or f"{installed} {result.died}".strip(), cure)


def check_annoy(_settings: Settings, root: Path = Path("/")) -> Finding:
    """Read what Annoy was compiled for; then build and search a small index in a process of its own."""
    installed = _installed("annoy") or ""
    needed = _needed_by_annoy()
    here = features_here(root)
    missing = sorted((needed or frozenset()) - here) if here else []
    if missing:
        found = f"{installed} was compiled for another CPU: this one has no {', '.join(missing)}"
        return Finding("annoy", "fault", found, f"on this machine: {_REBUILD_ANNOY}")
    result = probe("annoy")
    if result.found is not None:
        return Finding("annoy", "ok", f"{installed}{_compiled_for(needed)}; {result.found}")
    if result.error:
        return Finding("annoy", "fault", result.error, _REBUILD_ANNOY)
    cure = f"if it was compiled on another machine, on this one: {_REBUILD_ANNOY}"
    return Finding("annoy", "fault", f"{installed} {result.died}".strip(), cure)


def check_runtime(settings: Settings) -> Finding:
    """Run a small network in the TFLite runtime that is to be used, or else in the next one."""
    wanted = [name for name in RUNTIMES if settings.runtime in (None, name)]
    present = [name for name in wanted if _installed(name)]
    if not present:
        missing = settings.runtime or "every TFLite runtime"
        return Finding(
            "runtime", "fault", f"{missing} is missing", f"pip install {settings.runtime or RUNTIMES[0]}"
        )
    failures: list[str] = []
    cure = ""
    for name in present:
        result = probe("runtime", name)
        if result.found is not None:
            found = f"{name} {result.found} runs networks"
            if not failures:
                return Finding("runtime", "ok", found)
            return Finding("runtime", "warning", f"{'; '.join(failures)}; {found}", cure)
        cure = cure or _runtime_cure(name, result)
        failures.append(
            (result.error or f"{name} {_installed(name)} {result.died}").partition(": install")[0]
        )
    return Finding("runtime", "fault", "; ".join(failures), cure)


def _runtime_cure(name: str, result: Probed) -> str:
    if result.by_illegal_instruction:
        return f"the wheel of {name} is for younger CPUs than this one: take another machine"
    if name == "tflite-runtime" and not (_installed("numpy") or "").startswith(("0.", "1.")):
        return "it was made for numpy 1: pip install ai-edge-litert, or pip install 'numpy<2'"
    return f"pip install --force-reinstall {name}"


def _compiled_for(features: frozenset[str] | None) -> str:
    if features is None:
        return ""
    return ", compiled for CPUs like this one" if features else ", compiled for every CPU of its kind"


def _needed_by_annoy() -> frozenset[str] | None:
    for path in _libraries_of("annoy"):
        try:
            return features_needed(path)
        except OSError:
            return None  # told by check_libraries
    return None


def _libraries_of(name: str) -> Iterator[Path]:
    try:
        files = distribution(name).files or []
    except PackageNotFoundError:
        return
    for file in files:
        if _LIBRARY.search(file.name):
            yield Path(str(file.locate()))


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
