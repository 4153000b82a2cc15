"""Tests of the checks: each mutant runs under its faults, and must be caught."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from lab.harness.servers import DEFAULT_FOLDER, Servers
from lab.harness.trio import Trio
from lab.trial.run import Result, Trial
from lab.trial.schedule import Planned
from lab.trial.workload import Workload, load
from lab.trial.world import World, installed
from tests.mutants.broken import MUTANTS

pytestmark = pytest.mark.timeout(300)

# The faults that expose each mutant, and the finding that must name it. A fault is its kind, the
# second at which it begins, the seconds that it lasts, and the number of its target.
CATCH: dict[str, tuple[list[tuple[str, float, float, int]], str]] = {
    "ack_before_commit": (
        [("database.read_only", 1, 4, 0), ("worker.kill", 3, 0, 0), ("worker.kill", 3.1, 0, 1)],
        "lost",
    ),
    "no_unique_key": (
        [
            ("network.black_hole.worker-broker.up", 1, 3, 0),
            ("network.reset.worker-broker", 3, 0, 0),
        ],
        "repeated",
    ),
    "forgotten_before_confirm": (
        [("broker.freeze", 1, 4, 0), ("network.reset.client-broker", 4, 0, 0)],
        "lost",
    ),
    "forgotten_on_reconnect": (
        [("broker.freeze", 1, 4, 0), ("network.reset.client-broker", 4, 0, 0)],
        "lost",
    ),
    "not_mandatory": ([("broker.unroute", 1, 0, 0), ("broker.restart", 4, 0, 0)], "lost"),
    "answered_before_confirm": (
        [
            ("network.black_hole.door-broker.up", 1, 2, 0),
            ("network.reset.door-broker", 2.5, 0, 0),
        ],
        "lost",
    ),
    "deleted_before_confirm": (
        [
            # What is published meanwhile is lost, whichever relay is active. An application may
            # keep a transaction open for three seconds, and publishes nothing then.
            ("network.black_hole.relay-broker.up", 4, 7, 0),
            ("network.black_hole.relay-broker.up", 4, 7, 1),
            ("network.reset.relay-broker", 10, 0, 0),
            ("network.reset.relay-broker", 10, 0, 1),
        ],
        "lost",
    ),
    "number_reused": ([("relay.kill", 8, 0, 0), ("relay.kill", 8, 0, 1)], "dead-lettered"),
    # Only rows of a long transaction are sure to be seen before it is rolled back, and one in
    # sixty is.
    "rolled_back_sent": ([("relay.kill", 2, 0, 0), ("relay.kill", 16, 0, 1)], "rolled back"),
    "default_delivery_limit": ([("worker.kill", 1, 0, 0)], "topology"),
    "deleted_without_a_line": ([("prune.run", 1, 0, 0)], "repeated"),
    "line_after_delete": ([("prune.kill", 1, 0, 0)], "repeated"),
    "alive_only_while_it_serves": ([("outage.broker", 1, 30, 0)], "ended"),
}
# The same for mutants that run the trial's own handler.
CATCH_HANDLER: dict[str, tuple[list[tuple[str, float, float, int]], str]] = {
    "handler_before_claim": ([("handler.kill_after_commit", 1, 0, 0)], "effects"),
    "effects_committed_apart": ([("handler.kill", 1, 0, 0)], "effects"),
    "handler_run_for_a_repeat": ([("handler.kill_after_commit", 1, 0, 0)], "effects"),
    "attempt_counted_twice": ([("worker.kill", 1, 0, 0)], "attempts"),
    "follow_up_outside_of_the_transaction": ([("handler.kill", 1, 0, 0)], "follow-ups"),
    "swallowed_deadlock_goes_on": ([("handler.deadlock", 1, 0, 0)], "money"),
}
# The same for mutants that need three nodes.
CATCH_NODES: dict[str, tuple[list[tuple[str, float, float, int]], str]] = {
    "queue_made_anywhere": ([("node.blank", 1, 0, 0)], "lost"),
}


def test_every_mutant_is_tried() -> None:
    assert {*CATCH, *CATCH_HANDLER, *CATCH_NODES} == MUTANTS.keys()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("mutant", [*CATCH_NODES, None])
def test_a_trial_of_three_nodes_catches_every_mutant_and_only_them(
    mutant: str | None, tmp_path: Path
) -> None:
    servers = Trio(tmp_path / "servers", DEFAULT_FOLDER / "packages")
    try:
        servers.start()
        result = run(mutant, CATCH_NODES, servers, tmp_path / "trial", None, per_second=5)
    finally:
        servers.remove()
    if mutant:
        assert CATCH_NODES[mutant][1] in result.findings.counts
    else:
        assert dict(result.findings.cases) == {}
        assert result.holds


@pytest.mark.parametrize("mutant", [*CATCH_HANDLER, None])
def test_a_trial_of_a_handler_catches_every_mutant_and_only_them(
    mutant: str | None, servers: Servers, tmp_path: Path
) -> None:
    result = run(mutant, CATCH_HANDLER, servers, tmp_path, load("money", None))
    if mutant:
        assert CATCH_HANDLER[mutant][1] in result.findings.counts
    else:
        assert dict(result.findings.cases) == {}
        assert result.holds


@pytest.mark.parametrize("mutant", [*CATCH, None])
def test_a_trial_catches_every_mutant_and_only_them(
    mutant: str | None, servers: Servers, tmp_path: Path
) -> None:
    result = run(mutant, CATCH, servers, tmp_path, None)
    if mutant:
        assert CATCH[mutant][1] in result.findings.counts
    else:
        assert dict(result.findings.cases) == {}
        assert result.holds


def run(
    mutant: str | None,
    catch: Mapping[str, tuple[list[tuple[str, float, float, int]], str]],
    servers: Servers | Trio,
    folder: Path,
    workload: Workload | None,
    per_second: float = 100,
) -> Result:
    """Run a mutant under its faults, or the unbroken pipeline under all of them."""

    def program(command: list[str]) -> list[str | Path]:
        if mutant is None:
            return installed(command)
        return [sys.executable, "-m", "tests.mutants.broken", mutant, *command]

    faults = catch[mutant][0] if mutant else [f for each, _ in catch.values() for f in each]
    schedule = [
        Planned(number, kind, at, lasts, pick)
        for number, (kind, at, lasts, pick) in enumerate(sorted(faults, key=lambda f: f[1]), 1)
    ]
    world = World(
        servers, f"mutant-{mutant}", folder, workers=2, clients=2, prefetch=50,
        per_second=per_second,
        program=program, workload=workload,
    )  # fmt: skip
    try:
        result = Trial(world, schedule, lambda _: None).run()
    finally:
        world.close()
    assert result.void == []
    return result
