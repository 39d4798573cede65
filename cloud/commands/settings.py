"""Reads `cloud.toml`: what the options of the commands are when neither a flag nor the environment says so.

A section a command, a setting an option, named as on the command line; before them the database of all:

    database = "postgresql://shelfsight@localhost/shelfsight"
    [serve]
    port = 9000
    [fleet.code]
    ttl = 2

The environment goes before the file (`SHELFSIGHT_SERVE_PORT=9000`), a flag before both.
"""

import json
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from edge.disk import write_atomically
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


def written_database(data: Path) -> str | None:
    """Return the address of the database that the file names for every command, or None.

    Raises:
        BadSetting: the file is no TOML, or names something that is no text.
        StorageUnusable: the file is there and cannot be read.
    """
    path = data / SETTINGS_FILE
    named = _read(path).get("database")
    if named is not None and not (isinstance(named, str) and named):
        raise BadSetting(f"{path}: database is {named!r}: write an address, like postgresql://user@host/name")
    return named


def keep_database(data: Path, url: str) -> None:
    """Write the address of the database into the file, so that every command finds it from now on.

    Raises:
        BadSetting: the file names another database.
        StorageUnusable, NoSpace: it cannot be written.
    """
    path, named = data / SETTINGS_FILE, written_database(data)
    if named is not None and named != url:
        raise BadSetting(f"{path} names another database: change the line `database = …` in it first")
    if named is None:
        before = path.read_bytes() if path.is_file() else b""
        line = f"database = {json.dumps(url, ensure_ascii=False)}\n"
        # Before every section, for only there is it a setting of all. There may be a password in it.
        write_atomically(path, line.encode() + before, mode=0o600)


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
