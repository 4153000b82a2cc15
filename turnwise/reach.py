"""Connects to one of several nodes, trying all of their addresses in turn."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import random
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from turnwise.amqp_errors import translate
from turnwise.connection import Connection
from turnwise.errors import Permanent, Stopped, Transient
from turnwise.log import event
from turnwise.loop import Loop
from turnwise.node import Node

log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 10.0
"""Seconds for TCP, TLS and the AMQP handshake, for the last address that is left to try."""

QUICK_TIMEOUT = 3.0
"""The same while other addresses are left to try."""

RESOLVE_TIMEOUT = 5.0
"""Seconds to wait for the name service."""


@dataclass(slots=True)
class _Place:
    """What counts as one node: one address, or all loopback addresses of a host."""

    node: Node
    addresses: list[str]
    refusal: Permanent | None = None


@dataclass(slots=True)
class _Lookup:
    node: Node
    found: list[str] | None = None
    failure: OSError | None = None
    over: bool = False


class Stranger(Permanent):
    """A node belongs to another cluster."""


class Reached(NamedTuple):
    """A node and the connection to it."""

    node: Node
    connection: Connection
    others: bool
    """Whether there are others to fail over to."""
    home: bool
    """Whether it is the preferred one for this connection name."""


def home_of(name: str, places: int) -> int:
    """Return which of ``places`` places a name prefers, counted from 0.

    Names that end in consecutive numbers are spread evenly, others pseudo-randomly.
    """
    return int.from_bytes(name.encode()) % places


def reach(loop: Loop, nodes: Sequence[Node], connection_name: str) -> Reached:
    """Connect to one of the nodes: the preferred one first, then in random order.

    Nodes that failed lately are tried last. A node that belongs to another cluster than its URL
    names counts as refusing. When one node refuses, the next is tried. Raises Transient if no node
    can be reached now, Refused or Permanent if every node refuses, Stopped if asked to stop.
    """
    places, failure = _places(loop, nodes)
    # A name service returns addresses in any order.
    places.sort(key=lambda place: (nodes.index(place.node), place.addresses))
    home = places[home_of(connection_name, len(places))]
    attempts = [(place, address) for place in places for address in place.addresses]
    random.shuffle(attempts)
    attempts.sort(key=lambda each: (each[0].node.trouble(each[1]), each[0] is not home))
    for number, (place, address) in enumerate(attempts, 1):
        timeout = CONNECT_TIMEOUT if number == len(attempts) else QUICK_TIMEOUT
        try:
            connection = _open(loop, place.node, address, connection_name, timeout)
            _check_cluster(place.node, connection)
        except Transient as error:
            failure = error
        except Permanent as error:
            place.refusal = error
            if len(places) > 1:
                event(log, logging.WARNING, "broker.refuses", error=error)
        else:
            place.node.troubles.pop(address, None)
            return Reached(place.node, connection, len(attempts) > 1, place is home)
        place.node.note_trouble(address)
    refusals = [place.refusal for place in places if place.refusal]
    if refusals and len(refusals) == len(places):
        raise refusals[-1]
    texts = [str(failure)] if failure else []
    raise Transient("; ".join(texts + [str(each) for each in refusals[:1]]))


def reach_others(
    loop: Loop, nodes: Sequence[Node], here: tuple[Node, str], connection_name: str
) -> Iterator[tuple[Node, Connection | Transient | Permanent]]:
    """Connect to each node except the one at ``here``; yield its connection, or the error.

    Raises Stopped if asked to stop.
    """
    node, address = here
    for place in _places(loop, nodes)[0]:
        if place.node == node and address in place.addresses:
            continue
        met: Connection | Transient | Permanent
        met = Transient(f"cannot find the host of {place.node}")
        for each in place.addresses:
            try:
                met = _open(loop, place.node, each, connection_name, QUICK_TIMEOUT)
                _check_cluster(place.node, met)
                break
            except (Transient, Permanent) as error:
                met = error
        yield place.node, met


def _check_cluster(node: Node, connection: Connection) -> None:
    met, wanted = connection.cluster, node.cluster
    if wanted is None or met == wanted:
        return
    connection.close()
    raise Stranger(
        f"{node} belongs to the cluster {met!r}, not to {wanted!r} as AMQP_URL says. "
        "It may have lost its data and not joined its cluster again: what it confirms now is lost "
        "when it joins. If the cluster was renamed on purpose, change ?cluster= in AMQP_URL"
    )


def _places(loop: Loop, nodes: Sequence[Node]) -> tuple[list[_Place], Transient | None]:
    """Look up all hosts concurrently; return the places and the last failure."""
    lookups = [_look_up(loop, node) for node in nodes]

    def known(enough: int) -> bool:
        return loop.stopping or sum(each.over for each in lookups) >= enough

    # A lookup that hangs must not hold up the nodes whose addresses are known.
    if not loop.wait(lambda: known(len(lookups)), 1):
        loop.wait(lambda: known(1), RESOLVE_TIMEOUT - 1)
    if loop.stopping:
        raise Stopped
    places: list[_Place] = []
    failure = None
    for lookup in lookups:
        if lookup.found is None:
            reason = lookup.failure.strerror if lookup.failure else "no answer"
            failure = Transient(f"cannot find the host of {lookup.node}: {reason}")
            places.append(_Place(lookup.node, []))
        elif all(ipaddress.ip_address(each.partition("%")[0]).is_loopback for each in lookup.found):
            places.append(_Place(lookup.node, lookup.found))
        else:
            places += [_Place(lookup.node, [address]) for address in lookup.found]
    return places, failure


def _look_up(loop: Loop, node: Node) -> _Lookup:
    lookup = _Lookup(node)

    def run() -> None:
        try:
            found = socket.getaddrinfo(node.host, node.port, type=socket.SOCK_STREAM)
            lookup.found = [str(address[0]) for *_, address in found]
        except OSError as error:
            lookup.failure = error
        lookup.over = True
        with contextlib.suppress(OSError):  # the loop was closed meanwhile
            loop.add_callback(_wake)

    # The name service may be slow to answer, and meanwhile the loop must serve heartbeats.
    threading.Thread(target=run, name="name service", daemon=True).start()
    return lookup


def _wake() -> None:
    """Do nothing: the callback itself wakes the loop."""


def _open(loop: Loop, node: Node, address: str, name: str, timeout: float) -> Connection:
    parameters = node.parameters(name, address, timeout)
    done: list[Any] = []
    given_up = False

    def finished(result: Any) -> None:
        if given_up and isinstance(result, Connection):
            result.close()  # too late: the caller has given up
        done.append(result)

    Connection.create_connection([parameters], finished, loop)
    try:
        # pika applies the timeout itself; ours guards against its bugs.
        loop.wait(lambda: done or loop.stopping, 2 * timeout)
    except ValueError as error:
        # One such bug: if the peer hangs up during the connect, pika raises ValueError out of its
        # callback, as if the caller had made a mistake.
        if isinstance(error.__context__, OSError):
            raise Transient(f"cannot reach {node}: {error.__context__.strerror}") from error
        raise
    if loop.stopping:
        # In pika 1.4 both abort() and close() fail an assertion during a handshake. The process is
        # about to end, and the socket with it.
        raise Stopped
    if not done:
        given_up = True
        raise Transient(f"{node} does not answer")
    if isinstance(done[0], BaseException):
        raise translate(done[0], node, parameters.close)
    connection: Connection = done[0]
    return connection
