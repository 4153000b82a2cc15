"""Accepted messages are on disk, not in memory: the power is cut at a thousand instants."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lab.harness import tools
from lab.harness.power_cut import STRACE, Disk
from lab.harness.servers import DEFAULT_FOLDER
from producer.outbox import Outbox
from tests.requirements import or_skip
from turnwise.message import Request

CUTS = 1000

# It prints what it does: a message that it reports as accepted must survive.
CLIENT = """
import sys
from pathlib import Path
from producer.outbox import Outbox

def say(*words):
    print(*words, flush=True)

for life in range(3):
    with Outbox(Path(sys.argv[1]), "power") as outbox:
        say("client", outbox.client)
        for turn in range(12):
            first = outbox.accepted + 1
            outbox.accept([f"message {first + n}" for n in range(1 + 40 * (turn % 3))])
            say("accepted", outbox.accepted)
            if turn % 4 == 3:
                say("forgetting", outbox.accepted - 30)
                outbox.forget([(1, outbox.accepted - 30)])
"""


def record(folder: Path) -> Path:
    recording = folder / "calls"
    strace = or_skip(lambda: tools.strace(DEFAULT_FOLDER / "tools"))
    command: list[str | Path] = [strace, *STRACE[1:], recording, sys.executable, "-c", CLIENT]
    outbox = folder / "disk/state/turnwise/outbox.db"
    (folder / "disk").mkdir()
    result = subprocess.run([*command, outbox], capture_output=True, text=True, check=False)
    if "Operation not permitted" in result.stderr:
        pytest.skip("this machine does not let one process trace another")
    assert result.returncode == 0, result.stderr
    return recording


def test_nothing_accepted_is_lost_when_the_power_is_cut_at_any_instant(tmp_path: Path) -> None:
    recording = record(tmp_path)
    instants = sum(1 for _ in Disk(tmp_path / "disk").replay(recording))
    draw = random.Random(1)
    chosen = set(draw.sample(range(instants), CUTS)) if instants > CUTS else None
    said = b""
    cuts = 0
    disk = Disk(tmp_path / "disk")
    for instant, words in enumerate(disk.replay(recording)):
        said += words
        if chosen is None or instant in chosen:
            for _ in range(1 if chosen else -(-CUTS // instants)):
                check(disk, draw, said.decode(), tmp_path / "after")
                cuts += 1
    assert cuts >= CUTS


def check(disk: Disk, draw: random.Random, said: str, after: Path) -> None:
    """Cut the power here, reopen what is left, and check that all reports hold."""
    shutil.rmtree(after, ignore_errors=True)
    after.mkdir()
    disk.cut(draw, after)
    accepted = max(map(int, re.findall(r"accepted (\d+)", said)), default=0)
    forgotten = max(map(int, re.findall(r"forgetting (\d+)", said)), default=0)
    with Outbox(after / "state/turnwise/outbox.db") as outbox:
        if accepted:
            assert f"client {outbox.client}\n" in said
        assert outbox.accepted >= accepted
        kept = {n: Request.receive(*sent).message for n, *sent in outbox.after(0, 100_000)}
        assert all(message == f"message {counter}" for counter, message in kept.items())
        assert set(range(forgotten + 1, outbox.accepted + 1)) <= kept.keys()
        assert outbox.waiting == len(kept)
        # The outbox can be used further.
        last = outbox.accepted
        assert list(outbox.accept(["one more"])) == [last + 1]
