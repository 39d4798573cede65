"""The commands of a device, as a person types them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from devices.advice import ADVICE, advice_for
from devices.commands import MODULES, main
from devices.config import OUTBOX_FILE
from edge.events import new_event
from edge.explain_picture import encode_png
from edge.image import decode
from edge.outbox import Outbox
from edge.quality import PROBLEMS
from tests.devices.conftest import SKUS, Shelfsight, events_of


@pytest.mark.parametrize("name", MODULES)
def test_every_command_has_help(name: str, shelfsight: Shelfsight) -> None:
    said = shelfsight(name, "--help")
    assert said.exit_code == 0
    assert "Usage:" in said.stdout
    assert "--data" in said.stdout


def test_the_commands_are_those_of_the_design() -> None:
    assert set(main.list_commands(None)) == {  # type: ignore[arg-type]
        "enroll", "sync", "match", "add", "forget", "kiosk", "shelf-camera", "status", "doctor", "relay",
        "bench", "similar",
    }  # fmt: skip


def test_match_prints_one_object_a_photo(shelfsight: Shelfsight, data: Path, photos: Path) -> None:
    paths = sorted(photos.iterdir())
    said = shelfsight("match", *paths, "--json", "--top", 2, "--data", data)
    assert said.exit_code == 0
    answers = [json.loads(line) for line in said.stdout.splitlines()]
    assert [answer["candidates"][0]["sku"] for answer in answers] == list(SKUS)
    assert [answer["photo"] for answer in answers] == [str(path) for path in paths]
    first = answers[0]
    assert set(first) == {
        "photo", "verdict", "candidates", "category", "release", "reason", "timings_ms",
    }  # fmt: skip
    assert set(first["timings_ms"]) == {"decode", "embed", "search", "total"}
    assert set(first["candidates"][0]) == {"sku", "title", "similarity", "confidence"}
    assert len(first["candidates"]) == 2


def test_many_photos_are_answered_by_several_processes_in_their_order(
    shelfsight: Shelfsight, data: Path, photos: Path
) -> None:
    bad = photos / "bad.jpg"
    bad.write_bytes(b"no photo")
    good = [path for path in sorted(photos.iterdir()) if path != bad]
    paths = [*good * 30, bad, good[0]]
    few = shelfsight("match", *paths[:8], "--json", "--data", data)
    many = shelfsight("match", *paths, "--json", "--data", data)
    assert many.exit_code == 1, "one photo is bad"
    answers = [json.loads(line) for line in many.stdout.splitlines()]
    assert [answer["photo"] for answer in answers] == [str(path) for path in paths]
    assert answers[-2]["code"] == "photo_unreadable"
    for answer, one in zip(answers, [json.loads(line) for line in few.stdout.splitlines()], strict=False):
        assert {**answer, "timings_ms": 0} == {**one, "timings_ms": 0}


def test_match_records_nothing(shelfsight: Shelfsight, data: Path, photos: Path) -> None:
    before = sorted(data.rglob("*"))
    assert shelfsight("match", next(photos.iterdir()), "--data", data).exit_code == 0
    assert sorted(data.rglob("*")) == before


def test_a_bad_photo_is_said_and_the_rest_go_on(shelfsight: Shelfsight, data: Path, photos: Path) -> None:
    good = min(photos.iterdir())
    text, empty = photos / "text.jpg", photos / "empty.jpg"
    text.write_text("no photo")
    empty.write_bytes(b"")
    said = shelfsight("match", text, good, photos / "gone.jpg", empty, "--json", "--data", data)
    assert said.exit_code == 1
    answers = [json.loads(line) for line in said.stdout.splitlines()]
    assert [answer.get("code") for answer in answers] == [
        "photo_unreadable", None, "photo_missing", "photo_unreadable",
    ]  # fmt: skip
    assert all(Path(answer["photo"]).name in answer["error"] for answer in answers if "error" in answer)
    in_words = shelfsight("match", text, good, "--data", data)
    assert in_words.stderr.startswith("error: ")
    assert str(text) in in_words.stderr
    assert SKUS[0] in in_words.stdout


def test_match_explains_with_a_picture_and_with_data(
    shelfsight: Shelfsight, data: Path, photos: Path, tmp_path: Path
) -> None:
    photo, out = min(photos.iterdir()), tmp_path / "why.png"
    said = shelfsight("match", photo, "--explain", out, "--json", "--top", 1, "--data", data)
    assert said.exit_code == 0
    answered = json.loads(said.stdout)
    assert len(answered["candidates"]) == 1
    assert decode(out.read_bytes()).shape[1] == 2 * 24 + 2 * 400 + 20  # four pictures in two columns
    told = json.loads((tmp_path / "why.json").read_bytes())
    assert (told["photo"], told["release"], told["verdict"]) == (str(photo), 1, answered["verdict"])
    for side in (told["answer"], told["runner_up"]):
        assert sum(map(sum, side["map"])) == pytest.approx(side["similarity"], abs=1e-3)
    assert told["answer"]["sku"] == answered["candidates"][0]["sku"] == SKUS[0]
    assert told["answer"]["similarity"] == pytest.approx(answered["candidates"][0]["similarity"], abs=1e-4)
    assert sum(map(sum, told["difference"]["map"])) == pytest.approx(told["difference"]["margin"], abs=1e-3)
    assert len(told["answer"]["map"]) == told["grid"]["rows"]


def test_match_explains_one_photo_as_a_png(shelfsight: Shelfsight, data: Path, photos: Path) -> None:
    photo = min(photos.iterdir())
    assert shelfsight("match", photo, photo, "--explain", "why.png", "--data", data).exit_code == 2
    assert shelfsight("match", photo, "--explain", "why.gif", "--data", data).exit_code == 2


def test_match_says_what_to_do_about_a_bad_photo(shelfsight: Shelfsight, data: Path, tmp_path: Path) -> None:
    dark = tmp_path / "dark.png"
    dark.write_bytes(encode_png(np.full((64, 64, 3), 5, np.uint8)))
    said = shelfsight("match", dark, "--data", data)
    assert "unsure (too_dark)" in said.stdout
    assert f"  {ADVICE['too_dark']}\n" in said.stdout


def test_there_is_advice_for_every_fault_of_a_photo_and_for_nothing_else() -> None:
    assert set(ADVICE) == set(PROBLEMS)
    assert advice_for("clear") is None
    assert (advice_for("blurred"), advice_for("too_far")) == (
        "blurred: hold it still",
        "too small in the picture: hold it closer",
    )


def test_match_without_a_release_says_so_once(shelfsight: Shelfsight, tmp_path: Path, photos: Path) -> None:
    said = shelfsight("match", *photos.iterdir(), "--data", tmp_path / "new")
    assert said.exit_code == 1
    assert said.stderr.count("error: ") == 1
    assert "shelfsight sync" in said.stderr


def test_the_data_folder_may_be_named_before_the_command(shelfsight: Shelfsight, data: Path) -> None:
    said = shelfsight("--data", data, "status", "--json")
    assert json.loads(said.stdout)["release"] == 1


def test_wrong_usage_exits_with_two(shelfsight: Shelfsight) -> None:
    assert shelfsight("match").exit_code == 2
    assert shelfsight("look").exit_code == 2
    assert shelfsight("shelf-camera", "--planogram", "plan.json").exit_code == 2


def test_similar_lists_other_products(shelfsight: Shelfsight, data: Path) -> None:
    said = shelfsight("similar", SKUS[0], "--top", 2, "--json", "--data", data)
    alike = json.loads(said.stdout)["similar"]
    assert len(alike) == 2
    assert SKUS[0] not in {product["sku"] for product in alike}
    assert shelfsight("similar", "toaster", "--data", data).exit_code == 1


def test_status_tells_what_a_full_outbox_lost(shelfsight: Shelfsight, data: Path) -> None:
    with Outbox(data / OUTBOX_FILE, capacity=2) as outbox:
        for _ in range(5):
            outbox.add(new_event("d-1", "searched", {}))
    assert json.loads(shelfsight("status", "--json", "--data", data).stdout)["dropped"] == {"searched": 3}
    assert "3 searched" in shelfsight("status", "--data", data).stdout


def test_status_says_what_answers(shelfsight: Shelfsight, data: Path) -> None:
    status = json.loads(shelfsight("status", "--json", "--data", data).stdout)
    assert (status["release"], status["floor"], status["products"], status["rows"]) == (1, 1, 4, 4)
    assert (status["device_id"], status["server"], status["last_sync"], status["error"]) == (None,) * 4
    assert status["variant"] == "int8"
    assert status["runtime"].split()[0] in ("ai-edge-litert", "tflite-runtime", "tensorflow")
    assert status["search"] == "exact scan"
    assert status["segments"] == {"base": 4, "delta": 0, "dead": 0, "files": 1}
    assert (status["proven"], status["refused"], status["time_floor"][:4]) == (None, {}, "2026")
    in_words = shelfsight("status", "--data", data).stdout
    assert "release  1" in in_words


def test_status_of_a_new_device_names_what_is_missing(shelfsight: Shelfsight, tmp_path: Path) -> None:
    status = json.loads(shelfsight("status", "--json", "--data", tmp_path / "new").stdout)
    assert (status["release"], status["error"]) == (None, "no_release")
    assert not (tmp_path / "new").exists()


def test_a_damaged_setting_is_one_sentence(shelfsight: Shelfsight, data: Path) -> None:
    (data / "device.toml").write_text("threads = 0")
    said = shelfsight("status", "--data", data)
    assert said.exit_code == 1
    assert said.stderr.startswith("error: threads is 0 in ")
    assert said.stderr.count("\n") == 1


def test_match_loads_neither_web_nor_update_nor_database_code(data: Path, photos: Path) -> None:
    script = (
        "import sys; from devices.commands import main\n"
        f"try: main(['match', {str(min(photos.iterdir()))!r}, '--json', '--data', {str(data)!r}])\n"
        "except SystemExit as done: assert done.code == 0\n"
        "heavy = {'flask', 'tuf', 'urllib3', 'sqlite3', 'cv2', 'rich', 'tensorflow', 'tomllib'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_enrolling_with_something_that_is_no_code_is_refused_before_any_request(
    shelfsight: Shelfsight, tmp_path: Path
) -> None:
    said = shelfsight("enroll", "http://127.0.0.1:9", "hello", "--data", tmp_path / "new")
    assert said.exit_code == 1
    assert "XXXX-XXXX-FFFFFFFFFF" in said.stderr
    assert not (tmp_path / "new").exists()


def test_enrolling_where_no_server_is_leaves_nothing_behind(shelfsight: Shelfsight, tmp_path: Path) -> None:
    said = shelfsight("enroll", "http://127.0.0.1:9", "ABCD-EFGH-ABCDEFGHIJ", "--data", tmp_path / "new")
    assert said.exit_code == 1
    assert "http://127.0.0.1:9" in said.stderr
    assert not (tmp_path / "new").exists()


def test_a_sync_before_enrollment_says_what_to_do(shelfsight: Shelfsight, data: Path) -> None:
    said = shelfsight("sync", "--once", "--data", data)
    assert said.exit_code == 1
    assert "shelfsight enroll URL CODE" in said.stderr
    assert json.loads(shelfsight("status", "--json", "--data", data).stdout)["last_error"] == "not_enrolled"
    assert events_of(data) == []
