"""The page when RabbitMQ's cluster is incomplete."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.browser import Browser
from tests.page import page
from tests.pipeline import Pipeline

LOST = {"name": "rabbit@lost", "running": False, "partitions": []}


@pytest.fixture
def management(pipeline: Pipeline) -> Iterator[tuple[str, list[object]]]:
    """Yield the URL of a proxy of the management API, and the list of nodes that it adds."""
    more: list[object] = []
    target = pipeline.servers.rabbitmq.management_url.rstrip("/")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            request = urllib.request.Request(  # noqa: S310 - http, on loopback
                f"{target}{self.path}", headers={"Authorization": self.headers["Authorization"]}
            )
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                body = answer.read()
            if self.path.startswith("/api/nodes"):
                body = json.dumps([*json.loads(body), *more]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        login = pipeline.servers.rabbitmq.management_login(pipeline.name)
        port = pipeline.servers.rabbitmq.management_port
        yield login.replace(f":{port}/", f":{server.server_port}/"), more
        server.shutdown()


def test_a_node_that_is_down_is_reported(
    pipeline: Pipeline, browser: Browser, management: tuple[str, list[object]]
) -> None:
    url, more = management
    pipeline.worker("worker-1")
    browser.open(page(pipeline, MANAGEMENT_URL=url))
    browser.wait("document.querySelector('[data-server=broker]').className == 'seen'")
    assert browser.text("[data-problem=cluster]") == ""
    more.append(LOST)
    browser.wait("document.querySelector('[data-problem=cluster]') !== null")
    assert "node rabbit@lost is down" in browser.text("[data-problem=cluster]")
    assert "RabbitMQ not whole" in str(browser.driver.title)
    more.clear()
    browser.wait("document.querySelector('[data-problem=cluster]') === null")
    assert browser.errors() == []
