"""A message with a forged x-death header must not stop the broker's dead-lettering."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.pipeline import Pipeline
from worker.apart import is_hostile, is_needed

DEATHS: list[Any] = [[1], "no list", {"queue": "requests"}, [{"queue": 1, "count": "many"}]]


@pytest.mark.parametrize("size", [1, 120_000])
def test_a_forged_x_death_header_does_not_stop_dead_lettering(
    pipeline: Pipeline, size: int
) -> None:
    """RabbitMQ 3.10 stops dead-lettering on the whole node once such a message is rejected."""
    pipeline.worker("worker-1")
    for death in DEATHS:
        pipeline.publish(
            b"x" * size, headers={"x-death": death, "mine": "stays"}, expiration="1000000"
        )
    pipeline.publish(b"no request")
    pipeline.wait(lambda: pipeline.ready("requests.dead") == len(DEATHS) + 1, "the dead letters")
    pipeline.wait_all_settled()
    listed = pipeline.run("worker", "dead", "list", "--json").stdout
    letters = [json.loads(line) for line in listed.splitlines()]
    assert {letter["reason"] for letter in letters} == {"invalid"}
    assert all(letter["died_at"] for letter in letters)
    with pipeline.channel() as channel:
        got = [channel.basic_get("requests.dead") for _ in range(len(DEATHS) + 1)]
    assert [properties.headers.get("mine") for _, properties, _ in got] == ["stays"] * 4 + [None]
    assert {properties.expiration for _, properties, _ in got} == {None}
    if size == 1 or not is_needed(pipeline.version()):
        assert [body for *_, body in got] == [b"x" * size] * 4 + [b"no request"]


def test_what_rabbitmq_noted_it_may_note_again(pipeline: Pipeline) -> None:
    """No copy is made of a dead letter that was replayed and is dead again."""
    pipeline.worker("worker-1")
    pipeline.publish(b"no request")
    pipeline.wait(lambda: pipeline.ready("requests.dead") == 1, "the dead letter")
    for times in (1, 2):
        with pipeline.channel() as channel:
            got, about, body = channel.basic_get("requests.dead")
            [death] = about.headers["x-death"]
            assert death["count"] == times
            assert not is_hostile(b"".join(about.encode()))
            channel.basic_publish("requests", "requests", body, about)
            channel.basic_ack(got.delivery_tag)
        pipeline.wait(lambda: pipeline.ready("requests.dead") == 1, "the same dead letter")
    pipeline.wait_all_settled()
