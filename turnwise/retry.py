"""Retries with jittered, exponential, cancellable back-off, after Transient errors only."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from turnwise.errors import Transient

T = TypeVar("T")

FIRST_WAIT = 0.1
LONGEST_WAIT = 2.0
"""Seconds. Short enough to resume work within three seconds of a server's return."""


def persist(
    session: Callable[[Callable[[], None]], T],
    *,
    sleep: Callable[[float], None],
    on_failure: Callable[[Transient, float], None],
) -> T:
    """Run ``session(progress)`` until it returns, and retry it after Transient.

    The waits are drawn from 0 to an upper bound that doubles from FIRST_WAIT to LONGEST_WAIT
    seconds. The session calls ``progress()`` when it has done some work, which resets the bound.
    ``sleep(seconds)`` must serve whatever has to continue; an error that it raises ends the
    retries. ``on_failure(error, wait)`` is called for each failure, before the wait.
    """
    # A worker calls this for each request, and nearly always the first try succeeds, so it avoids
    # the cost of tenacity.
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
