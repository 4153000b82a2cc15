"""The producer's output: a live line on a terminal, plain lines elsewhere, JSON on request."""

from __future__ import annotations

import dataclasses
import json
import time

import click

from producer.outbox import Outbox
from turnwise import streams
from turnwise.broker import Broker
from turnwise.errors import Transient
from turnwise.loop import Loop

_INTERVAL = 0.1
_LINES_INTERVAL = 1.0

STOP_GRACE = 5.0
"""Seconds for a producer that was asked to stop to publish what is waiting."""


class Report:
    """Checks the outbox at intervals and reports what changed.

    People read standard error; with ``as_json``, programs read standard output. If the reader goes
    away, or the output cannot be written, the producer is asked to stop, as with Ctrl-C.
    """

    def __init__(self, loop: Loop, outbox: Outbox, *, as_json: bool) -> None:
        self._loop = loop
        self._outbox = outbox
        self._json = as_json
        self._live = not as_json and streams.is_live()
        self._interval = _INTERVAL if self._live or as_json else _LINES_INTERVAL
        self._said: object = None
        self._broker: Broker | None = None
        self._trouble: str | None = None
        self._since = 0.0
        self.lost: streams.OutputLost | None = None
        """Why the output cannot be written, unless only its reader is gone."""
        self._tick()

    def connected(self, broker: Broker) -> None:
        """Report that RabbitMQ accepts requests."""
        self._broker = broker
        if self._trouble:
            self._trouble = None
            self._note("broker.back", seconds=round(time.monotonic() - self._since, 1))

    def failed(self, error: Transient, _wait: float) -> None:
        """Report that RabbitMQ is away, once for each different error."""
        self._broker = None
        if not self._trouble:
            self._since = time.monotonic()
        if str(error) != self._trouble:
            self._trouble = str(error)
            self._note("broker.away", error=self._trouble)

    def finish(self) -> None:
        """Report the final figures."""
        self._say(force=True)
        if self._live:
            click.echo(err=True)

    def _tick(self) -> None:
        self._say()
        if streams.reader_gone():
            self._loop.ask_to_stop(STOP_GRACE)
        self._loop.call_later(self._interval, self._tick)

    def _say(self, *, force: bool = False) -> None:
        status = self._outbox.status
        blocked = self._broker.blocked if self._broker else None
        full = self._outbox.full
        if not force and (status, blocked, full) == self._said:
            return
        self._said = (status, blocked, full)
        if self._json:
            event = "finished" if force else "progress"
            self._write({"event": event, **dataclasses.asdict(status), "full": full})
            return
        line = (
            f"{status.client}: accepted {status.accepted:,}, confirmed {status.confirmed:,}, "
            f"waiting {status.waiting:,}"
        )
        if status.waiting and self._trouble:
            line += " (RabbitMQ is away)"
        elif status.waiting and blocked:
            line += f" (RabbitMQ takes nothing now: {blocked})"
        if full:
            line += " (the outbox is full and accepts nothing now)"
        if self._live:
            click.echo(f"\r\x1b[K{line}", err=True, nl=False)
        else:
            click.echo(line, err=True)

    def _note(self, event: str, **fields: object) -> None:
        if self._json:
            self._write({"event": event, **fields})
            return
        text = " ".join(str(value) for value in fields.values())
        line = {
            "broker.away": f"{text}; requests wait in {self._outbox.path}",
            "broker.back": f"RabbitMQ is back after {text} s",
        }[event]
        click.echo(f"\r\x1b[K{line}" if self._live else line, err=True)

    def _write(self, line: dict[str, object]) -> None:
        try:
            click.echo(json.dumps(line))
        except streams.OutputLost as error:
            if not error.reader_gone:
                self.lost = error
                click.echo(f"{error}; stopping", err=True)
            self._loop.ask_to_stop(STOP_GRACE)
