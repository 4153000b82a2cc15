"""The README's section on containers, as a newcomer types it."""

from __future__ import annotations

import re
import signal
import textwrap

import pytest

from tests.containers.stack import ROOT, Stack

pytestmark = pytest.mark.timeout(600)

SECTION = re.findall(
    r"## Run it in containers\n(.*?)\n## ", (ROOT / "README.md").read_text(), re.DOTALL
)[0]
BEGIN, THEN = (
    textwrap.dedent(block) for block in re.findall(r"(?:^    .*\n)+", SECTION, re.MULTILINE)
)


def test_what_the_readme_shows_works(stack: Stack) -> None:
    begun = stack.served("compose-%")
    stack.compose("down")
    terminal = stack.start("up", "/bin/bash", "-euxc", f"cd {ROOT}\n{BEGIN}")
    stack.wait(lambda: len(stack.containers("worker")) == 2, "two replicas")
    stack.wait(lambda: stack.served("compose-%") > begun, "the client is served")
    *steps, audit = THEN.splitlines()
    stack.shell("\n".join(steps))
    stack.wait_audit()
    said = stack.shell(audit)
    assert re.search(r"compose-\w+ +\S+ +\S+ +0 +0 ", said), said
    terminal.signal(signal.SIGINT)
    terminal.wait(120)
    stack.up()
