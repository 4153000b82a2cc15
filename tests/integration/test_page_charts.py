"""The charts as drawn: totals, many replicas, legible labels, outages."""

from __future__ import annotations

import pytest

from tests.browser import Browser
from tests.page import page
from tests.pipeline import Pipeline

PER_SECOND = 24
SECONDS = 280


def serve_steadily(pipeline: Pipeline, replicas: int) -> None:
    """Insert the rows that this many replicas would serve: first three of them, then all, in turn.

    The rate is constant.
    """
    pipeline.run("worker", "migrate")
    digits = " UNION ALL ".join(f"SELECT {digit} AS n" for digit in range(10))
    pipeline.servers.database.query(
        "INSERT INTO requests (client, counter, message, sent_at, served_at, served_by)"
        f" WITH d AS ({digits}), s AS (SELECT a.n + 10 * b.n + 100 * c.n + 1000 * d.n AS seq"
        " FROM d AS a, d AS b, d AS c, d AS d)"
        f" SELECT 'till', seq + 1, 'm', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) - INTERVAL"
        f" {SECONDS} SECOND + INTERVAL (seq * 1000000 DIV {PER_SECOND}) MICROSECOND,"
        f" CONCAT('worker-', seq MOD IF(seq < {PER_SECOND * SECONDS // 2}, 3, {replicas}))"
        f" FROM s WHERE seq < {PER_SECOND * SECONDS}",
        name=pipeline.name,
    )


def points(browser: Browser, selector: str) -> list[float]:
    """Return the heights of a path's points, from the left, in the units of the axis."""
    return list(
        browser.js(
            "(() => { const svg = document.querySelector('#rates svg');"
            " const axis = [...svg.querySelectorAll('.grid text[text-anchor=end]')];"
            " const [zero, one] = axis.map(e => [Number(e.textContent), e.getAttribute('y') - 4]);"
            " const value = y => zero[0] + (y - zero[1]) * (one[0] - zero[0]) / (one[1] - zero[1]);"
            " return [...svg.querySelector(arguments[0]).getAttribute('d')"
            ".matchAll(/[ML][\\d.]+ ([\\d.]+)/g)].map(m => value(Number(m[1]))); })()",
            selector,
        )
    )


@pytest.mark.parametrize("replicas", [6, 12, 50])
def test_a_steady_rate_is_drawn_as_a_level_total_for_any_number_of_replicas(
    pipeline: Pipeline, browser: Browser, replicas: int
) -> None:
    serve_steadily(pipeline, replicas)
    browser.open(page(pipeline))
    browser.wait("Boolean(document.querySelector('#rates .total'))")
    total = points(browser, ".total")
    # Without the figures that are no longer served, and where the mean of five seconds falls.
    while total and total[-1] < PER_SECOND / 100:
        total.pop()
    level = [value for value in total[30:-6] if value]
    assert len(level) > SECONDS / 2
    assert min(level) > 0.9 * PER_SECOND
    assert max(level) < 1.1 * PER_SECOND
    # Each replica has a band; with many, the rest share one, so that no two look alike.
    areas = browser.js(
        "[...document.querySelectorAll('#rates .area')].map(e => e.dataset.colour ?? 'others')"
    )
    assert len(areas) == min(replicas, 8)
    assert len(set(areas)) == len(areas)
    assert ("others" in areas) is (replicas > 8)
    # Ordered by name, whatever they served.
    names = browser.texts("#turns .lanes .name")
    assert names == [f"worker-{number}" for number in range(replicas)]


@pytest.mark.parametrize("width", [390, 700, 1280])
def test_no_label_is_cut_off_or_overlaps_another(
    pipeline: Pipeline, browser: Browser, width: int
) -> None:
    serve_steadily(pipeline, 12)
    browser.open(page(pipeline), width=width)
    browser.wait("Boolean(document.querySelector('#rates .total'))")
    outside = browser.js(
        "[...document.querySelectorAll('.plot svg')].flatMap(svg => {"
        " const frame = svg.getBoundingClientRect();"
        " return [...svg.querySelectorAll('text')].filter(text => {"
        "  const box = text.getBoundingClientRect();"
        "  return box.left < frame.left || box.right > frame.right + .5"
        "   || box.top < frame.top || box.bottom > frame.bottom; }).map(e => e.textContent); })"
    )
    assert outside == []
    overlapping = browser.js(
        "[...document.querySelectorAll('.plot svg')].flatMap(svg => {"
        " const texts = [...svg.querySelectorAll('text')];"
        " const boxes = texts.map(text => text.getBoundingClientRect());"
        " return texts.flatMap((text, i) => texts.filter((other, j) => i < j"
        "  && boxes[i].left < boxes[j].right && boxes[j].left < boxes[i].right"
        "  && boxes[i].top + 3 < boxes[j].bottom && boxes[j].top + 3 < boxes[i].bottom)"
        "  .map(other => `${text.textContent} and ${other.textContent}`)); })"
    )
    assert overlapping == []


def test_pointing_at_a_second_shows_its_figures(pipeline: Pipeline, browser: Browser) -> None:
    serve_steadily(pipeline, 3)
    browser.open(page(pipeline))
    browser.wait("Boolean(document.querySelector('#rates .total'))")
    summary = "document.querySelector('#rates .summary').textContent"
    now = f"{summary}.includes('in the last ten seconds')"
    browser.wait(now)
    # Wherever those seconds stand by now.
    point = (
        "svg.dispatchEvent(new PointerEvent('pointermove',"
        " {clientX: x, clientY: 300, bubbles: true}))"
    )
    browser.wait(
        "[...Array(innerWidth).keys()].some(x => {"
        f" const svg = document.querySelector('#rates svg'); {point};"
        f" return {summary}.includes(arguments[0]); }})",
        f": {PER_SECOND}: A 8, B 8, C 8",
    )
    browser.js(
        "document.querySelector('#rates svg').dispatchEvent(new PointerEvent('pointerleave'))"
    )
    browser.wait(now)
