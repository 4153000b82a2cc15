"""Accessibility of the page: axe-core in each mode, keyboard only, large text, reduced motion."""

from __future__ import annotations

from importlib import resources

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser import Browser
from tests.page import click, log_in, operators_page
from tests.pipeline import Pipeline
from tests.rows import insert_failures

MODES = {
    "light": (1280, []),
    "dark": (1280, [{"name": "prefers-color-scheme", "value": "dark"}]),
    "phone": (390, [{"name": "prefers-reduced-motion", "value": "reduce"}]),
    # The viewport of a 1280-pixel window at 200 % zoom.
    "zoomed": (640, [{"name": "prefers-color-scheme", "value": "dark"}]),
}
AXE = """
    const done = arguments[0];
    const told = ({id, nodes}) => [id, ...nodes.map((node) => node.html)].join(" ");
    axe.run(document, {resultTypes: ["violations"]}).then((f) => done(f.violations.map(told)));
"""


# Cells of the same row that overlap noticeably.
OVERLAPS = """[...document.querySelectorAll("tr")].flatMap((row) => {
    const boxes = [...row.children].map((cell) => [cell, cell.getBoundingClientRect()]);
    return boxes.flatMap(([one, a], index) => boxes.slice(index + 1)
        .filter(([, b]) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
            && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1)
        .map(([other]) => `${one.textContent.trim()} | ${other.textContent.trim()}`));
})"""


def violations(browser: Browser) -> list[str]:
    """Return the violations that axe-core finds on the current page."""
    script = resources.files("selenium_axe_python") / "axe-core" / "axe.min.js"
    browser.driver.execute_script(script.read_text())
    return list(browser.driver.execute_async_script(AXE))


@pytest.fixture
def address(pipeline: Pipeline) -> str:
    """Return the address of a page with content in each view."""
    for name in ("worker-1", "worker-2"):
        pipeline.worker(name)
    pipeline.send_counted(30)
    insert_failures(pipeline, "till", 60)
    pipeline.publish(b"no request", message_id="till/1")
    pipeline.wait_served(30)
    pipeline.wait(lambda: pipeline.ready("requests.dead") == 1, "a dead letter")
    return operators_page(pipeline)


@pytest.mark.parametrize("mode", MODES)
def test_axe_finds_nothing_in_any_view(
    pipeline: Pipeline, browser: Browser, address: str, mode: str
) -> None:
    log_in(browser, address)
    client = pipeline.client()
    found = {}
    width, media = MODES[mode]
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    for path in (
        "",
        "requests",
        f"requests?client={client}",
        "requests?text=x",
        f"requests/{client}/1",
        "requests/till/1",
        "failures",
        "dead",
        "actions",
        "login",
        "actions/99",
    ):
        browser.open(f"{address}{path}", width=width)
        if not path:
            browser.wait("document.querySelectorAll('#stream tbody tr').length == 30")
            browser.wait("document.querySelectorAll('#audit tbody tr').length > 0")
        if wrong := violations(browser):
            found[path] = wrong
        # Nothing overflows to the right, and nothing overlaps.
        assert browser.js(OVERLAPS) == [], path
        assert browser.js("document.documentElement.scrollWidth - innerWidth") <= 0, path
    browser.driver.get_log("browser")  # the browser's messages about the 400 and 404 pages
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert found == {}


def test_everything_can_be_done_by_keyboard(browser: Browser, address: str) -> None:
    log_in(browser, address)
    browser.open(f"{address}failures?client=till")

    def active() -> str:
        return str(
            browser.js(
                "(e => e.getAttribute('aria-label') ?? e.textContent.trim())"
                "(document.activeElement)"
            )
        )

    def tab_to(text: str) -> None:
        for _ in range(130):
            browser.driver.switch_to.active_element.send_keys(Keys.TAB)
            if active() == text:
                # The focus is visible to keyboard users.
                assert (
                    browser.js("getComputedStyle(document.activeElement).outlineStyle") == "solid"
                )
                return
        pytest.fail(f"{text!r} cannot be reached")

    browser.driver.find_element("css selector", "body").send_keys(Keys.TAB)
    assert active() == "Skip to the content"
    tab_to("Choose till 59")
    browser.driver.switch_to.active_element.send_keys(Keys.SPACE)
    tab_to("Drop chosen …")
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    browser.wait("document.querySelector('h1').textContent == 'Drop 1 failed request?'")
    browser.driver.find_element("css selector", "body").send_keys(Keys.TAB)
    tab_to("Drop 1 failed request")
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    browser.wait("document.querySelector('#progress .state')?.textContent.trim() == '✓ 1 done'")


def test_screen_readers_get_what_the_charts_show(browser: Browser, address: str) -> None:
    browser.open(address)
    browser.wait("document.querySelectorAll('#stream tbody tr').length == 30")
    browser.wait("document.body.textContent.includes('consumers')")
    tree = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    names = [
        str(node["name"]["value"]) for node in tree if node.get("name") and not node.get("ignored")
    ]
    spoken = " ".join(names)
    for part in (
        "The last hundred turns",
        "Oldest first: ",
        "Served per second",
        "in the last ten seconds",
        "consumers",
        "The audit",
        "30 served, each once",
    ):
        assert part in spoken
    assert "NOW SERVING" in spoken or "SERVED LAST" in spoken
    roles = {node["role"]["value"] for node in tree if node.get("role")}
    assert {"main", "navigation", "table", "columnheader", "row", "status"} <= roles


def test_reduced_motion_is_respected(browser: Browser, address: str) -> None:
    motion = "getComputedStyle(document.querySelector('#stream tbody tr')).animationName"
    for value, name in (("reduce", "none"), ("no-preference", "fresh")):
        media = [{"name": "prefers-reduced-motion", "value": value}]
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
        browser.open(address)
        browser.wait("document.querySelectorAll('#stream tbody tr').length == 30")
        assert browser.js(motion) == name
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_the_logout_is_a_button(browser: Browser, address: str) -> None:
    log_in(browser, address)
    click(browser, "header button")
    browser.wait("Boolean(document.querySelector('#token'))")
    browser.open(f"{address}failures")
    assert browser.texts("main form[method=post] button") == []
