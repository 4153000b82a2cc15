"""Trying again: jittered, exponential, cancellable, and only for what may work in a moment."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

from turnwise.errors import Transient

T = TypeVar("T")

FIRST_WAIT = 0.1
LONGEST_WAIT = 2.0
"""Seconds. Short enough for work to go on within three seconds of a server's return."""


def persist(
    session: Callable[[Callable[[], None]], T],
    *,
    sleep: Callable[[float], None],
    on_failure: Callable[[Transient, float], None],
) -> T:
    """Run ``session(progress)`` until it returns, trying again after Transient.

    The waits are drawn from 0 to an upper bound that doubles from FIRST_WAIT to LONGEST_WAIT
    seconds. The session calls ``progress()`` when it has done some work: the bound begins anew.
    ``sleep(seconds)`` must serve whatever has to go on, and ends everything by raising.
    ``on_failure(error, wait)`` is told of each failure before its wait.
    """
    # A loop of its own: a worker passes here with each request, and most often just once.
    bound = FIRST_WAIT

    def progress() -> None:
        nonlocal bound
        bound = FIRST_WAIT

    while True:
        try:
            return session(progress)
        except Transient as error:
            wait = random.uniform(0, bound)
            on_failure(error, wait)
        bound = min(2 * bound, LONGEST_WAIT)
        sleep(wait)
