"""Several queues that share one table."""

from __future__ import annotations

from datetime import UTC

from tests.pipeline import Pipeline
from turnwise.message import Request


def test_a_producer_continues_in_another_queue_and_a_repeat_there_has_no_effect(
    pipeline: Pipeline,
) -> None:
    for queue in ("requests-0", "requests-1"):
        pipeline.worker(f"worker-of-{queue}", "--queue", queue)
    send = ("producer", "send", "--stdin")
    pipeline.run(*send, stdin="m1\nm2\nm3\n", TURNWISE_QUEUE="requests-0")
    first = pipeline.wait_served(3)
    assert {row.served_by for row in first} == {"worker-of-requests-0"}
    known = first[1]
    request = Request(known.client, known.counter, known.message, known.sent_at.replace(tzinfo=UTC))
    with pipeline.channel() as channel:
        channel.confirm_delivery()
        body, properties = request.encode(), request.properties()
        channel.basic_publish("requests-1", "requests-1", body, properties)
    pipeline.run(*send, stdin="m4\nm5\n", TURNWISE_QUEUE="requests-1")
    rows = pipeline.wait_served(5)
    assert [row.counter for row in rows] == [1, 2, 3, 4, 5]
    assert {row.served_by for row in rows[3:]} == {"worker-of-requests-1"}
    # The repeat was ahead of them in the same queue.
    assert {row.counter for row in rows if row.deliveries == 2} == {known.counter}
