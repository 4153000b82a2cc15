"""A private MariaDB or MySQL: on loopback, with a generated password."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pymysql

from lab.harness import files
from lab.harness.errors import LabError
from lab.harness.packages import Programs
from lab.harness.process import Process, Runner, free_port, wait_until

USER = "lab"
NAME = "counter_db"
START_TIMEOUT = 120.0
STOP_TIMEOUT = 30.0


class DatabaseServer:
    """A server that can be started, stopped in every way, and queried."""

    def __init__(self, runner: Runner, port: int, password: str) -> None:
        self.runner = runner
        self.port = port
        self.user = USER
        self.password = password

    def url(self, name: str = NAME, port: int | None = None) -> str:
        """Return MYSQL_URL, or one through a proxy's ``port``."""
        return f"mysql://{USER}:{quote(self.password)}@127.0.0.1:{port or self.port}/{name}"

    def start(self) -> None:
        """Start the server and wait until it serves."""
        self.runner.start()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until the server accepts a login."""
        wait_until(self._answers, "the database starts", START_TIMEOUT, self.runner)

    def stop(self) -> None:
        """Stop the server gracefully."""
        self.runner.stop(STOP_TIMEOUT)

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        self.runner.kill()

    @contextlib.contextmanager
    def connect(
        self, name: str | None = None, *, timeout: float = 60
    ) -> Iterator[pymysql.cursors.Cursor]:
        """Yield a cursor with all rights, in autocommit; an answer may take ``timeout`` seconds."""
        connection = pymysql.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=self.password,
            database=name,
            autocommit=True,
            charset="utf8mb4",
            init_command="SET time_zone = '+00:00'",
            connect_timeout=min(10, timeout),
            read_timeout=timeout,
        )
        with contextlib.closing(connection), connection.cursor() as cursor:
            yield cursor

    def query(self, statement: str, *values: object, name: str | None = None) -> list[Any]:
        """Run one statement on a new connection; return its rows."""
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


class PrivateDatabase(DatabaseServer):
    """A MariaDB that keeps everything in ``folder``. The first ``equip()`` creates its data.

    A folder that was used before keeps its port, its password and its data.
    """

    def __init__(self, folder: Path, name: str = "database", *, attached: bool = True) -> None:
        self._base = folder.resolve() / name
        settings_file = self._base / "settings.json"
        if not settings_file.exists():
            self._base.mkdir(parents=True, mode=0o700, exist_ok=True)
            settings = {"port": free_port(), "password": secrets.token_urlsafe(18)}
            files.write(settings_file, json.dumps(settings))
        settings = json.loads(settings_file.read_text())
        self._process = Process(name, self._base, [], attached=attached)
        super().__init__(self._process, int(settings["port"]), str(settings["password"]))
        self.options: list[str] = []
        """Further options of the server, to be set before ``equip()``."""

    def equip(self, programs: Programs) -> None:
        """Set the programs to run, and have them create the data."""
        if not (self._base / "data").exists():
            _create(self._base, programs, self.password)
        self._process.command = [
            *command_of(self._base / "data", programs),
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            # Relative to the data, since a socket's path must be short.
            "--socket=mysql.sock",
            "--innodb-flush-log-at-trx-commit=1",
            *self.options,
        ]
        self._process.environment = _environment(self._base, programs)


def command_of(data: Path, programs: Programs) -> list[str | Path]:
    """Return the command line of a server for ``data``, independent of the system's."""
    usr = programs.root / "usr"
    # --no-defaults must come first. It ignores the system's configuration.
    return [
        programs.mariadbd,
        "--no-defaults",
        f"--basedir={usr}",
        f"--datadir={data}",
        *_as_root(),
    ]


def _environment(base: Path, programs: Programs) -> dict[str, str]:
    # In a shared folder, two servers that start at once mistake each other's temporary tables.
    return {**programs.environment(), "TMPDIR": str(base / "tmp")}


def _as_root() -> list[str]:
    return ["--user=root"] if os.geteuid() == 0 else []


def _create(base: Path, programs: Programs, password: str) -> None:
    """Create the data. If that is interrupted, the next call starts over."""
    (base / "tmp").mkdir(exist_ok=True)
    data = base / "data.new"
    shutil.rmtree(data, ignore_errors=True)
    environment = {**_environment(base, programs), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    _run(
        [
            programs.mariadb_install_db,
            "--no-defaults",
            f"--basedir={programs.root / 'usr'}",
            f"--datadir={data}",
            "--skip-test-db",
            "--auth-root-authentication-method=normal",
            *_as_root(),
        ],
        environment,
    )
    # Without network, socket and grant checks: nobody can log in before there is a password.
    statements = (
        f"FLUSH PRIVILEGES;\n"
        f"CREATE USER '{USER}'@'%' IDENTIFIED BY '{password}';\n"
        f"GRANT ALL ON *.* TO '{USER}'@'%' WITH GRANT OPTION;\n"
        f"DELETE FROM mysql.global_priv WHERE User = 'root' OR User = '';\n"
        f"CREATE DATABASE {NAME};\n"
    )
    _run([*command_of(data, programs), "--bootstrap"], environment, statements)
    data.rename(base / "data")


def _run(command: list[str | Path], environment: dict[str, str], text: str = "") -> None:
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(text)
    except BaseException:
        # This is a script, so its whole process group is killed.
        with contextlib.suppress(ProcessLookupError):  # it may have ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode:
        raise LabError(f"{command[0]} failed:\n{said}")
