"""Settings of a device: the only place that reads the environment and `device.toml`."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from edge.delegates import delegate_order
from edge.disk import write_atomically
from edge.errors import BadSetting, StorageUnusable

PROFILES = Path(__file__).parent / "profiles"
SETTINGS_FILE = "device.toml"
OUTBOX_FILE = "outbox.db"
PREFIX = "SHELFSIGHT_"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a device is told. Later sources win: profile, `device.toml`, environment, flags.

    `data` is the folder of this device; times are in seconds, the camera's size in pixels. `profile` is one
    of `profile_names()`, or the path of a TOML file of your own for hardware that none of them knows.

    `delegates` are tried in this order (`edge.delegates`), each with the library that is named for it;
    `variant` names one file instead of what they run. `runtime` names the one TFLite runtime to use.
    `scrub_hours` is how often all files of the releases here are read again, to find what rotted.
    `propose` says whether products that are taught here are proposed to the cloud, with their photos.
    `input_size` is the largest network input, `memory_mb` (10**6 bytes) and `latency_ms` the most that an
    answer may take on this kind of hardware: what is beyond is told by `shelfsight doctor` and `bench`.

    `hints` says how the device hears at once of a release (`devices.hints`): `auto`, `sse`, `mqtt`, or `off`;
    `mqtt_ca` is the file of the certificate that the broker's is signed by, empty for those of the system;
    `mqtt_user` and `mqtt_password` are what it lets this device in by, empty where it lets everybody in.
    """

    data: Path
    profile: str | None = None
    name: str = field(default_factory=lambda: os.uname().nodename)
    device_class: str = "kiosk"
    variant: str | None = None
    delegates: tuple[str, ...] = ("xnnpack",)
    edgetpu_library: str = "libedgetpu.so.1"
    gpu_library: str = "libtensorflowlite_gpu_delegate.so"
    external_library: str = ""
    runtime: str | None = None
    threads: int = 1
    input_size: int = 224
    memory_mb: float = 512.0
    latency_ms: float = 200.0
    top: int = 5
    poll_interval_s: float = 60.0
    hints: str = "auto"
    mqtt_ca: str = ""
    mqtt_user: str = ""
    mqtt_password: str = field(default="", repr=False)
    scrub_hours: float = 24.0
    look_interval_s: float = 1.0
    hold: int = 3
    camera_width: int = 1280
    camera_height: int = 720
    currency: str = ""
    propose: bool = True


_RANGES: Mapping[str, tuple[float, float]] = {
    "threads": (1, 64),
    "input_size": (16, 4096),
    "memory_mb": (16, 1_000_000),
    "latency_ms": (0.1, 600_000),
    "top": (1, 100),
    "poll_interval_s": (1, 86_400),
    "scrub_hours": (0.01, 8_760),
    "look_interval_s": (0.05, 86_400),
    "hold": (1, 1_000),
    "camera_width": (16, 16_384),
    "camera_height": (16, 16_384),
}
_WHOLE = frozenset({"threads", "input_size", "top", "hold", "camera_width", "camera_height"})
_YES_OR_NO = frozenset({"propose"})
_MAY_BE_EMPTY = frozenset({"external_library", "mqtt_ca", "mqtt_user", "mqtt_password"})
_HINTS = ("auto", "sse", "mqtt", "off")
_NAMES = tuple(setting.name for setting in fields(Settings) if setting.name != "data")


def default_data_folder(environment: Mapping[str, str]) -> Path:
    """Name the device folder when no flag does: `SHELFSIGHT_DATA`, else `~/.local/share/shelfsight`."""
    named = environment.get(f"{PREFIX}DATA")
    return Path(named) if named else Path.home() / ".local" / "share" / "shelfsight"


def load_settings(
    data: Path | None = None,
    *,
    flags: Mapping[str, object] | None = None,
    usual_profile: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Read the settings of the device in the folder `data`; a flag that is None was not given.

    `usual_profile` holds where no source names a profile.

    Raises:
        BadSetting: a setting that does not exist, or a value that cannot be.
        StorageUnusable: `device.toml` is there and cannot be read.
    """
    environment = os.environ if environment is None else environment
    folder = (data or default_data_folder(environment)).expanduser()
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    spoken = {name: environment[key] for name in _NAMES if environment.get(key := f"{PREFIX}{name.upper()}")}
    written = _read_toml(folder / SETTINGS_FILE)
    profile = given.get("profile") or spoken.get("profile") or written.get("profile") or usual_profile

    settings = Settings(data=folder)
    if profile is not None:
        settings = read_profile(str(profile), settings)
    settings = _apply(settings, written, str(folder / SETTINGS_FILE))
    settings = _apply(settings, spoken, "the environment")
    return _apply(settings, given, "the command line")


def keep_settings(data: Path, values: Mapping[str, str | None]) -> None:
    """Write settings into the `device.toml` of the folder `data`, beside what stands there; None is left out.

    Raises:
        StorageUnusable, NoSpace: the file cannot be read or written.
    """
    given = {name: value for name, value in values.items() if value is not None}
    if not given:
        return
    path = data / SETTINGS_FILE
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        raise StorageUnusable(f"{path} cannot be read ({error}): mend or delete it") from error
    kept = [line for line in lines if line.partition("=")[0].strip() not in given]
    # A JSON string is a TOML string too, but for DEL, which no setting holds.
    written = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in given.items()]
    write_atomically(path, "".join(f"{line}\n" for line in [*kept, *written]).encode())


def profile_names() -> list[str]:
    """Name the profiles that come with Shelfsight, one per kind of hardware."""
    return sorted(path.stem for path in PROFILES.glob("*.toml"))


def read_profile(name: str, settings: Settings) -> Settings:
    """Return `settings` as the profile `name` changes them.

    Raises:
        BadSetting: there is no such profile, or it holds a setting or value that cannot be.
        StorageUnusable: its file is there and cannot be read.
    """
    path = PROFILES / f"{name}.toml" if name in profile_names() else Path(name).expanduser()
    if not path.is_absolute() or path.suffix != ".toml" or not path.is_file():
        raise BadSetting(
            f"profile {name!r} does not exist: choose one of {', '.join(profile_names())}, "
            "or give the whole path of a .toml file of your own"
        )
    values = _read_toml(path)
    if "profile" in values:
        raise BadSetting(f"profile {name} names another profile, {values['profile']!r}: copy what it says")
    return _apply(settings, values, f"profile {name}")


def _read_toml(path: Path) -> dict[str, Any]:
    # Most devices have no file of their own, and `match` must start quickly: no parser for nothing.
    if not path.exists():
        return {}
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StorageUnusable(
            f"{path} cannot be read ({(error.strerror or 'no reason').lower()}): check who may"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSetting(f"{path} is not TOML ({error}): mend or delete it") from error


def _apply(settings: Settings, values: Mapping[str, object], source: str) -> Settings:
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name not in _NAMES:
            close = get_close_matches(name, _NAMES, n=1)
            cure = f"did you mean {close[0]!r}?" if close else f"settings are {', '.join(_NAMES)}"
            raise BadSetting(f"{source} has a setting {name!r} that does not exist: {cure}")
        changes[name] = _read(name, value, source)
    return replace(settings, **changes)


def _read(name: str, value: object, source: str) -> object:
    if name in _RANGES:
        return _number(name, value, source)
    if name in _YES_OR_NO:
        return _yes_or_no(name, value, source)
    if name == "delegates":
        return _delegates(value, source)
    if name == "hints" and value not in _HINTS:
        raise BadSetting(f"hints is {value!r} in {source}: it must be one of {', '.join(_HINTS)}")
    return _text(name, value, source)


def _number(name: str, value: object, source: str) -> int | float:
    low, high = _RANGES[name]
    kind: type[int] | type[float] = int if name in _WHOLE else float
    wanted = "a whole number" if kind is int else "a number"
    refusal = BadSetting(f"{name} is {value!r} in {source}: it must be {wanted} from {low:g} to {high:g}")
    if isinstance(value, bool) or (kind is int and isinstance(value, float)):
        raise refusal
    try:
        number = kind(str(value))
    except (TypeError, ValueError):
        raise refusal from None
    if not low <= number <= high:  # NaN fails this too
        raise refusal
    return number


def _yes_or_no(name: str, value: object, source: str) -> bool:
    words = {"true": True, "false": False}
    said = value if isinstance(value, bool) else words.get(str(value).lower())
    if said is None:
        raise BadSetting(f"{name} is {value!r} in {source}: it must be true or false")
    return said


def _delegates(value: object, source: str) -> tuple[str, ...]:
    """Take a list of names, or one text with commas between them, as an environment has it."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not items:
        raise BadSetting(f"delegates is {value!r} in {source}: it must be a list of names, such as xnnpack")
    names = tuple(_text("delegates", item, source) for item in items)
    try:
        delegate_order(names)
    except BadSetting as error:
        raise BadSetting(f"{source}: {error}") from None
    return names


def _text(name: str, value: object, source: str) -> str:
    if value == "" and name in _MAY_BE_EMPTY:
        return ""
    if not isinstance(value, str) or not value.strip():
        raise BadSetting(f"{name} is {value!r} in {source}: it must be a text that is not empty")
    return value.strip()
