"""How much is read from a connection at once."""

# ruff: noqa: SLF001

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest
import trustme

from turnwise.connection import Connection

RECORD = 16 * 1024


@pytest.fixture
def ends() -> Iterator[tuple[ssl.SSLSocket, ssl.SSLSocket]]:
    """Both ends of a TLS connection; the second one does not block, like those of pika."""
    authority = trustme.CA()
    contexts = (ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context())
    authority.issue_cert("localhost").configure_cert(contexts[0])
    authority.configure_trust(contexts[1])
    raw = socket.socketpair()
    with contextlib.ExitStack() as stack:
        theirs = contexts[0].wrap_socket(raw[0], server_side=True, do_handshake_on_connect=False)
        shaking = threading.Thread(target=theirs.do_handshake)
        shaking.start()
        ours = contexts[1].wrap_socket(raw[1], server_hostname="localhost")
        shaking.join()
        ours.setblocking(False)
        yield stack.enter_context(theirs), stack.enter_context(ours)


def read(ours: ssl.SSLSocket, most: int) -> bytes:
    connection = SimpleNamespace(_wire=SimpleNamespace(_sock=ours))
    return Connection._receive_records(cast(Connection, connection), most)


def test_several_tls_records_are_read_at_once_and_none_is_left_behind(
    ends: tuple[ssl.SSLSocket, ssl.SSLSocket],
) -> None:
    theirs, ours = ends
    data = (bytes(range(256)) * (5 * RECORD // 256))[:-7]
    theirs.sendall(data)
    found, reads = b"", 0
    while len(found) < len(data):
        assert ours.pending() == 0
        select.select([ours], [], [], 60)
        found += read(ours, 2 * RECORD)
        reads += 1
    assert found == data
    assert reads == 3


def test_nothing_to_read_is_an_error_as_it_is_for_a_plain_socket(
    ends: tuple[ssl.SSLSocket, ssl.SSLSocket],
) -> None:
    theirs, ours = ends
    theirs.sendall(b"x")
    select.select([ours], [], [], 60)
    with contextlib.suppress(ssl.SSLWantReadError):
        # TLS 1.3 sends tickets first.
        while read(ours, RECORD) != b"x":
            pass
    with pytest.raises(OSError, match="did not complete"):
        read(ours, RECORD)
