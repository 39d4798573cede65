import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import BadManifest, FormatTooNew, Incompatible, Rollback, ShelfsightError, TrialFailed
from edge.model import Decision, Variant, WrongRate
from edge.recipe import IndexRecipe
from edge.release import RELEASE_FORMAT, VERDICTS, FileEntry, Golden, Release, check_offer
from edge.scoring import ScoreRule


def sha(number: int) -> str:
    return f"{number:064x}"


DECISION = Decision(
    match_confidence=0.8, unknown_similarity=0.4, bias=-3.5, similarity_weight=7.25, margin_weight=11.0
)

RELEASE = Release(
    version=7,
    created="2026-11-23T10:10:00Z",
    space="0123456789abcdef",
    dimension=256,
    input_size=224,
    row_scale=0.0075,
    model="grocery",
    variants=(
        Variant("cpu", sha(1), sha(1), 1000, "cpu", "int8", DECISION),
        Variant("float", sha(2), sha(2), 4000, "float32", "float32", DECISION),
    ),
    segments=(sha(3), sha(4)),
    merged_sha256=sha(99),
    recipe=IndexRecipe(),
    golden=(Golden(sha(5), "match", "Ålö-1", 0.9375), Golden(sha(6), "unknown", None, 0.25)),
    files=(
        FileEntry(sha(1), 1000, "model"),
        FileEntry(sha(2), 4000, "model"),
        FileEntry(sha(3), 5000, "segment"),
        FileEntry(sha(4), 0, "segment"),
        FileEntry(sha(5), 300, "golden"),
        FileEntry(sha(6), 300, "golden"),
    ),
    device_classes=("kiosk",),
    rollback_floor=3,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
FINITE = st.floats(-1e6, 1e6, allow_nan=False)
EXTRAS = st.dictionaries(
    TEXTS.map(lambda text: "x-" + text),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | FINITE | TEXTS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=3,
)
RULES = st.just(ScoreRule()) | st.builds(ScoreRule, st.floats(0.01, 1), st.floats(0, 1))
RATES = st.lists(st.floats(0, 1), max_size=3, unique=True).map(
    lambda rates: tuple(WrongRate(rate, 1 - rate) for rate in sorted(rates))
)
DECISIONS = st.builds(
    Decision,
    match_confidence=st.floats(0, 1),
    unknown_similarity=st.floats(-1, 1),
    bias=FINITE,
    similarity_weight=FINITE,
    margin_weight=FINITE,
    joint_weight=st.just(0.0) | FINITE,
    unknown_confidence=st.just(0.0) | st.floats(0, 1),
    score=RULES,
    category_temperature=st.just(0.1) | st.floats(0.01, 1),
    wrong_rates=RATES,
    extra=EXTRAS,
)


@st.composite
def releases(draw: st.DrawFn) -> Release:
    names = draw(st.lists(st.integers(0, 16**64 - 1).map(sha), min_size=2, max_size=8, unique=True))
    roles = ["model", "segment"] + [
        draw(st.sampled_from(["model", "segment", "golden", "certificate"])) for _ in names[2:]
    ]
    sizes = [draw(st.integers(1, 2**40)) for _ in names]
    entries = tuple(
        FileEntry(name, size, role, extra=draw(EXTRAS))
        for name, size, role in zip(names, sizes, roles, strict=True)
    )
    variants = tuple(
        Variant(f"v{i}", entry.sha256, entry.sha256, entry.size, "cpu", "int8", draw(DECISIONS), draw(EXTRAS))
        for i, entry in enumerate(entry for entry in entries if entry.role == "model")
    )
    golden = tuple(
        Golden(
            entry.sha256, draw(st.sampled_from(VERDICTS)), draw(TEXTS), draw(st.floats(-1, 1)), draw(EXTRAS)
        )
        for entry in entries
        if entry.role == "golden"
    )
    version = draw(st.integers(1, 2**40))
    return replace(
        RELEASE,
        version=version,
        row_scale=draw(st.floats(1e-6, 1.0)),
        dimension=draw(st.integers(1, 4096)),
        model=draw(TEXTS),
        variants=variants,
        segments=tuple(entry.sha256 for entry in entries if entry.role == "segment"),
        merged_sha256=draw(st.integers(0, 16**64 - 1).map(sha)),
        recipe=draw(
            st.builds(IndexRecipe, st.integers(1, 100), st.integers(1, 9999), st.integers(0, 99), EXTRAS)
        ),
        golden=golden,
        files=entries,
        device_classes=tuple(draw(st.lists(TEXTS, max_size=3))),
        rollback_floor=draw(st.integers(0, version)),
        extra=draw(EXTRAS),
    )


@given(releases())
def test_a_release_survives_the_round_trip_with_every_unknown_field(release: Release) -> None:
    data = release.to_bytes()

    assert Release.from_bytes(data) == release
    assert Release.from_bytes(data).to_bytes() == data


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="replace")))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    with pytest.raises(BadManifest):
        Release.from_bytes(data)


@given(st.data())
def test_no_spoiled_field_crashes_the_reader(data: st.DataObject) -> None:
    """Put any JSON value anywhere: it is read and written back unchanged, or refused."""
    record = json.loads(RELEASE.to_bytes())
    spot: Any = record
    while True:
        key = data.draw(st.sampled_from(sorted(spot) if isinstance(spot, dict) else range(len(spot))))
        if not isinstance(spot[key], dict | list) or not spot[key] or data.draw(st.booleans()):
            break
        spot = spot[key]
    if isinstance(spot, dict) and data.draw(st.booleans()):
        key = "a field of tomorrow"
    spot[key] = data.draw(
        st.none()
        | st.booleans()
        | st.integers()
        | FINITE
        | TEXTS
        | st.just([])
        | st.just({})
        | st.just(sha(1))
    )
    try:
        release = Release.from_bytes(json.dumps(record).encode())
    except (BadManifest, FormatTooNew):
        return
    # The format alone is told anew: the lowest that says what it says.
    assert {**json.loads(release.to_bytes()), "format": record["format"]} == record


def test_the_bytes_are_canonical() -> None:
    data = RELEASE.to_bytes()

    assert (
        data
        == json.dumps(json.loads(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    )
    assert (
        replace(RELEASE, extra={"b": 1, "a": 2}).to_bytes()
        == replace(RELEASE, extra={"a": 2, "b": 1}).to_bytes()
    )


def test_a_newer_format_is_refused_by_name_whatever_else_it_says() -> None:
    with pytest.raises(FormatTooNew) as caught:
        Release.from_bytes(json.dumps({"format": RELEASE_FORMAT + 1, "everything": "else"}).encode())
    for words in (f"format {RELEASE_FORMAT + 1}", f"up to {RELEASE_FORMAT}", "update Shelfsight"):
        assert words in str(caught.value)


def scored(rule: ScoreRule) -> Release:
    variants = tuple(
        replace(each, decision=replace(DECISION, score=rule, wrong_rates=(WrongRate(0.005, 0.97),)))
        for each in RELEASE.variants
    )
    return replace(RELEASE, variants=variants)


def test_only_a_release_that_an_older_device_would_answer_otherwise_has_the_newer_format() -> None:
    assert json.loads(RELEASE.to_bytes())["format"] == 1
    assert json.loads(scored(ScoreRule()).to_bytes())["format"] == 1  # rates are passed over, not misread
    assert json.loads(scored(ScoreRule(0.05, 1.0)).to_bytes())["format"] == 2
    for field in ("joint_weight", "unknown_confidence"):
        decision = replace(DECISION, **{field: 0.5})
        changed = tuple(replace(each, decision=decision) for each in RELEASE.variants)
        assert json.loads(replace(RELEASE, variants=changed).to_bytes())["format"] == 2


def test_a_score_under_a_format_that_has_none_is_refused() -> None:
    record = {**json.loads(scored(ScoreRule(0.05, 1.0)).to_bytes()), "format": 1}
    with pytest.raises(BadManifest, match="has format 1, and its decision is one of format 2"):
        Release.from_bytes(json.dumps(record).encode())


def spoil(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(record: dict[str, Any]) -> None:
        *walk, last = path.split(".")
        spot: Any = record
        for step in walk:
            spot = spot[int(step) if step.isdecimal() else step]
        spot[int(last) if last.isdecimal() else last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("format", 0, "format"),
        ("format", "1", "format"),
        ("version", 0, "version"),
        ("version", True, "version"),
        ("version", 7.0, "version"),
        ("created", "yesterday", "created"),
        ("created", "2026-11-23T10:10:00", "zone"),
        ("space", "0123", "space"),
        ("dimension", 0, "dimension"),
        ("input_size", 2**20, "input_size"),
        ("row_scale", 0, "row_scale"),
        ("row_scale", -0.1, "row_scale"),
        ("model", "", "model"),
        ("variants", [], "no variants"),
        ("variants", {}, "variants"),
        ("variants.0.sha256", sha(2), "own sha256"),
        ("variants.0.file", "../../etc/passwd", "file"),
        ("variants.0.size", 1001, "1001 bytes"),
        ("variants.1.name", "cpu", "cpu twice"),
        ("variants.0.decision", None, "decision"),
        ("variants.0.decision.match_confidence", 1.5, "match_confidence"),
        ("segments", [], "no segments"),
        ("segments.1", sha(3), "twice"),
        ("segments.1", sha(77), "not among its files"),
        ("segments.1", sha(5), "not among its files"),
        ("segments.1", "A" * 64, "sha256"),
        ("merged_sha256", sha(1)[1:], "merged_sha256"),
        ("search.trees", 0, "trees"),
        ("search", [], "search"),
        ("golden.0.photo", sha(88), "not among its files"),
        ("golden.0.verdict", "maybe", "verdict"),
        ("golden.0.sku", None, "without a sku"),
        ("golden.0.sku", "", "sku"),
        ("golden.0.similarity", 1.1, "similarity"),
        ("files.0.size", -1, "size"),
        ("files.0.name", sha(2), "own sha256"),
        ("files.0.role", "segment", "not among its files"),
        ("files.1.sha256", sha(1), "own sha256"),
        ("device_classes", "kiosk", "device_classes"),
        ("device_classes.0", 3, "device_classes"),
        ("rollback_floor", 8, "rollback_floor"),
        ("rollback_floor", -1, "rollback_floor"),
    ],
)
def test_an_impossible_field_is_refused_in_words(path: str, value: object, says: str) -> None:
    record = json.loads(RELEASE.to_bytes())
    spoil(path, value)(record)
    with pytest.raises(BadManifest, match=says):
        Release.from_bytes(json.dumps(record).encode())


@pytest.mark.parametrize("name", sorted(json.loads(RELEASE.to_bytes())))
def test_a_missing_field_is_refused_by_name(name: str) -> None:
    record = json.loads(RELEASE.to_bytes())
    del record[name]
    with pytest.raises(BadManifest, match=name):
        Release.from_bytes(json.dumps(record).encode())


@pytest.mark.parametrize(
    "data",
    [
        b'{"format": 1, "format": 1}',
        b'{"format": 1, "x": NaN}',
        b'{"format": 1, "x": 1e999}',
        b'{"format": 1, "x": "\\ud800"}',
        b'{"format": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_json_that_could_not_be_written_again_is_refused(data: bytes) -> None:
    with pytest.raises(BadManifest):
        Release.from_bytes(data)


def test_an_impossible_release_is_not_written() -> None:
    with pytest.raises(BadManifest, match="rollback_floor"):
        replace(RELEASE, rollback_floor=8).to_bytes()
    with pytest.raises(BadManifest, match="JSON"):
        replace(RELEASE, extra={"x": float("inf")}).to_bytes()
    with pytest.raises(BadManifest):
        replace(RELEASE, model="\ud800").to_bytes()


def test_a_file_of_a_role_that_is_not_known_yet_is_kept() -> None:
    release = replace(RELEASE, files=(*RELEASE.files, FileEntry(sha(50), 9, "hologram")))

    assert Release.from_bytes(release.to_bytes()) == release
    assert release.file(sha(50)).role == "hologram"
    with pytest.raises(BadManifest, match=sha(51)):
        release.file(sha(51))


@pytest.mark.parametrize(
    ("current", "floor", "set_aside", "device_class", "refusal"),
    [
        (None, 0, [], None, None),
        (6, 6, [5], "kiosk", None),
        (7, 7, [], None, None),
        (5, 7, [], None, None),
        (8, 8, [], None, Rollback),
        (8, 0, [], None, Rollback),
        (None, 8, [], None, Rollback),
        (6, 6, [7], None, TrialFailed),
        (6, 6, [], "shelf-camera", Incompatible),
    ],
)
def test_an_offer_is_taken_or_refused(
    current: int | None,
    floor: int,
    set_aside: list[int],
    device_class: str | None,
    refusal: type[ShelfsightError] | None,
) -> None:
    def check() -> None:
        check_offer(
            RELEASE, current=current, floor=floor, set_aside=frozenset(set_aside), device_class=device_class
        )

    if refusal is None:
        check()
    else:
        with pytest.raises(refusal, match="release 7"):
            check()


def test_a_release_for_no_class_in_particular_is_for_all() -> None:
    release = replace(RELEASE, device_classes=())
    check_offer(release, current=None, floor=0, set_aside=frozenset(), device_class="phone")


# Which of its files a device needs ------------------------------------------------------------------------


def shipped(*variants: tuple[str, str, int]) -> Release:
    """Make a release with variants (name, target, number of its file), and a file of every other role."""
    return replace(
        RELEASE,
        variants=tuple(
            Variant(name, sha(file), sha(file), 10, target, "int8", DECISION)
            for name, target, file in variants
        ),
        files=(
            *(FileEntry(sha(file), 10, "model") for file in dict.fromkeys(each[2] for each in variants)),
            *(entry for entry in RELEASE.files if entry.role != "model"),
            FileEntry(sha(7), 70, "certificate"),
            FileEntry(sha(8), 80, "season"),
        ),
    )


ALL = shipped(("int8", "cpu", 10), ("float16", "gpu", 11), ("coral", "edgetpu", 12), ("next", "npu", 13))


@pytest.mark.parametrize(
    ("targets", "variant", "spared"),
    [
        (None, None, []),
        (["cpu"], None, [11, 12, 13]),
        ([], None, [11, 12, 13]),
        (["edgetpu", "cpu"], None, [11, 13]),
        (["edgetpu"], "float16", [13]),
        (["cpu"], "there is none such", [11, 12, 13]),
    ],
)
def test_a_device_needs_everything_but_the_network_files_that_it_does_not_run(
    targets: list[str] | None, variant: str | None, spared: list[int]
) -> None:
    needed = ALL.needed_files(None if targets is None else frozenset(targets), variant)
    assert needed == tuple(entry for entry in ALL.files if entry.sha256 not in map(sha, spared))


def test_a_file_of_two_variants_is_needed_for_either() -> None:
    release = shipped(("int8", "cpu", 10), ("coral", "edgetpu", 10), ("float16", "gpu", 11))
    assert release.file(sha(10)) in release.needed_files(frozenset({"gpu"}))
    assert Release.from_bytes(release.to_bytes()).needed_files(frozenset()) == tuple(
        entry for entry in release.files if entry.sha256 != sha(11)
    )
