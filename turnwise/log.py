"""Logs: a stable event name and its fields; text for people, JSON lines for machines."""

from __future__ import annotations

import json
import logging
import sys
import time
from datetime import UTC, datetime

from turnwise.errors import ServerError

REMIND = 30.0
"""Seconds between two lines about the same outage."""


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        clock = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        fields = getattr(record, "fields", {})
        words = [f"{name}={_plain(value)}" for name, value in fields.items()]
        line = " ".join([clock, f"{record.levelname:<7}", record.getMessage(), *words])
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _plain(value: object) -> str:
    text = str(value)
    return json.dumps(text) if not text or " " in text or not text.isprintable() else text


def configure(level: str, style: str) -> None:
    """Send logs to standard error. ``style``: ``text``, ``json``, or ``auto`` by the terminal."""
    if style == "auto":
        style = "text" if sys.stderr.isatty() else "json"
    handler = logging.StreamHandler()
    handler.setFormatter(_Text() if style == "text" else _Json())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # pika logs each failure several times, and at length; it reaches us as an exception anyway.
    logging.getLogger("pika").setLevel(logging.CRITICAL + 1)


def writes_json() -> bool:
    """Whether logs are configured, as JSON lines."""
    return any(isinstance(handler.formatter, _Json) for handler in logging.getLogger().handlers)


def event(log: logging.Logger, level: int, name: str, /, **fields: object) -> None:
    """Log an event by its name. Fields must hold no secret."""
    # logging.config disables all existing loggers, and a handler's module may call it.
    log.disabled = False
    if log.isEnabledFor(level):
        log.log(level, name, extra={"fields": fields})


class Outage:
    """Logs an outage without filling the disk: its start, reminders, and its end."""

    def __init__(self, log: logging.Logger, server: str) -> None:
        self._log = log
        self._server = server
        self._since: float | None = None
        self._reminded = 0.0

    def failed(self, error: ServerError, wait: float) -> None:
        """Log a failure, with the seconds until the next try."""
        now = time.monotonic()
        level = logging.WARNING
        if self._since is None:
            self._since = now
        elif now - self._reminded < REMIND:
            level = logging.DEBUG
        if level == logging.WARNING:
            self._reminded = now
        event(
            self._log,
            level,
            f"{self._server}.away",
            error=error,
            seconds=round(now - self._since, 1),
            next_try=round(wait, 2),
        )

    def over(self) -> None:
        """Log the end of the outage, if there was one."""
        if self._since is not None:
            event(
                self._log,
                logging.INFO,
                f"{self._server}.back",
                seconds=round(time.monotonic() - self._since, 1),
            )
            self._since = None
