"""The logic of a trial, without any server: the schedule, the verdict, the recoveries."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.harness import links
from lab.trial.catalogue import CATALOGUE, chosen
from lab.trial.check import Evidence, Row, Table, check, farthest_ahead
from lab.trial.happened import FAULT_TIMEOUT, Happened
from lab.trial.members import End, Usage
from lab.trial.recovery import Disturbance, recoveries, silence
from lab.trial.schedule import Planned, plan
from lab.trial.workload import Calls, calls
from turnwise.topology import Topology

MIB = 2**20


def row(counter: int, *, served_at: float | None = None, message: str = "m") -> Row:
    at = float(counter) if served_at is None else served_at
    return Row("client", counter, message, "then", at, "worker-1", 1)


def usage(at: float, resident: int = 30, descriptors: int = 10, threads: int = 1) -> Usage:
    return Usage("worker-1", 7, at, resident * MIB, descriptors, threads)


def grown(resident: int = 30, descriptors: int = 10, threads: int = 1) -> list[Usage]:
    """A life of a minute, from the usual to these."""
    return [usage(float(at)) for at in range(40)] + [
        usage(float(at), resident, descriptors, threads) for at in range(40, 61)
    ]


GOOD = Evidence(
    ledger={("client", counter): ("m", "then") for counter in range(1, 6)},
    accepted={"client": 5},
    waiting=frozenset(),
    dead=[None],
    rows=[row(counter) for counter in range(1, 6)],
    ends=[End("worker-1", 1.0, 0, ordered=True)],
    usages=grown(),
    queue_arguments=Topology().queue_arguments,
    expected_arguments=Topology().queue_arguments,
    in_hands=2,
    audit_holds=True,
)
# The same with a handler: faults ended two workers in the midst of the first request, which was
# given up, and served when it was retried.
DEADLY = replace(
    GOOD,
    rows=[row(1, served_at=9.0), *GOOD.rows[1:]],
    given_up={("client", 1): ("died", 3)},
    calls=Calls(
        begun=Counter({("client", 1): 2}), unfinished={("client", 1): frozenset({31, 32, 33})}
    ),
    disturbed=frozenset({31, 32}),
)
# The same from a caller of a door: its fifth was never answered 201.
CALLED = replace(
    GOOD,
    ledger={},
    accepted={},
    confirmed={("client", counter): "m" for counter in range(1, 5)},
    offered={("client", counter): "m" for counter in range(1, 6)},
)


# The same by the table: the application knows its messages; its last COMMIT was cut off.
LEFT = replace(
    GOOD,
    ledger={},
    accepted={},
    rows=[row(counter, message=f"m{counter}") for counter in range(1, 6)],
    table=Table(
        committed=frozenset({"m1", "m2", "m3", "m4"}),
        undone=frozenset({"never"}),
        doubtful=frozenset({"m5"}),
        clients={"client": 5},
    ),
)


def left(**changes: object) -> Evidence:
    return replace(LEFT, table=replace(LEFT.table, **changes))  # type: ignore[arg-type]


def test_an_outage_lasts_as_long_as_is_asked_for() -> None:
    kinds = chosen("outage,worker.kill", outage=300)
    assert {(k.shortest, k.longest) for k in kinds if k.name.startswith("outage.")} == {(300, 300)}
    assert [k.longest for k in kinds if k.name == "worker.kill"] == [0]


def test_a_flawless_trial_has_no_findings() -> None:
    assert not check(GOOD).counts
    assert not check(DEADLY).counts
    assert not check(CALLED).counts
    assert not check(replace(CALLED, rows=CALLED.rows[:-1])).counts
    assert not check(LEFT).counts
    assert not check(replace(left(clients={"client": 4}), rows=LEFT.rows[:-1])).counts


@pytest.mark.parametrize(
    ("verdict", "spoil"),
    [
        ("lost", lambda good: replace(good, rows=good.rows[:-1])),
        (
            "waiting",
            lambda good: replace(good, rows=good.rows[:-1], waiting=frozenset({("client", 5)})),
        ),
        ("dead-lettered", lambda good: replace(good, dead=[("client", 5)], rows=good.rows[:-1])),
        ("repeated", lambda good: replace(good, rows=[*good.rows, row(5)])),
        ("changed", lambda good: replace(good, rows=[*good.rows[:-1], row(5, message="n")])),
        ("invented", lambda good: replace(good, rows=[*good.rows, row(6)])),
        ("numbers", lambda good: replace(good, accepted={"client": 6})),
        (
            "resumed",
            lambda good: replace(good, rows=[row(1), row(5, served_at=1.5), *good.rows[1:4]]),
        ),
        ("ended", lambda good: replace(good, ends=[End("worker-1", 1.0, 1, ordered=False)])),
        ("memory", lambda good: replace(good, usages=[usage(0.0), usage(1.0, resident=81)])),
        ("memory", lambda good: replace(good, usages=grown(resident=43))),
        ("leak", lambda good: replace(good, usages=grown(descriptors=23))),
        ("leak", lambda good: replace(good, usages=grown(threads=6))),
        ("lost", lambda _: replace(CALLED, rows=CALLED.rows[:-2])),
        ("changed", lambda _: replace(CALLED, rows=[*CALLED.rows[:-1], row(5, message="n")])),
        ("invented", lambda _: replace(CALLED, rows=[*CALLED.rows, row(6)])),
        ("repeated", lambda _: replace(CALLED, rows=[*CALLED.rows, row(5)])),
        ("dead-lettered", lambda _: replace(CALLED, dead=[("client", 5)], rows=CALLED.rows[:-1])),
        ("answered", lambda _: replace(CALLED, unexpected=["client/5: 500"])),
        ("lost", lambda _: left(committed=LEFT.table.committed | {"m6"})),
        ("rolled back", lambda _: left(undone=frozenset({"m5"}), doubtful=frozenset())),
        ("invented", lambda _: left(doubtful=frozenset())),
        ("numbers", lambda _: left(clients={"client": 6})),
        (
            "repeated",
            lambda _: replace(left(clients={"client": 6}), rows=[*LEFT.rows, row(6, message="m5")]),
        ),
        ("dead-lettered", lambda _: replace(LEFT, dead=[("client", 6)])),
        ("topology", lambda good: replace(good, queue_arguments={"x-queue-type": "quorum"})),
        ("audit", lambda good: replace(good, audit_holds=False)),
        ("died", lambda _: replace(DEADLY, disturbed=frozenset({31}))),
        ("died", lambda _: replace(DEADLY, calls=Calls(begun=DEADLY.calls.begun))),
        ("died", lambda _: replace(DEADLY, failed=DEADLY.given_up, rows=DEADLY.rows[1:])),
        ("attempts", lambda _: replace(DEADLY, given_up={("client", 1): ("failed", 4)})),
    ],
)
def test_each_flaw_is_named_by_its_finding(
    verdict: str, spoil: Callable[[Evidence], Evidence]
) -> None:
    assert set(check(spoil(GOOD)).counts) == {verdict}


def test_a_call_is_unfinished_where_the_handler_did_not_raise(tmp_path: Path) -> None:
    for name, noted in (
        ("rig-1", "begun a 1 31\nbegun a 1 32\nraised a 1 32\nheld a 2 32\n"),
        ("rig-2", "begun a 1 33\n"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "calls").write_text(noted)
    found = calls([tmp_path / "rig-1", tmp_path / "rig-2", tmp_path])
    assert found.begun == {("a", 1): 3}
    assert (found.raised, found.held) == ({("a", 1): 1}, {("a", 2): 1})
    assert found.unfinished == {("a", 1): {31, 33}}


def test_how_far_serving_was_ahead_of_the_lowest_request_not_yet_served() -> None:
    rows = [row(counter, served_at=at) for at, counter in enumerate((1, 4, 2, 5, 3))]
    assert farthest_ahead(rows) == [("client", 2, 4)]


@given(seed=st.integers(0, 1000), count=st.integers(1, 300))
def test_a_seed_gives_one_schedule_and_each_kind_its_share(seed: int, count: int) -> None:
    kinds = chosen("")
    schedule = plan(seed, kinds, count=count)
    assert schedule == plan(seed, kinds, count=count)
    assert [fault.number for fault in schedule] == list(range(1, count + 1))
    assert all(a.at <= b.at for a, b in itertools.pairwise(schedule))
    for fault in schedule:
        kind = CATALOGUE[fault.kind].kind
        assert kind.shortest <= fault.lasts <= kind.longest + 0.001
    if count >= 2 * len(kinds):
        assert {fault.kind for fault in schedule} == {kind.name for kind in kinds}


def test_a_short_trial_ends_with_its_faults() -> None:
    assert all(f.at + f.lasts <= 60 for f in plan(1, chosen(""), duration=60))


def test_a_fault_that_waits_for_its_turn_is_not_given_up_while_others_are_proved() -> None:
    planned = Planned(number=1, kind="node.leader_kill", at=10, lasts=5, pick=0)
    waiting = Happened(planned, course=(_ for _ in ()), begun_at=10)
    assert waiting.overdue(10 + 5 + FAULT_TIMEOUT + 1, last_over=0)
    assert not waiting.overdue(10 + 5 + FAULT_TIMEOUT + 1, last_over=200)
    assert waiting.overdue(200 + 5 + FAULT_TIMEOUT + 1, last_over=200)
    happened = replace(waiting, on_at=20.0)
    assert happened.overdue(20 + 5 + FAULT_TIMEOUT + 1, last_over=200)


def test_a_silence_is_the_longest_time_without_a_row() -> None:
    rows = [1.0, 2.0, 3.0, 10.0, 11.0, 40.0]
    assert silence(rows, 2.5, 9.0) == 7.0  # before it begins is not its own
    assert silence(rows, 4.0, 9.0) == 6.0
    assert silence(rows, 10.5, 10.9) == 0.5
    assert silence(rows, 11.0, 12.0) == 29.0
    assert silence(rows, 39.0, 41.0) is None


def test_a_recovery_lasts_from_the_servers_answer_to_the_next_row() -> None:
    found = recoveries([10.0], [9.0, 10.4, 11.0], [Disturbance(8.0, 10.1)], workers=2)
    assert list(found.seconds) == pytest.approx([0.4])
    assert found.overtaken == 0


@pytest.mark.parametrize(
    ("disturbances", "overtaken"),
    [
        ([Disturbance(11.0, 19.0)], 1),
        ([Disturbance(11.0, 19.0, worker=0)], 0),
        ([Disturbance(11.0, 19.0, worker=0), Disturbance(9.0, 12.0, worker=1)], 1),
        ([Disturbance(21.0, 22.0)], 0),
    ],
)
def test_a_recovery_that_another_fault_met_is_not_counted(
    disturbances: list[Disturbance], overtaken: int
) -> None:
    found = recoveries([10.0], [9.0, 20.0], disturbances, workers=2)
    assert found.overtaken == overtaken
    assert list(found.seconds) == ([] if overtaken else [10.0])


def test_the_percentiles_of_recoveries() -> None:
    heals = [float(10 * n) for n in range(1, 101)]
    rows = [10.0 * n + n / 100 for n in range(1, 101)]
    found = recoveries(heals, rows, [], workers=1)
    assert found.percentile(0.5) == pytest.approx(0.51)
    assert found.percentile(0.95) == pytest.approx(0.96)
    assert found.as_dict()["max"] == pytest.approx(1.0)


def test_a_trial_with_a_handlers_check_prunes_no_rows() -> None:
    assert {"prune.run", "prune.kill"} <= {kind.name for kind in chosen("")}
    assert not [kind for kind in chosen("", "money") if kind.name.startswith("prune.")]


def test_three_nodes_get_the_faults_that_apply_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only root can cut their links; faults of a single server do not apply to them."""
    monkeypatch.setattr(links, "can_be_cut", lambda: False)
    names = {kind.name for kind in chosen("", nodes=3)}
    assert names >= {"node.leader_kill", "node.writer_freeze", "worker.kill"}
    assert not [name for name in names if name.startswith(("broker.", "database."))]
    assert "node.leader_partition" not in names
    monkeypatch.setattr(links, "can_be_cut", lambda: True)
    assert "node.leader_partition" in {kind.name for kind in chosen("node", nodes=3)}
    assert not [kind for kind in chosen("") if kind.name.startswith("node.")]
