"""Requests published and not yet settled."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from producer.window import Window


def test_a_window_confirms_only_what_the_broker_accepted() -> None:
    window = Window()
    for counter in range(1, 8):
        window.published([counter])
    window.settle(3, multiple=True, taken=True)
    window.settle(6, multiple=False, taken=True)
    window.returned(5)
    window.settle(5, multiple=False, taken=True)  # the ack that follows a return
    window.settle(4, multiple=True, taken=False)
    assert window.take_confirmed() == [(1, 3), (6, 6)]
    assert window.take_confirmed() == []
    assert (len(window), window.refused) == (1, 2)


@given(st.data())
def test_each_request_is_settled_once_in_any_order(data: st.DataObject) -> None:
    counters = sorted(data.draw(st.sets(st.integers(1, 100), min_size=1)))
    window = Window()
    for counter in counters:
        window.published([counter])
    taken: dict[int, bool] = {}
    while window:
        tag = data.draw(st.integers(1, len(counters)))
        multiple, good = data.draw(st.booleans()), data.draw(st.booleans())
        for each in range(1 if multiple else tag, tag + 1):
            taken.setdefault(counters[each - 1], good)
        window.settle(tag, multiple=multiple, taken=good)
    confirmed = [c for first, last in window.take_confirmed() for c in range(first, last + 1)]
    assert sorted(confirmed) == [counter for counter in counters if taken[counter]]
    assert window.refused == len(counters) - len(confirmed)
