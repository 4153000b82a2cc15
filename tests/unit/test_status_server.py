"""The liveness probe: what it reports about its process's loop."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from http import HTTPStatus

import pytest

from lab.harness.process import free_port
from turnwise.loop import ALIVE_WITHIN, Loop
from turnwise.status_server import StatusServer


def test_a_hung_loop_is_not_alive_until_it_turns_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr("turnwise.loop.time.monotonic", lambda: now[0])
    port = free_port()

    def healthz() -> tuple[int, dict[str, object]]:
        url = f"http://127.0.0.1:{port}/healthz"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    with contextlib.closing(Loop()) as loop, StatusServer(loop, ("127.0.0.1", port), {}):
        now[0] += ALIVE_WITHIN - 1
        assert healthz() == (HTTPStatus.OK, {"alive": True, "seconds_since_turn": 59.0})
        now[0] += 1
        assert healthz()[0] == HTTPStatus.SERVICE_UNAVAILABLE
        loop.turn(0)
        assert healthz() == (HTTPStatus.OK, {"alive": True, "seconds_since_turn": 0.0})
