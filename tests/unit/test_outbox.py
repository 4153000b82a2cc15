"""The outbox's file: removed, of another program or release, full, and small again."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from producer.outbox import Outbox, OutboxFull, Status, read_status
from turnwise.errors import InvalidRequest, OutboxError
from turnwise.message import Request


def killed_with_an_open_outbox(path: Path, messages: int) -> str:
    """Accept in a process that ends by SIGKILL; return the client's name."""
    script = f"""
        import os, signal
        from pathlib import Path
        from producer.outbox import Outbox
        outbox = Outbox(Path({str(path)!r}), "alice")
        outbox.accept(["old"] * {messages})
        print(outbox.client, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done.stdout.strip()


def messages(outbox: Outbox) -> list[str]:
    """What waits in it, read as a worker would."""
    requests = [(n, Request.receive(*written)) for n, *written in outbox.after(0, 10_000)]
    assert [(outbox.client, n) for n, _ in requests] == [(r.client, r.counter) for _, r in requests]
    return [request.message for _, request in requests]


@pytest.mark.parametrize("accepted", [1, 20, 5000])
def test_nothing_of_a_removed_outbox_reappears_after_a_kill(tmp_path: Path, accepted: int) -> None:
    path = tmp_path / "outbox.db"
    old = killed_with_an_open_outbox(path, accepted)
    assert (tmp_path / "outbox.db-wal").stat().st_size > 0
    path.unlink()  # and leave what SQLite keeps beside it
    for expected in ([1], [2]):
        with Outbox(path, "alice") as outbox:
            assert outbox.client != old
            assert list(outbox.accept(["new"])) == expected
            assert outbox.status == Status(outbox.client, expected[0], 0, expected[0])
            assert set(messages(outbox)) == {"new"}


def test_a_killed_producers_outbox_can_be_reopened(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    old = killed_with_an_open_outbox(path, 20)
    assert read_status(path) == Status(old, 20, 0, 20)
    with Outbox(path) as outbox:
        assert outbox.client == old
        assert list(outbox.accept(["new"])) == [21]


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_another_programs_database_is_not_touched(tmp_path: Path, journal: str) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute(f"PRAGMA journal_mode = {journal}")
        other.execute("CREATE TABLE requests (counter)")
    other.close()
    before = path.read_bytes(), path.stat().st_mtime_ns, sorted(tmp_path.iterdir())
    with pytest.raises(OutboxError, match="another program's file"):
        read_status(path)
    assert (path.read_bytes(), path.stat().st_mtime_ns, sorted(tmp_path.iterdir())) == before
    with pytest.raises(OutboxError, match="another program's file"):
        Outbox(path)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before[:2]


def test_an_outbox_of_the_first_release_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    with sqlite3.connect(path) as db:
        db.executescript("""
            CREATE TABLE client (
                only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
                base TEXT NOT NULL, name TEXT NOT NULL, accepted INTEGER NOT NULL
            );
            CREATE TABLE requests (
                counter INTEGER PRIMARY KEY, message TEXT NOT NULL, sent_at TEXT NOT NULL
            );
            PRAGMA application_id = 0x7475726E;
            PRAGMA user_version = 1;
            PRAGMA journal_mode = WAL;
            INSERT INTO client VALUES (1, 'alice', 'alice-abcdef', 7);
            INSERT INTO requests VALUES (6, 'six', '2026-01-01T00:00:00+00:00');
            INSERT INTO requests VALUES (7, 'seven', '2026-01-01T00:00:00+00:00');
        """)
    db.close()
    assert read_status(path) == Status("alice-abcdef", 7, 5, 2)
    with Outbox(path) as outbox:
        assert outbox.status == Status("alice-abcdef", 7, 5, 2)
        assert messages(outbox) == ["six", "seven"]
        assert list(outbox.accept(["eight"])) == [8]
        outbox.forget([(6, 7)])
    assert read_status(path) == Status("alice-abcdef", 8, 7, 1)


def test_a_newer_releases_outbox_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    Outbox(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    for use in (read_status, Outbox):
        with pytest.raises(OutboxError, match="it has version 99"):
            use(path)


def test_figures_need_no_count_of_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    with Outbox(path, "alice") as outbox:
        outbox.accept(["m"] * 10)
        outbox.forget([(1, 2), (5, 5)])
        expected = Status(outbox.client, 10, 3, 7)
        assert outbox.status == expected
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE requests")
    db.close()
    assert read_status(path) == expected


def fill(outbox: Outbox) -> None:
    for _ in range(100):
        outbox.accept(["m" * 1000] * 100)


def test_nothing_is_accepted_at_the_limit_until_something_is_confirmed(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    limit = 4 * 1024**2
    with Outbox(path, "alice", limit) as outbox:
        with pytest.raises(OutboxFull, match=r"full: [\d,]+ requests are waiting, taking 4 MiB"):
            fill(outbox)
        accepted = outbox.accepted
        assert outbox.full
        assert accepted == outbox.waiting > 3000
        # It continues, and no number is skipped.
        outbox.forget([(1, 1000)])
        assert list(outbox.accept(["m"])) == [accepted + 1]
    assert limit <= path.stat().st_size < limit + 200_000
    # What a larger outbox holds is not lost by a smaller limit.
    with Outbox(path, "alice", 1024**2) as outbox:
        with pytest.raises(OutboxFull):
            outbox.accept(["m"])
        assert outbox.waiting == accepted + 1 - 1000


def test_the_file_shrinks_when_little_is_left(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    with Outbox(path, "alice") as outbox:
        for _ in range(60):
            outbox.accept(["m" * 1000] * 500)
        outbox.forget([(1, 1)])
        assert path.stat().st_size > 30_000_000
        # In the midst of it, while another process looks on.
        with sqlite3.connect(path) as other:
            other.execute("SELECT COUNT(*) FROM requests").fetchone()
            outbox.forget([(2, 29_000)])
        other.close()
        outbox.accept(["m"])
        sizes = [each.stat().st_size for each in tmp_path.iterdir()]
        assert sum(sizes) < 12_000_000, sizes
        assert outbox.status == read_status(path)
        assert [n for n, *_ in outbox.after(0, 2000)] == list(range(29_001, 30_002))
    assert path.stat().st_size < 2_000_000


def test_the_file_shrinks_on_close(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    with Outbox(path, "alice") as outbox:
        for _ in range(10):
            outbox.accept(["m" * 16_000] * 200)
        outbox.forget([(1, 2000)])
    assert path.stat().st_size < 100_000
    with Outbox(path) as outbox:
        assert list(outbox.accept(["m"])) == [2001]


def test_numbers_continue_where_they_stopped(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    with Outbox(path, "alice") as outbox:
        name = outbox.client
        assert list(outbox.accept(["a", "b"])) == [1, 2]
        outbox.forget([(1, 2)])
        assert (outbox.accepted, outbox.waiting) == (2, 0)
    with Outbox(path, "alice") as outbox:
        assert outbox.client == name
        assert list(outbox.accept(["c"])) == [3]
        assert [Request.receive(*each).message for _, *each in outbox.after(0, 10)] == ["c"]


def test_a_new_client_starts_after_the_outbox_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    names = set()
    for _ in range(10):
        with Outbox(path, "alice") as outbox:
            outbox.accept(["hello"])
            names.add(outbox.client)
        path.unlink()
    assert len(names) == 10
    assert all(name.startswith("alice-") for name in names)


def test_messages_are_accepted_all_or_none(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.db", "alice") as outbox:
        with pytest.raises(InvalidRequest):
            outbox.accept(["good", "bad" * 16 * 1024])
        assert read_status(outbox.path).accepted == 0
        assert list(outbox.accept(["good"])) == [1]


def test_an_outbox_belongs_to_one_client_and_one_process(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    with Outbox(path, "alice"), pytest.raises(OutboxError, match=f"process {os.getpid()}"):
        Outbox(path, "alice")
    with pytest.raises(OutboxError, match="belongs to client 'alice-"):
        Outbox(path, "bob")
    with Outbox(path):  # a failed attempt leaves no lock behind
        pass


def test_other_users_cannot_read_the_outbox(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    with Outbox(path, "alice") as outbox:
        outbox.accept(["secret"])
        files = list(tmp_path.iterdir())
        assert {oct(f.stat().st_mode & 0o777) for f in files} == {"0o600"}


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"not a database" * 100, "not an outbox"), (b"SQLite format 3\0" + b"\1" * 4000, "outbox")],
)
def test_a_damaged_file_is_reported_and_kept(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "outbox.db"
    path.write_bytes(content)
    with pytest.raises(OutboxError, match=said):
        Outbox(path)
    assert path.read_bytes() == content


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE requests (counter)")
    other.close()
    with pytest.raises(OutboxError, match="another program"):
        Outbox(path)
