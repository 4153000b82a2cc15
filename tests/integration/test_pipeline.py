"""End to end with real processes: turns, backlog, resume, exactly once."""

from __future__ import annotations

import itertools
import json
import signal

from lab.harness.process import Process
from tests.malformed import VALID
from tests.pipeline import Pipeline


def test_two_workers_take_turns_when_the_client_paces_itself(pipeline: Pipeline) -> None:
    """Each request is sent once the previous one is served, however slow the machine."""
    for name in ("worker-1", "worker-2"):
        pipeline.worker(name)
    for counter in range(1, 61):
        pipeline.publish(json.dumps(VALID | {"counter": counter}).encode())
        pipeline.wait_served(counter)
    rows = pipeline.assert_exactly_once("client", 60)
    assert [row.counter for row in rows] == list(range(1, 61))
    turns = [row.served_by for row in rows]
    assert all(before != after for before, after in itertools.pairwise(turns)), turns


def test_two_workers_share_a_backlog_holding_one_request_each(pipeline: Pipeline) -> None:
    """At every look, the two workers hold the next two requests."""
    for name in ("worker-1", "worker-2"):
        pipeline.worker(name)
    client = pipeline.send_counted(6000)  # more than are served between two looks
    for _ in range(8):
        with pipeline.servers.database.connect(pipeline.name) as table:
            table.execute("LOCK TABLES requests WRITE")
            pipeline.wait_writing(workers=2)
            table.execute("SELECT counter FROM requests")
            served = {counter for (counter,) in table.fetchall()}
            in_hand = [n for n in range(1, len(served) + 3) if n not in served]
            table.execute("UNLOCK TABLES")
        assert len(in_hand) == 2
        pipeline.wait_served(len(served) + 2)
        rows = {row.counter: row.served_by for row in pipeline.rows()}
        assert {rows[counter] for counter in in_hand} == {"worker-1", "worker-2"}
    pipeline.wait_served(6000, interval=0.5)
    pipeline.assert_exactly_once(client, 6000)


def test_a_backlog_outlives_the_broker(pipeline: Pipeline) -> None:
    pipeline.run("worker", "migrate")
    client = pipeline.send_counted(1000)
    pipeline.servers.rabbitmq.kill()
    pipeline.servers.rabbitmq.start()
    pipeline.worker("worker-1")
    pipeline.worker("worker-2")
    pipeline.wait_served(1000)
    pipeline.assert_exactly_once(client, 1000)


def test_serving_resumes_at_the_unsettled_request(pipeline: Pipeline) -> None:
    proxy, through_proxy = pipeline.broker_proxy()
    worker = pipeline.worker("worker-1", AMQP_URL=through_proxy)
    client = pipeline.send_counted(3)
    pipeline.wait_served(3)
    with pipeline.servers.database.connect(pipeline.name) as table:
        # Request 4 blocks on the locked table.
        table.execute("LOCK TABLES requests WRITE")
        pipeline.send(*(f"m{i}" for i in range(4, 11)))
        pipeline.wait_writing()
        assert proxy.cut() == 1
        table.execute("UNLOCK TABLES")
    pipeline.wait_served(10)
    rows = pipeline.assert_exactly_once(client, 10)
    assert [row.counter for row in rows] == list(range(1, 11))
    pipeline.wait_event(worker, "worker.consuming", times=2)


def test_a_worker_killed_between_commit_and_ack_repeats_nothing(pipeline: Pipeline) -> None:
    proxy, through_proxy = pipeline.broker_proxy()
    worker = pipeline.worker("worker-1", AMQP_URL=through_proxy)
    proxy.hold(proxy.up)  # from now on nothing from the worker reaches the broker
    client = pipeline.send("hello")
    pipeline.wait_served(1)
    pipeline.wait(lambda: proxy.up.withheld > 0, "the ack is on its way")
    worker.kill()
    proxy.cut()
    other = pipeline.worker("worker-2")
    pipeline.wait_event(other, "request.repeated")
    pipeline.wait_all_settled()
    [row] = pipeline.assert_exactly_once(client, 1)
    assert (row.served_by, row.deliveries) == ("worker-1", 2)


def test_a_worker_stopped_during_a_commit_finishes_and_acks(pipeline: Pipeline) -> None:
    worker = pipeline.worker("worker-1")
    with pipeline.servers.database.connect(pipeline.name) as table:
        table.execute("LOCK TABLES requests WRITE")
        client = pipeline.send_counted(2)
        pipeline.wait_writing()
        worker.signal(signal.SIGTERM)
        table.execute("UNLOCK TABLES")
    assert worker.wait(10) == 0
    pipeline.wait(lambda: pipeline.ready() == 1, "the second one is back")
    [row] = pipeline.rows()
    assert (row.client, row.counter, row.deliveries) == (client, 1, 1)


def test_a_stopped_worker_finishes_what_it_holds_and_leaves_the_rest(pipeline: Pipeline) -> None:
    worker = pipeline.worker("worker-1", "--prefetch", "50")
    with pipeline.servers.database.connect(pipeline.name) as table:
        table.execute("LOCK TABLES requests WRITE")
        pipeline.send_counted(200)
        pipeline.wait_writing()
        worker.signal(signal.SIGTERM)
        table.execute("UNLOCK TABLES")
    assert worker.wait(10) == 0
    assert pipeline.served() < 200
    pipeline.worker("worker-2")
    rows = pipeline.wait_served(200)
    assert [row.counter for row in rows] == list(range(1, 201))
    assert {row.deliveries for row in rows} == {1}
    assert pipeline.queue("requests.dead").get("messages", 0) == 0


def test_scaling_up_and_down_under_load_loses_and_repeats_nothing(pipeline: Pipeline) -> None:
    """Do as 'kubectl scale' does: start processes, and stop them by SIGTERM."""
    sender = pipeline.start("producer", "producer", "send", "load", "--quantum", "5ms")
    numbers = itertools.count(1)
    replicas: list[Process] = []
    for wanted in (2, 5, 1, 4):
        while len(replicas) < wanted:
            replicas.append(pipeline.worker(f"worker-{next(numbers)}"))
        leaving, replicas = replicas[wanted:], replicas[:wanted]
        for worker in leaving:
            worker.signal(signal.SIGTERM)
        assert [worker.wait(60) for worker in leaving] == [0] * len(leaving)
        seen, names = pipeline.served(), {worker.name for worker in replicas}

        def all_had_a_turn(seen: int = seen, names: set[str] = names) -> bool:
            return {row.served_by for row in pipeline.rows()[seen:]} >= names

        pipeline.wait(all_had_a_turn, "a turn of each that is left")
    sender.signal(signal.SIGTERM)
    sender.wait(60)
    pipeline.run("producer", "flush")
    accepted = pipeline.status()["accepted"]
    pipeline.wait_served(accepted)
    rows = pipeline.assert_exactly_once(pipeline.client(), accepted)
    assert {row.deliveries for row in rows} == {1}
