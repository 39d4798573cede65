"""Reads `cloud.toml`: what the options of the commands are when neither a flag nor the environment says so.

A section a command, a setting an option, named as on the command line:

    [serve]
    port = 9000
    [fleet.code]
    ttl = 2

The environment goes before the file (`SHELFSIGHT_SERVE_PORT=9000`), a flag before both.
"""

import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from edge.errors import BadSetting, StorageUnusable

SETTINGS_FILE = "cloud.toml"


def written_settings(ctx: click.Context, data: Path) -> dict[str, Any]:
    """Return the settings of the command that `ctx` is about, by the names of its parameters.

    Raises:
        BadSetting: the file is no TOML, or has a setting that the command does not know.
        StorageUnusable: the file is there and cannot be read.
    """
    path = data / SETTINGS_FILE
    section: Any = _read(path)
    for name in _command_names(ctx):
        section = section.get(name, {}) if isinstance(section, dict) else {}
    if not isinstance(section, dict):
        raise BadSetting(f"{path}: [{'.'.join(_command_names(ctx))}] is a value: make it a section")
    known = {_spoken(option): option.name for option in ctx.command.params if _spoken(option)}
    nested = ctx.command.commands if isinstance(ctx.command, click.Group) else {}
    settings = {}
    for name, value in section.items():
        if name in nested:
            continue
        if name not in known:
            close = get_close_matches(name, known, n=1)
            cure = f"did you mean {close[0]!r}?" if close else f"its settings are {', '.join(sorted(known))}"
            where = ".".join(_command_names(ctx))
            raise BadSetting(f"{path}: [{where}] has a setting {name!r} that does not exist: {cure}")
        settings[str(known[name])] = value
    return settings


def _command_names(ctx: click.Context) -> list[str]:
    """Name the commands from below the program's own to this one."""
    names: list[str] = []
    while ctx.parent is not None:
        names.insert(0, ctx.info_name or "")
        ctx = ctx.parent
    return names


def _spoken(option: click.Parameter) -> str:
    """Return an option's name as people type it, without dashes before it; "" for arguments and `--data`."""
    if not isinstance(option, click.Option) or option.name == "data":
        return ""
    return max(option.opts, key=len).lstrip("-")


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StorageUnusable(f"{path} cannot be read ({error.strerror}): check who may") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSetting(f"{path} is not TOML ({error}): mend or delete it") from error
