"""What a disk may hold after a power cut, out of the system calls that a program was seen to make.

After ALICE (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014): a write reaches the disk for
certain by an fsync of its file, a name by an fsync of its folder; until then it may be there, in part or not
at all, whatever came before or after it. A rename happens as a whole or not at all.
"""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TRACED = (
    "open,openat,creat,write,pwrite64,writev,pwritev,pwritev2,rename,renameat,renameat2,unlink,unlinkat,link,"
    "linkat,mkdir,mkdirat,rmdir,symlink,symlinkat,ftruncate,truncate,fallocate,fsync,fdatasync,lseek,"
    "sendfile,copy_file_range"
)
_VOLATILE = ("-shm",)  # SQLite makes its index of the log anew
_HEX = re.compile(r"(?:\\x[0-9a-f]{2})+")
_CALL = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)")
_PART = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?|<([^<>]*)>')


def strace(trace: Path) -> list[str]:
    """Return the command before which a program's command line is put to record it into the file `trace`."""
    return ["strace", "-f", "-y", "-xx", "-s", "100000000", "-o", str(trace), "-e", f"trace={TRACED}"]


@dataclass(eq=False)
class _File:
    content: bytes = b""
    changes: list[tuple[int, int, bytes]] = field(default_factory=list)
    """(moment, offset, bytes); an offset below 0 cuts the file to -offset - 1 bytes."""
    syncs: list[int] = field(default_factory=list)
    cursor: int = 0


@dataclass(eq=False)
class _Folder:
    syncs: list[int] = field(default_factory=list)


@dataclass(eq=False)
class _Link:
    target: str = ""


_Node = _File | _Folder | _Link
_Names = dict[_Folder, dict[str, _Node]]


@dataclass(frozen=True)
class _NameChange:
    """A name that came or went, or both at once; it is certain when the folder it came to was synced."""

    moment: int
    gone: tuple[_Folder, str] | None
    come: tuple[_Folder, str, _Node] | None

    def apply(self, names: _Names) -> None:
        if self.gone is not None:
            names.get(self.gone[0], {}).pop(self.gone[1], None)
        if self.come is not None:
            names.setdefault(self.come[0], {})[self.come[1]] = self.come[2]

    def is_certain(self, moment: int) -> bool:
        folder = self.come[0] if self.come is not None else self.gone[0] if self.gone is not None else None
        return folder is not None and any(self.moment < sync <= moment for sync in folder.syncs)


@dataclass(frozen=True)
class Cut:
    """One disk that a power cut may leave: what was assumed, and what lies where."""

    said: str
    files: dict[str, bytes]
    folders: list[str]
    links: dict[str, bytes]

    def signature(self) -> bytes:
        """Return what is equal for equal disks."""
        signature = hashlib.sha256()
        for path, data in sorted({**self.files, **self.links, **dict.fromkeys(self.folders, b"")}.items()):
            signature.update(repr(path).encode() + hashlib.sha256(data).digest())
        return signature.digest()

    def build(self, into: Path) -> Path:
        """Make it the content of the folder `into`, and return that."""
        shutil.rmtree(into, ignore_errors=True)
        for folder in sorted(self.folders):
            (into / folder).mkdir(parents=True, exist_ok=True)
        for path, data in self.files.items():
            (into / path).write_bytes(data)
        for path, target in self.links.items():
            (into / path).symlink_to(target.decode())
        return into


class Replay:
    """The recorded calls of a program on the folder `root`, which was a copy of `before` when it began."""

    def __init__(self, before: Path, root: Path, trace: Path) -> None:
        self._root = str(root)
        self._top = _Folder()
        self._first: _Names = {}
        self._read(before, self._top)
        self._names: _Names = {folder: dict(names) for folder, names in self._first.items()}
        self._changes: list[_NameChange] = []
        self._files = [n for names in self._first.values() for n in names.values() if isinstance(n, _File)]
        self.moments = 0
        for call, arguments, result in _calls(trace):
            if result >= 0:
                self._record(call, arguments, result)

    def cuts(self) -> Iterator["Cut"]:
        """Give one after the other every disk that a power cut may leave, each once."""
        seen: set[bytes] = set()
        for moment in range(self.moments + 1):
            for name, lost, content in self._assumptions(moment):
                cut = Cut(f"after call {moment}, {name}", *self._state(moment, lost, content))
                if cut.signature() not in seen:
                    seen.add(cut.signature())
                    yield cut

    def _assumptions(
        self, moment: int
    ) -> Iterator[tuple[str, Sequence["_NameChange"], Callable[[_File, int], bytes]]]:
        """Give what may have become of what was not synced by then: names that are lost, and bytes."""
        names = [each for each in self._changes if each.moment <= moment and not each.is_certain(moment)]
        yield "all of it on the disk", (), _all
        yield "what was not synced lost", names, _certain
        yield "names without bytes", (), _certain
        yield "bytes without names", names, _all
        yield "bytes torn", (), _torn
        yield "lengths without bytes", (), _zeros
        yield "the last write first", (), _last_only
        yield "half of the names, no bytes", names[len(names) // 2 :], _certain
        for number, each in enumerate(names):
            yield f"name {number} of {len(names)} lost", [each], _all
        uncertain = [each for each in self._files if _split(each, moment)[1]]
        for number, one in enumerate(uncertain if len(uncertain) > 1 else []):
            yield f"bytes of file {number} of {len(uncertain)} lost", (), _all_but(one)

    def _state(
        self, moment: int, lost: Sequence["_NameChange"], content: Callable[[_File, int], bytes]
    ) -> tuple[dict[str, bytes], list[str], dict[str, bytes]]:
        names: _Names = {folder: dict(inside) for folder, inside in self._first.items()}
        dropped = set(map(id, lost))
        for change in self._changes:
            if change.moment <= moment and id(change) not in dropped:
                change.apply(names)
        files: dict[str, bytes] = {}
        links: dict[str, bytes] = {}
        folders = [""]
        queue = [("", self._top)]
        while queue:
            where, folder = queue.pop()
            for name, node in names.get(folder, {}).items():
                path = f"{where}{name}"
                if isinstance(node, _Folder):
                    folders.append(path)
                    queue.append((f"{path}/", node))
                elif isinstance(node, _Link):
                    links[path] = node.target.encode()
                elif not name.endswith(_VOLATILE):
                    files[path] = content(node, moment)
        return files, folders, links

    def _read(self, before: Path, folder: _Folder) -> None:
        inside = self._first.setdefault(folder, {})
        known: dict[int, _File] = {}
        for path in sorted(before.iterdir()):
            if path.is_symlink():
                inside[path.name] = _Link(str(path.readlink()))
            elif path.is_dir():
                inside[path.name] = inner = _Folder()
                self._read(path, inner)
            else:
                inside[path.name] = known.setdefault(path.stat().st_ino, _File(path.read_bytes()))

    # Recording -------------------------------------------------------------------------------------------

    def _record(self, call: str, arguments: str, result: int) -> None:
        texts = [(quoted, named) for quoted, _, named in _PART.findall(arguments)]
        quoted = [_bytes(text) for text, named in texts if not named]
        named = [_text(name) for text, name in texts if name]
        if call in ("open", "openat", "creat"):
            self._open(_at(named, quoted[0].decode()), arguments, call)
        elif call in ("write", "pwrite64"):
            self._write(call, named[0], quoted[0] if quoted else b"", arguments, result)
        elif call in ("ftruncate", "truncate"):
            size = int(arguments.rpartition(",")[2])
            self._change(named[0] if named else quoted[0].decode(), -size - 1, b"")
        elif call in ("fsync", "fdatasync"):
            node = self._node(named[0])
            if isinstance(node, _File | _Folder):
                self.moments += 1
                node.syncs.append(self.moments)
        elif call == "lseek":
            node = self._node(named[0])
            if isinstance(node, _File):
                node.cursor = result
        elif call in _NAMING:
            self._name(call, [_at(named, text.decode()) for text in quoted], quoted)
        elif any(name.startswith(self._root) for name in named):
            raise NotImplementedError(f"{call} of a device is not replayed yet")

    def _open(self, path: str, arguments: str, call: str) -> None:
        node, place = self._node(path), self._place(path)
        if place is None:
            return
        writes = call == "creat" or "O_WRONLY" in arguments or "O_RDWR" in arguments
        if node is None and (call == "creat" or "O_CREAT" in arguments):
            self._come(place, _File())
        elif isinstance(node, _File) and writes:
            node.cursor = self._size(node) if "O_APPEND" in arguments else 0
            if "O_TRUNC" in arguments and self._size(node):
                self._change(path, -1, b"")

    def _write(self, call: str, path: str, data: bytes, arguments: str, result: int) -> None:
        node = self._node(path)
        if not isinstance(node, _File):
            return
        if call == "pwrite64":
            self._change(path, int(arguments.rpartition(",")[2]), data[:result])
            return
        self._change(path, node.cursor, data[:result])
        node.cursor += result

    def _change(self, path: str, offset: int, data: bytes) -> None:
        node = self._node(path)
        if isinstance(node, _File):
            self.moments += 1
            node.changes.append((self.moments, offset, data))

    def _name(self, call: str, paths: list[str], quoted: list[bytes]) -> None:
        places = [self._place(path) for path in paths]
        last = places[-1]
        if last is None:
            return
        if call.startswith("mkdir"):
            self._come(last, _Folder())
        elif call.startswith("symlink"):
            self._come(last, _Link(quoted[0].decode()))
        elif call.startswith(("unlink", "rmdir")):
            self._apply(_NameChange(self._next(), last, None))
        else:
            node = self._node(paths[0])
            if node is not None:
                gone = places[0] if call.startswith("rename") else None
                self._apply(_NameChange(self._next(), gone, (*last, node)))

    def _come(self, place: tuple[_Folder, str], node: _Node) -> None:
        if isinstance(node, _File):
            self._files.append(node)
        self._apply(_NameChange(self._next(), None, (*place, node)))

    def _apply(self, change: _NameChange) -> None:
        self._changes.append(change)
        change.apply(self._names)

    def _next(self) -> int:
        self.moments += 1
        return self.moments

    def _size(self, node: _File) -> int:
        return len(_all(node, self.moments))

    def _place(self, path: str) -> tuple[_Folder, str] | None:
        above, _, name = path.rpartition("/")
        folder = self._node(above)
        return (folder, name) if isinstance(folder, _Folder) else None

    def _node(self, path: str) -> _Node | None:
        if path != self._root and not path.startswith(f"{self._root}/"):
            return None
        node: _Node | None = self._top
        for name in filter(None, path[len(self._root) :].split("/")):
            node = self._names.get(node, {}).get(name) if isinstance(node, _Folder) else None
        return node


_NAMING = frozenset(
    "rename renameat renameat2 unlink unlinkat link linkat mkdir mkdirat rmdir symlink symlinkat".split()  # noqa: SIM905
)


def _calls(trace: Path) -> Iterator[tuple[str, str, int]]:
    """Give every call that ended, in the order in which they ended."""
    begun: dict[str, str] = {}
    for line in trace.read_text().splitlines():
        thread, _, rest = line.partition(" ")
        rest = rest.strip()
        if rest.endswith("<unfinished ...>"):
            begun[thread] = rest.removesuffix("<unfinished ...>")
            continue
        if rest.startswith("<... "):
            rest = begun.pop(thread, "") + rest.partition(" resumed>")[2]
        found = _CALL.match(f"{thread} {rest}")
        if found is not None:
            yield found[2], found[3], int(found[4])


def _at(named: list[str], path: str) -> str:
    """Make a path whole that is given from an open folder."""
    return path if path.startswith("/") or not named else f"{named[0]}/{path}"


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _text(named: str) -> str:
    return _HEX.sub(lambda found: _bytes(found[0]).decode(), named)


# What a file may hold -----------------------------------------------------------------------------------


def _after(node: _File, changes: list[tuple[int, int, bytes]]) -> bytes:
    data = bytearray(node.content)
    for _, offset, piece in changes:
        size = -offset - 1 if offset < 0 else offset + len(piece)
        data.extend(bytes(max(0, size - len(data))))
        if offset < 0:
            del data[size:]
        else:
            data[offset : offset + len(piece)] = piece
    return bytes(data)


def _split(node: _File, moment: int) -> tuple[list[tuple[int, int, bytes]], list[tuple[int, int, bytes]]]:
    """Return the changes that are certain at a moment, and those that may be lost."""
    synced = max((sync for sync in node.syncs if sync <= moment), default=0)
    begun = [change for change in node.changes if change[0] <= moment]
    return [each for each in begun if each[0] < synced], [each for each in begun if each[0] >= synced]


def _all(node: _File, moment: int) -> bytes:
    return _after(node, [change for change in node.changes if change[0] <= moment])


def _certain(node: _File, moment: int) -> bytes:
    return _after(node, _split(node, moment)[0])


def _torn(node: _File, moment: int) -> bytes:
    """Half of what was written, and of the last of it half."""
    certain, rest = _split(node, moment)
    kept = rest[: (len(rest) + 1) // 2]
    if kept and kept[-1][1] >= 0:
        at, offset, piece = kept[-1]
        kept[-1] = (at, offset, piece[: len(piece) // 2])
    return _after(node, certain + kept)


def _zeros(node: _File, moment: int) -> bytes:
    """The new length, and nothing in it: the file system was told of the one and not of the other."""
    certain, rest = _split(node, moment)
    empty = [(at, offset, bytes(len(piece))) for at, offset, piece in rest]
    return _after(node, certain + empty)


def _last_only(node: _File, moment: int) -> bytes:
    """The last write before those that came earlier."""
    certain, rest = _split(node, moment)
    return _after(node, certain + rest[-1:])


def _all_but(lost: _File) -> Callable[[_File, int], bytes]:
    return lambda node, moment: (_certain if node is lost else _all)(node, moment)
