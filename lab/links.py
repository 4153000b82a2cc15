"""The links between nodes, each at a loopback address of its own; root can cut them."""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence

_TIMEOUT = 10.0


def addresses(count: int) -> list[str]:
    """Return loopback addresses that no other lab is likely to use."""
    net = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250) + 2}"
    return [f"{net}.{number}" for number in range(1, count + 1)]


def can_be_cut() -> bool:
    """Whether links can be cut here: by root, with iptables."""
    return os.geteuid() == 0 and shutil.which("iptables") is not None


def cut(one: str, others: Sequence[str]) -> None:
    """Let nothing pass between an address and others, either way, without a sign to them."""
    for source, target in _both_ways(one, others):
        if not _rule("--check", source, target):
            _rule("--insert", source, target)


def mend(one: str, others: Sequence[str]) -> None:
    """Let all pass between them again."""
    for source, target in _both_ways(one, others):
        while _rule("--delete", source, target):
            pass


def _both_ways(one: str, others: Sequence[str]) -> Iterator[tuple[str, str]]:
    return itertools.chain.from_iterable(((one, other), (other, one)) for other in others)


def _rule(action: str, source: str, target: str) -> bool:
    command = ["iptables", "--wait", action, "INPUT", "--source", source, "--destination", target]
    return not subprocess.run(
        [*command, "--jump", "DROP"], capture_output=True, timeout=_TIMEOUT, check=False
    ).returncode
