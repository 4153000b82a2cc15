"""Decodes deliveries from the broker's bytes and encodes settlements. pika has all other frames.

pika creates five objects for a delivery, with more than a hundred calls, before a consumer sees it.
The worker needs three fields. When a delivery has arrived complete, with the same names as the
previous one, two calls read them; anything else is read frame by frame.

Frames are those of AMQP 0-9-1: 2.3.5 (frames), 4.2.6 (content), and the method Basic.Deliver.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from struct import Struct
from typing import NamedTuple

from pika import spec

from turnwise.errors import InvalidRequest
from turnwise.message import MAX_BODY_BYTES, MAX_PROPERTIES_BYTES, check_sizes

_HEADER = Struct(">BHL").unpack_from  # kind, channel, size of the payload
_TAG = Struct(">Q?").unpack_from  # delivery tag, redelivered
_LONG_LONG = Struct(">Q").unpack_from
_SETTLE = Struct(">BHLLQ?B").pack  # kind, channel, size, method, tag, a bit, end of frame
_SETTLE_SIZE = 13
_DELIVER = spec.Basic.Deliver.INDEX.to_bytes(4)
_BODY = Struct(">BBHL").unpack_from  # end of the previous frame, kind, channel, size of the payload
_BODY_SIZE = 1 + spec.FRAME_HEADER_SIZE
_CONTENT = 12  # bytes of a header's payload before the properties
_BASIC = spec.Basic.INDEX << 16  # the class, and a weight of 0
_MOST_CONTENT = _CONTENT + MAX_PROPERTIES_BYTES


class Delivery(NamedTuple):
    """One message as it arrived, at ``arrived`` (monotonic). ``tag`` is valid on its channel only.

    For a message that is too large for a request, only the problem is kept, and its body and
    properties are empty. Properties with an ``x-death`` are kept: rejecting depends on them.
    """

    tag: int
    properties: bytes
    body: bytes
    arrived: float
    redelivered: bool = False
    """Whether the broker delivered it before, to a consumer that did not settle it."""
    problem: InvalidRequest | None = None
    size: int = 0
    """Size of the body in bytes, whether it was kept or not."""


_new = tuple.__new__


class _Shape:
    """What the frames of all deliveries to one consumer, exchange and routing key have in common.

    ``read`` returns what comes before the tag, the tag, whether it is redelivered, what comes
    behind it, and of the header frame the size of its payload, class and weight, and the size of
    the body.
    """

    def __init__(self, before: bytes = b"", names: bytes = b"", channel: int = 0) -> None:
        self.before = before
        self.names = names  # and the end of the frame
        self.behind = names + bytes([spec.FRAME_HEADER]) + channel.to_bytes(2)
        form = Struct(f">{len(before)}sQ?{len(self.behind)}sLLQ")
        self.read = form.unpack_from
        self.size = form.size


class Deliveries:
    """Takes the deliveries of one channel out of a connection's stream of bytes.

    ``take(delivery)`` is called for each when it is complete; ``pass_on(frame)`` for every other
    frame, malformed ones included.
    """

    def __init__(
        self,
        channel: int,
        take: Callable[[Delivery], None],
        pass_on: Callable[[bytes], None],
    ) -> None:
        self._channel = channel
        self._take = take
        self._pass_on = pass_on
        self._rest = b""  # of a frame that is not complete yet
        self._tag = 0  # of the delivery that is not complete yet; 0 if there is none
        self._redelivered = False
        self._properties = b""
        self._size = 0  # of the body
        self._missing = 0  # bytes of it that have not arrived
        self._body: list[bytes] = []
        self._problem: InvalidRequest | None = None
        self._shape = _Shape()

    def read(self, data: bytes) -> None:
        """Read the next data, which may be cut anywhere.

        Raises whatever pika raises for a malformed frame, and ValueError for a body too long.
        """
        if self._rest:
            data = self._rest + data
        arrived = time.monotonic()
        begin = self._read_whole(data, 0, arrived)
        while begin < len(data) and (stop := self._read_frame(data, begin, arrived)) > begin:
            begin = self._read_whole(data, stop, arrived)
        self._rest = data[begin:]

    def _read_whole(self, data: bytes, begin: int, arrived: float) -> int:
        """Read complete deliveries, as many as there are; return the offset of their end."""
        if self._tag:
            return begin
        shape = self._shape
        before, behind, read, size, take = (
            shape.before, shape.behind, shape.read, shape.size, self._take,
        )  # fmt: skip
        number = self._channel
        end = len(data)
        while begin + size < end:
            its_before, tag, redelivered, its_behind, content, kind, body_size = read(data, begin)
            if its_before != before or its_behind != behind or kind != _BASIC or not tag:
                break
            about = begin + size
            stop = about + content - _CONTENT
            body = stop + _BODY_SIZE
            if not _CONTENT <= content <= _MOST_CONTENT or not 0 < body_size <= MAX_BODY_BYTES:
                break
            last = body + body_size
            if last >= end or data[last] != spec.FRAME_END:
                break
            if _BODY(data, stop) != (spec.FRAME_END, spec.FRAME_BODY, number, body_size):
                break
            # NamedTuple's own constructor would take twice as long.
            fields = (tag, data[about:stop], data[body:last], arrived, redelivered, None, body_size)
            take(_new(Delivery, fields))
            begin = last + 1
        return begin

    def _read_frame(self, data: bytes, begin: int, arrived: float) -> int:
        """Read a frame if it is complete; return the offset of its end, or ``begin``."""
        payload = begin + spec.FRAME_HEADER_SIZE
        if payload >= len(data):
            return begin
        kind, channel, size = _HEADER(data, begin)
        stop: int = payload + size
        if stop >= len(data):
            return begin
        if channel != self._channel or data[stop] != spec.FRAME_END:
            self._pass_on(data[begin : stop + 1])
        elif kind == spec.FRAME_METHOD and data.startswith(_DELIVER, payload):
            # After the consumer tag, which is preceded by its length.
            tag = payload + 5 + data[payload + 4]
            self._tag, self._redelivered = _TAG(data, tag)
            before, names = data[begin:tag], data[tag + 9 : stop + 1]
            if before != self._shape.before or names != self._shape.names:
                self._shape = _Shape(before, names, channel)
        elif kind == spec.FRAME_HEADER and self._tag:
            self._begin(data, payload, stop)
            if self._size == 0:
                self._finish(arrived)
        elif kind == spec.FRAME_BODY and self._tag:
            self._gather(data[payload:stop], arrived)
        else:
            self._pass_on(data[begin : stop + 1])
        return stop + 1

    def _begin(self, data: bytes, payload: int, stop: int) -> None:
        """Record the size and the properties; keep nothing that is too large for a request."""
        # After the class and the weight, 2 bytes each.
        [self._size] = _LONG_LONG(data, payload + 4)
        self._missing = self._size
        try:
            check_sizes(self._size, stop - payload - _CONTENT)
        except InvalidRequest as error:
            about = data[payload + 12 : stop]
            self._problem, self._properties = error, about if b"x-death" in about else b""
        else:
            self._problem, self._properties = None, data[payload + _CONTENT : stop]

    def _gather(self, piece: bytes, arrived: float) -> None:
        if self._problem is None:
            self._body.append(piece)
        self._missing -= len(piece)
        if self._missing <= 0:
            self._finish(arrived)

    def _finish(self, arrived: float) -> None:
        if self._missing < 0:
            raise ValueError(f"{-self._missing} more bytes of a body than its header announced")
        body = b"".join(self._body)
        about, again = self._properties, self._redelivered
        self._take(Delivery(self._tag, about, body, arrived, again, self._problem, self._size))
        self._body.clear()
        self._tag = 0


def encode_ack(channel: int, tag: int) -> bytes:
    """Return the frame of a Basic.Ack for all deliveries up to and including ``tag``."""
    return _SETTLE(
        spec.FRAME_METHOD, channel, _SETTLE_SIZE, spec.Basic.Ack.INDEX, tag, True, spec.FRAME_END
    )


def encode_reject(channel: int, tag: int) -> bytes:
    """Return the frame of a Basic.Reject without requeue."""
    return _SETTLE(
        spec.FRAME_METHOD, channel, _SETTLE_SIZE, spec.Basic.Reject.INDEX, tag, False,
        spec.FRAME_END,
    )  # fmt: skip
