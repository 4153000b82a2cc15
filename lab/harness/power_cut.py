"""Simulates what a power cut leaves of a program's files, from a recording of its system calls.

A write stays in memory until its file is synced; a new, renamed or removed name until its folder
is. After a cut, everything that was synced is there. Of the rest, any writes may have reached the
disk, in any order, in whole sectors; changes of names are a journal, of which any prefix has. POSIX
promises this and no more. The model follows "All File Systems Are Not Created Equal" (Pillai et
al., OSDI 2014), without the behaviour of any one file system.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512

_KEPT = 0.5
"""The probability that an unsynced write has reached the disk."""

STRACE = ("strace", "-f", "-y", "-xx", "-s", "100000000", "-e", "trace=%file,%desc", "-o")
"""The command that records; the recording's path and the program follow."""

_CALL = re.compile(r"^\d+ +(\w+)\((.*)\) += (-?\d+)(?:<(.*)>)?", re.DOTALL)
_FD = re.compile(r"(\d+)<([^>]*)>")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
# Changes through a memory map are not recorded; SQLite rebuilds its index of the WAL after a crash.
_NOT_KEPT = (b"-shm",)


@dataclass(slots=True, eq=False)
class _File:
    durable: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """Unsynced writes at an offset, and truncations to a length (None)."""
    size: int = 0
    position: int = 0


@dataclass(slots=True, eq=False)
class _Folder:
    names: dict[bytes, _File | _Folder] = field(default_factory=dict)
    durable: dict[bytes, _File | _Folder] = field(default_factory=dict)
    pending: list[dict[bytes, _File | _Folder]] = field(default_factory=list)
    """The names after each unsynced change."""

    def change(self, name: bytes, what: _File | _Folder | None) -> None:
        if what is None:
            del self.names[name]
        else:
            self.names[name] = what
        self.pending.append(dict(self.names))


class Disk:
    """The effect of a recording on the folder ``root``, call by call."""

    def __init__(self, root: Path) -> None:
        self._prefix = str(root).encode()
        self._root = _Folder()
        self._open: dict[int, _File | _Folder] = {}

    def replay(self, recording: Path) -> Iterator[bytes]:
        """Replay a recording; after each call that changes something, yield what it printed.

        That is empty except for writes to standard output.
        """
        with recording.open() as lines:
            for line in lines:
                found = _CALL.match(line)
                if found and not found[3].startswith("-"):
                    said = self._call(found[1], found[2], int(found[3]))
                    if said is not None:
                        yield said

    def cut(self, draw: random.Random, folder: Path) -> None:
        """Write one possible result of a cut at this moment into an empty folder."""
        _write(self._root, draw, folder)

    def _call(self, name: str, arguments: str, result: int) -> bytes | None:
        strings = [bytes.fromhex(each.replace("\\x", "")) for each in _STRING.findall(arguments)]
        if name in {"openat", "open"}:
            return self._opened(strings[0], arguments, result)
        if name in {"mkdir", "mkdirat"} and self._knows(strings[0]):
            self._change(strings[0], _Folder())
            return b""
        if name in {"unlink", "unlinkat"} and self._knows(strings[0]):
            self._change(strings[0], None)
            return b""
        if name in {"rename", "renameat", "renameat2"} and self._knows(strings[0]):
            moved = self._find(strings[0])
            self._change(strings[0], None)
            self._change(strings[1], moved)
            return b""
        descriptor = _FD.match(arguments)
        if descriptor is None:
            return None
        return self._on_descriptor(name, int(descriptor[1]), arguments, strings)

    def _opened(self, path: bytes, arguments: str, descriptor: int) -> bytes | None:
        self._open.pop(descriptor, None)
        if not self._knows(path):
            return None
        what = self._find(path)
        changed = False
        if what is None and "O_CREAT" in arguments:
            what = _File()
            self._change(path, what)
            changed = True
        if isinstance(what, _File) and "O_TRUNC" in arguments and what.size:
            self._truncate(what, 0)
            changed = True
        if what is not None:
            self._open[descriptor] = what
        return b"" if changed else None

    def _on_descriptor(
        self, name: str, descriptor: int, arguments: str, strings: list[bytes]
    ) -> bytes | None:
        if name == "write" and descriptor == 1:
            return strings[-1]
        what = self._open.get(descriptor)
        if what is None:
            return None
        if name == "close":
            del self._open[descriptor]
            return None
        if name in {"fsync", "fdatasync"}:
            _sync(what)
            return b""
        if isinstance(what, _Folder):
            return None
        numbers = [int(each) for each in re.findall(r", (\d+)(?=,|$)", arguments)]
        if name == "pwrite64":
            data = strings[-1]
            what.pending.append((numbers[-1], data))
            what.size = max(what.size, numbers[-1] + len(data))
            return b""
        if name == "ftruncate":
            self._truncate(what, numbers[-1])
            return b""
        if name in {"write", "writev", "pwritev", "fallocate", "copy_file_range", "sendfile"}:
            raise NotImplementedError(f"{name} on a file that a cut is to be made of")
        return None

    def _truncate(self, what: _File, size: int) -> None:
        what.pending.append((size, None))
        what.size = size

    def _knows(self, path: bytes) -> bool:
        return path == self._prefix or path.startswith(self._prefix + b"/")

    def _parts(self, path: bytes) -> list[bytes]:
        return [part for part in path[len(self._prefix) :].split(b"/") if part]

    def _find(self, path: bytes) -> _File | _Folder | None:
        here: _File | _Folder | None = self._root
        for part in self._parts(path):
            here = here.names.get(part) if isinstance(here, _Folder) else None
        return here

    def _change(self, path: bytes, what: _File | _Folder | None) -> None:
        *folders, name = self._parts(path)
        here = self._root
        for part in folders:
            inner = here.names[part]
            if not isinstance(inner, _Folder):
                raise NotADirectoryError(path)
            here = inner
        here.change(name, what)


def _sync(what: _File | _Folder) -> None:
    if isinstance(what, _Folder):
        what.durable = dict(what.names)
    else:
        what.durable = bytes(_applied(what, None))
    what.pending.clear()


def _applied(file: _File, draw: random.Random | None) -> bytearray:
    """Return the content with all pending changes, or with those that a cut leaves."""
    content = bytearray(file.durable)
    for offset, data in file.pending:
        if data is None:
            if draw is None or draw.random() < _KEPT:
                del content[offset:]
                content.extend(bytes(offset - len(content)))
            continue
        for at in range(0, len(data), SECTOR):
            if draw is None or draw.random() < _KEPT:
                part = data[at : at + SECTOR]
                start = offset + at
                content.extend(bytes(max(0, start - len(content))))
                content[start : start + len(part)] = part
    return content


def _write(what: _Folder, draw: random.Random, folder: Path) -> None:
    names = draw.choice([what.durable, *what.pending])
    for name, inner in names.items():
        if name.endswith(_NOT_KEPT):
            continue
        path = folder / name.decode()
        if isinstance(inner, _Folder):
            path.mkdir()
            _write(inner, draw, path)
        else:
            path.write_bytes(_applied(inner, draw))
