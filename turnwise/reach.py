"""Nodes -> a connection to one of them: all their addresses, one after the other."""

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
"""Seconds for TCP, TLS and the AMQP handshake with the last address that is left to try."""

QUICK_TIMEOUT = 3.0
"""The same while there are others to try."""

RESOLVE_TIMEOUT = 5.0
"""Seconds for the name service."""


@dataclass(slots=True)
class _Place:
    """What counts as one node: an address, or all of a host's that are this very machine."""

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
    """A node that was connected to."""

    node: Node
    connection: Connection
    others: bool
    """Whether there are others to move on to."""
    home: bool
    """Whether it is the one that comes first for this name."""


def home_of(name: str, places: int) -> int:
    """Return which of so many places comes first for a name.

    Names that end in consecutive numbers are spread evenly, and others as by chance.
    """
    return int.from_bytes(name.encode()) % places


def reach(loop: Loop, nodes: Sequence[Node], connection_name: str) -> Reached:
    """Connect to one of the nodes: first the name's own, then at random; those in trouble last.

    A node counts as one that refuses if it belongs to another cluster than its URL says.
    What one node refuses is a reason to try the next. Raises Transient if none is to be had now,
    Refused or Permanent if each one says that it never will, Stopped if asked to stop.
    """
    places, failure = _places(loop, nodes)
    # A name service gives addresses in any order.
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
    """Connect to each of the nodes but the one at ``here``: a connection, or why there is none.

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
        "A node that lost its data and has not joined again looks like this: what it confirms is "
        "lost when it joins. If the cluster was renamed on purpose, change ?cluster= in AMQP_URL"
    )


def _places(loop: Loop, nodes: Sequence[Node]) -> tuple[list[_Place], Transient | None]:
    """Look up all hosts at once."""
    lookups = [_look_up(loop, node) for node in nodes]

    def known(enough: int) -> bool:
        return loop.stopping or sum(each.over for each in lookups) >= enough

    # One name service that hangs shall not hold up the nodes whose address is known.
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

    # It may take the name service long to answer, and the loop has heartbeats to serve.
    threading.Thread(target=run, name="name service", daemon=True).start()
    return lookup


def _wake() -> None:
    """The loop is woken by being called back."""


def _open(loop: Loop, node: Node, address: str, name: str, timeout: float) -> Connection:
    parameters = node.parameters(name, address, timeout)
    done: list[Any] = []
    given_up = False

    def finished(result: Any) -> None:
        if given_up and isinstance(result, Connection):
            result.close()  # nobody uses it any more
        done.append(result)

    Connection.create_connection([parameters], finished, loop)
    try:
        # pika ends it, after the timeout; ours is for its bugs.
        loop.wait(lambda: done or loop.stopping, 2 * timeout)
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
        given_up = True
        raise Transient(f"{node} does not answer")
    if isinstance(done[0], BaseException):
        raise translate(done[0], node, parameters.close)
    connection: Connection = done[0]
    return connection
