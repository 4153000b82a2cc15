"""What is removed can be kept in a file first."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from lab.harness import packages
from lab.harness.containers import Container
from lab.harness.database import USER
from lab.harness.servers import DEFAULT_FOLDER
from tests.pipeline import Pipeline
from turnwise.database import parse_url
from turnwise.message import Request
from worker.store import Store

ROOT = Path(__file__).parent.parent.parent


def request(counter: int, message: str = "m") -> Request:
    return Request("alice", counter, message, datetime(2026, 1, 31, tzinfo=UTC))


def test_removed_rows_can_be_archived_as_the_docs_show(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.run("worker", "migrate")
    with contextlib.closing(Store(parse_url(pipeline.mysql_url), "worker-1")) as store:
        store.write([request(1, "tab\tline\nend"), request(2)])
        store.open().query("UPDATE requests SET served_at = served_at - INTERVAL 31 DAY")
        store.write([request(3)])
    docs = (ROOT / "docs" / "operations.md").read_text()
    [command] = re.findall(r"```sh\n(mysql --defaults-file.*?)```", docs, re.DOTALL)
    server = pipeline.servers.database
    login = f"[client]\nuser={USER}\npassword={server.password}\nhost=127.0.0.1\n"
    environment = dict(os.environ)
    if isinstance(server.runner, Container):
        # By the client that is there: no other need know how this server's users log in.
        name = server.runner.name
        mysql = tmp_path / "mysql"
        mysql.write_text(
            f"#!/bin/sh -e\ndocker cp -q my.cnf {name}:/tmp/my.cnf\n"
            f'exec docker exec --workdir /tmp {name} mysql "$@"\n'
        )
        mysql.chmod(0o700)
        programs = str(tmp_path)
    else:
        login += f"port={server.port}\n"
        _, found = packages.find((DEFAULT_FOLDER / "packages").resolve())
        environment |= found.environment()
        programs = str(found.root / "usr" / "bin")
    (tmp_path / "my.cnf").write_text(login)
    subprocess.run(
        ["sh", "-ec", command.replace("counter_db", pipeline.name)],
        cwd=tmp_path,
        env={**environment, "PATH": f"{programs}:{os.environ['PATH']}"},
        check=True,
    )
    assert pipeline.run("worker", "prune", "--older-than", "30d").stdout == "removed 2 rows\n"
    head, *lines = (tmp_path / "old.tsv").read_text().splitlines()
    assert head.split("\t")[:3] == ["client", "counter", "message"]
    assert [line.split("\t")[:3] for line in lines] == [
        ["alice", "1", "tab\\tline\\nend"], ["alice", "2", "m"],
    ]  # fmt: skip
