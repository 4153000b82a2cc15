"""The page as the tests start it, and who logs in there."""

from __future__ import annotations

from lab.process import free_port
from tests.browser import Browser
from tests.pipeline import Pipeline

OPERATOR = "an-operators-token-that-is-none"


def page(pipeline: Pipeline, **environment: str) -> str:
    """Start the page; return its address."""
    port = free_port()
    dashboard = pipeline.start(f"dashboard-{port}", "dashboard", "--port", str(port), **environment)
    pipeline.wait_event(dashboard, "dashboard.serving")
    return f"http://127.0.0.1:{port}/"


def operators_page(pipeline: Pipeline, **environment: str) -> str:
    """Start a page on which an operator can act; return its address."""
    return page(
        pipeline,
        **{
            "DASHBOARD_OPERATOR_TOKEN": OPERATOR,
            "DASHBOARD_OPERATOR_MYSQL_URL": pipeline.mysql_url,
            "DASHBOARD_OPERATOR_AMQP_URL": pipeline.amqp_url,
            **environment,
        },
    )


def log_in(browser: Browser, address: str, name: str = "Ada") -> None:
    """Log in as an operator."""
    browser.open(f"{address}login")
    browser.driver.find_element("css selector", "#name").send_keys(name)
    browser.driver.find_element("css selector", "#token").send_keys(f"{OPERATOR}\n")
    browser.wait("document.querySelector('header .who')?.textContent == arguments[0]", _who(name))


def click(browser: Browser, selector: str) -> None:
    """Click what a selector finds first."""
    browser.driver.find_element("css selector", selector).click()


def press(browser: Browser, text: str) -> None:
    """Press the button that says so, as soon as it is there."""
    say = (
        "[...document.querySelectorAll('button')].filter(e => e.textContent.trim() == arguments[0])"
    )
    browser.wait(f"{say}.length == 1", text)
    browser.js(f"{say}[0]", text).click()


def _who(name: str) -> str:
    return f"operator {name}"
