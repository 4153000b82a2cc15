"""What is recorded about a failed attempt, and when the next one is due."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwise import Reject, Retry
from worker.failures import LONGEST_WAIT, REJECTED, SHORTEST_WAIT, failure_of, timeout_of, wait


@given(st.integers(1, 1000))
def test_waits_are_between_a_second_and_an_hour(attempts: int) -> None:
    assert SHORTEST_WAIT <= wait(attempts) <= LONGEST_WAIT


def test_waits_grow_by_more_than_their_jitter() -> None:
    for attempts in range(2, 8):
        assert wait(attempts + 1) > wait(attempts)
    assert {wait(4) for _ in range(20)} != {wait(4)}
    assert wait(9) > 2800


def raised(error: BaseException) -> BaseException:
    def handler() -> None:
        raise error

    try:
        handler()
    except BaseException as caught:  # noqa: BLE001 - SystemExit too
        return caught
    raise AssertionError


def test_an_exception_is_recorded_as_a_line_and_a_traceback() -> None:
    failure = failure_of(raised(ValueError("no\nsku")))
    assert (failure.reason, failure.kind, failure.error) == (
        "failed",
        "ValueError",
        "ValueError: no sku",
    )
    assert failure.traceback is not None
    assert "handler()" not in failure.traceback  # the frame that called it is ours
    assert "raise error" in failure.traceback
    assert failure.due_in is None


def test_a_handler_may_decide_the_outcome_itself() -> None:
    assert failure_of(raised(Reject("nothing was ordered"))).error == "nothing was ordered"
    assert failure_of(raised(Reject("x"))).reason == "rejected"
    later = failure_of(raised(Retry(after=60)))
    assert (later.reason, later.due_in, later.traceback) == ("failed", 60, None)
    assert timeout_of(300).reason == "timeout"
    assert failure_of(raised(SystemExit(3))).error == "SystemExit: 3"
    for wrong in (-1, 1e9, float("nan")):
        with pytest.raises(ValueError, match="between"):
            Retry(after=wrong)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("even that")


def deep(depth: int) -> None:
    if depth:
        deep(depth - 1)
    raise KeyError("x" * 100_000)


def test_any_error_fits_its_column() -> None:
    assert failure_of(raised(Unprintable())).error == "Unprintable: (its text cannot be shown)"
    surrogate = failure_of(raised(ValueError("\ud800")))
    assert surrogate.error == "ValueError: \\ud800"
    assert surrogate.traceback
    surrogate.traceback.encode()
    try:
        deep(200)
    except KeyError as error:
        failure = failure_of(error)
    assert len(failure.error) == 1000
    assert failure.traceback
    assert len(failure.traceback) <= 10_000


def test_users_own_exceptions_are_recorded_whatever_they_hold() -> None:
    class Gone(Reject):
        def __init__(self, sku: int) -> None:
            self.sku = sku

    class Shy:
        def __str__(self) -> str:
            raise ValueError

    class Later(Retry):
        def __init__(self) -> None:
            pass

    assert failure_of(Gone(1)).reason == REJECTED
    assert "cannot be shown" in failure_of(Reject(Shy())).error  # type: ignore[arg-type]
    assert failure_of(Later()).due_in is None
    assert failure_of(Retry(after=Decimal(5))).due_in == 5.0  # type: ignore[arg-type]


class Leaving(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class Nasty(Exception):
    __str__ = __repr__ = Leaving.__str__

    @property
    def reason(self) -> str:
        raise ZeroDivisionError


class Later(Retry):
    def __init__(self, after: object) -> None:
        self.after = after  # type: ignore[assignment]


def test_an_exception_whose_every_attribute_raises_is_still_recorded() -> None:
    assert failure_of(raised(Leaving())).error == "Leaving: (its text cannot be shown)"
    assert failure_of(raised(Nasty())).error == "Nasty: (its text cannot be shown)"
    for after in ("soon", float("nan"), -1, 1e12):
        assert failure_of(raised(Later(after))).due_in is None
    error = ValueError("x")
    error.add_note("n" * 1_000_000)
    assert failure_of(raised(error)).error == "ValueError: x"
