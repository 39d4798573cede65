"""`shelfsight-cloud keys`: who may sign what, until when, and where the private keys are."""

from pathlib import Path

import click

from cloud import signing
from cloud.commands.options import data_option, json_option, open_workspace, print_json
from cloud.times import rfc3339


@click.command("keys")
@click.option("--renew", is_flag=True, help="Sign root and targets for another year first.")
@click.option(
    "--keys",
    "offline_keys",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="SHELFSIGHT_KEYS",
    help="The folder with the offline keys root.pem and targets.pem, when they are not in the data folder.",
)
@data_option
@json_option
def command(renew: bool, offline_keys: Path | None, data: Path, as_json: bool) -> None:
    """List the signing roles with their key ids, expiry, and whether the private key is here."""
    workspace = open_workspace(data)
    folder = offline_keys or workspace.keys
    if renew:
        signing.renew(workspace.metadata, folder, online_keys=workspace.keys)
    statuses = [
        *(role for role in signing.roles(workspace.metadata, folder) if role.offline),
        *(role for role in signing.roles(workspace.metadata, workspace.keys) if not role.offline),
    ]
    if as_json:
        print_json(
            {
                "fingerprint": signing.fingerprint(workspace.metadata),
                "roles": [_record(each) for each in statuses],
            }
        )
        return
    for status in statuses:
        where = "private key here" if status.key_here else f"private key not at {status.key_file}"
        kind = "offline" if status.offline else "online"
        click.echo(
            f"{status.role:<9} {kind:<7} expires {rfc3339(status.expires)}  "
            f"{', '.join(key[:16] for key in status.key_ids)}…  {where}"
        )
    click.echo(f"devices trust the root {signing.fingerprint(workspace.metadata)}")


def _record(status: signing.RoleStatus) -> dict[str, object]:
    return {
        "role": status.role,
        "offline": status.offline,
        "key_ids": list(status.key_ids),
        "version": status.version,
        "expires": rfc3339(status.expires),
        "key_file": str(status.key_file),
        "key_here": status.key_here,
    }
