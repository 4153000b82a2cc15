"""Operators' actions on the page, with a real browser and real servers."""

from __future__ import annotations

import contextlib
import http.client
import urllib.parse
from pathlib import Path
from typing import Any

import pika

from tests.browser import Browser
from tests.page import OPERATOR, click, log_in, operators_page, press
from tests.pipeline import Pipeline
from tests.rows import insert_failures

HANDLER = """
import pathlib

def serve(request, db):
    if request.message != "fine" and pathlib.Path("{closed}").exists():
        raise RuntimeError("the shop is closed <b>now</b>")
"""

STATE = "document.querySelector('#progress .state')?.textContent.trim()"


def failing(pipeline: Pipeline, folder: Path) -> Path:
    """Start a worker whose handler fails while a file exists; return the file."""
    closed = folder / "closed"
    closed.touch()
    (folder / "shop_that_closes.py").write_text(HANDLER.format(closed=closed))
    options = ["--handler", "shop_that_closes:serve", "--max-attempts", "1"]
    pipeline.worker("worker-1", *options, PYTHONPATH=str(folder))
    return closed


def failures(pipeline: Pipeline, where: str = "TRUE") -> int:
    query = f"SELECT COUNT(*) FROM failures WHERE {where}"
    return int(pipeline.servers.database.query(query, name=pipeline.name)[0][0])


def test_failures_are_shown_retried_and_then_served(
    pipeline: Pipeline, browser: Browser, tmp_path: Path
) -> None:
    closed = failing(pipeline, tmp_path)
    client = pipeline.send("fine", "order 1", "order 2")
    pipeline.wait(lambda: failures(pipeline) == 2, "two failures")
    address = operators_page(pipeline)
    log_in(browser, address)
    browser.wait("document.querySelector('#given-up')?.textContent == '2'")
    browser.open(f"{address}failures?state=given-up")
    assert len(browser.texts("table tbody tr")) == 2
    assert "the shop is closed <b>now</b>" in browser.text("tbody .message")
    click(browser, "tbody .counter a")
    browser.wait("document.querySelector('h1').textContent.startsWith('Request 3 of')")
    assert "raise RuntimeError" in browser.text("pre")
    assert "order 2" in browser.text("pre.message")
    closed.unlink()
    press(browser, "Retry now")
    browser.wait(f"{STATE} == '✓ 1 done'")
    pipeline.wait_served(2)
    browser.open(f"{address}requests/{client}/3")
    assert "worker-1" in browser.text(".facts")
    # The action and its author are recorded.
    browser.open(f"{address}actions")
    assert "Ada" in browser.text("tbody tr")
    assert "retry failures" in browser.text("tbody tr")
    browser.open(f"{address}failures")
    assert len(browser.texts("table tbody tr")) == 1


def test_dropping_asks_first_and_is_recorded(pipeline: Pipeline, browser: Browser) -> None:
    pipeline.run("worker", "migrate")
    insert_failures(pipeline, "till", 3)
    address = operators_page(pipeline)
    log_in(browser, address)
    browser.open(f"{address}failures")
    click(browser, "#choose-all")
    press(browser, "Drop chosen …")
    browser.wait("document.querySelector('h1').textContent == 'Drop 3 failed requests?'")
    assert browser.texts(".chosen li") == ["till 3", "till 2", "till 1"]
    click(browser, "a.quiet")
    browser.wait("Boolean(document.querySelector('#choose-all'))")
    assert failures(pipeline, "reason = 'dropped'") == 0
    click(browser, "#choose-all")
    press(browser, "Drop chosen …")
    browser.wait("document.querySelector('h1').textContent == 'Drop 3 failed requests?'")
    press(browser, "Drop 3 failed requests")
    browser.wait(f"{STATE} == '✓ 3 done'")
    assert failures(pipeline, "reason = 'dropped' AND message = '' AND due_at IS NULL") == 3
    browser.open(f"{address}failures")
    assert "No failures" in browser.text(".nothing")


def test_thousands_are_retried_in_steps_with_an_account_of_minimal_rights(
    pipeline: Pipeline, browser: Browser
) -> None:
    pipeline.run("worker", "migrate")
    insert_failures(pipeline, "till", 3456)
    insert_failures(pipeline, "other", 10)
    name = pipeline.name.replace("-", "_")
    database = pipeline.servers.database
    database.query(f"CREATE USER '{name}'@'%' IDENTIFIED BY 'pw'")
    database.query(f"GRANT SELECT ON `{pipeline.name}`.* TO '{name}'@'%'")
    database.query(f"GRANT UPDATE ON `{pipeline.name}`.failures TO '{name}'@'%'")
    database.query(f"GRANT INSERT, UPDATE ON `{pipeline.name}`.page_actions TO '{name}'@'%'")
    try:
        url = f"mysql://{name}:pw@127.0.0.1:{database.port}/{pipeline.name}"
        address = operators_page(pipeline, DASHBOARD_OPERATOR_MYSQL_URL=url)
        log_in(browser, address)
        browser.open(f"{address}failures?client=till")
        assert browser.text(".head .summary") == "3,456 match"
        press(browser, "Retry all …")
        browser.wait("document.querySelector('h1').textContent == 'Retry 3,456 failed requests?'")
        press(browser, "Retry 3,456 failed requests")
        browser.wait(f"{STATE} == '✓ 3,456 done'")
        assert failures(pipeline, "due_at IS NOT NULL AND attempts = 0 AND deaths = 0") == 3456
        assert failures(pipeline, "client = 'other' AND due_at IS NULL") == 10
        # A program may do the same; its token is not a cookie, so no other site can use it.
        form = urllib.parse.urlencode({"do": "drop", "client": "other", "sure": "yes"})
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(address).netloc, timeout=30)
        login = {"Authorization": f"Bearer {OPERATOR}"}
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/failures?which=all", form, login | kind)
        assert connection.getresponse().headers["Location"] == "/actions/2"
        connection.close()
        pipeline.wait(lambda: failures(pipeline, "reason = 'dropped'") == 10, "they are dropped")
    finally:
        database.query(f"DROP USER '{name}'@'%'")


def test_dead_letters_are_shown_replayed_and_dropped(pipeline: Pipeline, browser: Browser) -> None:
    pipeline.worker("worker-1")
    for number in range(3):
        pipeline.publish(b"no request <script>" + bytes([number]), message_id=f"till/{number}")
    pipeline.publish(b"{}", message_id="other/1")
    pipeline.wait(lambda: pipeline.ready("requests.dead") == 4, "four dead letters")
    address = operators_page(pipeline)
    log_in(browser, address)
    browser.wait("document.querySelector('#dead')?.textContent == '4'")
    browser.open(f"{address}dead")
    assert len(browser.texts("tbody tr")) == 4
    assert "no request <script>\\x00" in browser.text("td pre")
    browser.open(f"{address}dead?client=till")
    assert len(browser.texts("tbody tr")) == 3
    press(browser, "Drop all …")
    browser.wait("document.querySelector('h1').textContent == 'Drop 3 dead letters?'")
    press(browser, "Drop 3 dead letters")
    browser.wait(f"{STATE} == '✓ 3 done'")
    assert pipeline.ready("requests.dead") == 1
    # A malformed message is dead-lettered again.
    browser.open(f"{address}dead")
    press(browser, "Replay all …")
    press(browser, "Replay 1 dead letter")
    browser.wait(f"{STATE} == '✓ 1 done'")
    pipeline.wait(lambda: pipeline.ready("requests.dead") == 1, "it is back")


def put_letter(
    pipeline: Pipeline, body: bytes, message_id: str, headers: dict[str, Any] | None = None
) -> None:
    """Publish straight to the dead letters, so that the broker adds no record of a death."""
    parameters = pika.URLParameters(pipeline.amqp_url)
    with contextlib.closing(pika.BlockingConnection(parameters)) as connection:
        connection.channel().basic_publish(
            "", "requests.dead", body, pika.BasicProperties(message_id=message_id, headers=headers)
        )


def test_dead_letters_are_paged_in_order_and_dropped_by_filter(
    pipeline: Pipeline, browser: Browser
) -> None:
    pipeline.worker("worker-1")
    for number in range(120):
        pipeline.publish(b"{}", message_id=f"{'till' if number % 2 else 'shop'}/{number + 1}")
    pipeline.wait(lambda: pipeline.ready("requests.dead") == 120, "all dead letters")
    address = operators_page(pipeline)
    log_in(browser, address)
    browser.open(f"{address}dead")
    assert browser.text(".head .summary") == "1 to 50, oldest first, of 120"
    assert browser.texts("tbody .counter")[:2] == ["shop/1", "till/2"]
    click(browser, "a.button")
    browser.wait("document.querySelector('.head .summary').textContent.startsWith('51 to 100')")
    browser.open(f"{address}dead?page=3")
    assert browser.texts("tbody .counter")[-1] == "till/120"
    # One of them in full; looking changes nothing, not even the order.
    click(browser, "tbody tr:nth-child(7) .counter a")
    browser.wait("document.querySelector('h1').textContent == 'Dead letter shop/107'")
    assert "rejected" in browser.text("main")
    assert "requests" in browser.text("main")
    browser.open(f"{address}dead?client=till&page=2")
    assert browser.texts("tbody .counter") == [f"till/{n}" for n in range(102, 121, 2)]
    press(browser, "Drop all …")
    browser.wait("document.querySelector('h1').textContent == 'Drop 60 dead letters?'")
    press(browser, "Drop 60 dead letters")
    browser.wait(f"{STATE} == '✓ 60 done'")
    browser.open(f"{address}dead")
    assert browser.texts("tbody .counter") == [f"shop/{n}" for n in range(1, 100, 2)]


def test_a_hostile_letter_is_shown_in_full_and_does_nothing(
    pipeline: Pipeline, browser: Browser
) -> None:
    evil = "<img src=x onerror='window.hostile = 1'>\u202e"
    pipeline.worker("worker-1")  # declares the queue
    headers = {evil: evil, "x-death": [1, {evil: evil, "queue": ["requests"], "count": 2**62}]}
    put_letter(pipeline, f"{evil}\n\0end".encode(), evil, headers)
    put_letter(pipeline, b"\xff\xfe", "a/1", {"x-death": "none", "n": {"deep": [evil] * 3}})
    put_letter(pipeline, b"x" * 100_000, "large/1")
    pipeline.wait(lambda: pipeline.ready("requests.dead") == 3, "three letters")
    address = operators_page(pipeline)
    log_in(browser, address)
    for number in (1, 2, 3):
        browser.open(f"{address}dead", width=390)
        assert browser.js("document.documentElement.scrollWidth - innerWidth") <= 0
        click(browser, f"tbody tr:nth-child({number}) .counter a")
        browser.wait("document.querySelector('h1').textContent.startsWith('Dead letter')")
        assert browser.js("document.documentElement.scrollWidth - innerWidth") <= 0
        if number == 1:
            shown = browser.text("main")
            assert "<img src=x onerror='window.hostile = 1'>[U+202E]" in shown
            assert "␀end" in shown
        assert "\u202e" not in browser.text("main")
        assert browser.js("window.hostile") is None
        assert browser.js("document.querySelectorAll('main img').length") == 0


def test_opening_a_login_link_logs_in(pipeline: Pipeline, browser: Browser) -> None:
    pipeline.run("worker", "migrate")
    address = operators_page(pipeline)
    browser.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    browser.open(f"{address}login?then=/actions#token={OPERATOR}")
    browser.wait("document.querySelector('header .who')?.textContent.trim() == 'operator'")
    assert browser.js("location.pathname") == "/actions"
    # The token is in no URL that was requested, and in none that the browser remembers.
    assert not [url for url in browser.asked() if OPERATOR in url]
    browser.driver.back()
    assert OPERATOR not in browser.driver.current_url
    # A link with a wrong token is refused visibly; the right one works in the same tab.
    browser.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    browser.open(f"{address}login#token=a-token-of-another-lab")
    browser.wait("document.querySelector('#wrong')?.textContent == 'Wrong token.'")
    browser.driver.get_log("browser")  # the browser's message about the 403
    browser.js(f"void (location.hash = 'token={OPERATOR}')")
    browser.wait("document.querySelector('header .who')?.textContent.trim() == 'operator'")


def test_viewers_see_no_buttons_and_their_actions_are_refused(
    pipeline: Pipeline, browser: Browser
) -> None:
    pipeline.run("worker", "migrate")
    insert_failures(pipeline, "till", 1)
    address = operators_page(pipeline)
    # For all sites: delete_all_cookies() covers only the open one.
    browser.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    browser.open(f"{address}failures")
    assert len(browser.texts("tbody tr")) == 1
    assert browser.texts("main form[method=post] button, main input[type=checkbox]") == []
