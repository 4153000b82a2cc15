"""Messages that the worker dead-letters itself, because an old broker would fail to.

RabbitMQ records each dead-lettering in the header ``x-death``. Releases before 4.0 may take any
header of that name for their own: on 3.10 a single rejected message with ``x-death: [1]`` stops
dead-lettering on the whole node until the node is restarted. So on these the worker publishes a
copy without that header to the dead-letter queue, and acks the message once the copy is confirmed.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

from pika import BasicProperties, frame, spec

from turnwise.broker import Channel
from turnwise.deliveries import Delivery
from turnwise.errors import InvalidRequest, Transient
from turnwise.message import MAX_PROPERTIES_BYTES, decode_properties
from turnwise.topology import Topology

_DEATH = "x-death"
_FIRST_SOUND = 4
"""The first major release known to dead-letter such a message: 4.3 does, 3.10 does not."""

_TEXTS = frozenset({"queue", "reason", "exchange"})
_LEFT_OUT = frozenset({_DEATH, "CC", "BCC"})
"""Headers that a copy lacks. The last two would route it to other queues as well."""


_FRACTIONS = (b"\x05countf", b"\x05countd")
"""A count that is a float or a double. pika decodes both to whole numbers."""


def is_needed(version: str) -> bool:
    """Return whether a broker of this release must be spared a forged ``x-death``."""
    major = version.partition(".")[0]
    return not major.isdecimal() or int(major) < _FIRST_SOUND


def is_hostile(properties: bytes) -> bool:
    """Return whether there is an ``x-death`` that RabbitMQ did not write. Never raises."""
    if _DEATH.encode() not in properties:
        return False
    if any(fraction in properties for fraction in _FRACTIONS):
        return True
    try:
        headers = decode_properties(properties).headers or {}
    except InvalidRequest:
        return True
    deaths = headers.get(_DEATH, [])
    return not (type(deaths) is list and all(_is_note(each) for each in deaths))


def copy_properties(properties: bytes, queue: str) -> bytes:
    """Return the properties of the copy of a message that died in ``queue``.

    The copy keeps all that can be read, except what the broker would act upon.
    """
    copy = BasicProperties()
    if len(properties) <= MAX_PROPERTIES_BYTES:
        with contextlib.suppress(InvalidRequest):
            copy = decode_properties(properties)
    headers: dict[str, Any] = copy.headers or {}
    copy.headers = {name: value for name, value in headers.items() if name not in _LEFT_OUT}
    copy.headers[_DEATH] = [
        {
            "queue": queue,
            "reason": "rejected",
            "count": 1,
            "exchange": queue,
            "routing-keys": [queue],
            "time": datetime.now(UTC),
        }
    ]
    copy.delivery_mode = spec.PERSISTENT_DELIVERY_MODE
    copy.expiration = None  # dead letters stay
    copy.user_id = None  # the broker accepts only the worker's own
    try:
        return b"".join(copy.encode())
    except Exception:  # noqa: BLE001 - anything that pika can read but not write
        copy.headers = {_DEATH: copy.headers[_DEATH]}
        return b"".join(copy.encode())


class Apart:
    """Copies hostile messages to the dead-letter queue of ``queue``, on a channel of its own.

    The channel is opened for the first of them and kept: a flood of them costs one round trip each.
    """

    def __init__(self, channel: Channel, queue: str) -> None:
        self._broker = channel.broker
        self._topology = Topology(queue)
        self._channel: Channel | None = None
        self._answers: list[object] = []

    def keep(self, delivery: Delivery) -> None:
        """Publish a copy and wait for its confirm. Raises Transient if RabbitMQ refuses it.

        For a message that is too large to be collected, the copy has only its properties.
        """
        # Kept only once this copy is answered: a late answer must not be taken for the next one's.
        channel, self._channel = self._channel or self._open(), None
        dead = self._topology.dead
        properties = copy_properties(delivery.properties, self._topology.queue)
        self._answers.clear()
        try:
            channel.publishing(dead, dead)(delivery.body, properties)
            channel.wait(lambda: self._answers)
            if isinstance(self._answers[0], spec.Basic.Ack):
                self._channel = channel
        finally:
            if self._channel is None:
                channel.close()
        if self._channel is None:
            raise Transient(f"{self._broker.node} did not accept a letter for {dead!r}")

    def _open(self) -> Channel:
        def confirmed(method: frame.Method[spec.Basic.Ack | spec.Basic.Nack]) -> None:
            self._answers.append(method.method)

        channel = self._broker.channel()
        try:
            channel.raw.add_on_return_callback(lambda *_: self._answers.append(None))
            channel.call(channel.raw.confirm_delivery, ack_nack_callback=confirmed)
        except BaseException:
            channel.close()
            raise
        return channel


def _is_note(death: object) -> bool:
    if not isinstance(death, dict):
        return False
    # RabbitMQ counts with 64 bits, which pika decodes to a subclass of int.
    count, keys = death.get("count", 1), death.get("routing-keys", [])
    return (
        all(isinstance(death.get(name, ""), str) for name in _TEXTS)
        and isinstance(count, int)
        and not isinstance(count, bool)
        and isinstance(death.get("time", datetime.now(UTC)), datetime)
        and isinstance(keys, list)
        and all(isinstance(key, str) for key in keys)
    )
