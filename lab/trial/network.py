"""The links between a trial's processes and its servers, and what faults do to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lab.harness.proxy import Direction, Proxy
from lab.harness.servers import Servers
from lab.harness.trio import Trio

HEARTBEAT = 6
"""Seconds: short, so that a trial sees many missed heartbeats."""


@dataclass(slots=True)
class Shape:
    """What a fault does to one direction of a link."""

    latency: float = 0.0
    rate: float | None = None
    hold: bool = False


class Network:
    """Creates the links: each process has its own link to each server."""

    def __init__(self, servers: Servers | Trio, name: str) -> None:
        self._servers = servers
        self._name = name
        self._shapes: dict[int, list[Shape]] = {}
        self._proxies: list[Proxy] = []

    def close(self) -> None:
        """Close all links."""
        for proxy in self._proxies:
            proxy.close()

    def proxy(self, port: int) -> Proxy:
        """Return a new link to a port."""
        proxy = Proxy(port)
        self._proxies.append(proxy)
        return proxy

    @property
    def broker_names(self) -> list[str]:
        """The names of a process's links to the nodes of the broker, in order."""
        return self._names("broker", len(self._servers.rabbits))

    def broker_links(self) -> dict[str, Proxy]:
        """Return a link to each node of the broker; network faults befall the first one."""
        return self._links("broker", [server.port for server in self._servers.rabbits])

    def database_links(self) -> dict[str, Proxy]:
        """Return a link to each host of the database; network faults befall the first one."""
        return self._links("database", [server.port for server in self._servers.databases])

    def _links(self, kind: str, ports: list[int]) -> dict[str, Proxy]:
        names = self._names(kind, len(ports))
        return {name: self.proxy(port) for name, port in zip(names, ports, strict=True)}

    def _names(self, kind: str, count: int) -> list[str]:
        return [kind, *(f"{kind}-{n}" for n in range(2, count + 1))]

    def amqp_url(self, links: Mapping[str, Proxy]) -> str:
        """Return AMQP_URL through these links."""
        return ",".join(
            f"{self._servers.rabbitmq.url(self._name, proxy.port)}?heartbeat={HEARTBEAT}"
            for proxy in links.values()
        )

    def mysql_url(self, links: Mapping[str, Proxy], password: str) -> str:
        """Return the MYSQL_URL of the trial's own account through these links."""
        return ",".join(
            f"mysql://{self._name}:{password}@127.0.0.1:{proxy.port}/{self._name}"
            for proxy in links.values()
        )

    def shape(self, proxy: Proxy, direction: Direction, shape: Shape) -> None:
        """Add an effect to a direction, besides its existing ones."""
        self._shapes.setdefault(id(direction), []).append(shape)
        self._apply(proxy, direction)

    def unshape(self, proxy: Proxy, direction: Direction, shape: Shape) -> None:
        """Remove an effect."""
        shapes = self._shapes[id(direction)]
        shapes[:] = [each for each in shapes if each is not shape]
        self._apply(proxy, direction)

    def _apply(self, proxy: Proxy, direction: Direction) -> None:
        shapes = self._shapes[id(direction)]
        direction.latency = max((shape.latency for shape in shapes), default=0.0)
        direction.rate = min((s.rate for s in shapes if s.rate is not None), default=None)
        if any(shape.hold for shape in shapes):
            proxy.hold(direction)
        else:
            proxy.release(direction)
