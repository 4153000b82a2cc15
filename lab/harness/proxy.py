"""TCP proxies on loopback that treat connections as bad networks do."""

from __future__ import annotations

import asyncio
import contextlib
import functools
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

_AMQP_GREETING = 8
_FRAME_HEADER, _FRAME_END = 7, 1


@functools.cache
def _network() -> asyncio.AbstractEventLoop:
    """Return the event loop of all proxies, in a thread of its own."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="network", daemon=True).start()
    return loop


@dataclass
class Direction:
    """The treatment of the bytes of one direction, on all connections, from now on."""

    latency: float = 0.0
    """Seconds from arrival to departure."""
    rate: float | None = None
    """Bytes a second for each connection; None: no limit."""
    passed: int = 0
    """All bytes that went through."""
    withheld: int = 0
    """All bytes that arrived while the direction was held."""
    cut_after: int | None = None
    """Bytes until the connection is reset, in the middle of whatever it carries."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def to_be_cut(self) -> bool:
        """Whether a reset is still pending."""
        return self.cut_after is not None

    @property
    def held(self) -> bool:
        """Whether bytes are held back: a black hole, with no sign to either side."""
        return not self.gate.is_set()


class Proxy:
    """Listens on ``port`` (0: a free one) and connects to ``target``, both on loopback.

    ``up`` is the direction from the client to the server, ``down`` the opposite one. Methods may be
    called from any thread, and return when they have taken effect.
    """

    def __init__(self, target: int, port: int = 0) -> None:
        self.target = target
        self.up = Direction()
        self.down = Direction()
        self.accepted = 0
        """All connections so far."""
        self.cuts = 0
        """All connections that were reset so far."""
        self._connections: set[_Connection] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._server = self._call(self._listen, port)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._connections)

    def hold(self, *directions: Direction) -> None:
        """Hold bytes back. New connections are accepted, and treated the same."""
        self._call(self._set_held, directions, True)

    def release(self, *directions: Direction) -> None:
        """Let bytes pass again, held ones first."""
        self._call(self._set_held, directions, False)

    def cut(self) -> int:
        """Reset every connection on both sides; return how many."""
        return self._call(self._cut_all)

    def inject(self, data: bytes, *, down: bool = False) -> int:
        """Send ``data`` between two AMQP frames; return on how many connections."""
        return self._call(self._inject, data, down)

    def close(self) -> None:
        """Close the listener and all connections."""
        self._call(self._close)

    def _call(self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: object) -> T:
        return asyncio.run_coroutine_threadsafe(work(*arguments), _network()).result()

    async def _listen(self, port: int) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", port)

    async def _set_held(self, directions: tuple[Direction, ...], held: bool) -> None:
        for direction in directions:
            if held:
                direction.gate.clear()
            else:
                direction.gate.set()

    async def _cut_all(self) -> int:
        cut = len(self._connections)
        for connection in list(self._connections):
            connection.reset()
        self.cuts += cut
        return cut

    async def _inject(self, data: bytes, down: bool) -> int:
        for connection in self._connections:
            stream = connection.down if down else connection.up
            stream.injected += data
            await stream.flush()
        return len(self._connections)

    async def _close(self) -> None:
        self._server.close()
        await self._cut_all()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        self.accepted += 1
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            _reset(writer)
            return
        connection = _Connection(self, (reader, writer), (there, back))
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)


class _Connection:
    def __init__(
        self,
        proxy: Proxy,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxy = proxy
        self._writers = (client[1], server[1])
        self.up = _Stream(self, client[0], server[1], proxy.up, _AMQP_GREETING)
        self.down = _Stream(self, server[0], client[1], proxy.down, 0)

    async def run(self) -> None:
        ways = [asyncio.create_task(stream.carry()) for stream in (self.up, self.down)]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for writer in self._writers:
                writer.close()

    def reset(self) -> None:
        for writer in self._writers:
            _reset(writer)

    def cut(self) -> None:
        self._proxy.cuts += 1
        self.reset()


class _Stream:
    """One direction of one connection."""

    def __init__(
        self,
        connection: _Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        way: Direction,
        greeting: int,
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._writer = writer
        self._way = way
        self._frames = _Frames(greeting)
        self._on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)
        self.injected = b""

    async def carry(self) -> None:
        arriving = asyncio.create_task(self._arrive())
        try:
            while True:
                due, data = await self._on_the_way.get()
                await asyncio.sleep(due - asyncio.get_running_loop().time())
                await self._way.gate.wait()
                if not data:
                    return
                await self._depart(data)
        except OSError:
            return
        finally:
            arriving.cancel()
            await asyncio.gather(arriving, return_exceptions=True)

    async def flush(self) -> None:
        """Send what is to be injected, unless a frame is half sent."""
        if self.injected and self._frames.at_boundary:
            data, self.injected = self.injected, b""
            with contextlib.suppress(OSError):
                self._writer.write(data)

    async def _arrive(self) -> None:
        data = b"-"
        while data:
            try:
                data = await self._reader.read(_CHUNK)
            except OSError:
                data = b""
            if self._way.held:
                self._way.withheld += len(data)
            due = asyncio.get_running_loop().time() + self._way.latency
            await self._on_the_way.put((due, data))

    async def _depart(self, data: bytes) -> None:
        way = self._way
        if way.cut_after is not None:
            data = data[: way.cut_after]
            way.cut_after -= len(data)
        while data:
            step = max(1, int(way.rate * _STEP)) if way.rate else len(data)
            if self.injected:
                # Up to the end of the current frame, and no further.
                step = min(step, self._frames.to_boundary(data) or len(data))
            piece, data = data[:step], data[step:]
            if way.rate:
                await asyncio.sleep(len(piece) / way.rate)
            self._writer.write(piece)
            self._frames.feed(piece)
            await self.flush()
            await self._writer.drain()
            way.passed += len(piece)
        if way.cut_after == 0:
            way.cut_after = None
            # Written bytes must be gone before the reset overtakes them.
            await asyncio.sleep(_STEP)
            self._connection.cut()


class _Frames:
    """Finds the boundaries of AMQP frames: a header with a size, a payload, an end byte."""

    def __init__(self, greeting: int) -> None:
        self._rest = greeting  # remaining bytes of the frame
        self._header = b""

    @property
    def at_boundary(self) -> bool:
        return not self._rest and not self._header

    def feed(self, data: bytes) -> None:
        while data:
            if self._rest:
                taken = min(self._rest, len(data))
                self._rest -= taken
                data = data[taken:]
                continue
            missing = _FRAME_HEADER - len(self._header)
            self._header, data = self._header + data[:missing], data[missing:]
            if len(self._header) == _FRAME_HEADER:
                (size,) = struct.unpack_from(">I", self._header, 3)
                self._header, self._rest = b"", size + _FRAME_END

    def to_boundary(self, data: bytes) -> int | None:
        """Return how many bytes of ``data`` complete the frame; None if they do not."""
        probe = _Frames(self._rest)
        probe._header = self._header
        for position in range(1, len(data) + 1):
            probe.feed(data[position - 1 : position])
            if probe.at_boundary:
                return position
        return None


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST: the peer gets an error, not an end of file."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
