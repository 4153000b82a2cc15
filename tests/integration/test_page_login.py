"""The login of the page over HTTP: tokens, sessions, and visitors with neither. No server is up."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dashboard.throttle import FREE
from lab.harness import commands
from lab.harness.process import Process, free_port
from tests.page import OPERATOR, Visitor
from tests.pipeline import run
from turnwise.errors import ExitCode

TOKEN = "a-token-that-is-none"
NOWHERE = "mysql://nobody:hushhush@127.0.0.1:1/nothing"


class Page(Visitor):
    """A page in its own process."""

    def __init__(self, folder: Path, host: str = "127.0.0.1", **environment: str) -> None:
        super().__init__(host, free_port())
        self.process: Process = commands.start(
            f"dashboard-{self.port}",
            folder,
            ["dashboard", "--host", host, "--port", str(self.port)],
            {"MYSQL_URL": NOWHERE, "LOG_FORMAT": "json", **environment},
        )
        commands.wait_event(self.process, "dashboard.serving", 1)

    def events(self, name: str) -> list[dict[str, Any]]:
        return [each for each in commands.events(self.process) if each["event"] == name]


Start = Callable[..., Page]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def started(host: str = "127.0.0.1", **environment: str) -> Page:
            page = Page(tmp_path, host, **environment)
            stack.callback(page.process.kill)
            return page

        yield started


def test_nothing_is_shown_without_the_token(start: Start) -> None:
    page = start(DASHBOARD_TOKEN=TOKEN)
    for path in ("/api/state", "/api/requests/client/1"):
        assert page.ask(path)[0] == 401
        assert page.ask(path, Cookie=f"turnwise={TOKEN}")[0] == 401
        assert page.ask(path, Cookie="turnwise=é.ü".encode().decode("latin-1"))[0] == 401
    for path in ("/", "/requests?client=a", "/failures", "/actions"):
        status, _, headers = page.ask(path)
        assert status == 303
        assert headers["Location"].startswith("/login?then=")
    assert page.ask("/nonesuch")[0] == 303
    assert page.ask("/healthz")[0] == 200
    assert page.ask("/readyz")[0] in {200, 503}
    assert page.ask("/static/page.js")[0] == 200
    for wrong in (f"{TOKEN}x", "é"):
        assert page.ask("/api/state", Authorization=f"Bearer {wrong}")[0] == 401
    assert page.ask("/api/state", Authorization=f"Bearer {TOKEN}")[0] == 200
    assert page.ask("/login", {"token": "wrong"})[0] == 403
    refused = page.events("login.refused")
    assert [each["by"] for each in refused] == ["header", "header", "form"]
    assert {each["address"] for each in refused} == {"127.0.0.1"}
    cookie = page.log_in(TOKEN)
    assert TOKEN not in cookie
    assert {"HttpOnly", "SameSite=Strict", "Max-Age=43200"} <= set(cookie.split("; "))
    assert page.ask("/api/state", Cookie=cookie.split(";")[0])[0] == 200
    assert TOKEN not in page.process.log.read_text()


def test_the_login_redirects_only_to_a_view_of_the_page(start: Start) -> None:
    page = start(DASHBOARD_TOKEN=TOKEN)
    for then, leads in (
        ("/requests?client=a&text=b", "/requests?client=a&text=b"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("/\\evil.example/", "/"),
    ):
        assert page.ask("/login", {"token": TOKEN, "then": then})[2]["Location"] == leads


@pytest.mark.parametrize("way", ["form", "header"])
def test_guessing_is_slowed_down(start: Start, way: str) -> None:
    page = start(DASHBOARD_TOKEN=TOKEN)

    def guess(token: str) -> tuple[int, http.client.HTTPMessage]:
        if way == "form":
            status, _, headers = page.ask("/login", {"token": token})
        else:
            status, _, headers = page.ask("/api/state", Authorization=f"Bearer {token}")
        return status, headers

    cookie = page.log_in(TOKEN).split(";")[0]
    answers = [guess("wrong")[0] for _ in range(50)]
    assert answers[:FREE] == [403 if way == "form" else 401] * FREE
    assert answers.count(429) >= 40
    assert len(page.events("login.refused")) <= 10
    # The right token must wait as well, or guessing would not be slower. Open sessions stay open.
    status, headers = guess(TOKEN)
    assert status == 429
    assert int(headers["Retry-After"]) >= 1
    assert page.ask("/api/state", Cookie=cookie)[0] == 200


def test_behind_a_proxy_each_client_is_slowed_down_separately(start: Start) -> None:
    page = start(DASHBOARD_TOKEN=TOKEN, DASHBOARD_TRUSTED_PROXY="127.0.0.1")
    for _ in range(20):
        page.ask("/login", {"token": "wrong"}, X_Forwarded_For="192.0.2.7")
    assert page.ask("/login", {"token": TOKEN}, X_Forwarded_For="192.0.2.7")[0] == 429
    cookie = page.log_in(TOKEN, X_Forwarded_For="192.0.2.8", X_Forwarded_Proto="https")
    assert "Secure" in cookie.split("; ")
    assert page.events("login.refused")[0]["address"] == "192.0.2.7"


def test_a_client_cannot_pose_as_a_proxy(start: Start) -> None:
    page = start(DASHBOARD_TOKEN=TOKEN)
    for number in range(20):
        page.ask("/login", {"token": "wrong"}, X_Forwarded_For=f"192.0.2.{number}")
    assert page.ask("/login", {"token": TOKEN}, X_Forwarded_For="192.0.2.99")[0] == 429


def test_a_logout_ends_the_session_even_for_a_copied_cookie(start: Start) -> None:
    page = start(DASHBOARD_TOKEN=TOKEN)
    cookie = page.log_in(TOKEN).split(";")[0]
    body = page.ask("/", Cookie=cookie)[1]
    csrf = body.split('name="csrf" value="')[1].split('"')[0]
    assert page.ask("/logout", {"csrf": "0" * 64}, Cookie=cookie)[0] == 403
    assert page.ask("/logout", {}, Cookie=cookie)[0] == 403
    assert page.ask("/logout", {"csrf": csrf}, Cookie=cookie, Sec_Fetch_Site="cross-site")[0] == 403
    assert page.ask("/api/state", Cookie=cookie)[0] == 200
    assert page.ask("/logout", {"csrf": csrf}, Cookie=cookie)[0] == 303
    assert page.ask("/api/state", Cookie=cookie)[0] == 401


def test_another_sites_page_cannot_log_a_visitor_in(start: Start) -> None:
    page = start(DASHBOARD_TOKEN=TOKEN)
    assert page.ask("/login", {"token": TOKEN}, Sec_Fetch_Site="cross-site")[0] == 403


def test_sessions_with_their_own_key_outlive_a_change_of_the_token(start: Start) -> None:
    key = "a key for the sessions of this page"
    first = start(DASHBOARD_TOKEN=TOKEN, DASHBOARD_SESSION_KEY=key)
    cookie = first.log_in(TOKEN).split(";")[0]
    changed = start(DASHBOARD_TOKEN=f"{TOKEN}-2", DASHBOARD_SESSION_KEY=key)
    assert changed.ask("/api/state", Cookie=cookie)[0] == 200
    assert changed.ask("/login", {"token": TOKEN})[0] == 403
    # Without a key it is derived from the tokens: two pages agree, and a new token ends sessions.
    first = start(DASHBOARD_TOKEN=TOKEN)
    cookie = first.log_in(TOKEN).split(";")[0]
    assert start(DASHBOARD_TOKEN=TOKEN).ask("/api/state", Cookie=cookie)[0] == 200
    assert start(DASHBOARD_TOKEN=f"{TOKEN}-2").ask("/api/state", Cookie=cookie)[0] == 401


@pytest.mark.parametrize("path", ["/login", "/failures", "/api/state"])
def test_a_large_body_is_refused_before_it_is_stored(start: Start, path: str) -> None:
    page = start(DASHBOARD_TOKEN=TOKEN)
    resident = _resident(page.process)
    for head in (b"Content-Length: 1000000000", b"Transfer-Encoding: chunked"):
        with socket.create_connection((page.host, page.port), timeout=30) as client:
            client.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n" % (path.encode(), head))
            with contextlib.suppress(OSError):
                for _ in range(800):
                    client.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")
            with contextlib.suppress(ConnectionError):
                assert client.recv(100).startswith(b"HTTP/1.1 413")
    # A temporary file has already been unlinked.
    files = Path(f"/proc/{page.process.pid}/fd").iterdir()
    assert not [each for each in files if "deleted" in str(each.readlink())]
    assert _resident(page.process) < resident + 10_000_000
    assert "Traceback" not in page.process.log.read_text()
    assert page.ask("/healthz")[0] == 200


def _resident(process: Process) -> int:
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.parametrize(
    ("variable", "secret"),
    [
        ("DASHBOARD_TOKEN", "a"),
        ("DASHBOARD_TOKEN", " "),
        ("DASHBOARD_TOKEN", "fifteen letters"),
        ("DASHBOARD_TOKEN", "  fifteen letters  "),
        ("DASHBOARD_TOKEN", "a-token-with-a\ncontrol-character"),
        ("DASHBOARD_OPERATOR_TOKEN", "operator"),
        ("DASHBOARD_SESSION_KEY", "key"),
    ],
)
def test_a_guessable_secret_is_refused(variable: str, secret: str) -> None:
    result = run("dashboard", "--host", "192.0.2.1", MYSQL_URL=NOWHERE, **{variable: secret})
    assert result.returncode == ExitCode.USAGE
    assert "at least 16 printable characters" in result.stderr
    assert f"'{secret}'" not in result.stderr


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"DASHBOARD_OPERATOR_TOKEN": OPERATOR}, "belong together"),
        ({"DASHBOARD_OPERATOR_MYSQL_URL": NOWHERE}, "belong together"),
        (
            {
                "DASHBOARD_TOKEN": OPERATOR,
                "DASHBOARD_OPERATOR_TOKEN": OPERATOR,
                "DASHBOARD_OPERATOR_MYSQL_URL": NOWHERE,
            },
            "must differ",
        ),
        ({"DASHBOARD_TRUSTED_PROXY": "ingress"}, "neither an IP address"),
    ],
)
def test_conflicting_options_are_refused(environment: dict[str, str], said: str) -> None:
    result = run("dashboard", MYSQL_URL=NOWHERE, **environment)
    assert result.returncode == ExitCode.USAGE
    assert said in result.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_the_printed_address_is_served(start: Start, host: str) -> None:
    page = start(host)
    [serving] = page.events("dashboard.serving")
    name = serving["url"].removeprefix("http://").rstrip("/")
    assert page.ask("/", Host=name)[0] == 200
    # Under another host name, another site's page could read it (DNS rebinding).
    for evil in ("evil.example", f"evil.example:{page.port}", "[::2]", "", "a@b"):
        assert page.ask("/api/state", Host=evil)[0] == 400
    assert page.ask("/api/state", Host=f"localhost:{page.port}")[0] == 200


def test_slow_connections_do_not_lock_others_out(start: Start) -> None:
    page = start()
    with contextlib.ExitStack() as stack:
        for _ in range(900):
            slow = stack.enter_context(socket.create_connection((page.host, page.port), timeout=5))
            with contextlib.suppress(OSError):
                slow.sendall(b"GET / HTTP/1.1\r\nX: ")
        for _ in range(10):
            assert page.ask("/healthz")[0] == 200
            assert json.loads(page.ask("/api/state")[1])["sequence"]


def test_actions_require_the_operators_role(start: Start) -> None:
    page = start(
        DASHBOARD_TOKEN=TOKEN,
        DASHBOARD_OPERATOR_TOKEN=OPERATOR,
        DASHBOARD_OPERATOR_MYSQL_URL=NOWHERE,
    )
    form = {"do": "retry", "id": "client/1"}
    viewer = page.log_in(TOKEN).split(";")[0]
    assert page.ask("/failures", form, Cookie=viewer)[0] == 403
    assert page.ask("/failures", form, Authorization=f"Bearer {TOKEN}")[0] == 403
    operator = page.log_in(OPERATOR).split(";")[0]
    assert page.ask("/failures", form, Cookie=operator)[0] == 403  # without the form's token
    # With everything in place the request reaches the database, which is absent.
    status, body, _ = page.ask("/failures", form, Authorization=f"Bearer {OPERATOR}")
    assert status == 503
    assert "cannot reach database" in body


def test_a_page_without_an_operators_token_refuses_actions(start: Start) -> None:
    page = start()
    status, body, _ = page.ask("/failures", {"do": "drop", "id": "client/1", "sure": "yes"})
    assert status == 403
    assert "started without --operator-token" in body
