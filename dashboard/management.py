"""MANAGEMENT_URL -> the queue's figures from RabbitMQ's management API."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import math
import ssl
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from dashboard.board import Board
from dashboard.figures import Queue
from turnwise import cluster
from turnwise.errors import Permanent, Refused, Transient
from turnwise.topology import Topology
from turnwise.url import split

TIMEOUT = 3.0
"""Seconds to connect, and for an answer."""

_COLUMNS = (
    "messages_ready,messages_unacknowledged,consumers,consumer_details.consumer_tag,"
    f"{cluster.QUEUE_FIELDS}"
)

_CLUSTER_PACE = 5.0
"""Seconds between two polls of the cluster's nodes."""


@dataclass(frozen=True, slots=True)
class Management:
    """The management API of one RabbitMQ. Its ``str()`` omits the password."""

    tls: bool
    host: str
    port: int
    virtual_host: str
    username: str
    password: str = field(repr=False)

    def __str__(self) -> str:
        return f"RabbitMQ's management API at {self.host}:{self.port}"

    @property
    def link(self) -> str:
        """The address of its user interface."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.tls else ''}://{host}:{self.port}/"


def parse_url(text: str) -> Management:
    """Parse MANAGEMENT_URL: ``http[s]://user:password@host:15672/vhost``.

    Without a path, the virtual host is ``/``. Raises ValueError, whose text never repeats the URL,
    which holds a password.
    """
    parts = split(text)
    if parts.scheme not in {"http", "https"}:
        raise ValueError("must begin with http:// or https://")
    if not parts.host:
        raise ValueError("names no host")
    if not parts.username:
        raise ValueError("names no user")
    tls = parts.scheme == "https"
    return Management(
        tls=tls,
        host=parts.host,
        port=parts.port or (15671 if tls else 15672),
        virtual_host=parts.path or "/",
        username=parts.username,
        password=parts.password or "",
    )


class Backlog:
    """Polls the queue's backlog and consumers, and its dead letters."""

    server = "broker"
    hurries = False
    pace = 0.5

    def __init__(self, management: Management, queue: str, board: Board) -> None:
        self._management = management
        self._topology = Topology(queue)
        self._board = board
        kind = http.client.HTTPSConnection if management.tls else http.client.HTTPConnection
        self._nodes: list[dict[str, Any]] = []
        self._nodes_at = -math.inf
        self._connection = kind(management.host, management.port, timeout=TIMEOUT)

    def look(self) -> float:
        """Update the board; return the seconds until the next poll."""
        queue = self._get(self._topology.queue)
        dead = self._get(self._topology.dead)
        try:
            figures = Queue(
                ready=queue["messages_ready"],
                in_hand=queue["messages_unacknowledged"],
                consumers=queue["consumers"],
                dead=dead["messages_ready"] + dead["messages_unacknowledged"],
                replicas=frozenset(each["consumer_tag"] for each in queue["consumer_details"]),
                warnings=tuple(cluster.warnings(self._look_at_nodes(), [queue, dead])),
            )
        except (KeyError, TypeError):
            # For some seconds after a start.
            raise Transient(f"{self._management} has no figures for the queue yet") from None
        self._board.put_queue(figures)
        return self.pace

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _look_at_nodes(self) -> list[dict[str, Any]]:
        """Return the cluster's nodes, recently polled; none if the account may not see them."""
        if time.monotonic() > self._nodes_at + _CLUSTER_PACE:
            self._nodes_at = time.monotonic()
            with contextlib.suppress(Refused):
                self._nodes = list(self._ask(f"nodes?columns={cluster.NODE_FIELDS}", "nodes"))
        return self._nodes

    def _get(self, queue: str) -> dict[str, Any]:
        vhost, name = (quote(part, safe="") for part in (self._management.virtual_host, queue))
        found = self._ask(f"queues/{vhost}/{name}?columns={_COLUMNS}", queue)
        if not isinstance(found, dict):
            raise Transient(f"{self._management} did not answer with a queue")
        return found

    def _ask(self, path: str, queue: str) -> Any:
        login = f"{self._management.username}:{self._management.password}".encode()
        try:
            self._connection.request(
                "GET",
                f"/api/{path}",
                headers={"Authorization": f"Basic {base64.b64encode(login).decode()}"},
            )
            response = self._connection.getresponse()
            body = response.read()
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise Permanent(
                f"{self._management} presents a certificate that is not trusted: "
                f"{error.verify_message}. Name its authority in SSL_CERT_FILE"
            ) from error
        except TimeoutError as error:
            self.close()
            raise Transient(f"{self._management} does not answer") from error
        except (OSError, http.client.HTTPException) as error:
            self.close()
            reason = getattr(error, "strerror", None) or "it hangs up"
            raise Transient(f"cannot reach {self._management}: {reason}") from error
        self._check(response.status, queue)
        try:
            return json.loads(body)
        except ValueError:
            raise Transient(f"{self._management} did not answer with JSON") from None

    def _check(self, status: int, queue: str) -> None:
        if status == HTTPStatus.OK:
            return
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise Refused(
                f"{self._management} refuses the user {self._management.username!r}: check the "
                "user name and password in MANAGEMENT_URL, its tag (monitoring), and its "
                f"permissions on the virtual host {self._management.virtual_host!r}",
                code=status,
            )
        if status == HTTPStatus.NOT_FOUND:
            raise Transient(
                f"RabbitMQ has no queue {queue!r} in the virtual host "
                f"{self._management.virtual_host!r}; a worker makes it",
                code=status,
            )
        raise Transient(f"{self._management} answers {status}", code=status)
