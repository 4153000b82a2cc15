"""pika's connection, with a short way for what is frequent: deliveries in, the rest out."""

# pika has no public name for the socket, for how much it reads at once, nor for what it has read.
# ruff: noqa: SLF001

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

from pika import frame, spec
from pika.adapters.select_connection import SelectConnection

from turnwise.deliveries import Deliveries, Delivery
from turnwise.node import Parameters

CORK = 64 * 1024
"""Bytes to be sent that are gathered at most."""

_READ = 64 * 1024
"""Bytes to be read at once."""

_READ_MORE = 512 * 1024
"""The same when there were as many the last time: a backlog of large messages, of which a statement
is to hold as much as it may."""


_OURS = ("_proto_connection_made", "_on_data_available", "_adapter_emit_data")
"""Methods of pika's that are overridden here: those that it calls with its transport, with what has
come, and with what is to be sent."""

_THEIRS = all(hasattr(SelectConnection, name) for name in _OURS)


class Connection(SelectConnection):
    """Keeps why it ended: from its first moment on, and as the broker said it.

    The broker may close a connection in the same breath in which it opened it; and while it opens,
    pika makes a mere text of the reason.

    Sends together what is written between two turns of the loop: pika would make a system call of
    each frame, three for a publish. Takes the deliveries of a channel before pika does.
    """

    def __init__(self, parameters: Parameters, **more: Any) -> None:
        self._written: list[bytes] = []
        self._written_size = 0
        self._deliveries: Deliveries | None = None
        self._wire: Any = None
        self.short = False
        """Whether there is the short way: pika is inside what it is expected to be."""
        super().__init__(parameters, **more)
        self.parameters = parameters
        self.failure: BaseException | None = None
        self.callbacks.add(0, spec.Connection.Close, self._note_close)
        self.add_on_close_callback(self._note_failure)

    @property
    def cluster(self) -> str:
        """What the broker called its cluster in the handshake."""
        return str((self.server_properties or {}).get("cluster_name", ""))

    def deliver(self, channel: int, take: Callable[[Delivery], None]) -> None:
        """Give the deliveries of a channel to ``take``, before pika sees them."""
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
        """Send what is written, now."""
        written, self._written, self._written_size = self._written, [], 0
        if not written or self.is_closed:
            return
        data = b"".join(written)
        # A connected socket takes it nearly always. pika would watch for that first.
        if self._wire.get_write_buffer_size() == 0:
            try:
                sent = self._wire._sock.send(data)
            except OSError:
                sent = 0  # full, or broken: pika sees to it
            data = data[sent:]
        if data:
            super()._adapter_emit_data(data)

    # -- what pika calls

    def _proto_connection_made(self, transport: Any) -> None:
        self._wire = transport
        self.short = _THEIRS and hasattr(transport, "_sock") and hasattr(self, "_frame_buffer")
        # Two that matter for speed alone.
        transport._MAX_RECV_BYTES = _READ
        if self.short and not isinstance(transport._sock, ssl.SSLSocket):
            # Having read what there is, pika would ask again whether there is more; poll() tells.
            transport._MAX_CONSUME_BYTES = 1
        super()._proto_connection_made(transport)

    def _on_data_available(self, data_in: bytes) -> None:
        if self._deliveries is None:
            super()._on_data_available(data_in)
        else:
            # It is a sign of life to the heartbeats, whatever it is.
            self.bytes_received += len(data_in)
            self._wire._MAX_RECV_BYTES = _READ_MORE if len(data_in) >= _READ else _READ
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
