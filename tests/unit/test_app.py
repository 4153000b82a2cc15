"""The page's application in-process, attacked. Its servers are unavailable."""

from __future__ import annotations

import html
import re
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, unquote

import pytest
from flask import Flask
from flask.testing import FlaskClient

from dashboard.actions import Actions
from dashboard.app import Links, create_app
from dashboard.board import Board
from dashboard.logouts import Logouts
from dashboard.lookup import Lookups
from dashboard.sessions import Role
from dashboard.watch import Pace
from turnwise.database import parse_url
from turnwise.node import parse_urls

VIEWER, OPERATOR = "a-viewers-token-that-is-none", "an-operators-token-that-is-none"
NO_BROKER = "amqp://nobody:hushhush@127.0.0.1:1/"
NOWHERE = "mysql://nobody:hushhush@127.0.0.1:1/nothing"

ACTING = {
    "/failures": {"do": "drop", "id": "client/1", "sure": "yes"},
    "/failures?which=all": {"do": "retry", "sure": "yes"},
    "/dead": {"do": "replay", "id": "0123456789ab"},
    "/dead?which=all": {"do": "drop", "sure": "yes"},
}
"""Each address that changes something, with a form that would."""


@pytest.fixture(scope="module")
def app() -> Flask:
    lookups = Lookups(parse_url(NOWHERE), "test")
    return create_app(
        Board(["database"]),
        tokens={Role.VIEWER: VIEWER, Role.OPERATOR: OPERATOR},
        session_key="a key for the sessions of this page",
        hosts={"localhost"},
        links=Links(),
        lookups=lookups,
        logouts=Logouts(lookups),
        acting=Actions(lookups),
        nodes=parse_urls(NO_BROKER),
        queue="requests",
        pace=Pace(),
        alive=lambda: True,
    )


def log_in(app: Flask, token: str, **form: str) -> FlaskClient:
    client = app.test_client()
    client.environ_base["HTTP_ACCEPT"] = "text/html"
    answer = client.post("/login", data={"token": token, "name": "Ada", **form})
    assert answer.status_code == HTTPStatus.SEE_OTHER
    return client


def csrf(client: FlaskClient) -> str:
    """Return what each form of this session carries."""
    return client.get("/").text.split('name="csrf" value="')[1].split('"')[0]


def status(client: FlaskClient, path: str, form: dict[str, Any], **headers: str) -> int:
    return client.post(path, data=form, headers=headers).status_code


def test_these_are_all_addresses_that_change_something(app: Flask) -> None:
    posted = {rule.rule for rule in app.url_map.iter_rules() if "POST" in (rule.methods or ())}
    assert posted == {"/login", "/logout", *(path.partition("?")[0] for path in ACTING)}
    others = {method for rule in app.url_map.iter_rules() for method in rule.methods or ()}
    assert others == {"GET", "HEAD", "OPTIONS", "POST"}


@pytest.mark.parametrize("path", ACTING)
def test_only_an_operators_own_form_acts(app: Flask, path: str) -> None:
    form = ACTING[path]
    viewer, operator, other = (log_in(app, token) for token in (VIEWER, OPERATOR, OPERATOR))
    # A viewer, whatever the form carries; and a visitor who is not logged in.
    for token in (csrf(viewer), csrf(operator), ""):
        assert status(viewer, path, {**form, "csrf": token}) == HTTPStatus.FORBIDDEN
    assert status(app.test_client(), path, form) == HTTPStatus.SEE_OTHER
    bearer = {"Authorization": f"Bearer {VIEWER}"}
    assert status(app.test_client(), path, form, **bearer) == HTTPStatus.FORBIDDEN
    # An operator's cookie without the form of the same session.
    assert status(operator, path, form) == HTTPStatus.FORBIDDEN
    for token in ("", "0" * 64, csrf(other), csrf(viewer), f"{csrf(operator)}0", "é\udcff"):
        wrong = {"csrf": token.encode(errors="surrogateescape")}
        assert status(operator, path, {**form, **wrong}) == HTTPStatus.FORBIDDEN
    in_address = f"{path}{'&' if '?' in path else '?'}csrf={csrf(operator)}"
    assert status(operator, in_address, form) == HTTPStatus.FORBIDDEN
    good = {**form, "csrf": csrf(operator)}
    for site in ("cross-site", "same-site"):
        headers = {"Sec-Fetch-Site": site}
        assert status(operator, path, good, **headers) == HTTPStatus.FORBIDDEN
    # The right form comes as far as the database, or RabbitMQ, which are not there.
    assert status(operator, path, good) == HTTPStatus.SERVICE_UNAVAILABLE
    # After the logout it is no longer valid.
    assert operator.post("/logout", data={"csrf": csrf(operator)}).status_code == 303
    assert status(operator, path, good) == HTTPStatus.SEE_OTHER


def test_a_login_begins_a_session_of_its_own(app: Flask) -> None:
    """A session that an attacker planted in the browser does not become the victim's."""
    planted = log_in(app, VIEWER)
    before = planted.get_cookie("turnwise")
    assert before
    planted.post("/login", data={"token": OPERATOR})
    after = planted.get_cookie("turnwise")
    assert after
    assert after.value != before.value
    thief = app.test_client()
    thief.set_cookie("turnwise", before.value)
    assert "operator" not in thief.get("/").text.partition("</header>")[0]
    assert status(thief, "/failures", {**ACTING["/failures"], "csrf": csrf(planted)}) == 403


ELSEWHERE = (
    "//evil.example/",
    "///evil.example/",
    "/\\evil.example/",
    "\\\\evil.example/",
    "/\t/evil.example/",
    "/\n/evil.example/",
    "https://evil.example/",
    "javascript:alert(1)",
    " //evil.example/",
    "/\r\nSet-Cookie: a=b",
    "/\x00/evil.example/",
    "",
)


@pytest.mark.parametrize("then", ELSEWHERE)
def test_a_login_leads_to_this_site_only(app: Flask, then: str) -> None:
    answer = app.test_client().post("/login", data={"token": VIEWER, "then": then})
    assert answer.headers["Location"] == "/"
    assert [name for name, _ in answer.headers].count("Set-Cookie") == 1


@pytest.mark.parametrize(
    "path", ["//evil.example/x", "///evil.example/x", "/%5Cevil.example/x", "/%09/evil.example"]
)
def test_no_link_of_a_problem_leads_elsewhere(app: Flask, path: str) -> None:
    answer = log_in(app, VIEWER).get("/", environ_overrides={"PATH_INFO": unquote(path)})
    assert answer.status_code == HTTPStatus.NOT_FOUND
    links = re.findall(r'href="([^"]*)"', answer.text)
    for link in links:
        # As a browser reads it: without tabs and line breaks, and \\ is a /.
        read = re.sub(r"[\t\r\n]", "", html.unescape(link)).strip().replace("\\", "/")
        assert re.match(r"/(?!/)|#", read), link


EVIL = "\"'><script>window.hostile=1</script><img src=x onerror=alert(1)>\u202e"


@pytest.mark.parametrize("path", ["/requests", "/failures", "/dead", "/actions", "/login"])
def test_what_an_address_holds_is_shown_as_text(app: Flask, path: str) -> None:
    client = log_in(app, OPERATOR)
    names = ("client", "first", "last", "text", "replica", "reason", "state", "since", "until")
    for name in (*names, "before", "page", "then"):
        body = client.get(f"{path}?{name}={quote(EVIL)}").text
        assert "<script>window" not in body
        assert "<img src=x" not in body
        assert "onerror=alert(1)>" not in body


def test_the_name_of_an_operator_is_shown_as_text(app: Flask) -> None:
    head = log_in(app, OPERATOR, name=EVIL).get("/").text.partition("</header>")[0]
    assert "<script>window" not in head
    assert "&lt;script&gt;" in head
    assert "\u202e" not in head


@pytest.mark.parametrize(
    "time",
    [
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "0001-01-01",
        "2026-02-30",
        "2026-01-01T00:00:00+99:99",
        "9" * 5000,
        "\u0662\u0660\u0662\u0666-01-01",
        "2026-W01",
        "\x00",
    ],
)
@pytest.mark.parametrize("path", ["/requests", "/failures", "/dead"])
def test_an_impossible_time_is_refused(app: Flask, path: str, time: str) -> None:
    answer = log_in(app, VIEWER).get(f"{path}?since={quote(time)}")
    # 2026-W01 is a date, by ISO 8601; then there is no server to ask.
    expected = HTTPStatus.SERVICE_UNAVAILABLE if "W" in time else HTTPStatus.BAD_REQUEST
    assert answer.status_code == expected


@pytest.mark.parametrize("path", ["/requests", "/failures", "/dead"])
def test_a_time_range_that_ends_before_it_begins_is_refused(app: Flask, path: str) -> None:
    answer = log_in(app, VIEWER).get(f"{path}?since=2026-01-02&until=2026-01-01")
    assert answer.status_code == HTTPStatus.BAD_REQUEST
    assert "ends before it begins" in answer.text


@pytest.mark.parametrize(
    "query",
    [
        "client=" + "a" * 100_000,
        "client=a%00",
        "text=" + "x" * 100_000,
        "client=a&first=-1",
        "client=a&first=1e9",
        "client=a&first=" + "9" * 10_000,
        "client=a&first=5&last=3",
    ],
)
def test_a_search_that_makes_no_sense_is_refused(app: Flask, query: str) -> None:
    answer = log_in(app, VIEWER).get(f"/requests?{query}")
    assert answer.status_code == HTTPStatus.BAD_REQUEST
    assert len(answer.text) < 20_000 or query.startswith(("client=aa", "text="))


@pytest.mark.parametrize("identity", ["", "5", "/5", "client/", "client/x", "client/-1", "a b/1"])
def test_a_choice_that_is_no_identity_is_refused(app: Flask, identity: str) -> None:
    operator = log_in(app, OPERATOR)
    form = {"do": "drop", "id": identity, "sure": "yes", "csrf": csrf(operator)}
    # The logouts cannot be asked for either: as a program, without a session.
    bearer = {"Authorization": f"Bearer {OPERATOR}"}
    assert status(app.test_client(), "/failures", form, **bearer) == HTTPStatus.BAD_REQUEST


@pytest.mark.parametrize("page", ["-1", "0", "1e9", "9" * 400, "x", ""])
def test_a_strange_number_of_a_page_is_no_error(app: Flask, page: str) -> None:
    client = log_in(app, VIEWER)
    for path in (f"/dead?page={page}", f"/actions?before={page}"):
        assert client.get(path).status_code == HTTPStatus.SERVICE_UNAVAILABLE


def test_too_many_chosen_are_refused_rather_than_cut(app: Flask) -> None:
    bearer = {"Authorization": f"Bearer {OPERATOR}"}
    form = {"do": "drop", "sure": "yes", "id": [f"client/{n}" for n in range(1, 502)]}
    answer = app.test_client().post("/failures", data=form, headers=bearer)
    assert answer.status_code == HTTPStatus.BAD_REQUEST
    assert "at most 500" in answer.text
