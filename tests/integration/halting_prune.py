"""Prunes that are killed before a chosen statement: ``python -m tests.integration.halting_prune``.

For each number on its input it forks a prune that counts its statements, commits included, and ends
itself with SIGKILL before that one is sent. Then it answers ``killed``, or ``ended``, if the prune
took fewer statements.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from datetime import timedelta
from typing import Any

from turnwise.database import Connection, parse_url
from worker.pruning import prune

OLDER_THAN = timedelta(days=1)


def die_before(step: int) -> None:
    """Count the statements of this process from here on, and end it before one of them."""
    execute: Any = Connection._execute_command  # noqa: SLF001 - all statements take this way
    counted = 0

    def executing(self: Connection, command: int, about: Any) -> None:
        nonlocal counted
        counted += 1
        if counted == step:
            os.kill(os.getpid(), signal.SIGKILL)
        execute(self, command, about)

    Connection._execute_command = executing  # type: ignore[assignment]  # noqa: SLF001


def one(url: str, step: int) -> None:
    """Prune in a child of this process, to its end or to its death."""
    child = os.fork()
    if not child:
        code = 1
        try:
            connection = parse_url(url).connect("halting prune")
            die_before(step)
            prune(connection, OLDER_THAN)
            code = 0
        except BaseException:  # noqa: BLE001 - the child must never return from here
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    ends = {signal.SIGKILL: "killed", 0: "ended"}
    print(ends.get(status, "failed"), flush=True)


if __name__ == "__main__":
    for line in sys.stdin:
        one(os.environ["MYSQL_URL"], int(line))
