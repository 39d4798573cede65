"""Settings: which source wins, and what each refusal says."""

from pathlib import Path

import pytest

from devices.config import keep_settings, load_settings, profile_names
from edge.errors import BadSetting


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
    assert load_settings(tmp_path, environment={"SHELFSIGHT_PROFILE": name}).profile == name


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
        ('profile = "toaster"', "profile 'toaster' does not exist: choose one of kiosk-x86"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(toml: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "device.toml").write_text(toml)
    with pytest.raises(BadSetting) as refusal:
        load_settings(tmp_path, environment={})
    assert said in str(refusal.value)
