"""URLs that hold passwords: parsed, and reported in errors without them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dashboard.management import parse_url as parse_management
from turnwise.database import parse_url
from turnwise.node import parse_urls
from turnwise.url import split

SECRET = "geheim"


@pytest.mark.parametrize(
    ("parse", "scheme", "path"),
    [(parse_urls, "amqp", "/"), (parse_url, "mysql", "/db"), (parse_management, "http", "/")],
    ids=["AMQP_URL", "MYSQL_URL", "MANAGEMENT_URL"],
)
@pytest.mark.parametrize(
    "login",
    [
        f"u:{SECRET}\N{FULLWIDTH SOLIDUS}1",  # NFKC makes it a slash
        f"u:[{SECRET}]",  # taken for an IPv6 address
        f"u:{SECRET}[",
    ],
    ids=["slash", "brackets", "bracket"],
)
def test_a_url_that_cannot_be_split_is_not_repeated(
    parse: Callable[[str], object], scheme: str, path: str, login: str
) -> None:
    with pytest.raises(ValueError, match="percent-encode") as caught:
        parse(f"{scheme}://{login}@h{path}")
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_parts_are_decoded_and_the_password_is_not_shown() -> None:
    parts = split("amqp://u%40x:p%2Fw@[::1]:5672/v%2Fh?heartbeat=5")
    assert (parts.username, parts.password, parts.host) == ("u@x", "p/w", "::1")
    assert (parts.port, parts.path, parts.query) == (5672, "v/h", "heartbeat=5")
    assert "p/w" not in repr(parts)


@pytest.mark.parametrize(
    ("parse", "url", "option"),
    [
        (parse_urls, "amqps://h/?cacertfile=/nonesuch", "cacertfile=/nonesuch"),
        (parse_urls, "amqps://h/?certfile=/nonesuch", "certfile=/nonesuch"),
        (parse_url, "mysql://u@h/db?ssl_ca=/nonesuch", "ssl_ca=/nonesuch"),
        (parse_url, "mysql://u@h/db?ssl_key=/nonesuch", "ssl_key=/nonesuch"),
    ],
)
def test_an_unreadable_certificate_is_named(
    parse: Callable[[str], object], url: str, option: str
) -> None:
    with pytest.raises(ValueError, match=f"{option}, which cannot be read: No such file"):
        parse(url)
