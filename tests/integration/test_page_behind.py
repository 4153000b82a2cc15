"""The page behind a TLS proxy, and behind a load balancer without affinity."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
import trustme

from tests.browser import Browser
from tests.integration.test_tls import TlsEnd
from tests.page import OPERATOR, log_in, operators_page, page
from tests.pipeline import Pipeline

ROWS = "document.querySelectorAll('#stream tbody tr[data-key]').length"


@pytest.fixture
def tls_page(pipeline: Pipeline) -> Iterator[str]:
    """Yield the address of a page behind a TLS proxy that passes bytes on and adds nothing."""
    plain = page(pipeline, DASHBOARD_TOKEN=OPERATOR)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        end = TlsEnd(listening, context, urlsplit(plain).port or 0)
        thread = threading.Thread(target=lambda: asyncio.run(end.serve()))
        thread.start()
        yield f"https://localhost:{listening.getsockname()[1]}/"
        end.stop()
        thread.join()


def test_behind_tls_the_cookie_is_never_sent_over_plain_http(
    pipeline: Pipeline, browser: Browser, tls_page: str
) -> None:
    pipeline.run("worker", "migrate")
    browser.open(tls_page)
    browser.driver.find_element("css selector", "#token").send_keys(f"{OPERATOR}\n")
    browser.wait("Boolean(document.querySelector('#serving'))")
    [cookie] = browser.driver.get_cookies()
    assert cookie["secure"]
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"


class _Balancer(BaseHTTPRequestHandler):
    """Sends each request to the next server, whatever its connection."""

    protocol_version = "HTTP/1.1"
    targets: Iterator[int]

    def _pass_on(self) -> None:
        size = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(size)
        there = http.client.HTTPConnection("127.0.0.1", next(self.targets), timeout=30)
        with contextlib.closing(there):
            there.request(self.command, self.path, body or None, dict(self.headers))
            answer = there.getresponse()
            told = answer.read()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"content-length", "connection", "transfer-encoding"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    do_GET = do_POST = _pass_on  # noqa: N815 - as http.server names them

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def balanced_page(pipeline: Pipeline) -> Iterator[str]:
    """Yield the address of two pages behind a round-robin load balancer."""
    ports = [urlsplit(operators_page(pipeline)).port for _ in range(2)]
    targets = itertools.cycle(ports)
    handler = type("Balancer", (_Balancer,), {"targets": targets})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as balancer:
        thread = threading.Thread(target=balancer.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{balancer.server_port}/"
        balancer.shutdown()
        thread.join()


def test_two_pages_behind_a_load_balancer_look_like_one(
    pipeline: Pipeline, browser: Browser, balanced_page: str
) -> None:
    for name in ("worker-1", "worker-2", "worker-3"):
        pipeline.worker(name)
    log_in(browser, balanced_page)
    pipeline.start("producer", "producer", "send", "hello", "--quantum", "100ms")
    browser.wait(f"{ROWS} >= 40")
    counters = browser.js(
        "[...document.querySelectorAll('#stream tbody tr[data-key]')]"
        ".map(e => Number(e.dataset.key.split('/')[1]))"
    )
    # Each request is shown once, whichever of the two pages reported it.
    assert sorted(counters) == list(range(min(counters), max(counters) + 1))
    assert browser.js("document.querySelectorAll('#stream tr.gap').length") == 0
    signs = browser.js(
        "[...document.querySelectorAll('#stream .by')].map(e => e.textContent +"
        " e.firstChild.dataset.colour)"
    )
    assert set(signs) == {"Aworker-10", "Bworker-21", "Cworker-32"}
    assert browser.js("document.querySelectorAll('.problem[data-problem]').length") == 0
    # Both share the session and accept its forms.
    browser.driver.find_element("css selector", "header button").click()
    browser.wait("Boolean(document.querySelector('#token'))")


def test_a_stalled_database_does_not_leave_the_audit_red(
    pipeline: Pipeline, browser: Browser
) -> None:
    """The time of a stalled read must not count as the cost of an audit."""
    pipeline.worker("worker-1")
    proxy, url = pipeline.database_proxy()
    pipeline.send("hello")
    browser.open(page(pipeline, MYSQL_URL=url))
    problem = "!document.querySelector('#audit > .problem').hidden"
    browser.wait("document.querySelector('#audit .verdict').textContent.startsWith('✓')")
    pipeline.start("producer", "producer", "send", "hello", "--quantum", "200ms")
    proxy.hold(proxy.up, proxy.down)
    browser.wait(problem)
    proxy.release(proxy.up, proxy.down)
    browser.wait(f"!({problem})")
    # It stays that way until the next audit, however late that is due.
    red = browser.driver.execute_async_script(
        "const done = arguments[0]; const begun = Date.now(); let red = 0;"
        f"const look = () => {{ red += {problem}; "
        "Date.now() - begun > 15000 ? done(red) : setTimeout(look, 100); }; look();"
    )
    assert red == 0
