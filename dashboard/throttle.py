"""Limits the guessing of tokens: a few attempts for each address, then ever slower. Pure."""

from __future__ import annotations

import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Callable

FREE = 5
"""Failures that cost no wait: everyone mistypes."""

LONGEST = 300.0
"""The most seconds that an address waits."""

FORGOTTEN = 900.0
"""Seconds after an address's last failure until its failures are forgotten."""

REMEMBERED = 10_000
"""The most addresses remembered."""


class Throttle:
    """Counts failures by address. Used by several threads; ``clock`` returns seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def attempt(self, address: str | None) -> float:
        """Begin an attempt, which counts as a failure until ``forgive`` is called.

        Returns the seconds to wait before trying again, 0 if the attempt is allowed. It counts
        first, so that simultaneous attempts are not all free.
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
        """Uncount an attempt whose token was right."""
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
    """Return the unit that one person has: an IPv4 address, or a /64 network of IPv6."""
    try:
        found = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return address or ""
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((int(found), 64), strict=False))
    return str(found)
