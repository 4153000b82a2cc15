"""A broker's URLs: read, and shown without their passwords."""

from __future__ import annotations

import pytest

from turnwise.database import parse_url
from turnwise.node import parse_urls


def test_urls_name_nodes_without_their_password() -> None:
    nodes = parse_urls("amqp://u:p%40ss@one/v%2Fh, amqp://u:p%40ss@two:1234?heartbeat=5")
    assert [(n.host, n.port, n.virtual_host, n.heartbeat) for n in nodes] == [
        ("one", 5672, "v/h", 30),
        ("two", 1234, "/", 5),
    ]
    assert nodes[0].password == "p@ss"
    assert "p@ss" not in f"{nodes}{nodes[0]}"
    database = parse_url("mysql://u:p%40ss@db/counter_db")
    assert (database.host, database.port, database.name) == ("db", 3306, "counter_db")
    assert database.password == "p@ss"
    assert "p@ss" not in f"{database}{database!r}"


@pytest.mark.parametrize(
    "url",
    [
        "", "localhost", "http://u:secret@host", "amqp://", "amqp://u:secret@host:99999",
        "amqp://u:secret@host:port", "amqp://u:secret@host?heartbeat=-1",
        "amqp://u:secret@host?cacertfile=x", "amqps://u:secret@host?cacertfile=/nonesuch",
        "amqps://u:secret@host?verify=perhaps", "amqp://u:secret@host?nonsense=1",
    ],
)  # fmt: skip
def test_an_invalid_amqp_url_is_reported_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"\w+") as caught:
        parse_urls(url)
    assert "secret" not in str(caught.value)
