"""The private parts of pika that the fast path uses, and that all works without them."""

# ruff: noqa: SLF001

from __future__ import annotations

import ast
import contextlib
import inspect
import socket
import sys
from pathlib import Path

import pytest
from pika.adapters.select_connection import SelectConnection

import turnwise.connection
from lab.harness import commands
from lab.harness.process import Process
from tests.pipeline import Pipeline
from turnwise.broker import Broker
from turnwise.connection import Connection
from turnwise.errors import Transient
from turnwise.loop import Loop
from turnwise.node import parse_urls

METHODS = {
    "_proto_connection_made": ["self", "transport"],
    "_on_data_available": ["self", "data_in"],
    "_adapter_emit_data": ["self", "data"],
}
"""Those that are overridden, and their parameters."""

ATTRIBUTES = ["_frame_buffer", "_sock"]
"""The names that the fast path cannot do without."""

CALLED = {"_terminate_stream": ["self", "error"]}
"""Those that are called, and their parameters."""


def test_every_private_name_that_is_used_is_here() -> None:
    tree = ast.parse(Path(turnwise.connection.__file__).read_text())
    used = {each.attr for each in ast.walk(tree) if isinstance(each, ast.Attribute)}
    [begin] = (
        each for each in ast.walk(tree)
        if isinstance(each, ast.FunctionDef) and each.name == "__init__"
    )  # fmt: skip
    set_here = {
        each.attr for each in ast.walk(begin)
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store)
    }  # fmt: skip
    own = set_here | vars(Connection).keys()
    private = {name for name in used if name.startswith("_") and not name.startswith("__")}
    assert private - own == {*ATTRIBUTES, *CALLED}
    overridden = {name for name in vars(Connection) if hasattr(SelectConnection, name)}
    assert {name for name in overridden if not name.startswith("__")} == {
        *METHODS, "_abc_impl"
    }  # fmt: skip


def test_this_release_of_pika_is_what_the_short_way_needs(pipeline: Pipeline) -> None:
    for name, parameters in (METHODS | CALLED).items():
        assert list(inspect.signature(getattr(SelectConnection, name)).parameters) == parameters
    nodes = parse_urls(pipeline.amqp_url)
    with contextlib.closing(Loop()) as loop, Broker.connect(loop, nodes, "insides") as broker:
        connection = broker._connection
        assert connection.short
        assert isinstance(connection._frame_buffer, bytes)
        transport = connection._wire
        assert isinstance(transport._sock, socket.socket)
        assert transport.get_write_buffer_size() == 0


def test_a_malformed_frame_ends_the_connection(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = parse_urls(pipeline.amqp_url)
    with contextlib.closing(Loop()) as loop, Broker.connect(loop, nodes, "insides") as broker:
        channel = broker.channel()
        read = broker._connection._on_data_available
        malformed = b"\x09\0\0\0\0\0\0\xce"  # no kind of frame has this number
        monkeypatch.setattr(
            broker._connection, "_on_data_available", lambda data: read(malformed + data)
        )
        with pytest.raises(Transient, match="lost the connection"):
            channel.call(channel.raw.basic_qos, prefetch_count=1)


def start(pipeline: Pipeline, name: str, private: str, *command: str) -> Process:
    """Start one of the project's commands with a pika whose ``private`` has another name."""
    process = Process(
        name,
        pipeline.folder,
        [sys.executable, "-m", "tests.renamed_pika", private, *command],
        pipeline.environment(),
    )
    process.start()
    return process


@pytest.mark.parametrize("private", [*METHODS, *ATTRIBUTES, *CALLED])
def test_everything_works_when_pika_has_changed_internally(
    pipeline: Pipeline, private: str
) -> None:
    worker = start(pipeline, "worker", private, "worker", "run", "--prefetch", "10")
    sender = start(
        pipeline, "sender", private, "producer", "send", "ü" * 5000, "--count", "50",
        "--quantum", "0",
    )  # fmt: skip
    try:
        commands.wait_event(worker, "worker.consuming")
        assert sender.wait(60) == 0, sender.last_words()
        pipeline.publish(b"no request")
        pipeline.publish(b"m" * 110_000)
        pipeline.wait_served(50)
        pipeline.assert_exactly_once(pipeline.client(), 50)
        pipeline.wait(lambda: pipeline.ready("requests.dead") == 2, "two dead letters")
        pipeline.wait_all_settled()
        worker.stop(30)
        assert "worker.stopped" in {each["event"] for each in commands.events(worker)}
    finally:
        worker.kill()
        sender.kill()
