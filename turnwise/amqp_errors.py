"""Translates pika's errors into ours."""

from __future__ import annotations

import socket
import ssl

from pika import spec
from pika.adapters.utils.connection_workflow import AMQPConnectorStackTimeout
from pika.exceptions import AMQPError, AMQPHeartbeatTimeout, ChannelClosedByBroker

from turnwise.errors import Permanent, Refused, Transient
from turnwise.node import Node

_ACCESS_REFUSED = 403
_NOT_ALLOWED = 530


def translate(
    error: BaseException, node: Node, close: spec.Connection.Close | None = None
) -> Transient | Permanent:
    """Translate a pika error into ours. ``close`` is the Connection.Close received, if any."""
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
    """Return the cause inside the exceptions that pika's connection workflow wraps around it."""
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
