"""A request written by a template equals the one that Request writes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from turnwise.errors import InvalidRequest
from turnwise.message import MAX_COUNTER, Request
from turnwise.template import Template

CLIENTS = st.text("abcXYZ019._-", min_size=1, max_size=64)
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(CLIENTS, st.integers(1, MAX_COUNTER), st.text(st.characters(codec="utf-8")), TIMES)
@example("counter", 1, '1,"message":""', datetime(1970, 1, 1, tzinfo=UTC))
@example("_", 1, "_/1\x03_/1", datetime(2026, 1, 1, tzinfo=UTC))
@example("a" * 64, MAX_COUNTER, '\u2028\x7f\x00"\\</', datetime(2026, 1, 1, 1, 1, 1, 1, tzinfo=UTC))
@example("json", 10, "", datetime(1970, 1, 1, 0, 2, 15, tzinfo=UTC))
def test_body_and_properties_are_the_same(
    client: str, counter: int, message: str, sent_at: datetime
) -> None:
    request = Request(client, counter, message, sent_at)
    written = Template(client, sent_at).write(counter, message)
    assert written == (request.encode(), request.encode_properties())
    assert Request.receive(*written) == request


# The seconds follow the identity in the properties, and may contain its bytes.
@given(st.integers(0, 2**32), st.sampled_from([0x035F2F31, 0x5F2F31, 0x03, 0x5F]))
def test_a_time_is_not_mistaken_for_an_identity(high: int, low: int) -> None:
    try:
        sent_at = datetime.fromtimestamp((high << 32 | low) % (9000 * 365 * 86400), UTC)
    except (ValueError, OverflowError):
        return
    request = Request("alice", 7, "hello", sent_at)
    assert Template("alice", sent_at).write(7, "hello") == (
        request.encode(),
        request.encode_properties(),
    )


def test_bounds_are_those_of_a_request() -> None:
    with pytest.raises(InvalidRequest, match="client"):
        Template("no client", datetime.now(UTC))
    with pytest.raises(InvalidRequest, match="sent_at"):
        Template("alice", datetime.now(timezone(timedelta(hours=1))))
