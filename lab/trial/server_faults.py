"""Faults of either server: a restart, and a freeze."""

from __future__ import annotations

from lab.trial.faults import ON, WAIT, Course
from lab.trial.server_state import ServerState


def restart(server: ServerState, *, kill: bool) -> Course:
    """Stop the server, by SIGKILL or gracefully; it restarts once no fault keeps it down."""
    while not server.server.runner.alive():
        yield WAIT
    before = server.server.runner.identity()
    server.down_holds += 1
    server.gone()
    try:
        if kill:
            server.server.kill()
        else:
            server.begin_stop()
        while server.server.runner.identity() == before and server.server.runner.alive():
            yield WAIT
        yield ON
    finally:
        server.down_holds -= 1
    while not (server.is_whole() and server.server.runner.alive()):
        yield WAIT
    return f"{before} ended, now {server.server.runner.identity()}"


def freeze(server: ServerState) -> Course:
    """Freeze the server (SIGSTOP): its connections stay open, and nothing answers."""
    while not (server.is_whole() and server.server.runner.alive()):
        yield WAIT
    before = server.server.runner.identity()
    server.frozen_holds += 1
    server.gone()
    try:
        server.server.runner.pause()
        # This takes a moment, during which another fault may have restarted the server.
        while server.greets():
            yield WAIT
            if server.server.runner.alive():
                server.server.runner.pause()
        yield ON
    finally:
        server.frozen_holds -= 1
        if not server.frozen_holds:
            server.server.runner.resume()
    return f"{before} was frozen and did not greet"
