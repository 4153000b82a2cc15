"""A MariaDB or MySQL of one's own: on loopback, with a generated password."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pymysql

from lab.errors import LabError
from lab.packages import Programs
from lab.process import Process, Runner, free_port, wait_until

USER = "lab"
NAME = "counter_db"
START_TIMEOUT = 120.0
STOP_TIMEOUT = 30.0


class DatabaseServer:
    """A server that can be started, ended in every way, and asked about itself."""

    def __init__(self, runner: Runner, port: int, password: str) -> None:
        self.runner = runner
        self.port = port
        self.user = USER
        self.password = password

    def url(self, name: str = NAME, port: int | None = None) -> str:
        """Return MYSQL_URL; through a proxy with its ``port``."""
        return f"mysql://{USER}:{quote(self.password)}@127.0.0.1:{port or self.port}/{name}"

    def start(self) -> None:
        """Start it and wait until it serves."""
        self.runner.start()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until it lets us in."""
        wait_until(self._answers, "the database starts", START_TIMEOUT, self.runner)

    def stop(self) -> None:
        """End it gracefully."""
        self.runner.stop(STOP_TIMEOUT)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.runner.kill()

    @contextlib.contextmanager
    def connect(
        self, name: str | None = None, *, timeout: float = 60
    ) -> Iterator[pymysql.cursors.Cursor]:
        """Give a cursor with all rights, in autocommit; ``timeout`` in seconds for an answer."""
        connection = pymysql.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=self.password,
            database=name,
            autocommit=True,
            charset="utf8mb4",
            init_command="SET time_zone = '+00:00'",
            connect_timeout=10,
            read_timeout=timeout,
        )
        with contextlib.closing(connection), connection.cursor() as cursor:
            yield cursor

    def query(self, statement: str, *values: object, name: str | None = None) -> list[Any]:
        """Run one statement on a connection of its own; return its rows."""
        with self.connect(name) as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())

    def version(self) -> str:
        """Return the version."""
        return str(self.query("SELECT VERSION()")[0][0])

    def _answers(self) -> bool:
        try:
            self.query("SELECT 1")
        except pymysql.Error:
            return False
        return True


def private(folder: Path, programs: Programs, *, attached: bool = True) -> DatabaseServer:
    """Return a MariaDB that keeps everything in ``folder``, made on first use.

    A folder that was used before brings its port, its password and its data.
    """
    base = folder.resolve() / "database"
    settings_file = base / "settings.json"
    if settings_file.exists():
        settings = json.loads(settings_file.read_text())
    else:
        settings = {"port": free_port(), "password": secrets.token_urlsafe(18)}
        _create(base, programs, settings["password"])
        settings_file.touch(mode=0o600)
        settings_file.write_text(json.dumps(settings))
    runner = Process(
        "database",
        base,
        [
            *_command(base, programs),
            f"--port={settings['port']}",
            "--bind-address=127.0.0.1",
            # Relative to the data: a socket's path may not be long.
            "--socket=mysql.sock",
            "--innodb-flush-log-at-trx-commit=1",
        ],
        _environment(base, programs),
        attached=attached,
    )
    return DatabaseServer(runner, settings["port"], settings["password"])


def _command(base: Path, programs: Programs) -> list[str | Path]:
    usr = programs.root / "usr"
    # --no-defaults must come first: nothing of the system's configuration is used.
    return [
        programs.mariadbd,
        "--no-defaults",
        f"--basedir={usr}",
        f"--datadir={base / 'data'}",
        *_as_root(),
    ]


def _environment(base: Path, programs: Programs) -> dict[str, str]:
    # In a common folder, two that start at once take each other's temporary tables for their own.
    return {**programs.environment(), "TMPDIR": str(base / "tmp")}


def _as_root() -> list[str]:
    return ["--user=root"] if os.geteuid() == 0 else []


def _create(base: Path, programs: Programs, password: str) -> None:
    base.mkdir(parents=True, mode=0o700, exist_ok=True)
    (base / "tmp").mkdir(exist_ok=True)
    environment = {**_environment(base, programs), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    _run(
        [
            programs.mariadb_install_db,
            "--no-defaults",
            f"--basedir={programs.root / 'usr'}",
            f"--datadir={base / 'data'}",
            "--skip-test-db",
            "--auth-root-authentication-method=normal",
            *_as_root(),
        ],
        environment,
    )
    # Without network, socket and grant checks: nobody gets in before there is a password.
    statements = (
        f"FLUSH PRIVILEGES;\n"
        f"CREATE USER '{USER}'@'%' IDENTIFIED BY '{password}';\n"
        f"GRANT ALL ON *.* TO '{USER}'@'%' WITH GRANT OPTION;\n"
        f"DELETE FROM mysql.global_priv WHERE User = 'root' OR User = '';\n"
        f"CREATE DATABASE {NAME};\n"
    )
    _run([*_command(base, programs), "--bootstrap"], environment, statements)


def _run(command: list[str | Path], environment: dict[str, str], text: str = "") -> None:
    result = subprocess.run(
        command, env=environment, input=text, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise LabError(f"{command[0]} failed:\n{result.stdout}{result.stderr}")
