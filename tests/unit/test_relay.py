"""The relay's pure parts: batches, lines, and where to look."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from producer.relay.batch import Batch, merge, ranges, read_ranges, write_ranges
from producer.relay.line import Line, Row, restore
from producer.relay.sight import NEAR, SLOW, Look, Sight
from turnwise.message import Request

NOW = datetime(2026, 1, 31, 12, 0, 0, 123456, UTC)

ascending = st.sets(st.integers(1, 2**63 - 1), min_size=1).map(sorted)


def rows(*ids: int, message: str = "m") -> list[Row]:
    return [Row(each, "q", message, NOW) for each in ids]


def by_id(*ids: int) -> dict[int, Row]:
    return {row.id: row for row in rows(*ids)}


def line_with(*batches: tuple[int, ...]) -> Line:
    line = Line("q", "c", 0)
    for ids in batches:
        line.add(line.number_rows(rows(*ids))[0])
    return line


# -- batches


@given(ascending | st.integers(1, 1000).map(lambda n: list(range(n, 2 * n))))
def test_ids_are_read_as_they_were_written(ids: list[int]) -> None:
    batch = Batch.of("q", "c", 1, ids)
    assert batch.ids == tuple(ids)
    assert read_ranges(write_ranges(batch.ranges)) == batch.ranges


def test_ids_without_a_hole_take_little_room() -> None:
    assert write_ranges(ranges([*range(4, 1004), 2000])) == "4-1003,2000"


@given(ascending)
def test_ranges_hold_each_id_once_and_no_other(ids: list[int]) -> None:
    held = [each for first, last in ranges(ids) for each in range(first, last + 1)]
    assert held == ids


@given(st.lists(st.sets(st.integers(1, 60)).map(sorted)))
def test_merged_ranges_hold_the_same_ids_and_do_not_touch(parts: list[list[int]]) -> None:
    merged = merge(each for part in parts for each in ranges(part))
    assert merged == list(ranges(sorted({each for part in parts for each in part})))


@given(ascending, st.data())
def test_odd_rows_apart_from_the_others_keep_their_numbers(
    ids: list[int], data: st.DataObject
) -> None:
    odd = data.draw(st.sets(st.sampled_from(ids)))
    whole = Batch.of("q", "c", 7, ids)
    parts = list(whole.apart(odd))
    assert [
        (number, each) for part in parts for number, each in enumerate(part.ids, part.first)
    ] == list(enumerate(ids, 7))
    assert {part.ids for part in parts if odd.intersection(part.ids)} == {(each,) for each in odd}


# -- lines


@given(st.data())
def test_a_batch_may_go_when_all_of_it_is_confirmed_and_not_before(data: st.DataObject) -> None:
    line = line_with((1, 2, 3), (7,), (5, 9, 10, 11))
    unconfirmed = set(range(1, 9))
    while unconfirmed:
        first = data.draw(st.sampled_from(sorted(unconfirmed)))
        last = first
        while last + 1 in unconfirmed and data.draw(st.booleans()):
            last += 1
        line.forget([(first, last)])
        unconfirmed -= set(range(first, last + 1))
        assert len(line) == len(unconfirmed)
        gone = {
            counter for batch in line.confirmed for counter in range(batch.first, batch.last + 1)
        }
        assert not gone & unconfirmed
        assert [n for n, *_ in line.after(0, 100)] == sorted(unconfirmed)
    assert sum(batch.size for batch in line.confirmed) == 8
    assert merge(line.ranges) == [(1, 3), (5, 5), (7, 7), (9, 11)]
    line.removed()
    assert list(line.ranges) == []


def test_the_next_publisher_begins_with_the_lowest_number_that_is_not_confirmed() -> None:
    line = line_with((1, 2, 3), (7,))
    line.forget([(2, 2)])
    assert [n for n, *_ in line.after(0, 100)] == [1, 3, 4]
    assert [n for n, *_ in line.after(0, 2)] == [1, 3]
    assert [n for n, *_ in line.after(3, 100)] == [4]
    assert list(line.after(4, 100)) == []


def test_an_invalid_row_has_no_number() -> None:
    line = Line("q", "c", 41)
    bad = Row(8, "q", "x" * 20_000, NOW)
    odd = Row(9, "q", "m", "0000-00-00 00:00:00")
    numbered, invalid = line.number_rows([*rows(7), bad, odd, *rows(10)])
    assert numbered.batch.ids == (7, 10)
    assert [number for number, *_ in numbered.requests] == [42, 43]
    assert [row.id for row, _ in invalid] == [8, 9]
    assert line.accepted == 41  # not before it is written down


def test_a_recorded_batch_is_rebuilt_with_the_same_requests() -> None:
    line = Line("q", "c", 41)
    numbered, _ = line.number_rows(rows(7, 10, 30))
    first = Request("c", 42, "m", NOW)
    assert numbered.requests[0] == (42, first.encode(), first.encode_properties())
    assert restore(numbered.batch, by_id(7, 10, 30)) == (numbered, [])


def test_a_row_removed_by_hand_leaves_the_others_their_numbers() -> None:
    batch = Batch.of("q", "c", 5, (7, 10, 30))
    line = Line("q", "c", 7)
    line.add(restore(batch, by_id(7, 30))[0])
    assert [n for n, *_ in line.after(0, 10)] == [5, 7]
    line.forget([(5, 5), (7, 7)])
    assert [each.ids for each in line.confirmed] == [(7, 10, 30)]
    empty = Line("q", "c", 7)
    empty.add(restore(batch, {})[0])
    assert [each.ids for each in empty.confirmed] == [(7, 10, 30)]


def test_a_row_corrupted_by_hand_is_set_aside() -> None:
    batch = Batch.of("q", "c", 5, (7, 10, 30))
    spoiled = by_id(7, 10, 30) | {10: Row(10, "q", "m", "0000-00-00 00:00:00")}
    numbered, [(row, _)] = restore(batch, spoiled)
    assert row.id == 10
    assert [number for number, *_ in numbered.requests] == [5, 7]


def test_a_late_lower_number_is_published_in_its_place() -> None:
    line = line_with((1, 2), (3, 4))
    line.forget([(1, 2)])
    line.add(restore(Batch.of("q", "c", 1, (1, 2)), by_id(1, 2))[0])
    assert [n for n, *_ in line.after(0, 10)] == [1, 2, 3, 4]
    line.forget([(2, 3)])
    assert [n for n, *_ in line.after(0, 10)] == [1, 4]
    line.removed()
    line.forget([(1, 1), (4, 4)])
    assert [batch.ids for batch in line.confirmed] == [(1, 2), (3, 4)]


# -- where to look


def test_while_the_database_is_quick_one_look_covers_all() -> None:
    sight = Sight(10**12, 0)
    for _ in range(10):
        assert sight.main() == Look(0)
        assert sight.sweep() is None
        sight.looked(0.001, 0, None)


def test_when_the_database_is_slow_a_look_covers_new_rows_and_a_sweep_the_rest() -> None:
    sight = Sight(10**6, 0)
    sight.looked(1.0, 10, 10**6 + 10)
    assert sight.main() == Look(10**6 + 10 - NEAR)
    below = 10**6 + 10 - NEAR
    assert sight.sweep() == Look(below - NEAR, below)


def test_a_look_that_takes_long_because_of_many_rows_is_not_slow() -> None:
    sight = Sight(10**6, 0)
    sight.looked(0.1, 1000, 10**6 + 1000)
    assert sight.main() == Look(0)


@given(
    st.integers(0, 10**12),
    st.lists(st.sampled_from([0.001, 0.01, 10 * SLOW]), min_size=1, max_size=200),
    st.integers(1, 10**12),
)
def test_each_id_is_looked_at_in_time(highest: int, costs: list[float], wanted: int) -> None:
    """However slow the database was: once it is quick again, some look covers any id."""
    sight = Sight(highest, 0)
    for cost in costs:
        sight.looked(cost, 0, None)
        if sight.sweep():
            sight.swept(cost, 0, all_of_it=True)
    for _ in range(200):
        main, below = sight.main(), sight.sweep()
        if wanted > main.after or (below and below.after < wanted <= (below.through or 0)):
            return
        sight.looked(0.001, 0, None)
        if below:
            sight.swept(0.001, 0, all_of_it=True)
    raise AssertionError(f"{wanted} was never looked at")


@given(st.integers(NEAR, 10**7), st.integers(0, 10**7))
def test_a_sweep_covers_each_id_below_while_all_stays_slow(highest: int, wanted: int) -> None:
    sight = Sight(highest, 0)
    sight.looked(10 * SLOW, 0, None)
    covered = False
    for _ in range(2 * 10**7 // NEAR):
        below = sight.sweep()
        if below is None or below.after < wanted <= (below.through or 0):
            covered = True
            break
        sight.swept(10 * SLOW, 0, all_of_it=True)
    assert covered or wanted > sight.after or wanted == 0


def test_a_step_that_found_more_than_there_was_room_for_is_looked_at_again() -> None:
    sight = Sight(10**6, 0)
    sight.looked(1.0, 0, None)
    before = sight.sweep()
    sight.swept(0.001, 500, all_of_it=False)
    assert sight.sweep() == before
