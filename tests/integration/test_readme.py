"""Every command of the README's table, run."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from lab.harness.process import free_port
from tests.pipeline import Pipeline

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
[TABLE] = re.findall(r"\| to \| run \|\n\|[-|]+\n((?:\|.*\n)+)", README)
[HANDLER] = re.findall(r"```python\n(# orders\.py\n.*?)```", README, re.DOTALL)
ELSEWHERE = {"lab trial", "lab bench"}
"""They take minutes, and have tests of their own."""


def shown() -> set[str]:
    """Return the table's commands; ```x list`, `show`` is short for `x list`, `x show`."""
    commands = set()
    for row in TABLE.splitlines():
        first = ""
        for each in re.findall(r"`([^`]+)`", row.rpartition(" | ")[2]):
            if re.match(r"(?:producer|worker|dashboard|lab)\b", each):
                first = each
                commands.add(each)
            else:
                commands.add(f"{first.rpartition(' ')[0]} {each}")
    return commands - ELSEWHERE


def test_every_command_of_the_table_does_what_it_says(pipeline: Pipeline) -> None:
    left = shown()

    def words(command: str) -> list[str]:
        left.remove(command)
        return command.partition(" <")[0].split()

    # Sent before any worker runs: it waits in the queue.
    hello = pipeline.start("hello", *words("producer send hello"))
    pipeline.wait_client()
    pipeline.wait(lambda: pipeline.status()["confirmed"] >= 1, "a confirm")
    hello.signal(signal.SIGINT)
    assert hello.wait(20) == 0
    pipeline.run(*words("producer send --stdin < file"), stdin="one\ntwo\n")
    assert pipeline.client() in pipeline.run(*words("producer status")).stdout
    pipeline.run(*words("producer flush"))
    sent = pipeline.status()["accepted"]

    worker = pipeline.start("turns", *words("worker run"))
    pipeline.wait_event(worker, "worker.consuming")
    pipeline.wait_served(1)
    worker.stop(30)
    worker = pipeline.start("drain", *words("worker run --prefetch 500"))
    pipeline.wait_served(sent)
    worker.stop(30)
    assert pipeline.client() in pipeline.run(*words("worker audit")).stdout

    door = pipeline.start(
        "door", *words("producer serve"), PRODUCER_HTTP=f"127.0.0.1:{free_port()}"
    )
    pipeline.wait_event(door, "door.serving")
    relay = pipeline.start("relay", *words("producer relay"))
    pipeline.wait_event(relay, "relay.working")
    page = pipeline.start("page", *words("dashboard"), DASHBOARD_PORT=str(free_port()))
    pipeline.wait_event(page, "dashboard.serving")

    # The handler of the first screen: an order it serves, one it rejects, and a non-order.
    (pipeline.folder / "orders.py").write_text(HANDLER)
    query = pipeline.servers.database.query
    query("CREATE TABLE stock (sku INT PRIMARY KEY, items INT)", name=pipeline.name)
    query("INSERT INTO stock VALUES (1, 10)", name=pipeline.name)
    folder = str(pipeline.folder)
    command = words("worker run --handler orders:serve")
    pipeline.start("handler", *command, PYTHONPATH=folder)
    client = pipeline.send('{"sku": 1, "items": 3}', '{"sku": 1, "items": 0}', "nonsense")
    pipeline.wait_served(sent + 1)
    assert query("SELECT items FROM stock", name=pipeline.name) == [(7,)]
    failed = words("worker failed list")
    pipeline.wait(lambda: pipeline.run(*failed).stdout.count(client) >= 2, "two failures")
    refused, broken = f"{client}/{sent + 2}", f"{client}/{sent + 3}"
    assert "nothing was ordered" in pipeline.run(*words("worker failed show"), refused).stdout
    pipeline.run(*words("worker failed retry"), refused)
    pipeline.run(*words("worker failed drop"), broken)

    pipeline.publish(b"no request")
    dead = words("worker dead list")
    pipeline.wait(lambda: "invalid" in pipeline.run(*dead).stdout, "a dead letter")
    pipeline.run(*words("worker dead replay"), "--all")
    pipeline.wait(lambda: "invalid" in pipeline.run(*dead).stdout, "it comes back")
    pipeline.run(*words("worker dead drop"), "--all")
    assert left == set()
