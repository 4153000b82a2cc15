"""Both servers of a lab, in one folder, started and stopped together."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from lab.harness import containers, packages
from lab.harness.database import DatabaseServer, PrivateDatabase
from lab.harness.errors import LabError
from lab.harness.files import prepare_folder
from lab.harness.process import Process, Runner, uninterrupted
from lab.harness.rabbitmq import PrivateRabbitMQ, RabbitMQ

DEFAULT_FOLDER = Path(".lab")

_CONTAINER_WAY = """\
Without them, Docker can run the servers: add --containers (it takes {rabbitmq} and {database}).
Or install rabbitmq-server and mariadb-server yourself; their services are not used."""


class Servers:
    """RabbitMQ and a database.

    attached: they end with this process, even on SIGKILL.
    in_containers: they are Docker containers of the newest releases, instead of processes.
    """

    def __init__(
        self,
        folder: Path,
        programs: Path | None = None,
        *,
        attached: bool = True,
        in_containers: bool = False,
    ) -> None:
        if not any(folder.glob("rabbitmq*/settings.json")) and not any(
            folder.glob("rabbitmq-*.json")
        ):
            prepare_folder(folder)
        self.folder = folder
        self._programs = programs or folder / "packages"
        self._private: tuple[PrivateRabbitMQ, PrivateDatabase] | None = None
        self._equipped = False
        self.rabbitmq: RabbitMQ
        self.database: DatabaseServer
        if in_containers:
            if not containers.available():
                raise LabError("no Docker daemon answers; see 'docker info'")
            self.rabbitmq = containers.rabbitmq(folder)
            self.database = containers.database(folder)
        else:
            self._private = (
                PrivateRabbitMQ(folder, attached=attached),
                PrivateDatabase(folder, attached=attached),
            )
            self.rabbitmq, self.database = self._private

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def rabbits(self) -> Sequence[RabbitMQ]:
        """RabbitMQ's nodes: just one."""
        return [self.rabbitmq]

    @property
    def databases(self) -> Sequence[DatabaseServer]:
        """The database's nodes: just one."""
        return [self.database]

    @property
    def running(self) -> bool:
        """Whether both run."""
        return self.rabbitmq.runner.alive() and self.database.runner.alive()

    def require(self) -> None:
        """Raise LabError if their programs do not exist and cannot be fetched."""
        if self._private:
            require_programs(self._programs)

    def start(self) -> None:
        """Start the servers that do not run, and wait until both serve.

        Fetches their programs if this machine has none, and creates their data. Stops what it
        started if it is interrupted.
        """
        self._equip()
        started: list[Runner] = []
        # All from this thread: they die with the thread that starts them. They boot in parallel.
        runners = [self.rabbitmq.runner, self.database.runner]
        if self._private:
            runners.insert(0, self._private[0].epmd)
        try:
            for runner in runners:
                if not runner.alive():
                    started.append(runner)
                    runner.start()
            self.database.wait_ready()
            self.rabbitmq.wait_ready()
        except BaseException:
            for runner in started:
                with contextlib.suppress(LabError):
                    runner.kill()
            raise

    def _equip(self) -> None:
        if self._equipped or not self._private:
            return
        of_rabbitmq, of_database = find_programs(self._programs)
        self._private[0].equip(of_rabbitmq)
        self._private[1].equip(of_database)
        self._equipped = True

    def stop(self) -> None:
        """Stop both, gracefully if possible; their data stays."""
        with ThreadPoolExecutor() as pool:
            for server in (self.rabbitmq, self.database):
                if server.runner.alive():
                    server.runner.resume()
                    pool.submit(server.stop)
        if self._private:
            self._private[0].epmd.kill()

    def kill(self) -> None:
        """Kill both; their data stays."""
        for server in (self.rabbitmq, self.database):
            with contextlib.suppress(LabError):  # a container may be down
                server.kill()
        if self._private:
            self._private[0].epmd.kill()

    def remove(self) -> None:
        """Kill both, and delete their data."""
        self.kill()
        purge(self.folder)


def require_programs(folder: Path) -> None:
    """Raise LabError if the programs do not exist and cannot be fetched."""
    with _another_way():
        packages.require(folder)


def find_programs(folder: Path) -> tuple[packages.Programs, packages.Programs]:
    """Return the programs of RabbitMQ and of MariaDB. Raises LabError if there are none."""
    with _another_way():
        return packages.find(folder)


@contextlib.contextmanager
def _another_way() -> Iterator[None]:
    try:
        yield
    except packages.MissingServers as error:
        way = _CONTAINER_WAY.format(
            rabbitmq=containers.RABBITMQ_IMAGE, database=containers.DATABASE_IMAGE
        )
        raise LabError(f"{error}\n{way}") from error


def purge(folder: Path) -> None:
    """Stop everything that was started in a folder, and delete it, whatever its state."""
    with uninterrupted():
        for note in folder.glob("**/*.pid"):
            process = Process(note.stem, note.parent, [])
            process.kill()
        containers.remove(folder)
        # A process that has just been killed may leave a last file behind.
        for _ in range(10):
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                return
            time.sleep(0.1)
        shutil.rmtree(folder)
