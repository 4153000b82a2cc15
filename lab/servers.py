"""Both servers of a lab, in one folder, started and ended together."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from lab import containers, database, packages, rabbitmq
from lab.containers import Container
from lab.errors import LabError
from lab.process import Process

DEFAULT_FOLDER = Path(".lab")

_CONTAINER_WAY = """\
Without them, Docker can run the servers: add --containers (it takes {rabbitmq} and {database}).
Or install rabbitmq-server and mariadb-server yourself; their services are not used."""


class Servers:
    """RabbitMQ and a database.

    attached: they end with this process, whatever happens to it, SIGKILL included.
    in_containers: Docker containers of the newest releases, instead of processes.
    """

    def __init__(
        self,
        folder: Path,
        programs: Path | None = None,
        *,
        attached: bool = True,
        in_containers: bool = False,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._epmd: Process | None = None
        if in_containers:
            if not containers.available():
                raise LabError("no Docker daemon answers; see 'docker info'")
            self.rabbitmq = containers.rabbitmq(folder)
            self.database = containers.database(folder)
            return
        try:
            of_rabbitmq, of_database = packages.find(programs or folder / "packages")
        except packages.MissingServers as error:
            way = _CONTAINER_WAY.format(
                rabbitmq=containers.RABBITMQ_IMAGE, database=containers.DATABASE_IMAGE
            )
            raise LabError(f"{error}\n{way}") from error
        self.rabbitmq, self._epmd = rabbitmq.private(folder, of_rabbitmq, attached=attached)
        self.database = database.private(folder, of_database, attached=attached)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether both run."""
        return self.rabbitmq.runner.alive() and self.database.runner.alive()

    def start(self) -> None:
        """Start what does not run, and wait until both serve."""
        # All from this thread: they die with the one that started them. They boot side by side.
        if self._epmd and not self._epmd.alive():
            self._epmd.start()
        for runner in (self.rabbitmq.runner, self.database.runner):
            if not runner.alive():
                runner.start()
        self.database.wait_ready()
        self.rabbitmq.wait_ready()

    def stop(self) -> None:
        """End both, gracefully as far as they go along; their data stay."""
        with ThreadPoolExecutor() as pool:
            for server in (self.rabbitmq, self.database):
                if server.runner.alive():
                    server.runner.resume()
                    pool.submit(server.stop)
        if self._epmd:
            self._epmd.kill()

    def remove(self) -> None:
        """End both at once, with their data."""
        for server in (self.rabbitmq, self.database):
            if isinstance(server.runner, Container):
                server.runner.remove()
            else:
                server.kill()
        if self._epmd:
            self._epmd.kill()
        shutil.rmtree(self.folder)
