"""Encodes publishes as frames: the counterpart of deliveries.py.

pika creates four objects for a publish, with more than a hundred calls. Only the body and the
properties differ from one publish to the next; all the rest is encoded once.

Frames are those of AMQP 0-9-1: 2.3.5 (frames), 4.2.6 (content), and the method Basic.Publish.
"""

from __future__ import annotations

from struct import Struct

from pika import spec

_METHOD = Struct(">BHLLH").pack  # kind, channel, size, method, a reserved short
_HEADER = Struct(">LHHQ").pack  # size, class, weight, size of the body
_HEADER_SIZE = 12
_LONG = Struct(">L").pack
_MANDATORY = b"\x01"
_END = bytes([spec.FRAME_END])
_OVERHEAD = spec.FRAME_HEADER_SIZE + spec.FRAME_END_SIZE


class Envelope:
    """Encodes messages from one channel to one exchange, all of them ``mandatory``."""

    def __init__(self, channel: int, exchange: str, routing_key: str, frame_max: int) -> None:
        """``frame_max``: bytes of the largest frame, as negotiated with the broker; 0: no limit."""
        names = b"".join(
            bytes([len(name)]) + name for name in (exchange.encode(), routing_key.encode())
        )
        method = _METHOD(
            spec.FRAME_METHOD, channel, 4 + 2 + len(names) + 1, spec.Basic.Publish.INDEX, 0
        )
        number = channel.to_bytes(2)
        self._before_header = (
            method + names + _MANDATORY + _END + bytes([spec.FRAME_HEADER]) + number
        )
        self._before_body = bytes([spec.FRAME_BODY]) + number
        self._between = _END + self._before_body
        self._most = (frame_max or spec.FRAME_MAX_SIZE) - _OVERHEAD

    def write(self, body: bytes, properties: bytes) -> bytes:
        """Return the frames of one message. The properties are in wire format."""
        size = len(body)
        header = _HEADER(_HEADER_SIZE + len(properties), spec.Basic.INDEX, 0, size)
        if 0 < size <= self._most:
            return b"".join(
                (self._before_header, header, properties, self._between, _LONG(size), body, _END)
            )
        parts = [self._before_header, header, properties, _END]
        for begin in range(0, size, self._most):
            piece = body[begin : begin + self._most]
            parts += (self._before_body, _LONG(len(piece)), piece, _END)
        return b"".join(parts)
