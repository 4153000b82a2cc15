"""The page as the tests start it, and who logs in there."""

from __future__ import annotations

import contextlib
import http.client
from urllib.parse import urlencode

from lab.harness.process import free_port
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
    """Press the button with this text as soon as it is there."""
    say = (
        "[...document.querySelectorAll('button')].filter(e => e.textContent.trim() == arguments[0])"
    )
    browser.wait(f"{say}.length == 1", text)
    browser.js(f"{say}[0]", text).click()


def _who(name: str) -> str:
    return f"operator {name}"


class Visitor:
    """Somebody who asks a page without a browser."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port

    def ask(
        self, path: str, form: dict[str, str] | bytes | None = None, **headers: str
    ) -> tuple[int, str, http.client.HTTPMessage]:
        """GET, or POST a form."""
        body = urlencode(form) if isinstance(form, dict) else form
        kind = {"Content-Type": "application/x-www-form-urlencoded"} if body is not None else {}
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        with contextlib.closing(connection):
            method = "GET" if body is None else "POST"
            connection.request(method, path, body, {**kind, **names})
            response = connection.getresponse()
            return response.status, response.read().decode(), response.headers

    def log_in(self, token: str, **headers: str) -> str:
        """Return the cookie, with what the browser shall do with it."""
        status, _, answer = self.ask("/login", {"token": token, "name": "Ada"}, **headers)
        assert status == 303
        return str(answer["Set-Cookie"])

    def csrf(self, cookie: str) -> str:
        """Return what each form of a session carries."""
        body = self.ask("/actions", Cookie=cookie)[1]
        return body.split('name="csrf" value="')[1].split('"')[0]

    def log_out(self, cookie: str) -> None:
        """End a session."""
        assert self.ask("/logout", {"csrf": self.csrf(cookie)}, Cookie=cookie)[0] == 303
