"""The page in a real browser, while real replicas serve and real servers go away."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser import Browser
from tests.page import page
from tests.pipeline import Pipeline
from turnwise.limits import MAX_MESSAGE_BYTES
from turnwise.message import Request

ROWS = "#stream tbody tr[data-key]"
TURNS = (
    "[...document.querySelectorAll('#turns .track span')]"
    ".sort((a, b) => a.dataset.order - b.dataset.order).map(e => e.dataset.replica)"
)


def send_for_ever(pipeline: Pipeline) -> None:
    pipeline.start("producer", "producer", "send", "hello", "--quantum", "200ms")


def wait_rows(browser: Browser, count: int) -> None:
    browser.wait("document.querySelectorAll(arguments[0]).length >= arguments[1]", ROWS, count)


def wait_more(browser: Browser) -> None:
    """Wait until a newer request is shown at the top."""
    first = browser.js("document.querySelector(arguments[0]).dataset.key", ROWS)
    browser.wait("document.querySelector(arguments[0]).dataset.key != arguments[1]", ROWS, first)


def test_the_stream_moves_and_shows_the_replicas_taking_turns(
    pipeline: Pipeline, browser: Browser
) -> None:
    for name in ("worker-1", "worker-2"):
        pipeline.worker(name)
    browser.open(page(pipeline))
    browser.wait("/^Nothing was/.test(document.querySelector('#serving .nothing').textContent)")
    send_for_ever(pipeline)
    client = pipeline.wait_client()
    wait_rows(browser, 20)
    wait_more(browser)
    turns = browser.js(TURNS)
    assert set(turns) == {"worker-1", "worker-2"}
    # The page shows exactly what is stored.
    [key, replica] = browser.js(
        "(r => [r.dataset.key, r.dataset.replica])(document.querySelector(arguments[0]))", ROWS
    )
    stored = {f"{row.client}/{row.counter}": row for row in pipeline.rows()}
    assert stored[key].served_by == replica
    assert browser.text("#serving .name") in {"worker-1", "worker-2"}
    assert browser.text("#serving .message") == "hello"
    browser.wait("document.querySelector('#consumers').textContent == '2'")
    browser.wait("document.querySelector('#audit .verdict').textContent.startsWith('✓')")
    assert client in browser.text("#audit tbody th")
    browser.wait("document.querySelectorAll('.plot svg .series path').length >= 6")
    # Each replica has one colour and one letter.
    signs = browser.js(
        "[...document.querySelectorAll('#stream .by')].map(e => e.textContent +"
        " e.firstChild.dataset.colour)"
    )
    assert set(signs) == {"Aworker-10", "Bworker-21"}


def test_a_killed_replica_disappears_and_returns(pipeline: Pipeline, browser: Browser) -> None:
    pipeline.worker("worker-1")
    second = pipeline.worker("worker-2")
    browser.open(page(pipeline))
    send_for_ever(pipeline)
    connected = "document.querySelectorAll('#turns .lanes li:not(.gone)').length == arguments[0]"
    wait_rows(browser, 4)
    browser.wait(connected, 2)
    second.kill()
    browser.wait("document.querySelector('#turns .lanes .gone')?.dataset.replica == 'worker-2'")
    browser.wait(f"{TURNS}.slice(-8).every(name => name == 'worker-1')")
    browser.wait("document.querySelector('#consumers').textContent == '1'")
    pipeline.worker("worker-2")
    browser.wait(connected, 2)
    browser.wait(f"{TURNS}.at(-1) == 'worker-2'")


def test_outages_are_shown_and_recovered_from(pipeline: Pipeline, browser: Browser) -> None:
    pipeline.worker("worker-1")
    address = page(pipeline)
    browser.open(address)
    send_for_ever(pipeline)
    wait_rows(browser, 5)
    for server, name in (
        (pipeline.servers.rabbitmq, "broker"),
        (pipeline.servers.database, "database"),
    ):
        problem = f"document.querySelector('[data-problem={name}]')"
        browser.wait(f"!{problem}")
        server.stop()
        browser.wait(f"Boolean({problem})")
        assert "since" in browser.js(f"{problem}.textContent")
        away = {"broker": "RabbitMQ away", "database": "database away"}[name]
        browser.wait("document.title == arguments[0]", f"✕ {away} · Turnwise")
        browser.wait(
            "[...document.querySelectorAll('.plot .wash')].some(e =>"
            " e.dataset.name == arguments[0])",
            away,
        )
        assert browser.js("document.querySelectorAll(arguments[0]).length", ROWS) >= 5
        browser.open(address) if name == "database" else None
        wait_rows(browser, 5)
        server.start()
        browser.wait(f"!{problem}")
        browser.wait("document.title == 'Turnwise'")
        wait_more(browser)
    browser.wait("document.querySelector('#consumers').textContent == '1'")
    outages = {
        outage["server"]
        for outage in browser.driver.execute_async_script(
            "fetch('/api/state').then(r => r.json()).then(s => arguments[0](s.outages))"
        )
        if outage["until"]
    }
    assert {"broker", "database"} <= outages


HOSTILE = [
    "<img src=x onerror='window.hostile = 1'><script>window.hostile = 2</script>",
    '"><svg onload=window.hostile=3>{{7*7}}</td></table><style>*{display:none}</style>',
    "x" * MAX_MESSAGE_BYTES,
    "\u202egnp.exe \u2066abc\u2069 \u200f\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467\U0001f3f3\ufe0f\u200d\U0001f308" * 50
    + "Z\u0338\u0321" * 20,
    "\x00\x1b[31m\x7f\u0085\u2028line\r\nbreak\ttab",
    "javascript:window.hostile=4",
    "",
    "\u200b \u2800",
]


@pytest.mark.parametrize("width", [1280, 390])
def test_hostile_messages_do_nothing(pipeline: Pipeline, browser: Browser, width: int) -> None:
    pipeline.worker("worker-1")
    for counter, message in enumerate(HOSTILE, 1):
        pipeline.publish(Request("evil", counter, message, datetime.now(UTC)).encode())
    browser.open(page(pipeline), width=width)
    wait_rows(browser, len(HOSTILE))
    shown = browser.texts(f"{ROWS} .message > bdi")[::-1]
    assert shown[0] == HOSTILE[0]
    assert shown[1] == HOSTILE[1]
    assert shown[2] == HOSTILE[2][:300]
    assert shown[3].startswith("[U+202E]gnp.exe [U+2066]abc[U+2069] \u200f")
    assert shown[5] == "␀␛[31m␡[U+0085][U+2028]line␍␊break␉tab"
    assert shown[7] == "(empty)"
    assert shown[8] == "[U+200B][U+0020][U+2800]"
    assert browser.js("window.hostile") is None
    assert browser.js("document.querySelectorAll('script').length") == 1
    assert browser.js("document.querySelectorAll('main img, td svg, main style').length") == 0
    # Nothing overflows the page.
    assert browser.js("document.documentElement.scrollWidth - innerWidth") <= 0
    # Its own view shows it in full, also as text.
    browser.js(
        "(document.querySelector('#client').value = 'evil',"
        " document.querySelector('#counter').value = '3')"
    )
    browser.driver.find_element("css selector", "#follow").click()
    browser.wait("document.querySelector('#followed bdi').textContent.length == 16384")
    # All of it: the text scrolls instead of being cut off after two lines.
    assert browser.js(
        "(e => e.scrollHeight > 5 * e.clientHeight && e.clientHeight > 100)"
        "(document.querySelector('#followed .message'))"
    )
    assert browser.js("document.documentElement.scrollWidth - innerWidth") <= 0


def test_the_stream_is_paused_filtered_and_followed_by_keyboard(
    pipeline: Pipeline, browser: Browser
) -> None:
    pipeline.worker("worker-1")
    pipeline.publish(Request("rare", 7, "once", datetime.now(UTC)).encode())
    browser.open(page(pipeline))
    send_for_ever(pipeline)
    wait_rows(browser, 3)

    def focused() -> str:
        return str(browser.js("document.activeElement.id"))

    def press(*keys: str) -> None:
        browser.driver.switch_to.active_element.send_keys(*keys)

    for _ in range(20):
        browser.driver.find_element("css selector", "body").send_keys(Keys.TAB) if (
            focused() == ""
        ) else press(Keys.TAB)
        if focused() == "pause":
            break
    assert focused() == "pause"
    press(Keys.ENTER)
    assert browser.js("document.querySelector('#pause').getAttribute('aria-pressed')") == "true"
    first = browser.js("document.querySelector(arguments[0]).dataset.key", ROWS)
    browser.wait("/paused; [1-9]/.test(document.querySelector('#stream .summary').textContent)")
    assert browser.js("document.querySelector(arguments[0]).dataset.key", ROWS) == first
    press(Keys.ENTER)
    wait_more(browser)
    press(Keys.TAB)
    assert focused() == "client"
    press("rare")
    browser.wait("document.querySelectorAll(arguments[0]).length == 1", ROWS)
    assert browser.text(f"{ROWS} .message") == "once"
    press(Keys.TAB)
    press(Keys.TAB)
    assert focused() == "counter"
    press("8", Keys.ENTER)
    said = "document.querySelector('#followed .state').textContent"
    browser.wait(f"{said}.includes('Not served yet')")
    browser.js("(document.querySelector('#client').value = 'raer')")
    press(Keys.ENTER)
    browser.wait(f"{said}.includes('No request of this client was ever served')")
    browser.js("(document.querySelector('#client').value = 'rare')")
    press(Keys.ENTER)
    pipeline.publish(Request("rare", 8, "twice", datetime.now(UTC)).encode())
    browser.wait("document.querySelector('#followed bdi').textContent == 'twice'")
    assert "Served by worker-1" in browser.text("#followed .state")


def test_a_repeat_is_marked(pipeline: Pipeline, browser: Browser) -> None:
    pipeline.worker("worker-1")
    body = Request("again", 1, "twice", datetime.now(UTC)).encode()
    for _ in range(2):
        pipeline.publish(body)
    browser.open(page(pipeline))
    browser.wait("document.querySelector('.repeat')?.textContent.includes('delivered 2')")
    assert browser.js("document.querySelectorAll(arguments[0]).length", ROWS) == 1


def test_a_user_logs_in_with_the_token(pipeline: Pipeline, browser: Browser) -> None:
    pipeline.worker("worker-1")
    pipeline.send("hello")
    browser.open(page(pipeline, DASHBOARD_TOKEN="a secret of sixteen"))
    browser.driver.find_element("css selector", "#token").send_keys("a secret of sixteen\n")
    wait_rows(browser, 1)
    assert browser.js("document.cookie") == ""  # no script can read it
    browser.driver.find_element("css selector", "header button").click()
    browser.wait("Boolean(document.querySelector('#token'))")


def test_without_the_management_api_the_rest_is_shown(pipeline: Pipeline, browser: Browser) -> None:
    pipeline.worker("worker-1")
    pipeline.send("hello")
    browser.open(page(pipeline, MANAGEMENT_URL=""))
    wait_rows(browser, 1)
    browser.wait("document.querySelector('[data-server=broker] .word').textContent == 'not set up'")
    assert browser.text("#ready") == "\u2013"
    browser.wait("document.querySelectorAll('.problem[data-problem]').length == 0")
