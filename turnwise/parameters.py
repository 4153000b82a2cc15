"""The values of options: durations, sizes, names, addresses, URLs and secrets, each checked."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Any

import click

_LAST_PORT = 65535
_LONGEST_SECRET = 64 * 1024
"""Bytes."""


class SecretOption(click.Option):
    """An option whose environment variable NAME may be given as a file too: NAME_FILE."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Read NAME, or the file that NAME_FILE names."""
        value = super().resolve_envvar_value(ctx)
        if value is not None or not isinstance(self.envvar, str):
            return value
        path = os.environ.get(f"{self.envvar}_FILE")
        if not path:
            return None
        try:
            # Bounded: a path mistyped to a device would never end.
            with Path(path).open("rb") as file:
                secret = file.read(_LONGEST_SECRET + 1)
            if len(secret) > _LONGEST_SECRET:
                raise click.UsageError(
                    f"{self.envvar}_FILE={path} has more than {_LONGEST_SECRET // 1024} KiB: it "
                    "does not hold a URL or a token",
                    ctx,
                )
            return secret.decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise click.UsageError(f"cannot read {self.envvar}_FILE: {error}", ctx) from None


class Duration(click.ParamType[float]):
    """A length of time: ``1s``, ``50ms``, ``2m``, ``30d``, ``0``; a bare number means seconds."""

    name = "duration"
    _units = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}  # noqa: RUF012

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        """Return seconds."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|d|)", str(value).strip())
        if not match:
            self.fail(f"{value!r} is not a duration; write 1s, 50ms, 2m, 12h, 30d or 0", param, ctx)
        return float(match[1]) * self._units[match[2]]


class Size(click.ParamType[int]):
    """A number of bytes: ``64M``, ``1G``; a unit is 1,024 of the one before it."""

    name = "size"
    _units = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}  # noqa: RUF012

    def __init__(self, minimum: int) -> None:
        self._minimum = minimum

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> int:
        """Return bytes."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d{1,9})([KMGT]?)", str(value).strip().upper())
        if not match:
            self.fail(f"{value!r} is not a size; write 64M or 1G", param, ctx)
        size = int(match[1]) * self._units[match[2]]
        if size < self._minimum:
            self.fail(f"{value!r} is less than {self._minimum // 1024**2}M", param, ctx)
        return size


class Address(click.ParamType[tuple[str, int]]):
    """Where to listen: ``PORT`` or ``HOST:PORT``; without a host, on loopback."""

    name = "address"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[str, int]:
        """Return host and port."""
        if isinstance(value, tuple):
            return value
        host, _, port = str(value).rpartition(":")
        if not port.isdecimal() or int(port) > _LAST_PORT:
            self.fail(f"{value!r} is not an address; write 8080 or 0.0.0.0:8080", param, ctx)
        return host.strip("[]") or "127.0.0.1", int(port)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Name(click.ParamType[str]):
    """A name of at most ``longest`` characters, which needs no quoting anywhere."""

    name = "name"

    def __init__(self, longest: int) -> None:
        self._longest = longest

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str:
        """Return the name."""
        if not re.fullmatch(rf"[A-Za-z0-9._-]{{1,{self._longest}}}", str(value), re.ASCII):
            self.fail(f"must be 1 to {self._longest} characters of A-Z a-z 0-9 . _ -", param, ctx)
        return str(value)


class Url(click.ParamType[Any]):
    """A URL that ``parse`` reads. Its errors never repeat a password."""

    name = "url"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        """Return what ``parse`` returns; report an invalid URL without repeating it."""
        if not isinstance(value, str):
            return value
        try:
            return self.parse(value)
        except ValueError as error:
            self.fail(f"it {error}", param, ctx)

    def parse(self, value: str) -> Any:
        """Return what ``parse`` returns."""
        raise NotImplementedError
