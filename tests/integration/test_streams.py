"""Every command with standard streams that are closed, full or unread."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest

from lab.harness.commands import BIN
from turnwise import streams
from turnwise.errors import ExitCode

HELP = ["producer -h", "producer send --help", "worker --help", "dashboard -h", "lab trial -h"]
FAILS = ["producer status", "worker audit --nonsense", "lab env --folder /nonesuch"]


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AMQP_URL", "amqp://127.0.0.1:1/")
    monkeypatch.setenv("MYSQL_URL", "mysql://u:p@127.0.0.1:1/db")
    monkeypatch.setenv("PRODUCER_OUTBOX", str(tmp_path / "outbox.db"))


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """Run a line of the shell, with the project's commands in front."""
    return subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("command", HELP)
def test_unwritable_output_is_a_one_line_error(command: str) -> None:
    for target, why in (("/dev/full", "No space left on device"), ("&-", "it is closed")):
        done = shell(f"{command} >{target}")
        assert done.returncode == ExitCode.STORAGE
        program = command.split(maxsplit=1)[0]
        assert done.stderr == f"{program}: cannot write standard output: {why}\n"


@pytest.mark.parametrize("command", HELP)
def test_output_without_a_reader_is_no_error_message(command: str) -> None:
    done = shell(f"{command} | true; exit ${{PIPESTATUS[0]}}")
    assert done.returncode == streams.BROKEN_PIPE == 141
    assert done.stderr == ""


@pytest.mark.parametrize("command", HELP + FAILS)
def test_standard_error_does_not_matter(command: str) -> None:
    plain = shell(command)
    assert "Traceback" not in plain.stderr
    for target in ("/dev/full", "&-", "/dev/null"):
        done = shell(f"{command} 2>{target}")
        assert (done.returncode, done.stdout) == (plain.returncode, plain.stdout), target


def test_the_descriptor_of_a_closed_stream_is_not_reused(tmp_path: Path) -> None:
    """The next file opened would get it, and be written to as if it were the stream."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\n"
        "from turnwise import streams\n"
        "streams.guard()\n"
        f"opened = os.open({str(tmp_path / 'precious')!r}, os.O_RDWR | os.O_CREAT)\n"
        "assert opened > 2, opened\n"
        "print('lost', file=sys.stderr)\n"
        "os.system('echo lost; echo lost >&2')\n"
    )
    done = shell(f"{BIN / 'python'} {script} <&- >&- 2>&-")
    assert done.returncode == 0
    assert (tmp_path / "precious").read_bytes() == b""


def test_an_unwritable_log_does_not_stop_a_worker() -> None:
    for target in ("/dev/full", "&-"):
        command = f"exec worker run --http 0 2>{target}"
        worker = subprocess.Popen(
            ["bash", "-c", command],
            env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
        )
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(3)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == ExitCode.OK


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {}])
def test_colours_and_live_lines_are_for_terminals_that_have_them(
    environment: dict[str, str],
) -> None:
    script = (
        "import click\n"
        "from turnwise import cli, streams\n"
        "group = cli.Group(name='group')\n"
        "@group.command()\n"
        "def command():\n"
        "    click.secho('red', fg='red')\n"
        "    click.echo(streams.is_live())\n"
        "group(['command'])\n"
    )
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [BIN / "python", "-c", script],
        env={**os.environ, "TERM": "xterm", "NO_COLOR": "", **environment},
        stdout=theirs, stderr=theirs, check=False,
    )  # fmt: skip
    os.close(theirs)
    said = os.read(ours, 1000).decode()
    os.close(ours)
    assert done.returncode == 0
    assert ("\x1b[31m" in said) == (not environment)
    assert ("True" in said) == (environment.get("TERM") != "dumb")
