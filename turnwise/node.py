"""Parses AMQP_URL into the nodes to connect to."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

import pika
from pika import spec

from turnwise import __version__
from turnwise.url import readable, split

HEARTBEAT = 30
"""Seconds. Must be well above the longest block between two turns (database.TIMEOUT)."""

TROUBLE_LASTS = 30.0
"""Seconds for which a node that failed is tried last."""


class Parameters(pika.ConnectionParameters):
    """Carries the broker's reason for closing out of a connection that never opened."""

    close: spec.Connection.Close | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """One RabbitMQ node to connect to. ``str()`` describes it without the password."""

    host: str
    port: int
    virtual_host: str
    username: str
    password: str
    heartbeat: int = HEARTBEAT
    tls: pika.SSLOptions | None = None
    cluster: str | None = None
    """The name of the cluster that it must belong to; None: any."""
    troubles: dict[str, float] = field(default_factory=dict, compare=False, repr=False)
    """When each address last failed (monotonic)."""

    def __str__(self) -> str:
        return f"RabbitMQ at {self.host}:{self.port}, virtual host {self.virtual_host!r}"

    def __repr__(self) -> str:
        return f"<{self}>"

    def note_trouble(self, address: str) -> None:
        """Record that an address did not answer, refused, or was lost, so that it is tried last."""
        self.troubles[address] = time.monotonic()

    def trouble(self, address: str) -> float:
        """Return when an address last failed (monotonic); 0 if not lately."""
        at = self.troubles.get(address, 0.0)
        return at if time.monotonic() - at < TROUBLE_LASTS else 0.0

    def parameters(self, connection_name: str, address: str, timeout: float) -> Parameters:
        """Return the parameters for pika. The management UI shows ``connection_name``.

        ``timeout``: seconds for TCP, TLS and the AMQP handshake.
        """
        return Parameters(
            host=address,
            port=self.port,
            virtual_host=self.virtual_host,
            credentials=pika.PlainCredentials(self.username, self.password),
            heartbeat=self.heartbeat,
            ssl_options=self.tls,
            socket_timeout=timeout,
            stack_timeout=timeout,
            client_properties={
                "connection_name": connection_name,
                "product": "turnwise",
                "version": __version__,
            },
            # TCP, too, detects a dead peer that has not acknowledged data, not only heartbeats.
            tcp_options={"TCP_USER_TIMEOUT": self.heartbeat * 1000} if self.heartbeat else None,
        )


def parse_urls(text: str) -> list[Node]:
    """Read AMQP_URL: one or more ``amqp[s]://user:password@host:port/vhost``, comma-separated.

    Options after ``?`` are those of https://www.rabbitmq.com/docs/uri-query-parameters:
    ``cacertfile``, ``certfile``, ``keyfile``, ``verify``, ``server_name_indication``, ``heartbeat``
    (seconds); and ``cluster``, the name of the cluster that the node must belong to.

    Raises ValueError, which never repeats the URL: it holds a password.
    """
    nodes = [_parse_url(url.strip()) for url in text.split(",") if url.strip()]
    if not nodes:
        raise ValueError("is empty; expected amqp://user:password@host:5672/vhost")
    return nodes


def _parse_url(url: str) -> Node:
    parts = split(url)
    if parts.scheme not in {"amqp", "amqps"}:
        raise ValueError("must begin with amqp:// or amqps://")
    if not parts.host:
        raise ValueError("names no host")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    heartbeat = options.pop("heartbeat", str(HEARTBEAT))
    if not heartbeat.isdecimal():
        raise ValueError("has a heartbeat that is not a whole number of seconds")
    cluster = options.pop("cluster", None)
    tls = _tls(options, parts.host) if parts.scheme == "amqps" else None
    if options:
        raise ValueError(f"has an option {min(options)!r} that is not known or needs amqps://")
    return Node(
        host=parts.host,
        port=parts.port or (5671 if tls else 5672),
        # RabbitMQ's URI specification: no path is the default virtual host.
        virtual_host=parts.path or "/",
        username=parts.username or "guest",
        password=parts.password or "guest",
        heartbeat=int(heartbeat),
        tls=tls,
        cluster=cluster,
    )


def _tls(options: dict[str, str], host: str) -> pika.SSLOptions:
    files = {
        option: readable(option, options.pop(option))
        for option in ("cacertfile", "certfile", "keyfile")
        if option in options
    }
    try:
        context = ssl.create_default_context(cafile=files.get("cacertfile"))
        if certfile := files.get("certfile"):
            context.load_cert_chain(certfile, files.get("keyfile"))
    except OSError as error:
        named = ", ".join(files.values())
        raise ValueError(f"names no usable certificate in {named}: {error.strerror}") from None
    verify = options.pop("verify", "verify_peer")
    if verify not in {"verify_peer", "verify_none"}:
        raise ValueError("has a verify that is neither verify_peer nor verify_none")
    if verify == "verify_none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return pika.SSLOptions(context, options.pop("server_name_indication", host))
