"""A database's URL: read, and shown without its password."""

from __future__ import annotations

import pytest

from turnwise.database import parse_url


@pytest.mark.parametrize(
    "url",
    [
        "", "localhost", "postgres://u:secret@host/db", "mysql://u:secret@host",
        "mysql://u:secret@host/", "mysql://u:secret@host:99999/db", "mysql://host/db",
        "mysql://u:secret@host/db?nonsense=1", "mysql://u:secret@host/a/b",
    ],
)  # fmt: skip
def test_an_invalid_mysql_url_is_reported_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"\w+") as caught:
        parse_url(url)
    assert "secret" not in str(caught.value)
