"""Whether a server can be reached, and if not, since when."""

from __future__ import annotations

from dashboard.board import KEPT
from dashboard.sight import PATIENCE, Sight

START = 1_800_000_000.0


def test_an_outage_shows_at_once_with_an_error_and_after_a_delay_without() -> None:
    sight = Sight(START, KEPT)
    assert not sight.known
    sight.seen(START)
    assert sight.outage(START + PATIENCE) is None
    silent = sight.outage(START + PATIENCE + 0.1)
    assert silent is not None
    assert silent.since == START
    sight.failed("it is gone")
    outage = sight.outage(START + 0.1)
    assert outage is not None
    assert (outage.since, outage.problem) == (START, "it is gone")


def test_a_past_outage_is_kept_for_the_charts_and_then_forgotten() -> None:
    sight = Sight(START, KEPT)
    sight.seen(START)
    sight.failed("it is gone")
    sight.seen(START + 7)
    [past] = sight.outages(START + 7)
    assert (past.since, past.until) == (START, START + 7)
    for second in range(KEPT + 2):
        sight.seen(START + 8 + second)
    assert sight.outages(START + 8 + KEPT) == []


def test_a_server_never_seen_is_away_from_the_start_but_has_no_band_in_the_charts() -> None:
    sight = Sight(START, KEPT)
    outage = sight.outage(START + 1)
    assert outage is not None
    assert outage.since == START
    assert sight.outages(START + 1) == []
