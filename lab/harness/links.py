"""The links between nodes, each at a loopback address of its own; root can cut them."""

from __future__ import annotations

import enum
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence

_TIMEOUT = 10.0


class Way(enum.Enum):
    """Which packets of a node are lost."""

    BOTH = "cut off"
    IN = "deaf"
    OUT = "mute"


def addresses(count: int) -> list[str]:
    """Return loopback addresses that no other lab is likely to use."""
    net = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250) + 2}"
    return [f"{net}.{number}" for number in range(1, count + 1)]


def can_be_cut() -> bool:
    """Return whether links can be cut here, which needs root and iptables."""
    return os.geteuid() == 0 and shutil.which("iptables") is not None


def cut(one: str, others: Sequence[str], way: Way = Way.BOTH) -> None:
    """Silently drop all packets between an address and others."""
    for source, target in _pairs(one, others, way):
        if not _rule("--check", source, target):
            _rule("--insert", source, target)


def mend(one: str, others: Sequence[str]) -> int:
    """Let packets pass between them again; return how many were lost."""
    lost = _lost(set(_pairs(one, others, Way.BOTH)))
    for source, target in _pairs(one, others, Way.BOTH):
        while _rule("--delete", source, target):
            pass
    return lost


def _lost(pairs: set[tuple[str, str]]) -> int:
    listed = subprocess.run(
        ["iptables", "--wait", "--list", "INPUT", "--verbose", "--numeric", "--exact"],
        capture_output=True, text=True, timeout=_TIMEOUT, check=False,
    ).stdout  # fmt: skip
    rules = [line.split() for line in listed.splitlines() if " DROP " in line]
    # packets, bytes, target, protocol, options, in, out, source, destination
    return sum(int(rule[0]) for rule in rules if (rule[7], rule[8]) in pairs)


def _pairs(one: str, others: Sequence[str], way: Way) -> Iterator[tuple[str, str]]:
    for other in others:
        if way is not Way.OUT:
            yield other, one
        if way is not Way.IN:
            yield one, other


def _rule(action: str, source: str, target: str) -> bool:
    command = ["iptables", "--wait", action, "INPUT", "--source", source, "--destination", target]
    return not subprocess.run(
        [*command, "--jump", "DROP"], capture_output=True, timeout=_TIMEOUT, check=False
    ).returncode
