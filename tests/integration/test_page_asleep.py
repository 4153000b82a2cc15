"""A tab that was frozen for an hour, as browsers do with background tabs."""

from __future__ import annotations

from tests.browser import Browser
from tests.page import page
from tests.pipeline import Pipeline

# Until wake(), all data that the page receives is dated an hour back, and so is its clock; so it
# wakes with what it knew an hour ago. Its next request is not answered before answer().
AN_HOUR_AGO = """
    let shift = 3600;
    let gate = Promise.resolve();
    const [ask, now] = [window.fetch, Date.now];
    const older = (_key, value) =>
        typeof value === "number" && value > 1.6e9 && value < 2.4e9 ? value - shift : value;
    Date.now = () => now() - shift * 1000;
    window.fetch = async (...asked) => {
        const begun = shift;
        const [answer] = await Promise.all([ask(...asked), gate]);
        if (begun !== shift) throw new TypeError("no connection lasts an hour");
        const told = JSON.parse(await answer.text(), older);
        return new Response(JSON.stringify(told), {status: answer.status});
    };
    window.wake = () => {
        shift = 0;
        gate = new Promise((resolve) => { window.answer = resolve; });
    };
"""
KEYS = "[...document.querySelectorAll('#stream tbody tr[data-key]')].map(e => e.dataset.key)"


def test_a_tab_that_slept_an_hour_shows_it_and_catches_up_at_once(
    pipeline: Pipeline, browser: Browser
) -> None:
    pipeline.worker("worker-1")
    client = pipeline.send_counted(30)
    pipeline.wait_served(30)
    driver = browser.driver
    added = driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": AN_HOUR_AGO})
    try:
        browser.open(page(pipeline))
        browser.wait(f"{KEYS}.length == 30")
        browser.wait("document.querySelector('#audit .verdict').textContent.startsWith('✓ 30')")
        driver.execute_cdp_cmd("Page.setWebLifecycleState", {"state": "frozen"})
        pipeline.send_counted(150)
        pipeline.wait_served(180)
        pipeline.publish(b"no request", message_id="till/1")
        pipeline.wait(lambda: pipeline.ready("requests.dead") == 1, "a dead letter")
        # Not through the driver, whose scripts would wait for the frozen tab.
        driver.execute_cdp_cmd("Runtime.evaluate", {"expression": "wake()"})
        driver.execute_cdp_cmd("Page.setWebLifecycleState", {"state": "active"})
        # Make this tab visible again, and the tabs that later tests open.
        driver.execute_cdp_cmd("Emulation.setFocusEmulationEnabled", {"enabled": True})
        # Until fresh data arrives, nothing old is shown as current.
        browser.wait("document.body.classList.contains('old')")
        assert browser.text("#serving h1") == "Served last"
        assert "1 h" in browser.text("#serving .when")
        browser.js("answer()")
        browser.wait(f"{KEYS}[0] == '{client}/180'")
        browser.wait("document.querySelector('#dead').textContent == '1'")
        browser.wait("document.querySelector('#audit .verdict').textContent.startsWith('✓ 180')")
        assert not browser.js("document.body.classList.contains('old')")
        assert "h" not in browser.text("#serving .when").partition(", ")[2]
        # Requests served meanwhile, beyond the latest hundred, are marked as omitted; nothing is
        # shown twice, and the turns are the latest.
        keys = browser.js(KEYS)
        assert keys == [f"{client}/{counter}" for counter in range(180, 130, -1)]
        assert browser.js("document.querySelectorAll('#turns .track span').length") == 100
        assert browser.js("document.querySelectorAll('.problem[data-problem]').length") == 0
        assert browser.js("document.title") == "Turnwise"
    finally:
        driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
