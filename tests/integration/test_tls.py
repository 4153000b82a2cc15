"""amqps://: the same pipeline through the tests' own TLS proxy in front of the broker."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from tests.pipeline import Pipeline
from turnwise.limits import MAX_MESSAGE_BYTES


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls_port(pipeline: Pipeline, authority: trustme.CA) -> Iterator[int]:
    """Yield the port of a TLS proxy that talks plain AMQP to the broker behind it."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        end = TlsEnd(listening, context, urlsplit(pipeline.amqp_url).port or 0)
        thread = threading.Thread(target=lambda: asyncio.run(end.serve()))
        thread.start()
        yield listening.getsockname()[1]
        end.stop()
        thread.join()


class TlsEnd:
    def __init__(self, listening: socket.socket, context: ssl.SSLContext, target: int) -> None:
        self._listening = listening
        self._context = context
        self._target = target
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        await asyncio.start_server(self._pass_on, sock=self._listening, ssl=self._context)
        await self._stopped.wait()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def stop(self) -> None:
        assert self._loop
        self._loop.call_soon_threadsafe(self._stopped.set)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [writer, there[1]]
        for pump in (self._pump(reader, there[1]), self._pump(there[0], writer)):
            self._tasks.append(asyncio.create_task(pump))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


@pytest.mark.parametrize("prefetch", ["1", "200"])
def test_requests_of_all_sizes_pass_through_tls(
    pipeline: Pipeline, tls_port: int, authority: trustme.CA, tmp_path: Path, prefetch: str
) -> None:
    certificate = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(certificate)
    plain = urlsplit(pipeline.amqp_url)
    login = plain.netloc.rpartition("@")[0]
    url = f"amqps://{login}@localhost:{tls_port}{plain.path}?cacertfile={certificate}"
    pipeline.worker("worker-1", "--prefetch", prefetch, AMQP_URL=url)
    messages = ["m" * size for size in (0, 1, 1000, MAX_MESSAGE_BYTES) for _ in range(150)]
    lines = "".join(f"{message}\n" for message in messages)
    pipeline.run("producer", "send", "--stdin", stdin=lines, AMQP_URL=url)
    pipeline.wait_served(len(messages))
    rows = pipeline.assert_exactly_once(pipeline.client(), len(messages))
    assert [len(row.message) for row in sorted(rows, key=lambda row: row.counter)] == [
        len(message) for message in messages
    ]
    pipeline.wait_all_settled()


def test_a_certificate_of_an_unknown_authority_is_reported(
    pipeline: Pipeline, tls_port: int
) -> None:
    url = f"amqps://localhost:{tls_port}/"
    result = pipeline.run("worker", "dead", "list", code=78, AMQP_URL=url)
    assert "certificate that is not trusted" in result.stderr
    assert "cacertfile" in result.stderr
