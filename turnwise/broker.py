"""AMQP_URL -> a connection to RabbitMQ, and the one place that translates pika's errors."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import pika
from pika import frame, spec
from pika.adapters.select_connection import SelectConnection
from pika.adapters.utils.connection_workflow import AMQPConnectorStackTimeout
from pika.channel import Channel as PikaChannel
from pika.exceptions import AMQPError, AMQPHeartbeatTimeout, ChannelClosedByBroker

from turnwise import __version__
from turnwise.errors import Permanent, Refused, Stopped, Transient
from turnwise.loop import Loop

HEARTBEAT = 30
"""Seconds. What blocks the thread between two turns (database.TIMEOUT) stays well below it."""

CONNECT_TIMEOUT = 10.0
"""Seconds for TCP, TLS and the AMQP handshake with one node."""

CALL_TIMEOUT = 30.0
"""Seconds for the answer to one AMQP method."""

CLOSE_TIMEOUT = 2.0
"""Seconds for a polite goodbye; a blocked or hung broker does not answer it."""

CORK = 64 * 1024
"""Bytes to be sent that are gathered at most."""

_ACCESS_REFUSED = 403
_NOT_ALLOWED = 530


@dataclass(frozen=True, slots=True)
class Node:
    """One RabbitMQ node to connect to. ``str()`` of it names it without the password."""

    host: str
    port: int
    virtual_host: str
    username: str
    password: str
    heartbeat: int = HEARTBEAT
    tls: pika.SSLOptions | None = None

    def __str__(self) -> str:
        return f"RabbitMQ at {self.host}:{self.port}, virtual host {self.virtual_host!r}"

    def __repr__(self) -> str:
        return f"<{self}>"

    def parameters(self, connection_name: str) -> _Parameters:
        """What pika wants to know. The management UI shows ``connection_name``."""
        return _Parameters(
            host=self.host,
            port=self.port,
            virtual_host=self.virtual_host,
            credentials=pika.PlainCredentials(self.username, self.password),
            heartbeat=self.heartbeat,
            ssl_options=self.tls,
            socket_timeout=CONNECT_TIMEOUT,
            stack_timeout=CONNECT_TIMEOUT,
            client_properties={
                "connection_name": connection_name,
                "product": "turnwise",
                "version": __version__,
            },
            # A dead peer that still owes an ACK is found by TCP, not only by heartbeats.
            tcp_options={"TCP_USER_TIMEOUT": self.heartbeat * 1000} if self.heartbeat else None,
        )


def parse_urls(text: str) -> list[Node]:
    """Read AMQP_URL: one or more ``amqp[s]://user:password@host:port/vhost``, comma-separated.

    Options after ``?`` are those of https://www.rabbitmq.com/docs/uri-query-parameters:
    ``cacertfile``, ``certfile``, ``keyfile``, ``verify``, ``server_name_indication``, ``heartbeat``
    (seconds). Raises ValueError, which never repeats the URL: it holds a password.
    """
    nodes = [_parse_url(url.strip()) for url in text.split(",") if url.strip()]
    if not nodes:
        raise ValueError("is empty; expected amqp://user:password@host:5672/vhost")
    return nodes


def _parse_url(url: str) -> Node:
    parts = urlsplit(url)
    if parts.scheme not in {"amqp", "amqps"}:
        raise ValueError("must begin with amqp:// or amqps://")
    if not parts.hostname:
        raise ValueError("names no host")
    try:
        port = parts.port
    except ValueError:
        raise ValueError("has a port that is no number from 0 to 65535") from None
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    heartbeat = options.pop("heartbeat", str(HEARTBEAT))
    if not heartbeat.isdecimal():
        raise ValueError("has a heartbeat that is no whole number of seconds")
    tls = _tls(options, parts.hostname) if parts.scheme == "amqps" else None
    if options:
        raise ValueError(f"has an option {min(options)!r} that is not known or needs amqps://")
    return Node(
        host=parts.hostname,
        port=port or (5671 if tls else 5672),
        # RabbitMQ's URI specification: no path is the default virtual host.
        virtual_host=unquote(parts.path[1:]) or "/",
        username=unquote(parts.username or "guest"),
        password=unquote(parts.password or "guest"),
        heartbeat=int(heartbeat),
        tls=tls,
    )


def _tls(options: dict[str, str], host: str) -> pika.SSLOptions:
    try:
        context = ssl.create_default_context(cafile=options.pop("cacertfile", None))
        if certfile := options.pop("certfile", None):
            context.load_cert_chain(certfile, options.pop("keyfile", None))
    except OSError as error:
        raise ValueError(f"names a certificate that cannot be read: {error}") from None
    verify = options.pop("verify", "verify_peer")
    if verify not in {"verify_peer", "verify_none"}:
        raise ValueError("has a verify that is neither verify_peer nor verify_none")
    if verify == "verify_none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return pika.SSLOptions(context, options.pop("server_name_indication", host))


class _Parameters(pika.ConnectionParameters):
    """Carries the broker's reason for closing out of a connection that never opened."""

    close: spec.Connection.Close | None = None


class _Connection(SelectConnection):
    """Keeps why it ended: from its first moment on, and as the broker said it.

    The broker may close a connection in the same breath in which it opened it; and while it opens,
    pika makes a mere text of the reason.

    Sends together what is written between two turns of the loop: pika would make a system call of
    each frame, three for a publish.
    """

    def __init__(self, parameters: _Parameters, **more: Any) -> None:
        self._written: list[bytes] = []
        self._written_size = 0
        super().__init__(parameters, **more)
        self.parameters = parameters
        self.failure: BaseException | None = None
        self.callbacks.add(0, spec.Connection.Close, self._note_close)
        self.add_on_close_callback(self._note_failure)

    def _adapter_emit_data(self, data: bytes) -> None:
        if not self._written:
            self.ioloop.before_wait(self._send_written)
        self._written.append(data)
        self._written_size += len(data)
        if self._written_size > CORK:
            self._send_written()

    def _send_written(self) -> None:
        written, self._written, self._written_size = self._written, [], 0
        if written and not self.is_closed:
            super()._adapter_emit_data(b"".join(written))

    def _note_close(self, method: frame.Method[spec.Connection.Close]) -> None:
        self.parameters.close = method.method

    def _note_failure(self, _connection: object, error: BaseException) -> None:
        self.failure = error


class Broker:
    """One connection, used from one thread in straight-line code. Made by ``connect``."""

    def __init__(self, loop: Loop, node: Node, connection: _Connection) -> None:
        self.loop = loop
        self.node = node
        self.blocked: str | None = None
        """Why RabbitMQ takes no publishes at the moment (an alarm); None if it does."""
        self._connection = connection
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_unblocked)

    @classmethod
    def connect(cls, loop: Loop, nodes: Sequence[Node], connection_name: str) -> Self:
        """Connect to the first node that answers, in random order.

        Raises Transient if none does, Refused or Permanent if one says that none ever will,
        Stopped if the loop was asked to stop.
        """
        failure = Transient("no RabbitMQ node to connect to")
        for node in random.sample(nodes, len(nodes)):
            try:
                return cls(loop, node, _connect(loop, node, connection_name))
            except Transient as error:
                failure = error
        raise failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: object, traceback: TracebackType | None
    ) -> None:
        self.close()

    def check(self) -> None:
        """Raise what ended the connection, if something did."""
        if self._connection.failure is not None:
            raise translate(self._connection.failure, self.node, self._connection.parameters.close)

    def turn(self, timeout: float) -> None:
        """One turn of the loop, and a check."""
        self.loop.turn(timeout)
        self.check()

    def wait(self, condition: Callable[[], object], timeout: float) -> bool:
        """As Loop.wait, but raises if the connection ends."""

        def checked() -> object:
            self.check()
            return condition()

        return self.loop.wait(checked, timeout)

    def sleep(self, seconds: float) -> None:
        """As Loop.sleep, but raises if the connection ends."""
        self.wait(lambda: self.loop.stopping, seconds)
        if self.loop.stopping:
            raise Stopped

    def channel(self) -> Channel:
        """Open a channel."""
        self.check()
        return Channel(self, self._connection)

    def close(self) -> None:
        """Say goodbye, and give up on an answer after CLOSE_TIMEOUT."""
        if self._connection.is_open:
            self._connection.close()
        self.loop.wait(lambda: self._connection.failure, CLOSE_TIMEOUT)

    def _on_blocked(self, _connection: object, method: frame.Method[Any]) -> None:
        self.blocked = method.method.reason

    def _on_unblocked(self, _connection: object, _method: object) -> None:
        self.blocked = None


def _connect(loop: Loop, node: Node, connection_name: str) -> _Connection:
    parameters = node.parameters(connection_name)
    done: list[Any] = []
    _Connection.create_connection([parameters], done.append, loop)
    try:
        # pika ends it, after CONNECT_TIMEOUT for each address of the host; ours is for its bugs.
        loop.wait(lambda: done or loop.stopping, 3 * CONNECT_TIMEOUT)
    except ValueError as error:
        # One of them: a peer that hangs up in the very moment of the connect is an error of the
        # caller's to pika, raised out of its callback.
        if isinstance(error.__context__, OSError):
            raise Transient(f"cannot reach {node}: {error.__context__.strerror}") from error
        raise
    if loop.stopping:
        # Neither abort() nor close() stands a handshake under way in pika 1.4: both fail an
        # assertion of their own. The process is about to end, and the socket with it.
        raise Stopped
    if not done:
        raise Transient(f"{node} does not answer")
    if isinstance(done[0], BaseException):
        raise translate(done[0], node, parameters.close)
    connection: _Connection = done[0]
    return connection


class Channel:
    """A channel whose methods wait for their answer. ``raw`` is pika's own, for the rest."""

    def __init__(self, broker: Broker, connection: SelectConnection) -> None:
        self.broker = broker
        self._failure: BaseException | None = None
        opened: list[object] = []
        self.raw: PikaChannel = connection.channel(on_open_callback=opened.append)
        self.raw.add_on_close_callback(self._on_close)
        self.wait(lambda: opened)

    def check(self) -> None:
        """Raise what ended the channel or its connection, if something did.

        To be called in each turn: pika's loop goes on when only the channel is closed.
        """
        self.broker.check()
        if self._failure is not None:
            raise translate(self._failure, self.broker.node)

    def call(self, method: Callable[..., object], **arguments: Any) -> Any:
        """Call a method of ``raw`` and return the broker's answer."""
        answer: list[Any] = []
        self.check()
        method(**arguments, callback=answer.append)
        self.wait(lambda: answer)
        return answer[0].method

    def wait(self, condition: Callable[[], object]) -> None:
        """Turn until the condition holds. Raises what ends the channel, or Transient in the end."""

        def checked() -> object:
            self.check()
            return condition()

        if not self.broker.loop.wait(checked, CALL_TIMEOUT):
            raise Transient(f"{self.broker.node} has not answered for {CALL_TIMEOUT:.0f} s")

    def fail(self, error: Exception) -> None:
        """End the use of this channel with an error of the caller's."""
        self._failure = self._failure or error

    def close(self) -> None:
        """Close it. What was delivered and not settled goes back to the queue's head."""
        if self.raw.is_open:
            self.raw.close()
        with contextlib.suppress(Transient):
            self.broker.wait(lambda: self.raw.is_closed, CLOSE_TIMEOUT)

    def _on_close(self, _channel: object, error: Exception) -> None:
        self._failure = self._failure or error


def translate(
    error: BaseException, node: Node, close: spec.Connection.Close | None = None
) -> Transient | Permanent:
    """Turn an error of pika's into one of ours. ``close`` is the broker's last word, if any."""
    if isinstance(error, Transient | Permanent):
        return error
    if close is not None:
        return _translate_close(close, node)
    if isinstance(error, ChannelClosedByBroker):
        kind = Refused if error.reply_code == _ACCESS_REFUSED else Transient
        return kind(f"{node} closed the channel: {error.reply_text}", code=error.reply_code)
    if isinstance(error, AMQPHeartbeatTimeout):
        return Transient(f"{node} has sent nothing for {node.heartbeat} s; heartbeats are missing")
    return _translate_io(_root(error), node)


def _translate_close(close: spec.Connection.Close, node: Node) -> Transient | Permanent:
    if close.reply_code == _ACCESS_REFUSED:
        return Refused(
            f"{node} refuses the user {node.username!r}: check the user name and password "
            "in AMQP_URL, and that the user may use this virtual host",
            code=close.reply_code,
        )
    if close.reply_code == _NOT_ALLOWED:
        return Permanent(
            f"{node} does not let the user {node.username!r} in: {close.reply_text}. Create "
            "the virtual host (rabbitmqctl add_vhost), grant it (rabbitmqctl "
            "set_permissions), or change AMQP_URL",
            code=close.reply_code,
        )
    return Transient(f"{node} closed the connection: {close.reply_text}", code=close.reply_code)


def _translate_io(error: BaseException, node: Node) -> Transient | Permanent:
    if isinstance(error, socket.gaierror):
        return Transient(f"cannot find the host of {node}: {error.strerror}")
    if isinstance(error, ssl.SSLCertVerificationError):
        return Permanent(
            f"{node} shows a certificate that is not trusted: {error.verify_message}. If "
            "its authority is one of your own, name it in AMQP_URL with ?cacertfile=FILE"
        )
    if isinstance(error, TimeoutError | AMQPConnectorStackTimeout):
        return Transient(f"{node} does not answer")
    if isinstance(error, OSError):
        return Transient(f"cannot reach {node}: {error.strerror or error}")
    if isinstance(error, AMQPError):
        return Transient(f"lost the connection to {node}")
    return Transient(f"lost the connection to {node}: {error!r}")


def _root(error: BaseException) -> BaseException:
    """Find the cause in the exceptions that pika's connection workflow wraps around it."""
    while True:
        wrapped = (
            *getattr(error, "exceptions", ())[-1:],
            getattr(error, "exception", None),
            *error.args[:1],
        )
        inner = next((each for each in wrapped if isinstance(each, BaseException)), None)
        if inner is None:
            return error
        error = inner
