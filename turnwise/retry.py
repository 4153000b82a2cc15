"""Trying again: jittered, exponential, cancellable, and only for what may work in a moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

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
    # A worker passes here with each request, and nearly always once is enough: that goes without
    # the machinery of trying again.
    try:
        return session(lambda: None)
    except Transient as error:
        failed = [error]

    def report(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, Transient):
            on_failure(error, state.upcoming_sleep)

    for attempt in Retrying(
        retry=retry_if_exception_type(Transient),
        wait=wait_random_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT),
        sleep=sleep,
        before_sleep=report,
    ):
        with attempt:
            if failed:
                raise failed.pop()
            state = attempt.retry_state

            def progress(state: RetryCallState = state) -> None:
                state.attempt_number = 1

            return session(progress)
    raise AssertionError  # Retrying ends by returning or raising
