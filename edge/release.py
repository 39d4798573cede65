"""What is shipped: the form of a release, and the rules by which a device may take one.

Pure: bytes in, values out; no disk, no network, no clock. TUF vouches for who wrote these bytes
(`edge.updater`); this module says what they mean, and refuses what cannot be. A field that this version does
not know is kept, so that a manifest read here and written again loses nothing; a newer `format` is refused by
name, because its known fields may mean something else.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from edge.errors import BadManifest, FormatTooNew, Incompatible, Rollback, TrialFailed
from edge.fields import Fields, canonical_json, parse_json
from edge.model import Variant, decision_format, read_variant, variant_record
from edge.recipe import IndexRecipe

RELEASE_FORMAT = 2
"""The newest `format` of release.json that this Shelfsight reads."""

ROLES = ("model", "segment", "golden", "certificate")
VERDICTS = ("match", "unsure", "unknown")

ASSORTMENT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
"""How the name of a store, a region, and so of an assortment is written."""

_SPACE = re.compile(r"[0-9a-f]{16}")
_COSINE_SLACK = 1e-3  # float32 dot products of unit vectors stray past 1 by rounding


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Name one file of a release by its content: sha256 (hex), size in bytes, and what it is for.

    `merge` is a signed recipe (compaction): a device that holds these segments, a base and its deltas in
    order, makes the file out of them instead of fetching it; their merge, written as a base, has this hash.
    """

    sha256: str
    size: int
    role: str
    merge: tuple[str, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the name under which the file is stored and served: its hash."""
        return self.sha256


@dataclass(frozen=True, slots=True)
class Golden:
    """Say how one photo (named by sha256) must be answered before a device trusts the release.

    The answer was given by the device's own code when the release was made; `similarity` is a cosine.
    """

    photo: str
    verdict: str
    sku: str | None
    similarity: float
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Release:
    """Describe everything a device needs to answer: model files, segments, decision, golden photos.

    `version` counts upward only. `segments` are sha256 names, base first, then deltas in the order in which
    they apply. `rollback_floor` is the lowest version that a device with this release may step back to.
    `device_classes` empty means every class. `assortment` names the store whose products these are; empty is
    the whole catalog. `merged_size` is how many bytes the merged content takes as one base, which the server
    has under the name `merged_sha256`: what a device falls back to when the segments do not merge as signed;
    0 where the server has it not. `extra` holds the fields this version does not know.
    """

    version: int
    created: str
    space: str
    dimension: int
    input_size: int
    row_scale: float
    model: str
    variants: tuple[Variant, ...]
    segments: tuple[str, ...]
    merged_sha256: str
    recipe: IndexRecipe
    golden: tuple[Golden, ...]
    files: tuple[FileEntry, ...]
    device_classes: tuple[str, ...] = ()
    rollback_floor: int = 0
    assortment: str = ""
    merged_size: int = 0
    extra: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Release":
        """Read a release.json, checking every field against the others.

        Raises:
            FormatTooNew: It was written for a newer Shelfsight.
            BadManifest: It is not JSON, or a field is missing, of the wrong kind, or impossible.
        """
        reader = Fields("release.json", parse_json(data, "release.json", BadManifest), BadManifest)
        written = _check_format(reader)
        release = cls(
            version=reader.integer("version", least=1),
            created=reader.timestamp("created"),
            space=reader.matching("space", _SPACE, "16 hex digits"),
            dimension=reader.integer("dimension", least=1, most=65536),
            input_size=reader.integer("input_size", least=16, most=4096),
            row_scale=reader.number("row_scale", above=0.0),
            model=reader.text("model"),
            variants=reader.each("variants", read_variant),
            segments=reader.sha256s("segments"),
            merged_sha256=reader.sha256("merged_sha256"),
            recipe=_read_recipe(reader.inner("search")),
            golden=reader.each("golden", _read_golden),
            files=reader.each("files", _read_file),
            device_classes=reader.texts("device_classes"),
            rollback_floor=reader.integer("rollback_floor"),
            assortment=_read_assortment(reader),
            merged_size=reader.integer("merged_size") if "merged_size" in reader else 0,
            extra=reader.rest(),
        )
        if written < decision_format(release.variants):
            raise BadManifest(
                f"release {release.version} has format {written}, and its decision is one of format "
                f"{decision_format(release.variants)}; publish it again."
            )
        _check_whole(release)
        return release

    def to_bytes(self) -> bytes:
        """Write canonical JSON (sorted keys, no spaces, UTF-8): equal releases give equal bytes.

        Raises:
            BadManifest: The release says something that `from_bytes` would refuse.
        """
        record: dict[str, object] = {
            **self.extra,
            "format": decision_format(self.variants),
            "version": self.version,
            "created": self.created,
            "space": self.space,
            "dimension": self.dimension,
            "input_size": self.input_size,
            "row_scale": self.row_scale,
            "model": self.model,
            "variants": [variant_record(variant) for variant in self.variants],
            "segments": list(self.segments),
            "merged_sha256": self.merged_sha256,
            "search": {
                **self.recipe.extra,
                "trees": self.recipe.trees,
                "search_k": self.recipe.search_k,
                "seed": self.recipe.seed,
            },
            "golden": [_golden_record(golden) for golden in self.golden],
            "files": [_file_record(entry) for entry in self.files],
            "device_classes": list(self.device_classes),
            "rollback_floor": self.rollback_floor,
        }
        # Left out where they say nothing: then an older Shelfsight writes the same bytes.
        record |= {"assortment": self.assortment} if self.assortment else {}
        record |= {"merged_size": self.merged_size} if self.merged_size else {}
        try:
            data = canonical_json(record)
        except (TypeError, ValueError) as error:
            raise BadManifest(f"release {self.version} cannot be written as JSON: {error}.") from error
        Release.from_bytes(data)
        return data

    def file(self, sha256: str) -> FileEntry:
        """Return the entry of the file with this hash.

        Raises:
            BadManifest: The release lists no such file.
        """
        for entry in self.files:
            if entry.sha256 == sha256:
                return entry
        raise BadManifest(f"release {self.version} lists no file {sha256}; publish it again.")

    @property
    def whole_base(self) -> FileEntry | None:
        """Return the file that says alone what base and deltas say together, None where there is none.

        It is not among `files`; where an installed release holds it, it is opened instead of the segments.
        """
        if not self.merged_size or self.merged_sha256 in self.segments:
            return None
        return FileEntry(self.merged_sha256, self.merged_size, "segment")

    def needed_files(
        self, targets: frozenset[str] | None, variant: str | None = None, *, whole: bool = False
    ) -> tuple[FileEntry, ...]:
        """Return the files that a device needs which runs variants of these `targets`; None means every file.

        The variants for the CPU are needed everywhere, because every device falls back to them, and so is the
        one that a device names as its `variant`. With `whole` it is the whole base instead of the segments,
        if there is one.
        """
        run = {
            each.sha256
            for each in self.variants
            if targets is None or each.target == "cpu" or each.target in targets or each.name == variant
        }
        spared = {each.sha256 for each in self.variants} - run
        base = self.whole_base if whole else None
        if base is not None:
            spared |= set(self.segments)
        return (
            *(entry for entry in self.files if entry.sha256 not in spared),
            *((base,) if base is not None else ()),
        )


def check_offer(
    release: Release,
    *,
    current: int | None,
    floor: int,
    set_aside: frozenset[int],
    device_class: str | None = None,
) -> None:
    """Refuse an offered release that this device must not install.

    `current` is the installed version, `floor` the highest version ever confirmed here, `set_aside` the
    versions that failed their trial here, `device_class` the kind of this device if it is known.

    Raises:
        Rollback: It is older than what this device has accepted.
        TrialFailed: It was tried here before and failed.
        Incompatible: It was made for other classes of devices.
    """
    check_version(release.version, current=current, floor=floor, set_aside=set_aside)
    if device_class is not None and release.device_classes and device_class not in release.device_classes:
        raise Incompatible(
            f"release {release.version} is for {', '.join(release.device_classes)}, "
            f"and this device is of class {device_class!r}; offer it a release for its class."
        )


def check_version(version: int, *, current: int | None, floor: int, set_aside: frozenset[int]) -> None:
    """Refuse by its number alone a release that this device must not install, before anything is fetched.

    Raises:
        Rollback: It is older than what this device has accepted.
        TrialFailed: It was tried here before and failed.
    """
    least = max(floor, current or 0)
    if version < least:
        raise Rollback(
            f"release {version} is older than release {least}, which this device has accepted; "
            "to go back, publish the older content under a new version."
        )
    if version in set_aside:
        raise TrialFailed(
            f"release {version} failed on this device before and is set aside; "
            "publish a corrected release under a new version."
        )


# Reading ----------------------------------------------------------------------------------------------------


def _check_format(reader: Fields) -> int:
    found = reader.integer("format", least=1)
    if found > RELEASE_FORMAT:
        raise FormatTooNew(
            f"release.json has format {found}, and this Shelfsight reads formats up to {RELEASE_FORMAT}; "
            "update Shelfsight on this device."
        )
    return found


def _read_assortment(reader: Fields) -> str:
    if "assortment" not in reader:
        return ""
    return reader.matching("assortment", ASSORTMENT, "a name of small letters, digits and hyphens")


def _read_recipe(reader: Fields) -> IndexRecipe:
    return IndexRecipe(
        trees=reader.integer("trees", least=1, most=10_000),
        search_k=reader.integer("search_k", least=1, most=2**31 - 1),
        seed=reader.integer("seed", most=2**31 - 1),
        extra=reader.rest(),
    )


def _read_golden(reader: Fields) -> Golden:
    return Golden(
        photo=reader.sha256("photo"),
        verdict=reader.one_of("verdict", VERDICTS),
        sku=reader.optional_text("sku"),
        similarity=reader.number("similarity", least=-1.0 - _COSINE_SLACK, most=1.0 + _COSINE_SLACK),
        extra=reader.rest(),
    )


def _read_file(reader: Fields) -> FileEntry:
    sha256 = reader.sha256("sha256")
    name = reader.sha256("name")
    if name != sha256:
        raise reader.bad("name", name, f"the file's own sha256, {sha256}")
    # A role that this version does not know is kept: the file is fetched, verified, and left alone.
    return FileEntry(
        sha256=sha256,
        size=reader.integer("size"),
        role=reader.text("role"),
        merge=reader.sha256s("merge") if "merge" in reader else (),
        extra=reader.rest(),
    )


# Rules between fields ---------------------------------------------------------------------------------------


def _check_whole(release: Release) -> None:
    where = f"release {release.version}"
    files = {entry.sha256: entry for entry in release.files}
    _check_unique(where, "files", [entry.sha256 for entry in release.files])
    _check_unique(where, "segments", list(release.segments))
    _check_unique(where, "variants", [variant.name for variant in release.variants])
    for name, values in (("variants", release.variants), ("segments", release.segments)):
        if not values:
            raise BadManifest(f"{where} has no {name}, so no device could answer with it; publish it again.")
    for variant in release.variants:
        if variant.file != variant.sha256:
            raise BadManifest(f"{where}: variant {variant.name} must be stored under its own sha256.")
        entry = _listed(where, files, variant.sha256, "model")
        if entry.size != variant.size:
            raise BadManifest(
                f"{where}: variant {variant.name} is {variant.size} bytes, and its file {entry.size}."
            )
    for segment in release.segments:
        _listed(where, files, segment, "segment")
    for entry in release.files:
        if entry.merge and (entry.role != "segment" or entry.sha256 in entry.merge):
            raise BadManifest(f"{where}: file {entry.sha256} cannot be merged out of other segments.")
    for golden in release.golden:
        _listed(where, files, golden.photo, "golden")
        if golden.verdict == "match" and golden.sku is None:
            raise BadManifest(f"{where}: golden photo {golden.photo} is a match without a sku.")
    if release.rollback_floor > release.version:
        raise BadManifest(f"{where}: rollback_floor {release.rollback_floor} is above its own version.")


def _check_unique(where: str, name: str, values: list[str]) -> None:
    if len(set(values)) != len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise BadManifest(f"{where}: {name} lists {twice} twice; publish it again.")


def _listed(where: str, files: Mapping[str, FileEntry], sha256: str, role: str) -> FileEntry:
    entry = files.get(sha256)
    if entry is None or entry.role != role:
        raise BadManifest(f"{where}: {role} {sha256} is not among its files; publish it again.")
    return entry


# Writing ----------------------------------------------------------------------------------------------------


def _golden_record(golden: Golden) -> dict[str, object]:
    return {
        **golden.extra,
        "photo": golden.photo,
        "verdict": golden.verdict,
        "sku": golden.sku,
        "similarity": golden.similarity,
    }


def _file_record(entry: FileEntry) -> dict[str, object]:
    return {
        **({"merge": list(entry.merge)} if entry.merge else {}),
        **entry.extra,
        "name": entry.name,
        "sha256": entry.sha256,
        "size": entry.size,
        "role": entry.role,
    }
