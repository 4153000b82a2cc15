"""A TCP proxy on loopback that does to a connection what networks do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

T = TypeVar("T")

_CHUNK = 16 * 1024
_STEP = 0.05
"""Seconds between the pieces of a slow link."""


@dataclass
class Direction:
    """What happens to the bytes of one direction, for all connections, from now on."""

    latency: float = 0.0
    """Seconds from arrival to departure."""
    rate: float | None = None
    """Bytes a second for each connection; None: no limit."""
    passed: int = 0
    """Bytes that went through, ever."""
    withheld: int = 0
    """Bytes that arrived while it was held."""
    cut_after: int | None = None
    """Bytes until every connection is reset, in the middle of whatever it carries."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def held(self) -> bool:
        """Whether bytes are kept back: a black hole, without any sign to either side."""
        return not self.gate.is_set()


class Proxy:
    """Listens on ``port`` (0: a free one) and connects to ``target``, on loopback both.

    ``up`` is from the client to the server, ``down`` the way back. Methods may be called from any
    thread; they return when it is done.
    """

    def __init__(self, target: int, port: int = 0) -> None:
        self.target = target
        self.up = Direction()
        self.down = Direction()
        self.accepted = 0
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._call(self._listen, port)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def hold(self, *directions: Direction) -> None:
        """Keep bytes back. New connections are accepted, and meet the same."""
        self._call(self._set_held, directions, True)

    def release(self, *directions: Direction) -> None:
        """Let bytes pass again, those that were kept back first."""
        self._call(self._set_held, directions, False)

    def cut(self) -> int:
        """Reset every connection, towards both sides; return how many."""
        return self._call(self._cut)

    def inject(self, data: bytes) -> None:
        """Say something to the server on every connection, as if the client had."""
        self._call(self._inject, data)

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._pairs)

    def close(self) -> None:
        """End all of it."""
        self._call(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: object) -> T:
        return asyncio.run_coroutine_threadsafe(work(*arguments), self._loop).result()

    async def _listen(self, port: int) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", port)

    async def _set_held(self, directions: tuple[Direction, ...], held: bool) -> None:
        for direction in directions:
            if held:
                direction.gate.clear()
            else:
                direction.gate.set()

    async def _cut(self) -> int:
        pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            for writer in pair:
                _reset(writer)
        return len(pairs)

    async def _inject(self, data: bytes) -> None:
        for _, server in self._pairs:
            server.write(data)

    async def _close(self) -> None:
        self._server.close()
        await self._cut()
        await self._set_held((self.up, self.down), False)
        # Let what serves the connections see their end.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            _reset(writer)
            return
        pair = (writer, back)
        self._pairs.add(pair)
        ways = [
            asyncio.create_task(self._carry(reader, back, self.up)),
            asyncio.create_task(self._carry(there, writer, self.down)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._pairs.discard(pair)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for each in pair:
                each.close()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Direction
    ) -> None:
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)

        async def arrive() -> None:
            data = b"-"
            while data:
                try:
                    data = await reader.read(_CHUNK)
                except OSError:
                    data = b""
                if way.held:
                    way.withheld += len(data)
                await on_the_way.put((self._loop.time() + way.latency, data))

        arriving = asyncio.create_task(arrive())
        try:
            while True:
                due, data = await on_the_way.get()
                await asyncio.sleep(due - self._loop.time())
                await way.gate.wait()
                if not data:
                    return
                await self._depart(data, writer, way)
        except OSError:
            return
        finally:
            arriving.cancel()
            await asyncio.gather(arriving, return_exceptions=True)

    async def _depart(self, data: bytes, writer: asyncio.StreamWriter, way: Direction) -> None:
        if way.cut_after is not None:
            data = data[: way.cut_after]
            way.cut_after -= len(data)
        step = max(1, int(way.rate * _STEP)) if way.rate else len(data) or 1
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            if way.rate:
                await asyncio.sleep(len(piece) / way.rate)
            writer.write(piece)
            await writer.drain()
            way.passed += len(piece)
        if way.cut_after == 0:
            way.cut_after = None
            # What was written must be gone before the reset overtakes it.
            await asyncio.sleep(_STEP)
            await self._cut()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST: the peer gets an error, not an end of file."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
