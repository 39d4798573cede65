"""`shelfsight status`: how this device is."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from devices.commands.options import data_option, json_option


@click.command()
@json_option
@data_option
def command(as_json: bool, data: Path | None) -> None:
    """Show who this device is, what it answers from, and how its last sync went."""
    from devices.config import load_settings
    from devices.device import Device
    from devices.status import device_status

    status = asdict(device_status(Device(load_settings(data))))
    if as_json:
        click.echo(json.dumps(status, ensure_ascii=False))
        return
    for name, value in status.items():
        words = _refusal(value) if name == "last_refusal" and value else _words(value)
        click.echo(f"{name.replace('_', ' '):>14}  {words}")


def _refusal(refused: dict[str, object]) -> str:
    release = "" if refused["release"] is None else f" of release {refused['release']}"
    return f"{refused['error']}{release}, {refused['at']}: {refused['message']}"


def _words(value: object) -> str:
    if value is None or value in ((), {}):
        return "-"
    if isinstance(value, dict):
        return ", ".join(
            f"{kind}: {each}" if isinstance(each, str) else f"{each} {kind}" for kind, each in value.items()
        )
    if isinstance(value, tuple) and isinstance(value[0], dict):
        return ", ".join(f"{each['sku']} ({each['state']}, {each['photos']} photos)" for each in value)
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value)
