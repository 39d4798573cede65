"""`shelfsight-cloud keys`: who may sign what, until when, where the private keys are; how that changes."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cloud import keyfiles, signing
from cloud.ceremony import (
    Changes,
    Draft,
    Tally,
    as_role,
    key_ids_of,
    role_of,
    short,
    signers_needed,
)
from cloud.commands.options import data_option, json_option, open_workspace, print_json
from edge.errors import BadSetting, ShelfsightError, StorageUnusable

if TYPE_CHECKING:
    from cloud.workspace import Workspace

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)
_keys_option = click.option(
    "--keys",
    "folders",
    type=_FOLDER,
    multiple=True,
    envvar="SHELFSIGHT_KEYS",
    help="A folder with offline keys, as a stick; give it for each. The data folder is looked at too.",
)


@click.group("keys", invoke_without_command=True)
@click.option("--renew", is_flag=True, help="Sign root and targets for another year first.")
@_keys_option
@data_option
@json_option
@click.pass_context
def command(ctx: click.Context, renew: bool, folders: tuple[Path, ...], data: Path, as_json: bool) -> None:
    """List the signing roles with their keys, expiry, and where the private keys are.

    The commands below change who may sign, in a ceremony of several holders: docs/keys.md tells how.
    """
    if ctx.invoked_subcommand is not None:
        ctx.obj = data
        return
    workspace = open_workspace(data)
    looked_at = (*folders, workspace.keys)
    if renew:
        _check_sticks(folders)
        signing.renew(workspace.metadata, *looked_at, online_keys=workspace.keys)
    statuses = signing.roles(workspace.metadata, *looked_at)
    warnings = _warnings(workspace, statuses)
    if as_json:
        print_json(
            {
                "fingerprint": signing.fingerprint(workspace.metadata),
                "roles": [_record(each) for each in statuses],
                "warnings": list(warnings),
            }
        )
        return
    for status in statuses:
        kind = "offline" if status.offline else "online"
        click.echo(
            f"{status.role:<9} {kind:<7} {status.threshold} of {len(status.key_ids)} "
            f"{'key' if len(status.key_ids) == 1 else 'keys'}, expires {_text(status.expires)}"
        )
        for key in status.key_ids:
            click.echo(f"    {short(key)}…  {status.files.get(key, 'private key not here')}")
    click.echo(f"devices trust the root {signing.fingerprint(workspace.metadata)}")
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


@command.command("new")
@click.argument("file", type=_FILE)
def new(file: Path) -> None:
    """Make a key: the private half in FILE (.pem), the public half beside it (.pub).

    Run it on the machine and the stick where the key is to stay; only the .pub leaves it.
    """
    key = keyfiles.new_key(file)
    click.echo(f"{file} is the private key {short(key.keyid)}: keep it here, and a copy in another safe")
    click.echo(f"{file.with_suffix(keyfiles.PUBLIC)} is its public half: give it to who drafts the root")


@command.command("move")
@click.argument("file", type=_FILE)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
def move(file: Path, folder: Path) -> None:
    """Move a private key FILE to a FOLDER on a stick, and delete it here once it reads there.

    A disk may keep deleted bytes. A key that must never have been on this machine is made with `keys new`
    where it is to stay.
    """
    click.echo(f"{keyfiles.move_key(file, folder)} is where the key lies now; it is gone from {file.parent}")


@command.command("draft")
@click.argument("draft", type=_FILE)
@click.option("--rotate", multiple=True, metavar="ROLE=FILE", help="Replace all keys of a role by this one.")
@click.option("--add", multiple=True, metavar="ROLE=FILE", help="Add a key, of its .pub or .pem.")
@click.option("--revoke", multiple=True, metavar="KEYID", help="Revoke the key whose id begins so.")
@click.option("--threshold", multiple=True, metavar="ROLE=N", help="How many keys of a role must sign.")
@data_option
def draft_(
    draft: Path,
    *,
    rotate: tuple[str, ...],
    add: tuple[str, ...],
    revoke: tuple[str, ...],
    threshold: tuple[str, ...],
    data: Path,
) -> None:
    """Write a DRAFT of the next root, for the holders to sign; without options it only renews the root.

    What is there under its name is never overwritten: it may be a draft that holders have signed.
    """
    before = signing.root_bytes(open_workspace(data).metadata)
    rotated = [_pair(each, "--rotate") for each in rotate]
    added = [*rotated, *(_pair(each, "--add") for each in add)]
    changes = Changes(
        add=[(as_role(role), keyfiles.open_public(Path(file))) for role, file in added],
        revoke=[*revoke, *(key for role, _ in rotated for key in key_ids_of(before, as_role(role)))],
        thresholds={
            as_role(role): _count(count) for role, count in (_pair(each, "--threshold") for each in threshold)
        },
    )
    made = Draft.make(before, changes)
    if draft.exists():
        raise BadSetting(f"{draft} is there already, and may be signed: delete it, or choose another name")
    made.write(draft)
    _show(made, draft)


@command.command("show")
@click.argument("draft", type=_FILE)
@json_option
def show(draft: Path, as_json: bool) -> None:
    """Say what a DRAFT changes, who has signed it and who is missing; what is dangerous is refused."""
    opened = Draft.read(draft)
    if not as_json:
        _show(opened, draft)
        return
    old, new_ = opened.tallies()
    print_json(
        {
            "fingerprint": opened.fingerprint,
            "version": opened.version,
            "expires": _text(opened.expires),
            "changes": list(opened.changes()),
            "old_root": _tally_record(old),
            "new_root": _tally_record(new_),
            "ready": not old.missing and not new_.missing,
            "warnings": list(opened.warnings()),
        }
    )


@command.command("sign")
@click.argument("draft", type=_FILE)
@click.option("--key", type=_FILE, required=True, help="Your private root key, a .pem file.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def sign(draft: Path, key: Path, yes: bool) -> None:
    """Sign a DRAFT with your root key, after showing what it changes; needs no data folder and no network."""
    opened = Draft.read(draft)
    signer = keyfiles.open_key(key)
    _show(opened, draft)
    if not yes:
        click.confirm(f"Sign this with the key {short(signer.public_key.keyid)}?", abort=True)
    is_new = opened.sign(signer)
    opened.write(draft)
    click.echo(f"{'Signed' if is_new else 'This key had signed it already'}. {_outlook(opened, draft)}")


@command.command("publish")
@click.argument("drafts", metavar="DRAFT...", type=_FILE, nargs=-1, required=True)
@_keys_option
@data_option
def publish(drafts: tuple[Path, ...], folders: tuple[Path, ...], data: Path) -> None:
    """Make a DRAFT that enough holders have signed the root in force; they may have signed copies of it.

    What keys that it changes have signed is signed again at once, so it needs a new targets key, in a folder
    that --keys names. Killed on the way, it is just called again.
    """
    workspace = open_workspace(data)
    _check_sticks(folders)
    opened = Draft.read(drafts[0])
    for copy in drafts[1:]:
        opened.merge(Draft.read(copy))
    in_force = signing.root_bytes(workspace.metadata)
    here = signing.fingerprint(workspace.metadata)
    if opened.root_json != in_force and opened.fingerprint != here:
        raise BadSetting(
            f"{drafts[0]} follows the root {opened.fingerprint}, and {here} is in force in {data}: publish "
            "it where `shelfsight-cloud keys` shows that root, or draft it again"
        )
    _publish(workspace, opened, folders)


@command.command("rotate")
@click.argument("roles", metavar="ROLE...", type=click.Choice(signing.ROLES), nargs=-1, required=True)
@_keys_option
@data_option
def rotate(roles: tuple[str, ...], folders: tuple[Path, ...], data: Path) -> None:
    """Replace all keys of each ROLE by new ones in one go, where enough root keys are here at once.

    A ROLE is one of root, targets, snapshot, timestamp; name all at once whose keys are lost.
    """
    workspace = open_workspace(data)
    before = signing.root_bytes(workspace.metadata)
    chosen = dict.fromkeys(map(as_role, roles))
    _replace(workspace, [(role, key) for role in chosen for key in key_ids_of(before, role)], folders)


@command.command("revoke")
@click.argument("key_id", metavar="KEYID")
@_keys_option
@data_option
def revoke(key_id: str, folders: tuple[Path, ...], data: Path) -> None:
    """Replace the key whose id begins with KEYID by a new one, where enough root keys are here at once."""
    workspace = open_workspace(data)
    role, whole = role_of(signing.root_bytes(workspace.metadata), key_id)
    _replace(workspace, [(role, whole)], folders)


def _replace(
    workspace: "Workspace", revoked: Sequence[tuple[signing.RoleName, str]], folders: tuple[Path, ...]
) -> None:
    """Draft, sign and publish a root that has new keys in the place of the `revoked` ones."""
    _check_sticks(folders)
    looked_at = (*folders, workspace.keys)
    (root,) = (each for each in signing.roles(workspace.metadata, *looked_at) if each.role == "root")
    if not root.can_sign:
        for path in (path for folder in looked_at for path in sorted(folder.glob("root*.pem"))):
            keyfiles.open_key(path)  # says what is wrong with it, if it cannot be read
        raise StorageUnusable(
            f"{len(root.files)} of the {root.threshold} root keys that must sign are here: name the others' "
            "folders with --keys, or let each holder sign with `shelfsight-cloud keys draft` and `keys sign`"
        )
    files: list[tuple[signing.RoleName, Path]] = []
    try:
        for role, _ in revoked:
            file = _free_name(looked_at[0] if role in signing.OFFLINE else workspace.keys, role)
            files.append((role, file))
            keyfiles.new_key(file)
        added = [(role, keyfiles.open_public(file)) for role, file in files]
        before = signing.root_bytes(workspace.metadata)
        draft = Draft.make(before, Changes(add=added, revoke=[key for _, key in revoked]))
        here = keyfiles.find_keys(looked_at)
        for key_id in signers_needed(draft, here):
            draft.sign(keyfiles.open_key(here[key_id]))
        _publish(workspace, draft, folders)
    except ShelfsightError:
        _take_back(workspace, [file for _, file in files])
        raise
    for role, file in files:
        click.echo(f"{file} is a new {role} key")
    if sum(role == "root" for role, _ in files) > 1:
        click.echo(
            f"warning: the new root keys lie together in {looked_at[0]}: move each to a stick of its own, "
            "`shelfsight-cloud keys move FILE STICK`",
            err=True,
        )
    for _, key_id in revoked:
        if key_id in here:
            click.echo(f"{here[key_id]} signs nothing any more: delete it")


def _take_back(workspace: "Workspace", files: Sequence[Path]) -> None:
    """Delete new keys that did not come into force, so that the next attempt finds none of them."""
    root = signing.root_bytes(workspace.metadata)
    in_force = {key for role in signing.ROLES for key in key_ids_of(root, role)}
    for key_id, file in keyfiles.find_keys({file.parent for file in files}).items():
        if file in files and key_id not in in_force:
            for half in (file, file.with_suffix(keyfiles.PUBLIC)):
                half.unlink(missing_ok=True)


def _check_sticks(folders: tuple[Path, ...]) -> None:
    for folder in folders:
        if not folder.is_dir():
            raise StorageUnusable(f"{folder} is not there: plug its stick in, or name the right folder")


def _publish(workspace: "Workspace", draft: Draft, folders: tuple[Path, ...]) -> None:
    again = signing.publish_root(
        workspace.metadata, draft.root_json, (*folders, workspace.keys), workspace.keys
    )
    signed = "targets, snapshot and timestamp" if again else "snapshot and timestamp"
    click.echo(f"Root {draft.version} is in force until {_text(draft.expires)}; {signed} are signed by it.")
    click.echo(
        f"Devices follow it; new enrollment codes end with {signing.fingerprint(workspace.metadata)}, "
        "and those printed before do not work any more."
    )


def _show(draft: Draft, path: Path) -> None:
    click.echo(f"Root {draft.version}, to follow the root {draft.fingerprint}:")
    for line in draft.changes():
        click.echo(f"  {line}")
    for whose, tally in zip(("old", "new"), draft.tallies(), strict=True):
        click.echo(
            f"The {whose} root asks for {tally.threshold} of {len(tally.signed) + len(tally.unsigned)} "
            f"signatures: {', '.join(map(short, tally.signed)) or 'none'} signed, "
            f"{', '.join(map(short, tally.unsigned)) or 'none'} did not."
        )
    for warning in draft.warnings():
        click.echo(f"warning: {warning}", err=True)
    click.echo(_outlook(draft, path))


def _outlook(draft: Draft, path: Path) -> str:
    old, new_ = draft.tallies()
    if not old.missing and not new_.missing:
        return f"It is ready: shelfsight-cloud keys publish {path}"
    return (
        f"It lacks {old.missing} of the old root's keys and {new_.missing} of the new one's: "
        f"shelfsight-cloud keys sign {path} --key FILE"
    )


def _warnings(workspace: "Workspace", statuses: Sequence[signing.RoleStatus]) -> tuple[str, ...]:
    warnings = list(signing.running_out(workspace.metadata))
    on_server = keyfiles.find_keys((workspace.keys,))
    root, targets = statuses[0], statuses[1]
    together = [str(on_server[key]) for key in root.key_ids if key in on_server]
    if len(together) >= root.threshold:
        warnings.insert(
            0,
            f"{len(together)} ROOT KEYS LIE TOGETHER ON THIS SERVER, AND WHO GETS IN CAN SIGN ANYTHING: "
            f"move {', '.join(together)} to a stick each, `shelfsight-cloud keys move FILE STICK`",
        )
    if root.threshold == 1:
        warnings.append("one root key alone replaces all keys: make it two of three, see docs/keys.md")
    warnings += [
        f"the targets key {on_server[key]} lies on this server: who gets in can publish"
        for key in targets.key_ids
        if key in on_server
    ]
    trusted = {key for each in statuses for key in each.key_ids}
    warnings += [
        f"{path} signs nothing (any more): delete it" for key, path in on_server.items() if key not in trusted
    ]
    return tuple(warnings)


def _record(status: signing.RoleStatus) -> dict[str, object]:
    return {
        "role": status.role,
        "offline": status.offline,
        "threshold": status.threshold,
        "key_ids": list(status.key_ids),
        "key_files": {key: str(path) for key, path in status.files.items()},
        "key_here": status.can_sign,
        "version": status.version,
        "expires": _text(status.expires),
    }


def _tally_record(tally: Tally) -> dict[str, object]:
    return {
        "threshold": tally.threshold,
        "signed": list(tally.signed),
        "unsigned": list(tally.unsigned),
        "missing": tally.missing,
    }


def _pair(text: str, option: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if not value:
        raise BadSetting(f"{option} {text!r} is not of the form ROLE=…: name the role first")
    return name, value


def _count(text: str) -> int:
    if not text.isdecimal():
        raise BadSetting(f"a threshold of {text!r} is no number: say how many keys must sign")
    return int(text)


def _free_name(folder: Path, role: str) -> Path:
    number = 1
    while any((folder / f"{role}-{number}{end}").exists() for end in (keyfiles.PRIVATE, keyfiles.PUBLIC)):
        number += 1
    return folder / f"{role}-{number}{keyfiles.PRIVATE}"


def _text(when: datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"  # not by cloud.times, which brings what a holder's laptop lacks
