"""pika's connection, with a fast path for frequent traffic: deliveries in, all frames out."""

# pika has no public names for the socket and its read buffer.
# ruff: noqa: SLF001

from __future__ import annotations

import contextlib
import select
import ssl
from collections.abc import Callable
from typing import Any

from pika import frame, spec
from pika.adapters.select_connection import SelectConnection

from turnwise.deliveries import Deliveries, Delivery
from turnwise.loop import Handler
from turnwise.node import Parameters

CORK = 64 * 1024
"""The most bytes to buffer before sending."""

_READ = 64 * 1024
"""Bytes to read at once."""

_READ_MORE = 512 * 1024
"""The same after a read that was full: there is a backlog of large messages, and a statement should
hold as many as it can."""


_OURS = ("_proto_connection_made", "_on_data_available", "_adapter_emit_data")
"""Methods of pika that are overridden here: it calls them with its transport, with received data,
and with data to send."""

_CALLED = "_terminate_stream"
"""pika's method that ends the connection with an error."""

_THEIRS = all(hasattr(SelectConnection, name) for name in (*_OURS, _CALLED))


class Connection(SelectConnection):
    """Records why it ended, from the start and in the broker's own words.

    The broker may close a connection right after opening it, and during the opening pika reduces
    the reason to a string.

    Sends everything written between two turns of the loop in one system call, where pika makes one
    for each frame, three for a publish. Takes the deliveries of a channel before pika does.
    """

    def __init__(self, parameters: Parameters, **more: Any) -> None:
        self._written: list[bytes] = []
        self._written_size = 0
        self._deliveries: Deliveries | None = None
        self._wire: Any = None
        self._most = _READ
        self.short = False
        """Whether the fast path is available: pika's internals are as expected."""
        super().__init__(parameters, **more)
        self.parameters = parameters
        self.failure: BaseException | None = None
        self.callbacks.add(0, spec.Connection.Close, self._note_close)
        self.add_on_close_callback(self._note_failure)

    @property
    def cluster(self) -> str:
        """The name of the cluster, as the handshake reported it."""
        return str((self.server_properties or {}).get("cluster_name", ""))

    @property
    def version(self) -> str:
        """The broker's release, such as ``4.3.6``, as the handshake reported it."""
        return str((self.server_properties or {}).get("version", ""))

    def deliver(self, channel: int, take: Callable[[Delivery], None]) -> None:
        """Pass the deliveries of a channel to ``take``, before pika sees them."""
        self._deliveries = Deliveries(channel, take, super()._on_data_available)
        begun, self._frame_buffer = self._frame_buffer, b""
        self._deliveries.read(begun)

    def write(self, data: bytes) -> None:
        """Send frames in the next turn of the loop, or with ``send_written()``."""
        if not self._written:
            self.ioloop.before_wait(self.send_written)
        self._written.append(data)
        self._written_size += len(data)
        if self._written_size > CORK:
            self.send_written()

    def send_written(self) -> None:
        """Send all buffered frames now."""
        written, self._written, self._written_size = self._written, [], 0
        if not written or self.is_closed:
            return
        data = b"".join(written)
        # A connected socket nearly always accepts the data. pika would first poll for that.
        if self._wire.get_write_buffer_size() == 0:
            try:
                sent = self._wire._sock.send(data)
            except OSError:
                sent = 0  # full or broken: pika handles it
            data = data[sent:]
        if data:
            super()._adapter_emit_data(data)

    # -- called by pika

    def _proto_connection_made(self, transport: Any) -> None:
        self._wire = transport
        self.short = _THEIRS and hasattr(transport, "_sock") and hasattr(self, "_frame_buffer")
        if self.short:
            self.ioloop.intercept(transport._sock.fileno(), self._reading)
        super()._proto_connection_made(transport)

    def _reading(self, theirs: Handler) -> Handler:
        """Return a handler that reads the socket, which takes pika ten calls more."""
        sock = self._wire._sock
        receive = self._receive_records if isinstance(sock, ssl.SSLSocket) else sock.recv

        def on_events(fd: int, events: int) -> None:
            try:
                data = receive(self._most) if events == select.POLLIN else b""
            except OSError:
                data = b""
            if not data:
                # Writable, ended, broken, or no whole TLS record: pika finds out which.
                theirs(fd, events)
                return
            try:
                self._on_data_available(data)
            except Exception as error:  # noqa: BLE001 - what pika raises for a malformed frame
                self._terminate_stream(error)

        return on_events

    def _receive_records(self, most: int) -> bytes:
        """Return what has arrived by TLS, which returns a record of 16 KiB at most for each read.

        Raises OSError if there is no whole record. None stays behind in the TLS layer, whose rest
        poll() would not report.
        """
        data: bytes = self._wire._sock.recv(most)
        with contextlib.suppress(OSError):
            while 0 < len(data) < most and (more := self._wire._sock.recv(most)):
                data += more
        return data

    def _on_data_available(self, data_in: bytes) -> None:
        if self._deliveries is None:
            super()._on_data_available(data_in)
        else:
            # Any data counts as a sign of life for the heartbeats.
            self.bytes_received += len(data_in)
            self._most = _READ_MORE if len(data_in) >= _READ else _READ
            self._deliveries.read(data_in)

    def _adapter_emit_data(self, data: bytes) -> None:
        if self.short:
            self.write(data)
        else:
            super()._adapter_emit_data(data)

    def _note_close(self, method: frame.Method[spec.Connection.Close]) -> None:
        self.parameters.close = method.method

    def _note_failure(self, _connection: object, error: BaseException) -> None:
        self.failure = error
