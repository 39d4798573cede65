"""Keys that are rotated, lost and stolen, with the real commands; python-tuf's own client is the device."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root

from cloud import keyfiles, signing
from cloud.ceremony import Changes, Draft
from cloud.commands import main
from cloud.ticking import Ticker
from cloud.workspace import Workspace
from edge.errors import BadSetting, StorageUnusable
from tests.cloud.test_signing import client


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the disk: no test here pulls a plug."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def shop(tmp_path: Path) -> Workspace:
    """Give a repository whose root keys were moved to the sticks a, b and c, the targets key to t."""
    workspace = Workspace.create(tmp_path / "shop")
    signing.create_repository(workspace.metadata, workspace.keys)
    for name, stick in (("root-1", "a"), ("root-2", "b"), ("root-3", "c"), ("targets", "t")):
        (tmp_path / stick).mkdir()
        keyfiles.move_key(workspace.keys / f"{name}.pem", tmp_path / stick)
    return workspace


@pytest.fixture
def device(shop: Workspace, tmp_path: Path) -> "Device":
    return Device(shop, tmp_path / "device", signing.root_bytes(shop.metadata))


class Device:
    """A device that trusted the repository once, and may sleep through what happens to its keys."""

    def __init__(self, shop: Workspace, folder: Path, root: bytes) -> None:
        self.shop, self.folder, self.root = shop, folder, root

    def believes(self) -> int:
        """Refresh, and return the version of the root that it trusts now."""
        client(self.shop.metadata, self.folder, self.root).refresh()
        return int((self.folder / "root.json").resolve().name.partition(".")[0])


def run(shop: Workspace, *words: object) -> Result:
    anywhere = {"new", "move", "show", "sign"} & set(words)  # these need no data folder
    data = [] if anywhere else ["--data", str(shop.data)]
    return CliRunner().invoke(main, [*map(str, words), *data])


def done(shop: Workspace, *words: object) -> str:
    result = run(shop, *words)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(shop: Workspace, *words: object) -> str:
    result = run(shop, *words)
    assert result.exit_code == 1, result.output
    return result.stderr


def ids(shop: Workspace, role: signing.RoleName) -> tuple[str, ...]:
    return next(each.key_ids for each in signing.roles(shop.metadata) if each.role == role)


# One step after the other, on different machines -----------------------------------------------------------


def test_a_lost_root_key_is_replaced_by_two_holders_who_never_meet(
    shop: Workspace, device: Device, tmp_path: Path
) -> None:
    draft, stick = tmp_path / "next.json", tmp_path / "d"
    stick.mkdir()
    done(shop, "keys", "new", stick / "root-4.pem")
    lost = ids(shop, "root")[0]
    shown = done(shop, "keys", "draft", draft, "--revoke", lost[:16], "--add", f"root={stick / 'root-4.pub'}")
    assert f"root: revokes key {lost[:16]}" in shown
    assert "It lacks 2 of the old root's keys and 2 of the new one's" in shown

    for holder, outlook in (("b/root-2", "It lacks 1 of the old"), ("c/root-3", "It is ready")):
        assert "of the 2 keys of the old root that must sign" in refused(shop, "keys", "publish", draft)
        assert outlook in done(shop, "keys", "sign", draft, "--key", tmp_path / f"{holder}.pem", "--yes")
    record = json.loads(done(shop, "keys", "show", draft, "--json"))
    assert record["ready"]
    assert record["fingerprint"] == signing.fingerprint(shop.metadata)
    assert [record[whose]["missing"] for whose in ("old_root", "new_root")] == [0, 0]
    assert len(record["new_root"]["unsigned"]) == 1

    assert device.believes() == 1
    assert "Root 2 is in force" in done(shop, "keys", "publish", draft)
    assert lost not in ids(shop, "root")
    assert device.believes() == 2
    signing.tick(shop.metadata, shop.keys)
    assert device.believes() == 2


def test_holders_may_sign_copies_of_a_draft_at_the_same_time(
    shop: Workspace, device: Device, tmp_path: Path
) -> None:
    drafts = [tmp_path / "one.json", tmp_path / "two.json"]
    done(shop, "keys", "draft", drafts[0])
    drafts[1].write_bytes(drafts[0].read_bytes())
    done(shop, "keys", "sign", drafts[0], "--key", tmp_path / "a" / "root-1.pem", "--yes")
    done(shop, "keys", "sign", drafts[1], "--key", tmp_path / "b" / "root-2.pem", "--yes")
    refused(shop, "keys", "publish", drafts[1])
    done(shop, "keys", "publish", *drafts)
    assert device.believes() == 2

    done(shop, "keys", "draft", tmp_path / "three.json")
    assert "two different drafts" in refused(shop, "keys", "publish", tmp_path / "three.json", drafts[1])


def test_a_holder_is_asked_before_signing(shop: Workspace, tmp_path: Path) -> None:
    draft = tmp_path / "next.json"
    done(shop, "keys", "draft", draft)
    words = ["keys", "sign", str(draft), "--key", str(tmp_path / "a" / "root-1.pem")]
    before = draft.read_bytes()
    assert CliRunner().invoke(main, words, input="n\n").exit_code == 1
    assert draft.read_bytes() == before
    asked = CliRunner().invoke(main, words, input="y\n")
    assert asked.exit_code == 0
    assert "root: lives until" in asked.stdout.partition("Sign this")[0]


def test_a_holder_needs_neither_the_data_folder_nor_the_packages_of_the_server(
    shop: Workspace, tmp_path: Path
) -> None:
    draft = tmp_path / "next.json"
    done(shop, "keys", "draft", draft)
    program = (
        "import sys; sys.modules['sqlalchemy'] = sys.modules['flask'] = None\n"
        "from cloud.commands import main; main()"
    )
    words = ["keys", "sign", str(draft), "--key", str(tmp_path / "a" / "root-1.pem"), "--yes"]
    result = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "It lacks 1 of the old root's keys" in result.stdout


def test_a_repository_of_one_root_key_becomes_one_of_two_of_three(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "old")
    root = Root(expires=signing.expiry("root"), consistent_snapshot=True)
    for role in signing.ROLES:
        signer = CryptoSigner.generate_ed25519()
        (workspace.keys / f"{role}.pem").write_bytes(signer.private_bytes)
        root.add_key(signer.public_key, role)
    first = Metadata(root)
    first.sign(keyfiles.open_key(workspace.keys / "root.pem"))
    (workspace.metadata / "1.root.json").write_bytes(first.to_bytes())
    signing.create_repository(workspace.metadata, workspace.keys)
    assert not (workspace.keys / "root-1.pem").exists()
    device = Device(workspace, tmp_path / "device", signing.root_bytes(workspace.metadata))
    signing.add_target(workspace.metadata, workspace.keys, "releases/1.json", b"{}")
    signing.renew(workspace.metadata, workspace.keys)
    assert device.believes() == 2
    assert "one root key alone" in run(workspace, "keys").stderr

    added = []
    for number in (2, 3):
        done(workspace, "keys", "new", tmp_path / f"root-{number}.pem")
        added += ["--add", f"root={tmp_path / f'root-{number}.pub'}"]
    draft = tmp_path / "next.json"
    done(workspace, "keys", "draft", draft, *added, "--threshold", "root=2")
    for key in (workspace.keys / "root.pem", tmp_path / "root-3.pem"):
        done(workspace, "keys", "sign", draft, "--key", key, "--yes")
    done(workspace, "keys", "publish", draft)
    assert device.believes() == 3
    with pytest.raises(StorageUnusable, match="2 of the 3 root keys are needed"):
        signing.renew(workspace.metadata, workspace.keys)
    signing.renew(workspace.metadata, workspace.keys, tmp_path, online_keys=workspace.keys)
    assert device.believes() == 4


# In one go, with the sticks plugged in ---------------------------------------------------------------------


@pytest.mark.parametrize("role", signing.ROLES)
def test_every_role_is_rotated_in_one_go_and_devices_follow(
    shop: Workspace, device: Device, tmp_path: Path, role: signing.RoleName
) -> None:
    signing.add_target(shop.metadata, tmp_path / "t", "releases/1.json", b"{}", online_keys=shop.keys)
    before = ids(shop, role)
    device.believes()
    told = run(
        shop,
        "keys",
        "rotate",
        role,
        "--keys",
        tmp_path / "a",
        "--keys",
        tmp_path / "b",
        "--keys",
        tmp_path / "t",
    )
    after = ids(shop, role)
    assert len(after) == len(before)
    assert not set(after) & set(before)
    assert f"is a new {role} key" in told.stdout
    assert ("new root keys lie together" in told.stderr) == (role == "root")
    assert device.believes() == 2
    assert signing.target_names(shop.metadata) == ("releases/1.json",)

    folder = tmp_path / ("t" if role != "targets" else "a")
    signing.add_target(shop.metadata, folder, "releases/2.json", b"{}", online_keys=shop.keys)
    device.believes()


def test_with_the_targets_key_the_bins_of_many_stores_are_signed_again(
    shop: Workspace, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"releases/1/s{number}.json" for number in range(50)]
    signing.add_targets(shop.metadata, tmp_path / "t", dict.fromkeys(names, b"{}"), online_keys=shop.keys)
    device.believes()
    sticks = [word for stick in "tab" for word in ("--keys", tmp_path / stick)]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(signing, "_write_targets", _killed)
        signing_keys_rotated(shop, tmp_path)
    # The next publish, with the new key, mends what the kill left.
    signing.add_targets(shop.metadata, tmp_path / "t", {"releases/2.json": b"{}"}, online_keys=shop.keys)
    assert device.believes() == 2
    updater = client(shop.metadata, device.folder, device.root)
    assert all(updater.get_targetinfo(name) for name in (*names, "releases/2.json"))

    done(shop, "keys", "rotate", "targets", *sticks)
    assert device.believes() == 3
    updater = client(shop.metadata, device.folder, device.root)
    assert all(updater.get_targetinfo(name) for name in (*names, "releases/2.json"))


def signing_keys_rotated(shop: Workspace, sticks: Path) -> None:
    """Rotate the targets key step by step, so that a kill comes out as it is."""
    key = keyfiles.new_key(sticks / "t" / "targets-2.pem")
    (before,) = ids(shop, "targets")
    draft = Draft.make(signing.root_bytes(shop.metadata), Changes(add=[("targets", key)], revoke=[before]))
    for name in ("a/root-1", "b/root-2"):
        draft.sign(keyfiles.open_key(sticks / f"{name}.pem"))
    signing.publish_root(shop.metadata, draft.root_json, (sticks / "t",), shop.keys)


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_stolen_key_is_revoked_in_one_go(shop: Workspace, device: Device, tmp_path: Path) -> None:
    device.believes()
    stolen = tmp_path / "c" / "root-3.pem"
    told = done(
        shop,
        *("keys", "revoke", keyfiles.open_key(stolen).public_key.keyid[:12]),
        *("--keys", tmp_path / "a", "--keys", tmp_path / "b"),
    )
    assert "is a new root key" in told
    assert device.believes() == 2
    draft = tmp_path / "next.json"
    done(shop, "keys", "draft", draft)
    assert "neither of the old root nor of the new" in refused(
        shop, "keys", "sign", draft, "--key", stolen, "--yes"
    )


def test_a_server_whose_online_keys_burned_gets_new_ones_in_one_go(
    shop: Workspace, device: Device, tmp_path: Path
) -> None:
    device.believes()
    for key in shop.keys.glob("*.pem"):
        key.unlink()
    sticks = [word for stick in "ab" for word in ("--keys", tmp_path / stick)]
    # One alone cannot be: the other must sign too. Nothing stays behind of the attempt.
    assert "keys rotate ROLE..." in refused(shop, "keys", "rotate", "snapshot", *sticks)
    assert not list(shop.keys.iterdir())
    told = done(shop, "keys", "rotate", "snapshot", "timestamp", *sticks)
    assert "is a new snapshot key" in told
    assert "is a new timestamp key" in told
    done(shop, "tick")
    assert device.believes() == 2


def test_with_too_few_root_keys_nothing_is_begun(shop: Workspace, tmp_path: Path) -> None:
    before = sorted(path.name for path in tmp_path.rglob("*"))
    assert "1 of the 2 root keys that must sign are here" in refused(
        shop, "keys", "rotate", "timestamp", "--keys", tmp_path / "a"
    )
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


# What could lock devices out -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--threshold", "root=4"], "root would need 4 of 3 keys"),
        (["--threshold", "targets=0"], "targets would need 0 of 1 keys"),
        (["--threshold", "root=two"], "no number"),
        (["--revoke", "TARGETS"], "targets would need 1 of 0 keys"),
        (["--revoke", "abcdefgh"], "names none of the keys"),
        (["--revoke", "a"], "eight or more letters"),
        (["--add", "root=ONLINE"], "an offline key that lies on the server"),
        (["--add", "boss=ONLINE"], "no role 'boss'"),
        (["--add", "root"], "name the role first"),
        (["--add", "root=NOTHING"], "cannot be used"),
    ],
)
def test_a_draft_that_cannot_be_is_not_even_written(
    shop: Workspace, tmp_path: Path, words: list[str], says: str
) -> None:
    known = {
        "TARGETS": ids(shop, "targets")[0],
        "ONLINE": str(shop.keys / "timestamp.pem"),
        "NOTHING": str(tmp_path / "nothing.pub"),
    }
    for name, value in known.items():
        words = [word.replace(name, value) for word in words]
    assert says in refused(shop, "keys", "draft", tmp_path / "next.json", *words)
    assert not (tmp_path / "next.json").exists()


def test_a_draft_that_was_changed_on_the_way_is_refused_by_the_next_who_opens_it(
    shop: Workspace, tmp_path: Path
) -> None:
    draft = tmp_path / "next.json"
    done(shop, "keys", "draft", draft)
    done(shop, "keys", "sign", draft, "--key", tmp_path / "a" / "root-1.pem", "--yes")
    good = draft.read_text()
    for spoil, says in (
        (good.replace(r"\"threshold\":2", r"\"threshold\":7"), "would need 7 of 3"),
        (good.replace(r"\"version\":2", r"\"version\":5"), "cannot follow"),
        (good[:-90], "no draft"),
        ("[]", "no draft"),
        ('{"before": "{}", "after": "{}"}', "no draft"),
    ):
        draft.write_text(spoil)
        assert says in refused(shop, "keys", "show", draft)
        assert says in refused(shop, "keys", "sign", draft, "--key", tmp_path / "b" / "root-2.pem", "--yes")
        assert says in refused(shop, "keys", "publish", draft)
    # A harmless change does not lock anybody out: it takes the signatures away.
    draft.write_text(good.replace(r"\"expires\":\"2", r"\"expires\":\"3"))
    assert json.loads(done(shop, "keys", "show", draft, "--json"))["old_root"]["signed"] == []


@pytest.mark.parametrize("role", ["root", "targets"])
def test_a_draft_with_another_key_under_an_id_that_holders_know_is_refused(
    shop: Workspace, tmp_path: Path, role: signing.RoleName
) -> None:
    # Whoever owns the server writes the draft: what `show` compares by ids must be told by ids.
    draft, thief = tmp_path / "next.json", CryptoSigner.generate_ed25519()
    done(shop, "keys", "draft", draft)
    record = json.loads(draft.read_text())
    after = json.loads(record["after"])
    swapped = ids(shop, role)[-1]
    after["signed"]["keys"][swapped]["keyval"] = thief.public_key.to_dict()["keyval"]
    draft.write_text(json.dumps({**record, "after": json.dumps(after)}))
    says = f"another key under the id {swapped[:16]}"
    assert says in refused(shop, "keys", "show", draft)
    assert says in refused(shop, "keys", "sign", draft, "--key", tmp_path / "a" / "root-1.pem", "--yes")
    # Nor may one new key count twice, under a second id that it made up.
    draft.unlink()
    done(shop, "keys", "new", tmp_path / "new.pem")
    done(shop, "keys", "draft", draft, "--add", f"{role}={tmp_path / 'new.pub'}")
    record = json.loads(draft.read_text())
    after = json.loads(record["after"])
    (new,) = set(after["signed"]["roles"][role]["keyids"]) - set(ids(shop, role))
    after["signed"]["keys"]["0" * 64] = after["signed"]["keys"][new]
    after["signed"]["roles"][role]["keyids"].append("0" * 64)
    draft.write_text(json.dumps({**record, "after": json.dumps(after)}))
    assert "another key under the id 0000" in refused(shop, "keys", "show", draft)


def test_a_tired_holder_is_told_what_is_wrong_and_what_to_do(shop: Workspace, tmp_path: Path) -> None:
    draft, key = tmp_path / "next.json", tmp_path / "a" / "root-1.pem"
    done(shop, "keys", "draft", draft)
    sign = ("keys", "sign", draft, "--yes", "--key")
    assert "Signed." in done(shop, *sign, key)
    assert "had signed it already. It lacks 1 of the old" in done(shop, *sign, key)
    assert "1 of the 2 keys of the old root that must sign" in refused(shop, "keys", "publish", draft)
    keyfiles.write_public(key)
    assert "give the .pem file beside it" in refused(shop, *sign, key.with_suffix(".pub"))
    private = load_pem_private_key((tmp_path / "b" / "root-2.pem").read_bytes(), None)
    phrase = BestAvailableEncryption(b"a phrase")
    locked = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, phrase)
    (tmp_path / "b" / "root-2.pem").write_bytes(locked)
    assert "locked with a pass phrase" in refused(shop, *sign, tmp_path / "b" / "root-2.pem")
    sticks = ("--keys", tmp_path / "a", "--keys", tmp_path / "b")
    assert "locked with a pass phrase" in refused(shop, "keys", "rotate", "timestamp", *sticks)
    away = ("--keys", tmp_path / "drawer")
    for words in (["rotate", "snapshot"], ["publish", draft], ["--renew"]):
        assert "plug its stick in" in refused(shop, "keys", *words, *away)


def test_a_draft_of_a_root_that_was_replaced_meanwhile_is_refused(shop: Workspace, tmp_path: Path) -> None:
    stale = Draft.make(signing.root_bytes(shop.metadata), Changes())
    signing.renew(shop.metadata, tmp_path / "a", tmp_path / "b", tmp_path / "t", online_keys=shop.keys)
    signing.renew(shop.metadata, tmp_path / "a", tmp_path / "b", tmp_path / "t", online_keys=shop.keys)
    for stick in ("a/root-1", "b/root-2"):
        stale.sign(keyfiles.open_key(tmp_path / f"{stick}.pem"))
    with pytest.raises(BadSetting, match="root 3 is in force"):
        signing.publish_root(shop.metadata, stale.root_json, (tmp_path / "t",), shop.keys)
    stale.write(tmp_path / "stale.json")
    here = signing.fingerprint(shop.metadata)
    assert f"follows the root {stale.fingerprint}, and {here} is in force" in refused(
        shop, "keys", "publish", tmp_path / "stale.json"
    )


def test_what_is_unwise_is_warned_of(shop: Workspace, tmp_path: Path) -> None:
    draft = tmp_path / "next.json"
    done(shop, "keys", "draft", draft, "--threshold", "root=3")
    assert (
        "one lost key locks you out" in json.loads(done(shop, "keys", "show", draft, "--json"))["warnings"][0]
    )
    assert "may be signed" in refused(shop, "keys", "draft", draft, "--threshold", "root=1")
    draft.unlink()
    done(shop, "keys", "draft", draft, "--threshold", "root=1")
    assert "one root key alone" in json.loads(done(shop, "keys", "show", draft, "--json"))["warnings"][0]


def test_a_root_whose_new_keys_are_not_here_is_not_published(shop: Workspace, tmp_path: Path) -> None:
    done(shop, "keys", "new", tmp_path / "new.pem")
    before = sorted(path.name for path in shop.metadata.iterdir())
    for role in ("targets", "timestamp"):
        draft = tmp_path / f"{role}.json"
        done(shop, "keys", "draft", draft, "--rotate", f"{role}={tmp_path / 'new.pub'}")
        for stick in ("a/root-1", "b/root-2"):
            done(shop, "keys", "sign", draft, "--key", tmp_path / f"{stick}.pem", "--yes")
        assert f"{role}" in refused(shop, "keys", "publish", draft)
        assert sorted(path.name for path in shop.metadata.iterdir()) == before


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_publish_that_is_killed_is_just_called_again(
    shop: Workspace, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    device.believes()
    draft = tmp_path / "next.json"
    done(shop, "keys", "new", tmp_path / "t" / "targets-2.pem")
    done(shop, "keys", "new", shop.keys / "timestamp-2.pem")
    done(
        shop,
        *("keys", "draft", draft),
        *("--rotate", f"targets={tmp_path / 't' / 'targets-2.pub'}"),
        *("--rotate", f"timestamp={shop.keys / 'timestamp-2.pub'}"),
    )
    for stick in ("a/root-1", "b/root-2"):
        done(shop, "keys", "sign", draft, "--key", tmp_path / f"{stick}.pem", "--yes")
    root_json = Draft.read(draft).root_json
    real, calls = signing.write_atomically, iter(range(100))

    def cut(path: Path, data: bytes) -> None:
        if next(calls) >= after:
            raise KeyboardInterrupt
        real(path, data)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(signing, "write_atomically", cut)
        signing.publish_root(shop.metadata, root_json, (tmp_path / "t",), shop.keys)
    done(shop, "keys", "publish", draft, "--keys", tmp_path / "t")
    assert device.believes() == 2


def test_a_server_whose_key_change_was_killed_signs_again_at_once(
    shop: Workspace, device: Device, tmp_path: Path
) -> None:
    ticker = Ticker(shop.metadata, shop.keys)
    timestamp = (shop.metadata / "timestamp.json").read_bytes()
    sticks = [word for stick in "ab" for word in ("--keys", tmp_path / stick)]
    done(shop, "keys", "rotate", "timestamp", *sticks)
    assert not ticker.tick_if_due()
    (shop.metadata / "timestamp.json").write_bytes(timestamp)  # as if killed before the last file
    assert ticker.tick_if_due()
    assert device.believes() == 2
    for path in shop.metadata.glob("*.snapshot.json"):
        path.write_bytes(b"")
    assert ticker.tick_if_due()
    assert device.believes() == 2


# Where the keys lie ----------------------------------------------------------------------------------------


def test_keys_says_loudly_that_root_keys_lie_together_on_the_server(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "new")
    signing.create_repository(workspace.metadata, workspace.keys)
    warnings = json.loads(run(workspace, "keys", "--json").stdout)["warnings"]
    assert warnings[0].startswith("3 ROOT KEYS LIE TOGETHER ON THIS SERVER")
    assert "targets key" in warnings[1]
    (tmp_path / "stick").mkdir()
    for name in ("root-1.pem", "root-2.pem"):
        done(workspace, "keys", "move", workspace.keys / name, tmp_path / "stick")
    done(workspace, "keys", "new", workspace.keys / "stray.pem")
    told = run(workspace, "keys").stderr
    assert "LIE TOGETHER" not in told
    assert "stray.pem signs nothing" in told


def test_a_key_is_moved_only_where_it_reads_back_and_overwrites_none(shop: Workspace, tmp_path: Path) -> None:
    key = tmp_path / "a" / "root-1.pem"
    done(shop, "keys", "move", key, tmp_path / "b")
    assert not key.exists()
    assert (tmp_path / "b" / "root-1.pem").stat().st_mode & 0o777 == 0o600
    (tmp_path / "c" / "root-1.pem").write_bytes(b"another")
    assert "already" in refused(shop, "keys", "move", tmp_path / "b" / "root-1.pem", tmp_path / "c")
    assert "already" in refused(shop, "keys", "new", tmp_path / "b" / "root-1.pem")
    assert "end in .pem" in refused(shop, "keys", "new", tmp_path / "b" / "root")
    assert (tmp_path / "b" / "root-1.pem").exists()


def test_a_move_of_a_key_that_was_cut_off_is_just_called_again(shop: Workspace, tmp_path: Path) -> None:
    key, there = tmp_path / "a" / "root-1.pem", tmp_path / "b" / "root-1.pem"
    assert "name the folder of its stick" in refused(shop, "keys", "move", key, key.parent)
    assert key.exists()
    there.write_bytes(key.read_bytes())  # as if killed before the public half was written
    done(shop, "keys", "move", key, there.parent)
    assert not key.exists()
    assert there.with_suffix(".pub").exists()


def test_root_and_targets_that_run_out_within_a_month_are_told(
    shop: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert signing.running_out(shop.metadata) == ()
    monkeypatch.setitem(signing.LIFETIMES, "root", timedelta(days=29))
    monkeypatch.setitem(signing.LIFETIMES, "targets", timedelta(days=-1))
    signing.renew(shop.metadata, tmp_path / "a", tmp_path / "b", tmp_path / "t", online_keys=shop.keys)
    root, targets = signing.running_out(shop.metadata)
    assert root.startswith(f"root runs out on {datetime.now(UTC) + timedelta(days=29):%Y-%m-%d}")
    assert targets.startswith("targets ran out on")
    assert json.loads(done(shop, "keys", "--json"))["warnings"] == [root, targets]
