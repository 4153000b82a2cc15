"""No deliveries arrive: telling an empty queue from a broker that has gone silent."""

from __future__ import annotations

import sys
import time

from lab.harness.process import Process
from tests.pipeline import Pipeline
from turnwise.inquiry import ANSWER_WITHIN, ASK_AFTER


def test_an_idle_worker_asks_the_broker_and_stays_connected(pipeline: Pipeline) -> None:
    worker = pipeline.worker("worker-1")
    time.sleep(3 * ASK_AFTER)  # it asks two or three times
    client = pipeline.send_counted(3)
    pipeline.wait_served(3)
    pipeline.assert_exactly_once(client, 3)
    names = [event["event"] for event in pipeline.events(worker)]
    assert "broker.away" not in names
    assert names.count("worker.consuming") == 1


def test_a_silent_node_is_left(pipeline: Pipeline) -> None:
    """The connection stays open, heartbeats are far apart, and no method is answered."""
    held, through = pipeline.broker_proxy()
    worker = pipeline.worker("worker-1", AMQP_URL=f"{through},{through}")
    held.hold(held.down)
    begun = time.monotonic()
    pipeline.wait_event(worker, "broker.away")
    assert time.monotonic() - begun < ASK_AFTER + ANSWER_WITHIN + 3
    [away, *_] = [e for e in pipeline.events(worker) if e["event"] == "broker.away"]
    assert "may be cut off" in away["error"]
    held.release(held.down)


def test_a_request_that_an_answer_brings_is_stored_before_it_is_acked(pipeline: Pipeline) -> None:
    """Deliveries overtake the question, and the answer brings a request that nobody withheld."""
    count = 2000
    held, through = pipeline.broker_proxy()
    worker = pipeline.worker("worker-1", AMQP_URL=through)
    held.hold(held.up)
    pipeline.wait(lambda: held.up.withheld, "a question")
    worker.pause()
    client = pipeline.send_counted(count)
    held.release(held.up)
    # The first is delivered, and the answer brings the second.
    pipeline.wait(lambda: pipeline.ready() == count - 2, "the answer")
    worker.resume()
    pipeline.wait_served(20)
    worker.kill()
    assert "broker.away" not in [event["event"] for event in pipeline.events(worker)]
    pipeline.worker("worker-2")
    pipeline.wait_served(count)
    pipeline.assert_exactly_once(client, count)


LOSES_AN_ACK = """
import worker.cli
from turnwise.broker import Channel

ack, lost = Channel.ack, []

def losing(channel, tag):
    if lost:
        ack(channel, tag)
    else:
        lost.append(tag)

Channel.ack = losing
worker.cli.main(prog_name="worker")
"""


def test_an_ack_that_the_broker_lost_is_noticed(pipeline: Pipeline) -> None:
    """To the broker the prefetch is used up; the worker holds nothing."""
    worker = Process(
        "worker-1",
        pipeline.folder,
        [sys.executable, "-c", LOSES_AN_ACK, "run", "--name", "worker-1"],
        pipeline.environment(),
    )
    worker.start()
    try:
        pipeline.wait_event(worker, "worker.consuming")
        client = pipeline.send_counted(3)
        pipeline.wait_served(3, timeout=ASK_AFTER + 10)
        pipeline.wait_event(worker, "worker.consuming", times=2)
        [away] = [e for e in pipeline.events(worker) if e["event"] == "broker.away"]
        assert "did not deliver it to a consumer that held none" in away["error"]
        pipeline.wait_all_settled()
        pipeline.assert_exactly_once(client, 3)
    finally:
        worker.kill()
