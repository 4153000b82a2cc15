"""Servers that are away for longer than a liveness probe has patience. By name only: they last.

A process that takes a server's absence for its own death is restarted by its probe, as in an
orchestrator, and the trial finds that it ended.
"""

from __future__ import annotations

from lab.trial.courses import together
from lab.trial.faults import Course, fault
from lab.trial.probe import FAILURES, PERIOD, SILENCE
from lab.trial.server_faults import freeze, restart
from lab.trial.server_state import ServerState
from lab.trial.world import World

SHORTEST = SILENCE + FAILURES * PERIOD + 4
LONGEST = SHORTEST + 5


def _down(*servers: ServerState) -> Course:
    return together([restart(server, kill=True) for server in servers])


@fault("outage.broker", SHORTEST, LONGEST)
def _broker(world: World, _pick: int) -> Course:
    return (yield from _down(world.broker))


@fault("outage.database", SHORTEST, LONGEST)
def _database(world: World, _pick: int) -> Course:
    return (yield from _down(world.database))


@fault("outage.both", SHORTEST, LONGEST)
def _both(world: World, _pick: int) -> Course:
    return (yield from _down(world.broker, world.database))


@fault("outage.frozen", SHORTEST, LONGEST)
def _frozen(world: World, _pick: int) -> Course:
    """Both hang: connections stay, and nothing answers."""
    return (yield from together([freeze(world.database), freeze(world.broker)]))
