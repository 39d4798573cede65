"""Which features of a processor a library was compiled for, as the compiler wrote it into the file.

Annoy is compiled where it is installed, with `-march=native`: a disk or an image that was made on another
computer may hold one that dies here of an illegal instruction. GCC notes its options with the debugging
information, and in a section of its own where `-frecord-gcc-switches` is given; nothing is loaded to read it.
"""

import re
from pathlib import Path

_PRODUCER = re.compile(rb"GNU C(?:\+\+)?[0-9]* [0-9.]+ ([ -~]*)")
_V2 = frozenset({"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"})
_V3 = _V2 | {"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"}
_V4 = _V3 | {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"}
_LEVELS = {"x86-64": frozenset[str](), "x86-64-v2": _V2, "x86-64-v3": _V3, "x86-64-v4": _V4}
# GCC's names where they are not those of /proc/cpuinfo without their underscores.
_OTHER_NAMES = {"sse3": "pni", "bmi": "bmi1", "lzcnt": "abm", "abm": "abm"}
_JUDGED = _V4 | {
    "avx512_bf16",
    "avx512_bitalg",
    "avx512_fp16",
    "avx512_vbmi2",
    "avx512_vnni",
    "avx512_vpopcntdq",
    "avx512ifma",
    "avx512vbmi",
    "avx_vnni",
    "fma4",
    "gfni",
    "sse4a",
    "vaes",
    "vpclmulqdq",
    "xop",
}


def features_needed(library: Path) -> frozenset[str] | None:
    """Return what the compiler was allowed to use beyond every processor of its kind, named as Linux does.

    None where the file does not say, or says it by the name of a processor that is not known here.

    Raises:
        OSError: the file cannot be read.
    """
    found = _PRODUCER.findall(library.read_bytes())
    if not found:
        return None
    needed: set[str] = set()
    for options in found:
        features = _features(options.decode("ascii").split())
        if features is None:
            return None
        needed |= features
    return frozenset(needed)


def features_here(root: Path = Path("/")) -> frozenset[str]:
    """Return the features of this machine's processor, named as Linux does; none where it does not say."""
    try:
        lines = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    words = next((line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset(words.split())


def _features(options: list[str]) -> set[str] | None:
    """Read one list of options: `-march=…`, then the features that GCC spelled out for `native`."""
    named = next((option.removeprefix("-march=") for option in options if option.startswith("-march=")), None)
    spelled = {_linux_name(option[2:]) for option in options if option.startswith("-m") and "=" not in option}
    spelled &= _JUDGED
    if named is None or named in _LEVELS:
        return spelled | _LEVELS.get(named or "", frozenset())
    return spelled or None


def _linux_name(option: str) -> str:
    squeezed = option.replace(".", "").replace("-", "")
    if squeezed in _OTHER_NAMES:
        return _OTHER_NAMES[squeezed]
    return next((name for name in _JUDGED if name.replace("_", "") == squeezed), squeezed)
