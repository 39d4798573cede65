"""Private signing keys in files: made, found by what they sign, moved to a stick.

A key is an Ed25519 key in a PEM file (PKCS #8, without a password) that its owner alone may read; beside it
may lie its public half, `.pub`, for whoever drafts a root. Which role a key signs is said by the root
metadata, which names its public half; the names of the files are for people.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.signer import CryptoSigner, Key, SSlibKey

from edge.disk import storage_error, sync_folder, write_atomically
from edge.errors import BadSetting, StorageUnusable

PRIVATE: Final = ".pem"
PUBLIC: Final = ".pub"


def new_key(path: Path) -> SSlibKey:
    """Make a key: the private half at `path`, readable by the owner alone, the public half beside it.

    Raises:
        BadSetting: there is a file already, or the name does not end in .pem.
        StorageUnusable, NoSpace: the folder cannot be written.
    """
    if path.suffix != PRIVATE:
        raise BadSetting(f"{path} is no name for a private key: let it end in {PRIVATE}")
    if path.exists() or path.with_suffix(PUBLIC).exists():
        raise BadSetting(f"{path} is there already: no key is ever overwritten, choose another name")
    signer = CryptoSigner.generate_ed25519()
    write_atomically(path, signer.private_bytes, mode=0o600)
    write_public(path)
    return _public(signer, path)


def write_public(path: Path) -> Path:
    """Write the public half of a private key beside it, and return where.

    Raises:
        StorageUnusable, NoSpace: the key cannot be read, or the folder not be written.
    """
    value = str(_public(open_key(path), path).keyval["public"])
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(value))
    beside = path.with_suffix(PUBLIC)
    write_atomically(beside, public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return beside


def open_key(path: Path) -> CryptoSigner:
    """Open a private key.

    Raises:
        StorageUnusable: it is not there, must not be read, or is no key of a kind that is used here.
    """
    try:
        signer = CryptoSigner(load_pem_private_key(path.read_bytes(), password=None))
    except FileNotFoundError as error:
        raise StorageUnusable(f"the private key {path} is not there: bring its stick") from error
    except OSError as error:
        raise StorageUnusable(
            f"the private key {path} cannot be read ({error.strerror}): run this as the user who owns it"
        ) from error
    except TypeError as error:
        raise StorageUnusable(
            f"the private key {path} is locked with a pass phrase, and keys are read without one: unlock it "
            f"on its stick, `openssl pkey -in {path} -out OTHER{PRIVATE}`"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        cure = (
            f"give the {PRIVATE} file beside it"
            if path.suffix == PUBLIC
            else "restore it from the copy of its stick"
        )
        raise StorageUnusable(f"{path} is not a PEM private key: {cure}") from error
    return signer


def open_public(path: Path) -> SSlibKey:
    """Open the public half of a key, from its own file or from that of the private key.

    Raises:
        StorageUnusable: it is not there, must not be read, or is no Ed25519 key.
    """
    if path.suffix == PRIVATE:
        return _public(open_key(path), path)
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise storage_error(error, path) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise StorageUnusable(f"{path} is not a PEM public key: have it written again") from error
    if not isinstance(key, Ed25519PublicKey):
        raise StorageUnusable(f"{path} is not an Ed25519 key: make one with `shelfsight-cloud keys new`")
    return SSlibKey.from_crypto(key)


def own_id(key: Key) -> str | None:
    """Return the id of a key by its own bytes, whatever metadata calls it; None if it is not Ed25519."""
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(str(key.keyval["public"])))
    except (KeyError, ValueError):
        return None
    own = SSlibKey.from_crypto(public)
    return own.keyid if (own.keytype, own.scheme) == (key.keytype, key.scheme) else None


def find_keys(folders: Iterable[Path]) -> dict[str, Path]:
    """Return where the private keys lie in some folders, by key id; other files are passed over."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.glob(f"*{PRIVATE}")):
            try:
                found.setdefault(open_key(path).public_key.keyid, path)
            except StorageUnusable:
                continue
    return found


def move_key(path: Path, folder: Path) -> Path:
    """Move a private key, and its public half, to another disk; return where it lies now.

    It is deleted here only when it was read back from there; killed on the way, or the stick was full, it is
    just called again. A disk may still hold the deleted bytes: a key that must never have been here is made
    where it is to stay, with `new_key`.

    Raises:
        BadSetting: there is another key of that name already, or the key lies there now.
        StorageUnusable, NoSpace: the key cannot be read, or the folder not be written; it stays here.
    """
    there = folder / path.name
    key_id = open_key(path).public_key.keyid
    if folder.resolve() == path.parent.resolve():
        raise BadSetting(f"{path} lies in {folder} already: name the folder of its stick")
    if not there.exists():
        write_atomically(there, path.read_bytes(), mode=0o600)
    elif there.read_bytes() != path.read_bytes():
        raise BadSetting(f"{there} is there already: no key is ever overwritten, choose another folder")
    write_public(there)
    if open_key(there).public_key.keyid != key_id:
        raise StorageUnusable(f"{there} does not read as it was written: use another stick")
    try:
        for left in (path, path.with_suffix(PUBLIC)):
            left.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, path) from error
    sync_folder(path.parent)
    return there


def _public(signer: CryptoSigner, path: Path) -> SSlibKey:
    key = signer.public_key
    if not isinstance(key, SSlibKey) or key.keytype != "ed25519":
        raise StorageUnusable(f"{path} is not an Ed25519 key: make one with `shelfsight-cloud keys new`")
    return key
