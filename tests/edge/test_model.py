"""`edge.model`: a folder, its model.json, and what a similarity means."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.decision import decision_record
from edge.errors import BadModel, BadSetting, Incompatible, StorageUnusable
from edge.model import Decision, Model, Variant, WrongRate, choose_variant, open_model, write_model
from edge.scoring import ScoreRule

DECISION = Decision(
    match_confidence=0.7, unknown_similarity=0.4, bias=-8.0, similarity_weight=10.0, margin_weight=20.0
)
RECORD = decision_record(DECISION)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    variants = []
    for name, target, precision in (("float32", "float32", "float32"), ("int8", "cpu", "int8")):
        (tmp_path / f"{name}.tflite").write_bytes(bytes(100))
        variants.append(
            Variant(name, f"{name}.tflite", "0" * 64, 100, target, precision, DECISION, {"runtime": "any"})
        )
    model = Model("tiny", "0123456789abcdef", 16, 32, 1 / 127, tuple(variants), tmp_path, {"license": "none"})
    write_model(model, tmp_path)
    return tmp_path


def rewrite(folder: Path, **fields: Any) -> None:
    path = folder / "model.json"
    record = {**json.loads(path.read_bytes()), **fields}
    path.write_text(json.dumps({name: value for name, value in record.items() if value is not ...}))


def test_a_model_folder_reads_back_as_it_was_written_unknown_fields_too(folder: Path) -> None:
    model = open_model(folder)
    before = (folder / "model.json").read_bytes()
    assert model.extra == {"license": "none"}
    assert model.variants[0].extra == {"runtime": "any"}
    write_model(model, folder)
    assert (folder / "model.json").read_bytes() == before
    assert open_model(folder) == model


def test_a_decision_of_the_second_format_reads_back_and_one_of_the_first_keeps_its_format(
    folder: Path,
) -> None:
    model = open_model(folder)
    assert json.loads((folder / "model.json").read_bytes())["format"] == 1
    decision = replace(
        DECISION,
        joint_weight=3.0,
        unknown_confidence=0.2,
        score=ScoreRule(0.05, 0.5),
        category_temperature=0.07,
        wrong_rates=(WrongRate(0.005, 0.93),),
    )
    scored = replace(model, variants=tuple(replace(variant, decision=decision) for variant in model.variants))
    write_model(scored, folder)
    assert json.loads((folder / "model.json").read_bytes())["format"] == 2
    assert open_model(folder) == scored


def test_the_example_of_the_formats_page_is_a_model(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    example = page.split("## Model folder")[1].split("```json\n")[1].split("```")[0]
    record = json.loads(example.replace("…", "0" * 64))
    record["variants"][0]["size"] = 100
    (tmp_path / "int8.tflite").write_bytes(bytes(100))
    (tmp_path / "model.json").write_text(json.dumps(record))
    decision = open_model(tmp_path).variant().decision
    assert decision_record(decision) == record["variants"][0]["decision"]
    assert (decision.extra, decision.is_plain) == ({}, False)


def test_the_variant_without_a_name_is_the_first_for_the_cpu(folder: Path) -> None:
    model = open_model(folder)
    assert model.variant().name == "int8"
    assert model.variant("float32").target == "float32"
    assert model.path(model.variant()) == folder / "int8.tflite"
    with pytest.raises(BadModel, match=r"'gpu'.*float32, int8"):
        model.variant("gpu")
    with pytest.raises(Incompatible, match="release 7 has no variant for the CPU"):
        choose_variant(model.variants[:1], None, "release 7", Incompatible)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"format": 3}, "format 3"),
        ({"format": ...}, "format"),
        ({"space": "short"}, "space"),
        ({"dimension": 0}, "dimension"),
        ({"input_size": 8}, "input_size"),
        ({"row_scale": 0}, "row_scale"),
        ({"variants": []}, "lists no variants"),
        ({"variants": {}}, "variants"),
        ({"name": 7}, "name"),
    ],
)
def test_an_impossible_field_is_named(folder: Path, fields: dict[str, Any], sentence: str) -> None:
    rewrite(folder, **fields)
    with pytest.raises(BadModel, match=sentence):
        open_model(folder)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"file": "../other/int8.tflite"}, "plain file name"),
        ({"file": ".hidden"}, "plain file name"),
        ({"target": ""}, "target"),
        ({"precision": 8}, "precision"),
        ({"sha256": "abc"}, "sha256"),
        ({"decision": {"bias": 1}}, "match_confidence"),
        ({"decision": {**RECORD, "score": {"temperature": 0.0, "count_weight": 1.0}}}, "temperature"),
        ({"decision": {**RECORD, "score": {"temperature": 0.1, "count_weight": 1.1}}}, "count_weight"),
        ({"decision": {**RECORD, "score": {"temperature": 0.1, "count_weight": 1.0}}}, "format 1.*format 2"),
        ({"decision": {**RECORD, "unknown_similarity": 1.1}}, "unknown_similarity"),
        ({"decision": {**RECORD, "wrong_rates": []}}, "left out"),
        ({"decision": {**RECORD, "wrong_rates": [{"rate": 1.5, "match_confidence": 0.5}]}}, "rate"),
        ({"decision": {**RECORD, "wrong_rates": [{"rate": 0.1, "match_confidence": 0.5}] * 2}}, "ascending"),
        ({"name": "float32"}, "twice"),
    ],
)
def test_an_impossible_variant_is_named(folder: Path, fields: dict[str, Any], sentence: str) -> None:
    variants = json.loads((folder / "model.json").read_bytes())["variants"]
    rewrite(folder, variants=[variants[0], {**variants[1], **fields}])
    with pytest.raises(BadModel, match=sentence):
        open_model(folder)


def test_no_model_json_and_one_that_is_not_json_are_bad_models(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="no model folder"):
        open_model(tmp_path)
    (tmp_path / "model.json").write_bytes(b"{")
    with pytest.raises(BadModel, match="not JSON"):
        open_model(tmp_path)


def test_a_network_file_that_is_missing_or_cut_is_named(folder: Path) -> None:
    (folder / "int8.tflite").write_bytes(bytes(99))
    with pytest.raises(BadModel, match=r"int8\.tflite is 99 bytes, not 100"):
        open_model(folder)
    (folder / "int8.tflite").unlink()
    with pytest.raises(BadModel, match=r"int8\.tflite is missing"):
        open_model(folder)


def test_a_model_that_json_cannot_hold_is_refused_and_a_folder_that_is_missing_too(folder: Path) -> None:
    model = open_model(folder)
    with pytest.raises(BadModel, match="cannot be written"):
        write_model(replace(model, row_scale=float("nan")), folder)
    with pytest.raises(StorageUnusable):
        write_model(model, folder / "nowhere")


def test_confidence_rises_with_similarity_and_with_the_margin_over_the_best_other() -> None:
    clear = DECISION.confidences([0.9, 0.5, 0.4])
    close = DECISION.confidences([0.9, 0.88, 0.4])
    assert clear[0] > close[0] > close[1] > close[2]
    assert clear[0] == pytest.approx(1 / (1 + 2.718281828 ** -(-8 + 9 + 20 * 0.4)))
    assert clear[1] == pytest.approx(1 / (1 + 2.718281828 ** -(-8 + 5 - 20 * 0.4)))


def test_a_lone_candidate_is_measured_against_what_would_be_unknown() -> None:
    assert DECISION.confidences([0.9]) == pytest.approx(DECISION.confidences([0.9, 0.4])[:1])
    assert DECISION.confidences([]) == ()


def test_a_lead_counts_for_more_the_higher_it_is() -> None:
    joint = replace(DECISION, margin_weight=0.0, joint_weight=20.0)
    high, low = joint.confidences([0.9, 0.8])[0], joint.confidences([0.5, 0.4])[0]
    assert high == pytest.approx(1 / (1 + 2.718281828 ** -(-8 + 9 + 20 * 0.9 * 0.1)))
    assert low == pytest.approx(1 / (1 + 2.718281828 ** -(-8 + 5 + 20 * 0.5 * 0.1)))


def test_what_is_too_unsure_to_be_known_is_unknown() -> None:
    wary = replace(DECISION, unknown_confidence=0.3)
    assert wary.verdict(0.95, 0.29) == "unknown"
    assert wary.verdict(0.95, 0.30) == "unsure"
    assert wary.verdict(0.39, 0.99) == "unknown"


def test_a_rate_of_wrong_answers_takes_the_confidence_of_the_next_stricter_one() -> None:
    decision = replace(DECISION, wrong_rates=(WrongRate(0.005, 0.97), WrongRate(0.02, 0.9)))
    asked = {0.005: 0.97, 0.0199: 0.97, 0.02: 0.9, 0.5: 0.9}
    assert {rate: decision.match_confidence_for(rate) for rate in asked} == asked
    with pytest.raises(BadSetting, match=r"0\.004 was not calibrated.*0\.005, 0\.02.*take a higher rate"):
        decision.match_confidence_for(0.004)
    with pytest.raises(BadSetting, match="none"):
        DECISION.match_confidence_for(0.01)


def test_the_three_verdicts() -> None:
    assert DECISION.verdict(0.39, 0.99) == "unknown"
    assert DECISION.verdict(0.40, 0.70) == "match"
    assert DECISION.verdict(0.95, 0.69) == "unsure"


@given(
    weights=st.tuples(*[st.floats(-1e6, 1e6)] * 3),
    similarities=st.lists(st.floats(-1, 1), max_size=6).map(lambda values: sorted(values, reverse=True)),
)
def test_confidences_stay_between_0_and_1_for_any_weights(
    weights: tuple[float, float, float], similarities: list[float]
) -> None:
    confidences = Decision(0.5, 0.0, *weights).confidences(similarities)
    assert len(confidences) == len(similarities)
    assert all(0.0 <= confidence <= 1.0 for confidence in confidences)
