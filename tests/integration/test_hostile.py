"""Ten thousand malformed messages among ten thousand requests."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import UTC, datetime

from lab.harness.hostile import hostile
from tests.pipeline import Pipeline
from turnwise.message import MAX_BODY_BYTES, Request
from worker.apart import is_hostile, is_needed

COUNT = 10_000


def test_every_request_is_stored_and_every_malformed_message_is_dead_lettered(
    pipeline: Pipeline,
) -> None:
    workers = [pipeline.worker(f"worker-{i}", "--prefetch", "200") for i in (1, 2)]
    pids = [worker.pid for worker in workers]
    sizes: Counter[int] = Counter()
    copies = is_needed(pipeline.version())
    with pipeline.channel() as channel:
        bad = hostile(random.Random(7))
        for counter in range(1, COUNT + 1):
            request = Request("client", counter, f"m{counter}", datetime.now(UTC))
            channel.basic_publish("requests", "requests", request.encode(), request.properties())
            body, properties = next(bad)
            channel.basic_publish("requests", "requests", body, properties)
            # A worker that copies a forged x-death has not collected a body as large as this.
            forged = copies and is_hostile(b"".join(properties.encode()))
            sizes[0 if forged and len(body) > MAX_BODY_BYTES else len(body)] += 1
    pipeline.wait_served(COUNT, interval=0.5)
    pipeline.assert_exactly_once("client", COUNT)
    pipeline.wait(lambda: pipeline.ready("requests.dead") == COUNT, "all dead letters")
    output = pipeline.run("worker", "dead", "list", "--json", "--limit", str(2 * COUNT)).stdout
    letters = [json.loads(line) for line in output.splitlines()]
    assert Counter(letter["size"] for letter in letters) == sizes
    assert {letter["reason"] for letter in letters} == {"invalid"}
    assert all(": " in letter["detail"] for letter in letters)
    assert [worker.pid for worker in workers] == pids
