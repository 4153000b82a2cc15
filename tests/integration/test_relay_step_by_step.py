"""Two relays, one of which fails at every step of the protocol in turn."""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict

import pytest

from lab.harness.process import Process
from tests.integration.halting_relay import CUT, DEAF, FREEZE
from tests.pipeline import Pipeline
from turnwise import outbox

LIFE = 20
"""Steps, at least, from taking charge to the end of the first batches."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fate", [FREEZE, CUT, DEAF])
def test_every_row_has_one_identity_whichever_step_fails(pipeline: Pipeline, fate: str) -> None:
    pipeline.run("worker", "migrate")
    sent: list[str] = []

    def commit(*messages: str) -> None:
        sent.extend(messages)
        with pipeline.servers.database.connect(pipeline.name) as cursor:
            cursor.execute("BEGIN")
            for number, message in enumerate(messages):
                outbox.send(cursor, f"queue-{number % 2}", message)
            cursor.execute("COMMIT")

    def empty() -> bool:
        [counts] = pipeline.servers.database.query(
            "SELECT (SELECT COUNT(*) FROM outbox), (SELECT COUNT(*) FROM outbox_batches)",
            name=pipeline.name,
        )
        return bool(counts == (0, 0))

    met = 0
    for step in range(1, 1000):
        commit(f"{step}a", f"{step}b", f"{step}c")
        first = _start(pipeline, f"first-{step}", fate, step)
        while f"step {step}\n" not in first.log.read_text() and not empty():
            time.sleep(0.01)
        if f"step {step}\n" not in first.log.read_text():
            first.kill()
            break
        met = step
        second = _start(pipeline, f"second-{step}", FREEZE, 0)
        pipeline.wait(empty, f"all is published in spite of step {step}")
        first.resume()  # it resumes long after it was superseded
        commit(f"{step}d", f"{step}e")
        pipeline.wait(empty, f"all is published after step {step}")
        for relay in (first, second):
            assert relay.alive(), relay.last_words()
            relay.kill()
    assert met >= LIFE
    _check(pipeline, sent)


def _start(pipeline: Pipeline, name: str, fate: str, step: int) -> Process:
    process = Process(
        name,
        pipeline.folder,
        [sys.executable, "-m", "tests.integration.halting_relay", fate, str(step), "relay",
         "--name", name],
        pipeline.environment(),
    )  # fmt: skip
    pipeline.adopt(process)
    process.start()
    return process


def _check(pipeline: Pipeline, sent: list[str]) -> None:
    """Check that identities and messages map one to one, and that no number is skipped."""
    messages: dict[str, set[str]] = defaultdict(set)
    with pipeline.channel() as channel:
        for queue in ("queue-0", "queue-1"):
            while (got := channel.basic_get(queue, auto_ack=True))[0]:
                request = json.loads(got[2])
                messages[f"{queue}/{request['client']}/{request['counter']}"].add(
                    request["message"]
                )
    assert {identity: each for identity, each in messages.items() if len(each) > 1} == {}
    assert sorted(message for each in messages.values() for message in each) == sorted(sent)
    numbers = defaultdict(list)
    for identity in messages:
        source, _, number = identity.rpartition("/")
        numbers[source].append(int(number))
    assert len(numbers) == 2
    for of_client in numbers.values():
        assert sorted(of_client) == list(range(1, len(of_client) + 1))
