"""How fast a token may be guessed: a few attempts for each address, then ever slower. Pure."""

from __future__ import annotations

import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Callable

FREE = 5
"""Failures that cost no wait: everybody mistypes."""

LONGEST = 300.0
"""Seconds that an address waits at most."""

FORGOTTEN = 900.0
"""Seconds after its last failure after which an address begins anew."""

REMEMBERED = 10_000
"""Addresses, at most."""


class Throttle:
    """Counts failures by address. Used by several threads; ``clock`` tells seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def attempt(self, address: str | None) -> float:
        """Begin an attempt, which counts as a failure until ``forgive`` takes that back.

        Returns how many seconds to wait before there may be one; 0: go on. Counting first keeps
        attempts that come at the same time from all being free.
        """
        network = _network(address)
        with self._lock:
            now = self._clock()
            count, last = self._failures.pop(network, (0, now))
            if now - last > FORGOTTEN:
                count = 0
            wait = last + _pause(count) - now
            if wait > 0:
                self._failures[network] = count, last
                return wait
            self._failures[network] = count + 1, now
            if len(self._failures) > REMEMBERED:
                self._failures.popitem(last=False)
        return 0.0

    def forgive(self, address: str | None) -> None:
        """The attempt was none: the token was right."""
        network = _network(address)
        with self._lock:
            count, last = self._failures.get(network, (1, 0.0))
            if count <= 1:
                self._failures.pop(network, None)
            else:
                self._failures[network] = count - 1, last


def _pause(failures: int) -> float:
    return min(LONGEST, 2.0 ** (failures - FREE)) if failures >= FREE else 0.0


def _network(address: str | None) -> str:
    """Return what one person has: an IPv4 address, or an IPv6 network of 64 bits."""
    try:
        found = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return address or ""
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((int(found), 64), strict=False))
    return str(found)
