"""Outages that outlast a liveness probe's patience. They take long, so they run only when named.

If a process's /healthz fails because of a server's outage, its probe restarts it, as in an
orchestrator, and the trial reports that it ended.
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
    """Freeze both: connections stay open, and nothing answers."""
    return (yield from together([freeze(world.database), freeze(world.broker)]))
