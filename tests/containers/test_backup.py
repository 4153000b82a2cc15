"""The backup and restore commands of docs/operations.md, run verbatim and in order."""

from __future__ import annotations

import re

import pytest

from tests.containers.stack import ROOT, Stack

pytestmark = pytest.mark.timeout(600)

SECTION = re.findall(
    r"## Backup and restore\n(.*?)\n## ", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL
)[0]
DUMP, RESTORE, LOOK, REPLAY, COPY_QUEUE, RESTORE_QUEUE = re.findall(
    r"```sh\n(.*?)```", SECTION, re.DOTALL
)
FUNCTION = DUMP[: DUMP.index("}\n") + 2]


def test_a_dropped_table_is_restored_with_every_served_request(stack: Stack) -> None:
    stack.send(300)
    stack.wait_served(stack.accepted())
    stack.shell(DUMP)
    stack.send(200)
    stack.wait_served(stack.accepted())
    stack.query("DROP TABLE counter_db.requests")
    # These are unsettled or queued while the table does not exist.
    stack.send(100)
    stack.shell(FUNCTION + RESTORE)
    assert stack.served() == stack.accepted() - 300
    [(log, start)] = re.findall(
        r"LOG_FILE='(\S+)', SOURCE_LOG_POS=(\d+)", (stack.folder / "counter_db.sql").read_text()
    )
    where = f"LOG={log} START={start}\n{FUNCTION}"
    shown = stack.shell(where + LOOK)
    stop = re.findall(r"# at (\d+)", shown[: shown.index("DROP TABLE")])[-1]
    said = stack.shell(f"STOP={stop} {where}{REPLAY}")
    assert re.search(r"outside-\S+ +\S+ +\S+ +0 +0 ", said), said
    stack.wait_served(stack.accepted())
    stack.wait_audit()


def test_a_queue_is_restored_on_a_blank_volume(stack: Stack) -> None:
    # Nothing may be published between the copy and the loss: requests confirmed then are lost.
    stack.compose("stop", "worker", "producer")
    stack.send(100)
    stack.shell(COPY_QUEUE)
    stack.compose("rm", "--stop", "--force", "rabbitmq")
    stack.run("docker", "volume", "rm", f"{stack.project}_rabbitmq")
    stack.compose("create", "rabbitmq")
    stack.shell(RESTORE_QUEUE)
    stack.up()
    stack.wait_served(stack.accepted())
    stack.wait_audit()


def test_the_queue_survives_a_new_container(stack: Stack) -> None:
    """Its data is stored under the host name, which is fixed."""
    stack.compose("stop", "worker", "producer")
    stack.send(100)
    before = stack.inspect(stack.the_one("rabbitmq"), ".Id")
    stack.compose("up", "--detach", "--force-recreate", "--no-deps", "--wait", "rabbitmq")
    assert stack.inspect(stack.the_one("rabbitmq"), ".Id") != before
    stack.wait(lambda: (stack.messages() or 0) >= 100, "all are there")
    stack.up()
    stack.wait_served(stack.accepted())
    stack.wait_audit()
