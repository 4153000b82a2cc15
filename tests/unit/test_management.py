"""The management API's URL."""

from __future__ import annotations

import pytest

from dashboard.management import parse_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://u:p%2F@h:15672/v%2Fw", ("h", 15672, "v/w", "u", "p/", "http://h:15672/")),
        ("http://u:p@h", ("h", 15672, "/", "u", "p", "http://h:15672/")),
        ("https://u:p@[::1]/%2F", ("::1", 15671, "/", "u", "p", "https://[::1]:15671/")),
    ],
)
def test_a_management_url_is_read(url: str, shown: tuple[object, ...]) -> None:
    m = parse_url(url)
    assert (m.host, m.port, m.virtual_host, m.username, m.password, m.link) == shown
    assert "p/" not in f"{m} {m!r}"


@pytest.mark.parametrize("url", ["ftp://u:p@h", "http://h/", "http://u:p@/v", "http://u:p@h:x/"])
def test_an_invalid_management_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"names|must|has a port"):
        parse_url(url)
