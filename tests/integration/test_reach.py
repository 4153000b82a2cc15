"""Several nodes, and several addresses of a node: which is used, and what becomes of the rest."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import time
from collections.abc import Iterator

import pytest

from lab.harness.process import free_port
from tests.pipeline import Pipeline
from turnwise.broker import Broker
from turnwise.errors import ExitCode, Permanent, Transient
from turnwise.loop import Loop
from turnwise.node import parse_urls
from turnwise.reach import QUICK_TIMEOUT


@pytest.fixture
def loop() -> Iterator[Loop]:
    with contextlib.closing(Loop()) as loop:
        yield loop


def hosts(monkeypatch: pytest.MonkeyPatch, name: str, addresses: list[str]) -> None:
    """Make a host name resolve to addresses that are tried in this order."""
    look_up = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *rest: object, **more: object) -> object:
        if host != name:
            return look_up(host, port, *rest, **more)  # type: ignore[arg-type]
        kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(*kind, (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(random, "shuffle", lambda _: None)


@contextlib.contextmanager
def mute(address: str, port: int) -> Iterator[socket.socket]:
    """Yield an address that accepts connections and never answers."""
    with socket.create_server((address, port)) as server:
        yield server


def test_silent_addresses_leave_no_connection_behind(
    pipeline: Pipeline, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = pipeline.servers.rabbitmq.port
    silent = [f"127.0.0.{n}" for n in range(2, 6)]
    hosts(monkeypatch, "several", [*silent, "127.0.0.1"])
    nodes = parse_urls(pipeline.amqp_url.replace("127.0.0.1", "several"))
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(mute(address, port)) for address in silent]
        begun = time.monotonic()
        with Broker.connect(loop, nodes, "test") as broker:
            assert time.monotonic() - begun < len(silent) * (QUICK_TIMEOUT + 1)
            broker.channel().close()
            for server in servers:
                connection, _ = server.accept()
                with connection:
                    # It received only the protocol header, then end of file.
                    assert connection.recv(100) == b"AMQP\0\0\x09\x01"
                    assert select.select([connection], [], [], 1)[0], "it is still open"
                    assert connection.recv(100) == b""
        # The silent addresses are tried last from now on.
        begun = time.monotonic()
        with Broker.connect(loop, nodes, "test"):
            assert time.monotonic() - begun < QUICK_TIMEOUT


def test_a_hung_name_lookup_does_not_block_the_other_nodes(
    pipeline: Pipeline, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = socket.getaddrinfo

    def getaddrinfo(host: str, *rest: object, **more: object) -> object:
        if host == "unknown":
            time.sleep(30)  # as the resolver does
        return look_up(host, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    nodes = parse_urls(f"amqp://unknown/,{pipeline.amqp_url}")
    begun = time.monotonic()
    with Broker.connect(loop, nodes, "test"):
        assert time.monotonic() - begun < 5


def test_a_refusal_by_one_node_of_several_is_only_a_warning(pipeline: Pipeline) -> None:
    """The refusals are a wrong password and a missing virtual host."""
    rabbitmq = pipeline.servers.rabbitmq
    proxies = [pipeline.broker_proxy()[0].port for _ in range(2)]
    wrong = [
        f"amqp://lab:wrong@127.0.0.1:{proxies[0]}/{pipeline.name}",
        rabbitmq.url("nonesuch", proxies[1]),
    ]
    for _ in range(3):  # in random order
        url = ",".join([*wrong, pipeline.amqp_url])
        pipeline.run("producer", "send", "x", "--count", "1", AMQP_URL=url)
    worker = pipeline.worker("worker-1", AMQP_URL=url)
    pipeline.wait_served(3)
    warned = [e for e in pipeline.events(worker) if e["event"] == "broker.refuses"]
    assert all("check the user name" in e["error"] or "nonesuch" in e["error"] for e in warned)


def test_a_refusal_by_all_nodes_ends_the_worker(pipeline: Pipeline) -> None:
    proxy, _ = pipeline.broker_proxy()
    url = f"amqp://lab:wrong@127.0.0.1:{proxy.port}/{pipeline.name}"
    other = f"amqp://lab:wrong@127.0.0.1:{pipeline.servers.rabbitmq.port}/{pipeline.name}"
    pipeline.run("worker", "run", AMQP_URL=f"{url},{other}", code=ExitCode.REFUSED)


def test_nodes_are_retried_while_one_refuses_and_another_is_away(
    pipeline: Pipeline, loop: Loop
) -> None:
    wrong = f"amqp://lab:wrong@127.0.0.1:{pipeline.servers.rabbitmq.port}/{pipeline.name}"
    away = pipeline.servers.rabbitmq.url(pipeline.name, free_port())
    with pytest.raises(Transient, match=r"refused; .*check the user name"):
        Broker.connect(loop, parse_urls(f"{wrong},{away}"), "test")
    # localhost is a single node, although nothing listens on its IPv6 address.
    with pytest.raises(Permanent):
        Broker.connect(loop, parse_urls(wrong.replace("127.0.0.1", "localhost")), "test")
