"""Settings: which source wins, and what each refusal says."""

import tomllib
from pathlib import Path

import pytest

from devices.config import PROFILES, keep_settings, load_settings, profile_names
from edge.delegates import delegate_order
from edge.errors import BadSetting
from tests.devices.conftest import Shelfsight


def test_without_any_source_the_defaults_hold(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, environment={})
    assert (settings.data, settings.threads, settings.profile) == (tmp_path, 1, None)


def test_the_data_folder_comes_from_the_environment_when_no_flag_names_it(tmp_path: Path) -> None:
    assert load_settings(environment={"SHELFSIGHT_DATA": str(tmp_path)}).data == tmp_path


def test_later_sources_win_over_earlier_ones(tmp_path: Path) -> None:
    (tmp_path / "device.toml").write_text('profile = "raspberry-pi-5"\ntop = 7\npoll_interval_s = 30\n')
    settings = load_settings(
        tmp_path, environment={"SHELFSIGHT_TOP": "8", "SHELFSIGHT_HOLD": "5"}, flags={"top": 9, "name": None}
    )
    assert settings.threads == 3, "the profile says so and nothing else does"
    assert settings.poll_interval_s == 30, "device.toml wins over the profile"
    assert settings.hold == 5, "the environment wins over the profile"
    assert settings.top == 9, "a flag wins over all"


def test_a_usual_profile_gives_way_to_a_named_one(tmp_path: Path) -> None:
    usual = load_settings(tmp_path, environment={}, usual_profile="shelf-camera")
    assert (usual.look_interval_s, usual.device_class) == (30, "shelf-camera")
    named = {"SHELFSIGHT_PROFILE": "kiosk-x86"}
    assert load_settings(tmp_path, environment=named, usual_profile="shelf-camera").look_interval_s == 0.7


def test_settings_that_are_kept_stand_beside_the_others(tmp_path: Path) -> None:
    (tmp_path / "device.toml").write_text('# our kiosk\nname = "old"\nthreads = 2')
    keep_settings(tmp_path, {"name": 'Kiosk "3"\\ Käse', "profile": None})
    settings = load_settings(tmp_path, environment={})
    assert (settings.name, settings.threads, settings.profile) == ('Kiosk "3"\\ Käse', 2, None)
    assert (tmp_path / "device.toml").read_text().startswith("# our kiosk\n")
    keep_settings(tmp_path / "nowhere", {"name": None})


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_that_comes_with_shelfsight_can_be_read(name: str, tmp_path: Path) -> None:
    settings = load_settings(tmp_path, environment={"SHELFSIGHT_PROFILE": name})
    assert settings.profile == name
    assert delegate_order(settings.delegates)[-1].name == "none", "something always runs"


def test_every_kind_of_hardware_has_its_profile() -> None:
    assert set(profile_names()) == {
        "android-phone",
        "browser-phone",
        "coral-dev-board",
        "coral-usb",
        "jetson-orin-nano",
        "kiosk-x86",
        "raspberry-pi-4",
        "raspberry-pi-5",
        "shelf-camera",
        "shelf-camera-low-power",
    }


@pytest.mark.parametrize("name", profile_names())
def test_a_profile_says_everything_that_differs_between_machines_and_why(name: str) -> None:
    text = (PROFILES / f"{name}.toml").read_text()
    said = set(tomllib.loads(text))
    assert said >= {"device_class", "delegates", "threads", "input_size", "memory_mb", "latency_ms"}
    assert said >= {"camera_width", "camera_height", "look_interval_s", "poll_interval_s"}
    assert text.startswith("# ")
    assert "easured" in text or name == "shelf-camera", "whether the numbers were measured is said"


def test_a_profile_of_your_own_is_a_file_that_is_named_by_its_whole_path(tmp_path: Path) -> None:
    own = tmp_path / "toaster.toml"
    own.write_text('delegates = ["edgetpu", "xnnpack"]\nthreads = 6\nmemory_mb = 90.5\n')
    settings = load_settings(tmp_path, environment={"SHELFSIGHT_PROFILE": str(own)})
    assert (settings.profile, settings.threads, settings.memory_mb) == (str(own), 6, 90.5)
    assert settings.delegates == ("edgetpu", "xnnpack")
    (tmp_path / "device.toml").write_text('delegates = "external, none"\n')
    settings = load_settings(tmp_path, environment={"SHELFSIGHT_PROFILE": str(own)})
    assert settings.delegates == ("external", "none"), "device.toml wins over the profile"


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("treads = 2", "toaster.toml has a setting 'treads' that does not exist: did you mean 'threads'?"),
        ("warmth = 7", "settings are profile, name"),
        ('delegates = ["edgetpu", "oven"]', "toaster.toml: delegate 'oven' is not known"),
        ('delegates = ["xnnpack", "xnnpack"]', "names one twice"),
        ("delegates = []", "must be a list of names"),
        ("latency_ms = 0", "latency_ms is 0 in profile"),
        ("input_size = 224.5", "whole number"),
        ('profile = "kiosk-x86"', "names another profile, 'kiosk-x86'"),
        ("threads = two", "is not TOML"),
    ],
)
def test_a_profile_that_cannot_be_ends_every_command_with_one_sentence(
    toml: str, said: str, shelfsight: Shelfsight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toaster.toml").write_text(toml)
    monkeypatch.setenv("SHELFSIGHT_PROFILE", str(tmp_path / "toaster.toml"))
    for command in ("doctor", "status"):
        run = shelfsight(command, "--data", tmp_path)
        assert run.exit_code == 1
        assert said in run.output
        assert len(run.output.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "name", ["toaster", "toaster.toml", "../profiles/kiosk-x86", "/nowhere/toaster.toml"]
)
def test_a_profile_that_is_nowhere_is_refused_with_those_that_exist(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"does not exist: choose one of .*kiosk-x86"):
        load_settings(tmp_path, environment={"SHELFSIGHT_PROFILE": name})


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("treads = 2", "did you mean 'threads'?"),
        ("threads = 0", "threads is 0 in"),
        ("threads = 1.5", "whole number"),
        ("threads = true", "whole number"),
        ("look_interval_s = nan", "look_interval_s is nan"),
        ('look_interval_s = "soon"', "'soon'"),
        ('name = ""', "name is ''"),
        ("name = 7", "name is 7"),
        ("threads = ", "is not TOML"),
        ('profile = "toaster"', "profile 'toaster' does not exist: choose one of android-phone"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(toml: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "device.toml").write_text(toml)
    with pytest.raises(BadSetting) as refusal:
        load_settings(tmp_path, environment={})
    assert said in str(refusal.value)
