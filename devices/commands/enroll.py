"""`shelfsight enroll`: give this device its server."""

import json
from pathlib import Path

import click

from devices.commands.options import data_option, json_option


@click.command()
@click.argument("url")
@click.argument("code")
@click.option("--name", help="What people call this device.  [default: the machine's name]")
@click.option("--profile", help="The kind of hardware, such as kiosk-x86.")
@click.option("--replace", is_flag=True, help="Give a device that is enrolled already a new identity.")
@json_option
@data_option
def command(
    *,
    url: str,
    code: str,
    name: str | None,
    profile: str | None,
    replace: bool,
    as_json: bool,
    data: Path | None,
) -> None:
    """Enroll this device at the server URL with a CODE from `shelfsight-cloud fleet code`."""
    from devices.config import keep_settings, load_settings
    from devices.device import Device
    from devices.enrollment import enroll

    settings = load_settings(data, flags={"name": name, "profile": profile})
    enrollment = enroll(settings, url, code, replace=replace)
    keep_settings(settings.data, {"name": name, "profile": profile})
    Device(settings).record("enrolled", {"url": enrollment.url, "name": settings.name})
    if as_json:
        click.echo(json.dumps({"device_id": enrollment.device_id, "url": enrollment.url}))
    else:
        click.echo(f"enrolled as {enrollment.device_id} at {enrollment.url}; next: shelfsight sync --once")
