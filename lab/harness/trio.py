"""Three nodes each of RabbitMQ and the database: servers that survive the loss of a machine."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import pymysql

from lab.harness import files, links
from lab.harness.database import NAME, DatabaseServer
from lab.harness.errors import LabError
from lab.harness.galera import GaleraNode
from lab.harness.process import wait_until
from lab.harness.proxy import Proxy
from lab.harness.rabbitmq import VIRTUAL_HOST, RabbitMQ
from lab.harness.rabbitmq_cluster import NODES, ClusterNode
from lab.harness.servers import find_programs, purge, require_programs
from lab.harness.tools import unpacked

START_TIMEOUT = 120.0

_LOOK = 0.3
"""Seconds between two checks of the writer."""

_MISSES = 3
"""Failed checks after which another node becomes the writer."""


class AnyRabbitMQ(RabbitMQ):
    """The cluster, through whichever node answers."""

    def __init__(self, nodes: list[ClusterNode]) -> None:
        first = nodes[0]
        super().__init__(first.runner, first.port, first.management_port, first.password, ([], {}))
        self.nodes = nodes

    def url(self, vhost: str = VIRTUAL_HOST, port: int | None = None) -> str:
        """Return AMQP_URL: all nodes, or the node behind a proxy's ``port``."""
        if port is not None:
            return super().url(vhost, port)
        return ",".join(node.url(vhost) for node in self.nodes)

    def api(self, method: str, path: str, body: object = None) -> Any:
        """Call the management API of the first node that answers."""
        failure = LabError("no node of RabbitMQ answers")
        for node in self.nodes:
            if not node.runner.alive():
                continue
            try:
                return node.api(method, path, body)
            except LabError as error:
                failure = error
        raise failure


class AnyDatabase(DatabaseServer):
    """The database, through whichever node is whole."""

    def __init__(self, nodes: list[GaleraNode]) -> None:
        super().__init__(nodes[0].runner, nodes[0].port, nodes[0].password)
        self._nodes = nodes

    def url(self, name: str = NAME, port: int | None = None) -> str:
        """Return MYSQL_URL: all nodes, or the node behind a proxy's ``port``."""
        if port is not None:
            return super().url(name, port)
        return ",".join(node.url(name) for node in self._nodes)

    @contextlib.contextmanager
    def connect(
        self, name: str | None = None, *, timeout: float = 60
    ) -> Iterator[pymysql.cursors.Cursor]:
        """Yield a cursor as DatabaseServer does, at the first node that is whole."""
        node = next((each for each in self._nodes if each.whole), self._nodes[0])
        with node.connect(name, timeout=timeout) as cursor:
            yield cursor


class Writer(DatabaseServer):
    """One port for the database, as of a load balancer: all connections go to one whole node.

    The port exists as long as this process.
    """

    def __init__(self, nodes: list[GaleraNode]) -> None:
        self.nodes = nodes
        self.current = nodes[0]
        self._proxy = Proxy(nodes[0].port)
        super().__init__(nodes[0].runner, self._proxy.port, nodes[0].password)
        self._ended = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def move(self, node: GaleraNode) -> None:
        """Send all connections to another node from now on."""
        self.current, self._proxy.target = node, node.port
        self._proxy.cut()

    def close(self) -> None:
        """Stop watching, and close the port."""
        self._ended.set()
        self._proxy.close()

    def _watch(self) -> None:
        misses = 0
        while not self._ended.wait(_LOOK):
            misses = 0 if self.current.whole else misses + 1
            if misses < _MISSES:
                continue
            for node in self.nodes:
                if node is not self.current and node.whole:
                    self.move(node)
                    misses = 0
                    break


class Trio:
    """Servers with three nodes each.

    attached: they end with this process, which also provides one port for the database's writer.
    """

    def __init__(self, folder: Path, programs: Path, *, attached: bool = True) -> None:
        if not (folder / "addresses.json").exists():
            files.prepare_folder(folder)
        self.folder = folder
        self._programs = programs
        note = folder / "addresses.json"
        if not note.exists():
            files.write(note, json.dumps(links.addresses(NODES)))
        self.hosts: list[str] = json.loads(note.read_text())
        numbers = range(1, NODES + 1)
        self.rabbits = [
            ClusterNode(folder, number, self.hosts, attached=attached) for number in numbers
        ]
        self.databases = [
            GaleraNode(folder, number, self.hosts, attached=attached) for number in numbers
        ]
        for rabbit in self.rabbits[1:]:
            rabbit.join(self.rabbits[0])
        for node in self.databases[1:]:
            node.join(self.databases[0])
        self.rabbitmq = AnyRabbitMQ(self.rabbits)
        self.writer = Writer(self.databases) if attached else None
        self.database: DatabaseServer = self.writer or AnyDatabase(self.databases)
        self._equipped = False

    @property
    def servers(self) -> list[RabbitMQ | DatabaseServer]:
        """All nodes."""
        return [*self.rabbits, *self.databases]

    @property
    def running(self) -> bool:
        """Whether all run."""
        return all(server.runner.alive() for server in self.servers)

    def require(self) -> None:
        """Raise LabError if their programs do not exist and cannot be fetched."""
        require_programs(self._programs)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the nodes that do not run; wait until all serve. Stops them if interrupted."""
        try:
            self._equip()
            if not self.rabbits[0].epmd.alive():
                self.rabbits[0].epmd.start()
            for rabbit in self.rabbits:
                if not rabbit.runner.alive():
                    rabbit.runner.start()
            self._start_databases()
            self.wait_whole()
        except BaseException:
            self.kill()
            raise

    def wait_whole(self) -> None:
        """Wait until each node serves and knows the others."""
        wait_until(self.is_whole, "three nodes serve", START_TIMEOUT, interval=0.3)

    def is_whole(self) -> bool:
        """Whether each node serves and knows the others."""
        return self.rabbits_whole() and self.databases_whole()

    def rabbits_whole(self) -> bool:
        """Whether each RabbitMQ node serves and knows the others."""
        return all(len(rabbit.running_peers()) == NODES for rabbit in self.rabbits)

    def databases_whole(self) -> bool:
        """Whether each database node is in the primary component."""
        return all(node.whole for node in self.databases)

    def leader(self, vhost: str, queue: str) -> int:
        """Return the index of the node that leads a queue. Raises LabError if it is unknown."""
        name = str(self.rabbitmq.api("GET", f"queues/{vhost}/{queue}").get("leader"))
        for place, rabbit in enumerate(self.rabbits):
            if rabbit.nodename == name:
                return place
        raise LabError(f"no node {name} leads {queue}")

    def move_writer(self, place: int) -> None:
        """Send all connections to another node of the database from now on."""
        assert self.writer is not None  # noqa: S101
        self.writer.move(self.databases[place])

    def others(self, place: int) -> list[str]:
        """Return the addresses of the other nodes."""
        return [host for other, host in enumerate(self.hosts) if other != place]

    def stop(self) -> None:
        """Stop all, gracefully if possible; their data stays."""
        self._mend()
        with ThreadPoolExecutor() as pool:
            for server in self.servers:
                if server.runner.alive():
                    server.runner.resume()
                    pool.submit(server.stop)
        self.rabbits[0].epmd.kill()
        if self.writer:
            self.writer.close()

    def kill(self) -> None:
        """Kill all; their data stays."""
        self._mend()
        for server in self.servers:
            server.kill()
        self.rabbits[0].epmd.kill()

    def remove(self) -> None:
        """Kill all, and delete their data."""
        self.kill()
        if self.writer:
            self.writer.close()
        purge(self.folder)

    def _mend(self) -> None:
        if links.can_be_cut():
            for place, host in enumerate(self.hosts):
                links.mend(host, self.others(place))

    def _equip(self) -> None:
        if self._equipped:
            return
        of_rabbitmq, of_database = find_programs(self._programs)
        galera = unpacked(
            "usr/lib/galera/libgalera_smm.so", ["galera-4"], self._programs / "galera"
        )
        for rabbit in self.rabbits:
            rabbit.equip(of_rabbitmq)
        first = self.databases[0]
        for node in self.databases:
            node.provider = galera / "usr/lib/galera/libgalera_smm.so"
            if node is not first and not node.has_data:
                if not (self.folder / "cluster.made").exists():
                    # This records which history the data belongs to.
                    first.begin()
                    first.start()
                    first.stop()
                    (self.folder / "cluster.made").touch()
                node.copy(first)
            node.equip(of_database)
        self._equipped = True

    def _start_databases(self) -> None:
        down = [node for node in self.databases if not node.runner.alive()]
        if len(down) == NODES:
            # The node with the most transactions starts first; the others get theirs from it.
            down.sort(key=lambda node: node.process.position()[1], reverse=True)
            down[0].begin()
        for node in down:
            node.runner.start()
