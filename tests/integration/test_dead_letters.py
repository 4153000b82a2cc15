"""``worker dead`` on a real broker: order, counts, and hostile headers."""

from __future__ import annotations

import json
import random
import signal
from functools import partial
from typing import Any

import pika
import pytest

from lab.harness.proxy import Proxy
from tests.malformed import VALID
from tests.pipeline import Pipeline
from turnwise import broker
from turnwise.dead_letters import ALL_WINDOW, WINDOW, look
from turnwise.errors import ExitCode, Transient
from turnwise.node import parse_urls

DEAD = "requests.dead"


@pytest.fixture
def letters(pipeline: Pipeline) -> Pipeline:
    """A pipeline with its queues, but without a worker."""
    worker = pipeline.worker("worker-1")
    worker.signal(signal.SIGTERM)
    worker.wait(20)
    return pipeline


def put(pipeline: Pipeline, count: int, first: int = 1) -> None:
    """Dead-letter numbered messages."""
    before = pipeline.ready(DEAD)
    with pipeline.channel() as channel:
        for number in range(first, first + count):
            channel.basic_publish("requests", "requests", f"letter {number}".encode())
        pipeline.wait(lambda: pipeline.ready() == count, "they are in the queue")
        for _ in range(count):
            method, _, _ = channel.basic_get("requests")
            channel.basic_reject(method.delivery_tag, requeue=False)
        pipeline.wait(lambda: pipeline.ready(DEAD) == before + count, "the letters")


def listed(pipeline: Pipeline, limit: int) -> list[str]:
    output = pipeline.run("worker", "dead", "list", "--json", "--limit", str(limit)).stdout
    return [json.loads(line)["body"] for line in output.splitlines()]


def numbered(count: int, first: int = 1) -> list[str]:
    return [f"letter {number}" for number in range(first, first + count)]


def test_the_oldest_come_first_however_often_they_are_listed(letters: Pipeline) -> None:
    put(letters, 700)
    dice = random.Random(1)
    for limit in (10, 1, 33, WINDOW + 1, 10, 700, 5, 450, 10, *dice.sample(range(1, 900), 10)):
        assert listed(letters, limit) == numbered(min(limit, 700)), limit
    put(letters, 5, first=701)
    assert listed(letters, 1000) == numbered(705)


def test_letters_are_found_by_id_and_the_rest_keeps_its_order(
    letters: Pipeline,
) -> None:
    put(letters, 700)
    output = letters.run("worker", "dead", "list", "--json", "--limit", "700").stdout
    ids = [json.loads(line)["id"] for line in output.splitlines()]
    chosen = [1, 2, 399, 650, 700]
    dropped = letters.run("worker", "dead", "drop", *(ids[number - 1] for number in chosen))
    assert dropped.stdout == "dropped 5\n"
    left = [f"letter {n}" for n in range(1, 701) if n not in chosen]
    assert listed(letters, 1000) == left
    result = letters.run("worker", "dead", "drop", "nonesuch", ids[2], code=ExitCode.FAILED)
    assert result.stdout == "dropped 1\n"
    assert "no dead letter nonesuch" in result.stderr
    left.remove("letter 3")
    assert listed(letters, 1000) == left


def read_since(proxy: Proxy, before: int) -> bool:
    return bool(proxy.down.passed - before > 8_000)


def test_a_killed_reader_leaves_the_order_unchanged(letters: Pipeline) -> None:
    put(letters, 300)
    proxy, through_proxy = letters.broker_proxy()
    for _ in range(3):
        proxy.down.rate = 40_000  # slow enough to be killed half-way
        before = proxy.down.passed
        reader = letters.start(
            "reader", "worker", "dead", "list", "--limit", "300", AMQP_URL=through_proxy
        )
        letters.wait(partial(read_since, proxy, before), "it reads")
        reader.kill()
        proxy.cut()
        letters.wait(lambda: letters.ready(DEAD) == 300, "all came back")
        assert listed(letters, 20) == numbered(20)
    assert listed(letters, 300) == numbered(300)


def test_two_concurrent_readers_keep_the_order(letters: Pipeline) -> None:
    put(letters, 20)
    with look(parse_urls(letters.amqp_url), "requests", "first") as first:
        assert len(first.list(10)) == 10
        result = letters.run("worker", "dead", "list", code=ExitCode.UNAVAILABLE)
        assert "another process is reading" in result.stderr
    assert listed(letters, 20) == numbered(20)


def test_all_letters_are_dropped_or_replayed_in_windows(letters: Pipeline) -> None:
    count = 3 * ALL_WINDOW + 7
    put(letters, count)
    assert letters.run("worker", "dead", "replay", "--all").stdout == f"replayed {count:,}\n"
    assert letters.ready(DEAD) == 0
    assert letters.ready() == count
    with letters.channel() as channel:
        for number in range(1, count + 1):
            _, _, body = channel.basic_get("requests", auto_ack=True)
            assert body == f"letter {number}".encode()
    for count in (7, 200):
        put(letters, count)
        assert letters.run("worker", "dead", "drop", "--all").stdout == f"dropped {count}\n"
        assert letters.ready(DEAD) == 0


@pytest.mark.parametrize("what", ["drop", "replay"])
def test_only_confirmed_letters_are_reported(
    letters: Pipeline, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker receives nothing further once it has delivered the letters."""
    monkeypatch.setattr(broker, "CALL_TIMEOUT", 3.0)
    put(letters, 3)
    [letter, *_] = listed_ids(letters)
    proxy, through_proxy = letters.broker_proxy()
    with look(parse_urls(through_proxy), "requests", "test") as dead_letters:

        def hold(done: int, _total: int) -> None:
            if done == 0:
                proxy.hold(proxy.up)

        act = getattr(dead_letters, what)
        with pytest.raises(Transient, match=r"ed for certain: 0") as raised:
            act(None, hold)
        assert "not known: 3" in str(raised.value)
        proxy.cut()
    assert letters.ready(DEAD) == 3
    assert letter == listed_ids(letters)[0]


def listed_ids(pipeline: Pipeline) -> list[str]:
    output = pipeline.run("worker", "dead", "list", "--json").stdout
    return [json.loads(line)["id"] for line in output.splitlines()]


def test_a_frozen_broker_makes_the_command_fail(letters: Pipeline) -> None:
    put(letters, 3)
    runner = letters.servers.rabbitmq.runner
    proxy, through_proxy = letters.broker_proxy()
    proxy.down.rate = 3_000
    before = proxy.down.passed
    command = letters.start("drop", "worker", "dead", "drop", "--all", AMQP_URL=through_proxy)
    letters.wait(lambda: proxy.down.passed > before, "it is connected")
    runner.pause()
    try:
        assert command.wait(80) == ExitCode.UNAVAILABLE
    finally:
        runner.resume()
    assert "dropped 3" not in command.log.read_text()
    letters.wait(lambda: letters.ready(DEAD) == 3, "they are all there")


# A list of anything but tables stops all dead-lettering on a RabbitMQ 3.10 node.
HOSTILE: list[dict[str, Any]] = [
    {"x-death": "no list"},
    {"x-death": [{"queue": "elsewhere", "reason": "maxlen", "count": 1}]},
    {"x-death": [{"queue": "requests", "reason": "rejected"}], "x-delivery-count": "many"},
    {"x-first-death-reason": 7, "x-delivery-count": 2**40},
]


def test_any_headers_a_sender_writes_are_survived(pipeline: Pipeline) -> None:
    """Including the broker's own dead-lettering, which adds its entry to theirs."""
    worker = pipeline.worker("worker-1")
    for number, headers in enumerate(HOSTILE):
        pipeline.publish(f"hostile {number}".encode(), headers=headers, user_id="lab")
    count = len(HOSTILE)
    pipeline.wait(lambda: pipeline.ready(DEAD) == count, "all are dead letters")
    output = pipeline.run("worker", "dead", "list", "--json").stdout
    found = {(letter := json.loads(line))["body"]: letter for line in output.splitlines()}
    assert len(found) == count
    assert {letter["reason"] for letter in found.values()} == {"invalid"}
    assert pipeline.run("worker", "dead", "list").stdout.count("hostile") >= len(HOSTILE)
    worker.signal(signal.SIGTERM)
    worker.wait(20)
    assert pipeline.run("worker", "dead", "replay", "--all").stdout == f"replayed {count}\n"
    assert (pipeline.ready(), pipeline.ready(DEAD)) == (count, 0)


def test_a_letter_sent_by_another_user_is_replayed(letters: Pipeline) -> None:
    """RabbitMQ closes a channel that publishes in another user's name."""
    rabbitmq = letters.servers.rabbitmq
    user = f"other-{letters.name}"
    letters.api("PUT", f"users/{user}", {"password": "other", "tags": ""})
    try:
        rabbitmq.grant(user, letters.name)
        url = letters.amqp_url.replace(f"lab:{rabbitmq.password}", f"{user}:other")
        body = json.dumps(VALID).encode()
        with pika.BlockingConnection(pika.URLParameters(url)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            properties = pika.BasicProperties(user_id=user, message_id="client/7")
            channel.basic_publish(DEAD, DEAD, body, properties)
        assert letters.run("worker", "dead", "replay", "--all").stdout == "replayed 1\n"
    finally:
        letters.api("DELETE", f"users/{user}")
    letters.worker("worker-1")
    letters.wait_served(1)


def test_a_letter_that_the_queue_refuses_stays_dead(letters: Pipeline) -> None:
    put(letters, 2)
    letters.api("DELETE", f"queues/{letters.name}/requests")
    result = letters.run("worker", "dead", "replay", "--all", code=ExitCode.UNAVAILABLE)
    assert "does not accept letters back" in result.stderr
    assert listed(letters, 10) == numbered(2)
