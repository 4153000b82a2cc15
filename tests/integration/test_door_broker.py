"""``producer serve``: its answers while the broker is in trouble, and its shutdown."""

from __future__ import annotations

import contextlib
import functools
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from lab.harness.rabbitmq import MEMORY_WATERMARK
from tests.door import Answer, Door, open_door
from tests.pipeline import Pipeline
from turnwise.errors import ExitCode
from turnwise.topology import Topology

AT_ONCE = 5.0
"""Seconds: the machine is shared. To wait for anything would take --timeout, which is 10."""


def put_at_once(door: Door, counter: int) -> Answer:
    begun = time.monotonic()
    answer = door.put("alice", counter)
    assert time.monotonic() - begun < AT_ONCE
    return answer


def refused(answer: Answer) -> str:
    """Return the detail of a 503 answer."""
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    return answer.detail


class Put(threading.Thread):
    """A PUT that runs in its own thread."""

    def __init__(self, door: Door, counter: int) -> None:
        super().__init__()
        self._door = door
        self._counter = counter
        self.answer: Answer | None = None
        self.start()

    def run(self) -> None:
        self.answer = self._door.put("alice", self._counter)

    def finish(self) -> Answer:
        self.join(30)
        assert self.answer is not None
        return self.answer


def test_it_refuses_at_once_without_a_broker_and_recovers_with_it(
    pipeline: Pipeline,
) -> None:
    pipeline.servers.rabbitmq.stop()
    door = open_door(pipeline, ready=False)
    pipeline.wait_event(door.process, "broker.away")
    assert "RabbitMQ" in refused(put_at_once(door, 1))
    assert not door.ready()
    assert door.ask("GET", "/healthz").status == 200
    assert door.metric("turnwise_door_ready") == 0
    pipeline.servers.rabbitmq.start()
    pipeline.wait(door.ready, "a door that may publish")
    assert put_at_once(door, 2).status == 201
    pipeline.servers.rabbitmq.kill()
    pipeline.wait(lambda: not door.ready(), "that it sees it")
    refused(put_at_once(door, 3))
    pipeline.servers.rabbitmq.start()
    pipeline.wait(door.ready, "a door that may publish")
    assert put_at_once(door, 4).status == 201
    assert pipeline.ready() == 2
    assert door.metric('turnwise_connection_failures_total{server="broker"}') >= 2


def test_pending_requests_are_refused_at_once_when_the_connection_is_lost(
    pipeline: Pipeline,
) -> None:
    proxy, url = pipeline.broker_proxy()
    door = open_door(pipeline, AMQP_URL=url)
    proxy.hold(proxy.down)
    puts = [Put(door, counter) for counter in range(1, 6)]
    pipeline.wait(lambda: door.metric("turnwise_door_under_way") == 5, "five under way")
    proxy.cut()
    for put in puts:
        assert "may or may not be recorded" in refused(put.finish())
    proxy.release(proxy.down)
    pipeline.wait(door.ready, "a door that may publish")
    assert pipeline.ready() <= 5, "nothing is published again by the door itself"
    assert [door.put("alice", counter).status for counter in range(1, 6)] == [201] * 5
    pipeline.worker("worker-1")
    pipeline.wait_all_settled()
    pipeline.assert_exactly_once("alice", 5)


@pytest.fixture
def watermark(pipeline: Pipeline) -> Iterator[Callable[[str], object]]:
    """Yield a function that sets the broker's memory watermark; teardown resets it."""
    set_to = functools.partial(
        pipeline.servers.rabbitmq.ctl, "set_vm_memory_high_watermark", "absolute"
    )
    yield set_to
    set_to(MEMORY_WATERMARK)


def test_it_refuses_at_once_while_the_broker_is_blocked(
    pipeline: Pipeline, watermark: Callable[[str], object]
) -> None:
    watermark("1MB")
    door = open_door(pipeline)
    # The broker reports its alarm only on a publish; that request is answered at once, too.
    assert "accepts no messages at the moment" in refused(put_at_once(door, 1))
    assert "low on memory" in refused(put_at_once(door, 2))
    assert not door.ready()
    pipeline.wait_event(door.process, "door.refusing")
    watermark(MEMORY_WATERMARK)
    pipeline.wait(door.ready, "a door that may publish")
    assert put_at_once(door, 3).status == 201
    # The first was still in the socket. Its client got "may or may not be recorded".
    assert pipeline.ready() == 2


def test_without_a_queue_no_request_is_confirmed(pipeline: Pipeline) -> None:
    door = open_door(pipeline)
    queue = f"bindings/{pipeline.name}/e/requests/q/requests"
    pipeline.api("DELETE", f"{queue}/requests")
    # The exchange exists, so the broker returns the message and then confirms it.
    assert "may or may not be recorded" in refused(put_at_once(door, 1))
    assert "did not accept 1 request(s)" in door.process.log.read_text()
    # The door may repair the topology, and does so when it reconnects.
    pipeline.wait(door.ready, "a door that may publish")
    assert put_at_once(door, 2).status == 201
    pipeline.api("DELETE", f"queues/{pipeline.name}/requests")
    refused(put_at_once(door, 3))
    # It never recreates a queue that it has published to: the loss must be noticed by an
    # operator.
    pipeline.wait(lambda: "no longer has the queue" in door.process.log.read_text(), "it is logged")
    assert "has no queue" in refused(put_at_once(door, 3))
    pipeline.worker("worker-1")
    pipeline.wait(door.ready, "a door that may publish")
    assert put_at_once(door, 4).status == 201
    assert [row.counter for row in pipeline.wait_served(1)] == [4]


@pytest.fixture
def humble(pipeline: Pipeline) -> Iterator[str]:
    """Yield the AMQP_URL of an account that may publish and nothing else."""
    name = f"humble-{secrets.token_hex(4)}"
    api, rabbitmq = pipeline.api, pipeline.servers.rabbitmq
    api("PUT", f"users/{name}", {"password": name, "tags": ""})
    rights = {"configure": "", "write": "^requests$", "read": ""}
    api("PUT", f"permissions/{pipeline.name}/{name}", rights)
    yield f"amqp://{name}:{name}@127.0.0.1:{rabbitmq.port}/{pipeline.name}"
    api("DELETE", f"users/{name}")


def test_a_publish_only_account_is_enough(pipeline: Pipeline, humble: str) -> None:
    door = open_door(pipeline, ready=False, AMQP_URL=humble)
    pipeline.wait_event(door.process, "broker.away")
    answer = refused(put_at_once(door, 1))
    assert "has no queue" in answer
    # Clients learn neither the account nor the address; the log has both.
    assert "humble" not in answer
    assert "127.0.0.1" not in answer
    assert "has no queue 'requests', and the user 'humble" in door.process.log.read_text()
    worker = pipeline.worker("worker-1")
    worker.stop(20)
    pipeline.wait(lambda: door.put("alice", 1).status == 201, "a queue")
    assert pipeline.ready() == 1


def test_a_refused_login_ends_the_door(pipeline: Pipeline) -> None:
    url = pipeline.amqp_url.replace("//", "//x", 1)
    said = pipeline.run("producer", "serve", "--http", "0", code=ExitCode.REFUSED, AMQP_URL=url)
    assert "AMQP_URL" in said.stderr


def test_a_request_that_the_broker_nacks_is_not_confirmed(pipeline: Pipeline) -> None:
    door = open_door(pipeline)
    policy = f"policies/{pipeline.name}/short"
    definition = {"max-length": 3}
    pipeline.api("PUT", policy, {"pattern": "^requests$", "definition": definition})
    pipeline.wait(lambda: "short" in str(pipeline.queue().get("policy")), "the policy on the queue")
    confirmed = set()
    for counter in range(1, 30):
        answer = door.put("alice", counter)
        if answer.status == 201:
            confirmed.add(counter)
        else:
            refused(answer)
    assert 3 <= len(confirmed) < 29
    pipeline.api("DELETE", policy)
    pipeline.worker("worker-1")
    pipeline.wait_served(len(confirmed))
    pipeline.wait_all_settled()
    assert {row.counter for row in pipeline.rows()} == confirmed


def test_without_confirms_no_client_waits_longer_than_the_timeout(
    pipeline: Pipeline,
) -> None:
    proxy, url = pipeline.broker_proxy()
    door = open_door(pipeline, "--timeout", "2s", AMQP_URL=url)
    proxy.hold(proxy.down)
    begun = time.monotonic()
    assert "2 s; it may or may not be recorded" in refused(door.put("alice", 1))
    assert 1.5 < time.monotonic() - begun < 2 + AT_ONCE
    # Until a confirm arrives, further requests are refused at once: they would fare no better.
    pipeline.wait(lambda: not door.ready(), "that it has seen it")
    assert "confirmed nothing for 2 s" in refused(put_at_once(door, 2))
    proxy.release(proxy.down)
    pipeline.wait(door.ready, "a door that may publish")
    assert put_at_once(door, 3).status == 201
    pipeline.worker("worker-1")
    # The broker's own count lags: check the rows instead.
    rows = pipeline.wait_served(2)
    assert {row.counter for row in rows} == {1, 3}
    assert pipeline.ready() == 0


def test_no_more_requests_than_the_limit_are_pending(pipeline: Pipeline) -> None:
    proxy, url = pipeline.broker_proxy()
    door = open_door(pipeline, "--limit", "3", AMQP_URL=url)
    proxy.hold(proxy.down)
    puts = [Put(door, counter) for counter in (1, 2, 3)]
    pipeline.wait(lambda: door.metric("turnwise_door_under_way") == 3, "three under way")
    answer = put_at_once(door, 4)
    assert answer.status == 429
    assert answer.headers["retry-after"] == "1"
    assert "3 requests" in answer.detail
    proxy.release(proxy.down)
    assert [put.finish().status for put in puts] == [201] * 3
    assert door.put("alice", 4).status == 201


def test_sigterm_lets_pending_requests_be_answered(pipeline: Pipeline) -> None:
    proxy, url = pipeline.broker_proxy()
    door = open_door(pipeline, AMQP_URL=url)
    proxy.hold(proxy.down)
    put = Put(door, 1)
    pipeline.wait(lambda: door.metric("turnwise_door_under_way") == 1, "one under way")
    idle = door.socket()
    door.process.signal(signal.SIGTERM)

    def closed() -> bool:
        with contextlib.suppress(ConnectionRefusedError), door.socket():
            return False
        return True

    pipeline.wait(closed, "that it accepts nothing further")
    assert idle.recv(1) == b"", "what is idle is closed"
    idle.close()
    assert door.process.alive()
    proxy.release(proxy.down)
    assert put.finish().status == 201
    assert door.process.wait(10) == ExitCode.OK
    assert pipeline.ready() == 1
    assert pipeline.events(door.process)[-1]["event"] == "door.stopped"


def test_sigterm_stops_the_door_without_a_broker(pipeline: Pipeline) -> None:
    proxy, url = pipeline.broker_proxy()
    door = open_door(pipeline, "--timeout", "2s", AMQP_URL=url)
    proxy.hold(proxy.down)
    put = Put(door, 1)
    pipeline.wait(lambda: door.metric("turnwise_door_under_way") == 1, "one under way")
    door.process.signal(signal.SIGTERM)
    refused(put.finish())
    assert door.process.wait(15) == ExitCode.OK
    proxy.cut()
    proxy.close()
    door = open_door(pipeline, ready=False, AMQP_URL=url)
    pipeline.wait_event(door.process, "broker.away")
    door.process.signal(signal.SIGTERM)
    assert door.process.wait(5) == ExitCode.OK


def test_two_replicas_need_no_coordination(pipeline: Pipeline) -> None:
    doors = [open_door(pipeline, ready=False) for _ in range(2)]
    for door in doors:
        pipeline.wait(door.ready, "a door that may publish")
    for counter in range(1, 11):
        for door in (doors[counter % 2], doors[(counter + 1) % 2]):
            assert door.put("alice", counter).status == 201
    doors[0].process.kill()
    assert doors[1].put("alice", 11).status == 201
    pipeline.worker("worker-1")
    pipeline.wait_served(11)
    pipeline.wait_all_settled()
    pipeline.assert_exactly_once("alice", 11)
    assert pipeline.messages(Topology().dead) == 0
