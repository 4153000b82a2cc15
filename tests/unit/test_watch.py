"""The watchers' pace."""

from __future__ import annotations

from dashboard.watch import Pace


def test_hurry_ends_the_wait_of_a_watcher_that_hurries() -> None:
    pace = Pace()
    pace.hurry()
    assert pace.wait(0, hurries=False)
    assert pace.wait(3600, hurries=True)
    pace.stop()
    assert not pace.wait(3600, hurries=False)
