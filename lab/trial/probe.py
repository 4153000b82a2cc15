"""The liveness probe of an orchestrator, enforced on the processes of a trial."""

from __future__ import annotations

import json
import signal
import threading
import urllib.request

from lab.trial.members import Member

PERIOD = 2.0
"""Seconds between two probes; k8s/ has 10. A trial's outages are shorter by the same factor."""

TIMEOUT = 5.0
"""Seconds for an answer, as in k8s/: the machine may be busy."""

FAILURES = 3
"""Consecutive failures after which the process is killed."""

SILENCE = 15.0
"""Seconds that a loop may stand still. The process itself allows 60, too long for a trial; intended
blocks end within 10 (turnwise/database.py)."""


class Probe:
    """Polls a member's /healthz, and kills the member when that fails too often.

    For each new process it starts over, once that has answered for the first time.
    """

    def __init__(self, member: Member, port: int) -> None:
        self._member = member
        self._port = port
        self._closed = threading.Event()
        self._process = ""
        self._failures = 0
        self._answered = False
        threading.Thread(target=self._run, name=f"probe of {member.name}", daemon=True).start()

    def close(self) -> None:
        """Stop probing."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.wait(PERIOD):
            process = self._member.process.identity()
            # A process that was asked to end is not probed.
            if process != self._process or self._member.frozen_holds or self._member.ending:
                self._process, self._failures, self._answered = process, 0, False
            if self._healthy():
                self._failures, self._answered = 0, True
            elif self._answered:
                self._failures += 1
            if self._failures >= FAILURES and self._member.process.identity() == process:
                self._member.condemned = True
                self._member.process.signal(signal.SIGKILL)
                self._failures = 0

    def _healthy(self) -> bool:
        url = f"http://127.0.0.1:{self._port}/healthz"
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
                return float(json.loads(answer.read()).get("seconds_since_turn", 0)) < SILENCE
        except (OSError, ValueError):
            return False
