"""Who is logged in, and how fast a token may be guessed."""

from __future__ import annotations

import pytest

from dashboard.sessions import LASTS, Role, Sessions
from dashboard.throttle import FORGOTTEN, FREE, LONGEST, REMEMBERED, Throttle

NOW = 1_800_000_000.0


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_session_is_read_by_every_page_with_the_same_key_until_it_ends() -> None:
    session = Sessions("a key of some length").begin(Role.OPERATOR, "Zoë", NOW)
    cookie = Sessions("a key of some length").seal(session)
    other = Sessions("a key of some length")
    assert other.open(cookie, NOW) == session
    assert other.open(cookie, NOW + LASTS - 1) == session
    assert other.open(cookie, NOW + LASTS) is None
    assert Sessions("another key of its length").open(cookie, NOW) is None


def test_no_byte_of_a_session_can_be_changed() -> None:
    sessions = Sessions("a key of some length")
    cookie = sessions.seal(sessions.begin(Role.VIEWER, "", NOW))
    for position, character in enumerate(cookie):
        changed = cookie[:position] + ("A" if character != "A" else "B") + cookie[position + 1 :]
        assert sessions.open(changed, NOW) is None
    for strange in ("", ".", "x.y", "\x00.é", cookie[:-1], f"{cookie}0"):
        assert sessions.open(strange, NOW) is None


def test_a_form_belongs_to_one_session() -> None:
    sessions = Sessions("a key of some length")
    one, other = (sessions.begin(Role.OPERATOR, "", NOW) for _ in range(2))
    assert sessions.csrf(one) == sessions.csrf(one) != sessions.csrf(other)
    assert sessions.csrf(one) not in sessions.seal(one)


def test_guessing_is_slowed_down_more_and_more() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    tried = 0
    for _ in range(86_400):  # an attempt a second for a day
        clock.now += 1
        tried += throttle.attempt("192.0.2.1") == 0
    assert tried < FREE + 10 + 86_400 / LONGEST


def test_concurrent_attempts_are_slowed_down_too() -> None:
    throttle = Throttle(Clock())
    assert [throttle.attempt("192.0.2.1") == 0 for _ in range(50)].count(True) == FREE


def test_a_slowed_down_address_affects_no_other_and_is_forgotten() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    while not throttle.attempt("192.0.2.1"):
        pass
    assert throttle.attempt("192.0.2.2") == 0
    clock.now += FORGOTTEN + 1
    assert throttle.attempt("192.0.2.1") == 0


def test_right_tokens_neither_count_nor_clear_wrong_attempts() -> None:
    throttle = Throttle(Clock())
    for _ in range(10 * FREE):
        assert throttle.attempt("192.0.2.1") == 0
        throttle.forgive("192.0.2.1")
    for _ in range(FREE):
        assert throttle.attempt("192.0.2.1") == 0
    assert throttle.attempt("192.0.2.1") > 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),  # one customer has all of a /64
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2", True),
        ("192.0.2.1", "192.0.2.2", False),
        (None, "", True),
    ],
)
def test_an_address_is_what_one_person_has(one: str | None, other: str, same: bool) -> None:
    throttle = Throttle(Clock())
    while not throttle.attempt(one):
        pass
    assert (throttle.attempt(other) > 0) is same


def test_memory_is_bounded() -> None:
    throttle = Throttle(Clock())
    for number in range(REMEMBERED + 100):
        throttle.attempt(str(number))
    assert len(throttle._failures) == REMEMBERED  # noqa: SLF001 - there is no other way to see it
