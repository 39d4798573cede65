"""Figures of another run to hold new ones beside: those committed for a profile, or a file of your own.

Figures compare only where the same was measured: the network's sizes, what ran it, and the catalog's size. A
reference says with what it was measured, and on which machine.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from devices.hardware import choose_profile, look
from edge.disk import write_atomically
from edge.errors import BadSetting
from edge.fields import Fields, parse_json

REFERENCES = Path(__file__).parent / "references"
FORMAT = 1
BAND = 0.3
"""How far a figure may lie from the reference, as a share of it."""

_LEAST_MS = 0.1  # what a stage may always differ by: a cache that was warm or cold
_VECTOR_UNITS = ("avx512_vnni", "avx_vnni", "avx2", "avx", "sse4_2")  # what int8 networks are fast by
_MORE_IS_BETTER = "photos_per_s"
Conditions = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Reference:
    """What a run measured, and under which conditions.

    Attributes:
        source: The profile whose committed reference it is, or the file.
        machine: What machine it was, in words.
        measured: The day, as YYYY-MM-DD.
        conditions: What has to be the same for figures to compare.
        figures: Milliseconds (`…_ms`), seconds (`…_s`), 10**6 bytes (`…_mb`) or photos a second
            (`photos_per_s_…`), by their names.
    """

    source: str
    machine: str
    measured: str
    conditions: Conditions
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure here and there. `ratio` is here over there; `outcome` is `within`, `worse` or `better`."""

    name: str
    here: float
    there: float
    outcome: str

    @property
    def ratio(self) -> float:
        """How many times the reference it is."""
        return self.here / self.there


@dataclass(frozen=True, slots=True)
class Comparison:
    """Figures beside those of a reference.

    Attributes:
        reference: The reference.
        differs: What was measured differently, in words; where anything was, no figure is compared.
        figures: What both have, in the order of this run's figures.
    """

    reference: Reference
    differs: tuple[str, ...]
    figures: tuple[Compared, ...]

    def of(self, outcome: str) -> list[Compared]:
        """List the figures with this outcome."""
        return [each for each in self.figures if each.outcome == outcome]

    def to_record(self) -> dict[str, object]:
        """Return the object that `shelfsight bench --json` prints as `reference`."""
        return {
            "source": self.reference.source,
            "machine": self.reference.machine,
            "measured": self.reference.measured,
            "differs": list(self.differs),
            "figures": {
                each.name: {"there": each.there, "ratio": round(each.ratio, 3), "outcome": each.outcome}
                for each in self.figures
            },
        }


def find_reference(profile: str, file: Path | None = None) -> Reference | None:
    """Read the reference in `file`, else the committed one of the profile; None where there is none yet.

    Raises:
        BadSetting: the file is missing, or is no reference that can be read.
    """
    if file is not None:
        return read_reference(file, str(file))
    path = REFERENCES / f"{profile}.json"  # a profile that is a file of its own leads elsewhere
    return read_reference(path, profile) if path.parent == REFERENCES and path.exists() else None


def read_reference(path: Path, source: str) -> Reference:
    """Read a reference that `write_reference` wrote, and call it `source`.

    Raises:
        BadSetting: there is no such file, or it is no reference that can be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or "no reason").lower()
        raise BadSetting(
            f"reference {path} cannot be read ({reason}): write one with --keep-reference"
        ) from error
    fields = Fields(str(path), parse_json(data, str(path), BadSetting), BadSetting)
    found = fields.integer("format", least=1)
    if found > FORMAT:
        raise BadSetting(
            f"reference {path} has format {found}, and this Shelfsight reads {FORMAT}: update it"
        )
    machine, measured = fields.text("machine"), fields.text("measured")
    figures = fields.inner("figures")
    return Reference(
        source=source,
        machine=machine,
        measured=measured,
        conditions=_read_conditions(fields.inner("conditions")),
        figures={name: figures.number(name, above=0.0) for name in list(figures.rest())},
    )


def write_reference(path: Path, conditions: Conditions, figures: Mapping[str, float]) -> None:
    """Write a reference of this machine and of today.

    Raises:
        NoSpace, StorageUnusable: the file cannot be written.
    """
    record = {
        "format": FORMAT,
        "machine": describe_machine(),
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "conditions": dict(conditions),
        "figures": {name: float(f"{value:.4g}") for name, value in figures.items()},
    }
    write_atomically(path, json.dumps(record, indent=2).encode() + b"\n")


def describe_machine(root: Path = Path("/")) -> str:
    """Say what machine this is, such as `AMD EPYC (AVX512 VNNI), an x86_64 computer with 2 cores and 4.1 GB`.

    `root` is where `proc` is.
    """
    what = choose_profile(look(root)).because
    try:
        lines = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return what
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = facts.get("flags", "").split()
    best = next((flag for flag in _VECTOR_UNITS if flag in flags), "")
    unit = f" ({best.upper().replace('_', ' ')})" if best else ""
    name = facts.get("model name")
    return f"{name}{unit}, {what}" if name else what


def compare(reference: Reference, conditions: Conditions, figures: Mapping[str, float]) -> Comparison:
    """Hold figures beside those of a reference, where both were measured alike."""
    names = dict.fromkeys([*conditions, *reference.conditions])
    differs = tuple(
        f"{name.replace('_', ' ')} {conditions.get(name, 'unknown')} here, "
        f"{reference.conditions.get(name, 'unknown')} there"
        for name in names
        if conditions.get(name) != reference.conditions.get(name)
    )
    both = () if differs else tuple(name for name in figures if name in reference.figures)
    compared = tuple(_compare(name, figures[name], reference.figures[name]) for name in both)
    return Comparison(reference, differs, compared)


def _compare(name: str, here: float, there: float) -> Compared:
    room = BAND * there
    if name.endswith("_ms"):
        room = max(room, _LEAST_MS)
    if abs(here - there) <= room:
        return Compared(name, here, there, "within")
    better = (here > there) == name.startswith(_MORE_IS_BETTER)
    return Compared(name, here, there, "better" if better else "worse")


def _read_conditions(fields: Fields) -> dict[str, str | int]:
    conditions: dict[str, str | int] = {}
    for name, value in list(fields.rest().items()):
        conditions[name] = fields.integer(name) if isinstance(value, int) else fields.text(name)
    return conditions
