"""Parses MYSQL_URL, connects with PyMySQL, and translates the database's errors."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl

import pymysql
from pymysql.constants import CR, ER

from turnwise.driver import Connection
from turnwise.errors import Permanent, Refused, Transient
from turnwise.url import readable, split

__all__ = [
    "LOCK_WAIT_TIMEOUT",
    "TIMEOUT",
    "TROUBLE_LASTS",
    "Connection",
    "Database",
    "code_of",
    "interrupts",
    "parse_url",
    "translate",
    "translating",
]

TIMEOUT = 10.0
"""Seconds for a connection, and for each read and write on it. Less than half of the broker's
heartbeat interval, so that a hung database does not cost the connection to the broker."""

TROUBLE_LASTS = 30.0
"""Seconds for which a host that failed is tried last."""

LOCK_WAIT_TIMEOUT = 5
"""Seconds the server waits for a row lock; less than TIMEOUT, so that the server answers first."""

# Wrong login or missing privileges: an operator must act.
_REFUSED = frozenset(
    {
        ER.ACCESS_DENIED_ERROR,
        ER.DBACCESS_DENIED_ERROR,
        ER.TABLEACCESS_DENIED_ERROR,
        ER.COLUMNACCESS_DENIED_ERROR,
        ER.SPECIFIC_ACCESS_DENIED_ERROR,
        1698,  # ER_ACCESS_DENIED_NO_PASSWORD_ERROR
    }
)
# The server is healthy, and will answer the same next time.
_PERMANENT = frozenset(
    {
        ER.BAD_FIELD_ERROR,
        ER.PARSE_ERROR,
        ER.DATA_TOO_LONG,
        ER.TRUNCATED_WRONG_VALUE_FOR_FIELD,
        ER.NOT_SUPPORTED_AUTH_MODE,
        ER.CONSTRAINT_FAILED,  # 4025, MariaDB's code for a CHECK
        3819,  # ER_CHECK_CONSTRAINT_VIOLATED, MySQL's
    }
)
# The server aborted the transaction, closed the connection, or cannot write now. The statements are
# not at fault, and the whole transaction must be repeated.
_INTERRUPTS = frozenset(
    {
        ER.LOCK_DEADLOCK,
        ER.LOCK_WAIT_TIMEOUT,
        ER.LOCK_TABLE_FULL,
        ER.CHECKREAD,  # MariaDB: a row was changed since the transaction's snapshot
        ER.DISK_FULL,
        ER.SERVER_SHUTDOWN,
        ER.OPTION_PREVENTS_STATEMENT,  # read-only, as are the next two
        1792,  # ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION
        1836,  # ER_READ_ONLY_MODE
        1047,  # ER_UNKNOWN_COM_ERROR: a Galera node that lost its cluster
        1927,  # MariaDB's ER_CONNECTION_KILLED
        3100,  # ER_RUN_HOOK_ERROR: Group Replication cannot certify now
        3101,  # ER_TRANSACTION_ROLLBACK_DURING_COMMIT: Group Replication found a conflict
        4031,  # ER_CLIENT_INTERACTION_TIMEOUT: the server closed an idle connection
        CR.CR_SERVER_GONE_ERROR,
        CR.CR_SERVER_LOST,
        CR.CR_SERVER_LOST_EXTENDED,
    }
)


# This host cannot serve now, but another may: where there are several, leave it at once.
_LEAVES = _INTERRUPTS - {
    ER.LOCK_DEADLOCK, ER.LOCK_WAIT_TIMEOUT, ER.LOCK_TABLE_FULL, ER.CHECKREAD, 3101,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Database:
    """One database to connect to. ``str()`` describes it without the password."""

    host: str
    port: int
    name: str
    user: str
    password: str = field(repr=False)
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    """TLS and socket options, as PyMySQL's connect() names them."""
    others: tuple[Database, ...] = ()
    """The same database at other hosts, in order of preference."""
    _state: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __str__(self) -> str:
        here: Database = self._state.get("here", self)
        return f"database {here.name!r} at {here.host}:{here.port}"

    def connect(
        self, program: str, *, read_timeout: float = TIMEOUT, autocommit: bool = True
    ) -> Connection:
        """Connect, with autocommit, strict SQL, UTC and timeouts everywhere.

        With several hosts, connects to the first that accepts; those that failed lately come last.
        ``program`` is what ``performance_schema`` shows as ``program_name``. Connecting takes
        at most TIMEOUT, and each statement after that at most ``read_timeout`` seconds.
        """
        until = time.monotonic() + TIMEOUT
        hosts = sorted((self, *self.others), key=lambda host: host._trouble)  # noqa: SLF001
        failures: list[Transient | Permanent] = []
        for left, host in zip(range(len(hosts), 0, -1), hosts, strict=True):
            within = (until - time.monotonic()) / left
            self._state["here"] = host
            try:
                return host._connect(program, read_timeout, autocommit, within)  # noqa: SLF001
            except (Transient, Permanent) as error:
                self.note_trouble()
                failures.append(error)
        # A permanent error is final only if every host answers with one.
        raise next((each for each in failures if isinstance(each, Transient)), failures[0])

    def note_trouble(self) -> None:
        """Try the current host last for the next TROUBLE_LASTS seconds."""
        here: Database = self._state.get("here", self)
        here._state["trouble"] = time.monotonic()

    @property
    def _trouble(self) -> float:
        at: float = self._state.get("trouble", 0.0)
        return at if time.monotonic() - at < TROUBLE_LASTS else 0.0

    def _connect(
        self, program: str, read_timeout: float, autocommit: bool, within: float
    ) -> Connection:
        with translating(self), self._translating_what_is_raised_before_login():
            connection = Connection(
                defer_connect=True,
                host=self.host,
                port=self.port,
                user=self.user,
                # PyMySQL would encode a str as Latin-1.
                password=self.password.encode(),
                database=self.name,
                charset="utf8mb4",
                collation="utf8mb4_bin",
                autocommit=autocommit,
                connect_timeout=TIMEOUT,
                read_timeout=read_timeout,
                write_timeout=TIMEOUT,
                program_name=program,
                # A value that does not fit is an error, never truncated.
                init_command=(
                    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION',"
                    f" time_zone = '+00:00', innodb_lock_wait_timeout = {LOCK_WAIT_TIMEOUT}"
                ),
                **self.options,
            )
            connection.allow(within)
            connection.connect(None if "unix_socket" in self.options else self._reach(within / 2))
            connection.allow(None)
        return connection

    @contextlib.contextmanager
    def _translating_what_is_raised_before_login(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            # PyMySQL lacks its [rsa] extra, on a connection without TLS.
            raise Permanent(f"cannot log in to {self}: {error}") from error
        except OSError as error:
            # The driver wraps socket errors in its own; this one is about a certificate file.
            files = {v for k, v in self.options.items() if k in {"ssl_ca", "ssl_cert", "ssl_key"}}
            raise Permanent(
                f"{self} needs a certificate file that cannot be read: {error.strerror or error} "
                f"(one of {', '.join(sorted(files))})"
            ) from error

    def _reach(self, within: float) -> socket.socket:
        """Connect to the first address of the host that answers.

        PyMySQL would apply the whole timeout to each address.
        """
        until = time.monotonic() + within
        failure: OSError = OSError(f"no address of {self.host}")
        try:
            addresses = _look_up(self.host, self.port, within)
            for left, (*_, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
                timeout = max(0.1, (until - time.monotonic()) / left)
                try:
                    reached = socket.create_connection((str(address[0]), self.port), timeout)
                except OSError as error:
                    failure = error
                else:
                    reached.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    reached.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                    return reached
        except OSError as error:
            failure = error
        reason = "no answer" if isinstance(failure, TimeoutError) else failure.strerror or failure
        raise Transient(f"cannot reach {self}: {reason}", code=CR.CR_CONN_HOST_ERROR) from failure


def _look_up(host: str, port: int, within: float) -> list[Any]:
    """Return the addresses of a host, as getaddrinfo() does, but with a time limit."""
    found: list[Any] = []
    failures: list[OSError] = []

    def run() -> None:
        try:
            found.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="name service", daemon=True)
    thread.start()
    thread.join(within)
    if failures:
        raise failures[0]
    if thread.is_alive():
        raise TimeoutError
    return found


def parse_url(text: str) -> Database:
    """Read MYSQL_URL: one or more ``mysql://user:password@host:port/database``, comma-separated.

    Options after ``?``: ``ssl_ca``, ``ssl_cert``, ``ssl_key`` (files), ``unix_socket``. With
    ``ssl_ca`` the server's certificate and name are verified; without it, TLS is used where the
    server offers it. Raises ValueError, which never repeats the URL: it holds a password.
    """
    first, *others = (_parse_url(url) for url in re.split(r",\s*(?=(?:mysql|mariadb)://)", text))
    if any(other.name != first.name for other in others):
        raise ValueError("names several databases, but all its hosts must serve the same one")
    return dataclasses.replace(first, others=tuple(others))


def _parse_url(text: str) -> Database:
    parts = split(text)
    if parts.scheme not in {"mysql", "mariadb"}:
        raise ValueError("must begin with mysql:// or mariadb://")
    if not parts.host or not parts.path or "/" in parts.path:
        raise ValueError("must look like mysql://user:password@host:3306/counter_db")
    if not parts.username:
        raise ValueError("names no user")
    options: dict[str, Any] = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = options.keys() - {"ssl_ca", "ssl_cert", "ssl_key", "unix_socket"}
    if unknown:
        raise ValueError(f"has an unknown option {min(unknown)!r}")
    for option in options.keys() & {"ssl_ca", "ssl_cert", "ssl_key"}:
        readable(option, options[option])
    if "ssl_ca" in options:
        options |= {"ssl_verify_cert": True, "ssl_verify_identity": True}
    return Database(
        host=parts.host,
        port=parts.port or 3306,
        name=parts.path,
        user=parts.username,
        password=parts.password or "",
        options=options,
    )


def execute(connection: Connection, statement: str, *values: object) -> int:
    """Execute a statement; return how many rows it changed."""
    with connection.cursor() as cursor:
        return cursor.execute(statement, values or None)


def fetch(connection: Connection, statement: str, *values: object) -> list[Any]:
    """Execute a query; return its rows."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return list(cursor.fetchall())


class _Translating:
    """Turns the driver's errors into Transient, Refused and Permanent.

    After Transient the connection must be thrown away: a timeout leaves the server in the middle
    of a statement, and a fail-over may have made it read-only behind a live connection.
    """

    # A generator with @contextmanager would take three times as long, in each turn of a worker.

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, pymysql.err.Error):
            raise translate(error, self._database) from error


translating = _Translating


def translate(error: pymysql.err.Error, database: Database) -> Transient | Permanent:
    """Turn a driver error into one of ours, by whether a retry may help."""
    code = code_of(error)
    if code in _LEAVES:
        database.note_trouble()
    text = error.args[1] if len(error.args) > 1 else str(error)
    cause = getattr(error, "original_exception", None)
    if code in _REFUSED:
        return Refused(
            f"{database} refuses the user {database.user!r} ({code}: {text}): check the user name "
            "and password in MYSQL_URL, and what the user may do there",
            code=code,
        )
    if code == ER.BAD_DB_ERROR:
        return Permanent(
            f"there is no {database}: create it (CREATE DATABASE {database.name}) or change "
            "MYSQL_URL",
            code=code,
        )
    if code == ER.NO_SUCH_TABLE:
        return Permanent(f"{database} is not set up ({text}): run 'worker migrate'", code=code)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Permanent(
            f"{database} shows a certificate that is not trusted: {cause.verify_message}. Name "
            "its authority in MYSQL_URL with ?ssl_ca=FILE",
            code=code,
        )
    if code in _PERMANENT or isinstance(error, pymysql.err.IntegrityError):
        return Permanent(f"{database} answers {code}: {text}", code=code)
    if code == CR.CR_CONN_HOST_ERROR:
        reason = (cause.strerror or cause) if isinstance(cause, OSError) else text
        return Transient(f"cannot reach {database}: {reason}", code=code)
    # Everything else is worth a retry: 1213 and 1205 (locks), 1040 (too many connections),
    # 1290, 1792 and 1836 (read-only), 1053 (shutting down), 1021 and 1114 (disk full), 2006, 2013.
    return Transient(f"{database} answers {code}: {text}", code=code)


def interrupts(error: Exception) -> bool:
    """Whether a transaction ended through no fault of its own: a lock, a lost connection."""
    return code_of(error) in _INTERRUPTS


def code_of(error: Exception) -> int | None:
    """Return the server's error number from a driver error; None if there is none."""
    if isinstance(error, pymysql.err.Error) and error.args and isinstance(error.args[0], int):
        return error.args[0]
    return None
