"""Damage to a file while it is open: moved, deleted, replaced, truncated or overwritten.

Every operation raises an error that names the file. Nothing is skipped, deleted or written in part,
no new file is created in its place, and the same store works again once the file is restored.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream

from helpers.processes import python, run_python
from helpers.sqlite import check_integrity
from helpers.sqlite_internals import (
    Connection,
    is_reopening,
    make_read_only,
    open_connections,
    queued_writes,
    report_every_file_as_present,
    write,
)
from tower_memory import SessionError, SqliteSessionStore, Turn

TURNS = [Turn("s", [{"n": n, "text": "x" * 500}]) for n in range(60)]
ITEMS = [turn.items[0] for turn in TURNS]


@pytest.fixture
def tmp_path():
    """Return a folder on a disk: there a new file may get the inode number of a deleted one."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder)


def empty_log(path):
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def moved(path):
    path.rename(path.with_suffix(".moved"))
    yield
    path.with_suffix(".moved").rename(path)


def deleted(path):
    empty_log(path)
    shutil.copy(path, path.with_suffix(".copy"))
    path.unlink()
    yield
    shutil.copy(path.with_suffix(".copy"), path)


def deleted_with_its_side_files(path):
    files = [path, Path(f"{path}-wal"), Path(f"{path}-shm")]
    copies = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    yield
    for file, copy in zip(files[:2], copies, strict=False):
        file.write_bytes(copy)


def replaced_by_what_is_no_database(path):
    path.rename(path.with_suffix(".moved"))
    path.write_text("something else\n" * 1000)
    yield
    path.with_suffix(".moved").rename(path)


PAGE = 1024


def overwritten(path, start, end):
    """Overwrite *path* from *start* to *end* with garbage, until the generator continues."""
    empty_log(path)
    with path.open("r+b") as file:
        whole = file.read()
        file.seek(start)
        file.write(b"\xa5" * (min(end, len(whole)) - start))
        file.flush()
        yield
        file.seek(0)
        file.write(whole)


def the_header_garbage(path):
    return overwritten(path, 0, PAGE)


def every_other_page_garbage(path):
    return overwritten(path, PAGE, 2**30)


def cut(path, length):
    empty_log(path)
    whole = path.read_bytes()
    os.truncate(path, length)
    yield
    with path.open("r+b") as file:
        file.write(whole)


def truncated(path):
    return cut(path, 2 * PAGE)


def emptied(path):
    return cut(path, 0)


DAMAGES = [
    moved,
    deleted,
    deleted_with_its_side_files,
    replaced_by_what_is_no_database,
    the_header_garbage,
    every_other_page_garbage,
    truncated,
    emptied,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
async def test_a_damaged_file_raises_and_the_same_store_works_once_the_file_is_restored(
    tmp_path, damage
):
    path = tmp_path / "sessions.db"
    async with SqliteSessionStore(path) as store, SqliteSessionStore(path) as other:
        for turn in TURNS:
            await store.append(turn)
        assert await other.load("s") == ITEMS

        damaging = damage(path)
        next(damaging)
        there = path.read_bytes() if path.exists() else None
        late = Turn("s", ["late"])

        for operation, argument in [
            (store.load, "s"),
            (store.append, late),
            (store.pop, "s"),
            (store.clear, "s"),
            (other.load, "s"),
        ] * 2:
            with pytest.raises(SessionError) as caught:
                await operation(argument)
            assert str(path) in str(caught.value)
            assert caught.value.session_id == "s"

        assert (path.read_bytes() if path.exists() else None) == there

        list(damaging)
        assert await store.load("s") == ITEMS

        await store.append(late)
        assert await other.load("s") == [*ITEMS, "late"]
        assert await other.pop("s") == "late"

        await store.clear("s")

    check_integrity(path)


async def meet_fault_and_restore(store, path):
    """Let *store* meet a fault in the file at *path*, and restore the file."""
    await store.append(TURNS[0])
    damaging = emptied(path)
    next(damaging)
    with pytest.raises(SessionError):
        await store.load("s")
    list(damaging)


async def test_all_callers_are_served_once_a_file_is_restored(tmp_path):
    path = tmp_path / "sessions.db"
    async with SqliteSessionStore(path) as store:
        await meet_fault_and_restore(store, path)
        async with anyio.create_task_group() as tasks:
            for turn in TURNS:
                tasks.start_soon(store.append, turn)
                tasks.start_soon(store.load, "s")
        assert len(await store.load("s")) == len(TURNS)


async def test_a_store_closed_while_it_reopens_a_restored_file_finishes_its_calls_first(tmp_path):
    path = tmp_path / "sessions.db"
    open_before = open_connections()  # other tests leave files open on purpose
    store = SqliteSessionStore(path)
    await meet_fault_and_restore(store, path)
    loaded = []

    async def load():
        loaded.append(await store.load("s"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(load)
        while not is_reopening(store):
            await anyio.lowlevel.checkpoint()
        await store.aclose()
        assert loaded == [ITEMS[:1]]
        assert open_connections() == open_before


async def test_a_write_ahead_log_that_was_deleted_raises_once_and_nothing_is_lost(tmp_path):
    path = tmp_path / "sessions.db"
    async with SqliteSessionStore(path) as store:
        for turn in TURNS:
            await store.append(turn)
        assert await store.load("s") == ITEMS
        Path(f"{path}-wal").unlink()  # noqa: ASYNC240 - the test deletes it
        late = Turn("s", ["late"])
        with pytest.raises(SessionError, match="or a file beside it, was deleted or replaced"):
            await store.append(late)
        await store.append(late)
        assert await store.load("s") == [*ITEMS, "late"]

    check_integrity(path)


async def test_a_shared_memory_file_that_was_deleted_raises_once_and_nothing_is_lost(tmp_path):
    path = tmp_path / "sessions.db"
    async with SqliteSessionStore(path) as store, SqliteSessionStore(path) as other:
        await store.append(TURNS[0])
        for turn in TURNS[1:3]:
            Path(f"{path}-shm").unlink()  # noqa: ASYNC240 - the test deletes it
            with pytest.raises(SessionError, match="or a file beside it, was deleted or replaced"):
                await store.append(turn)
            await store.append(turn)
        assert await other.load("s") == ITEMS[:3]
    check_integrity(path)


CUT_SHARED_MEMORY = """
import os, sys, anyio
from tower_memory import SessionError, SqliteSessionStore, Turn

async def main():
    async with SqliteSessionStore(sys.argv[1]) as store, SqliteSessionStore(sys.argv[1]) as other:
        for number in range(3):
            await store.append(Turn("s", [number]))
            os.truncate(sys.argv[1] + "-shm", 0)
            try:
                await store.load("s")
            except SessionError as error:
                print(error)
        print(list(await other.load("s")))

anyio.run(main, backend=sys.argv[2])
"""


def test_a_shared_memory_file_that_was_cut_raises_once_and_nothing_is_lost(path, anyio_backend):
    done = run_python(CUT_SHARED_MEMORY, path, anyio_backend)
    assert done.returncode == 0, done.stderr
    *errors, items = done.stdout.splitlines()
    assert errors == [f"session 's': {path}: its shared memory file was cut while it was open"] * 3
    assert items == "[0, 1, 2]"
    check_integrity(path)


async def test_a_refused_turn_is_not_saved_later(tmp_path):
    path, moved, new = (tmp_path / name for name in ("sessions.db", "moved.db", "new.db"))
    await backup(new, ["backup"])

    async with SqliteSessionStore(path) as store:
        await store.append(TURNS[0])
        path.rename(moved)
        for turn in TURNS:
            with pytest.raises(SessionError):
                await store.append(turn)
        assert not queued_writes(store)
        new.rename(path)
        await store.append(Turn("other", ["late"]))
        assert await store.load("s") == ["backup"]


async def test_a_log_deleted_under_two_processes_loses_no_turn(tmp_path):
    path = tmp_path / "sessions.db"
    async with SqliteSessionStore(path) as store:
        await store.append(TURNS[0])
        command = python(ANOTHER_PROCESS, path)

        async with await anyio.open_process(command, stderr=None) as other:
            said = BufferedByteReceiveStream(other.stdout)
            assert await said.receive_until(b"\n", 100) == b"saved"

            await store.append(TURNS[1])
            Path(f"{path}-wal").unlink()  # noqa: ASYNC240 - the test deletes it

            with pytest.raises(SessionError, match="was deleted or replaced"):
                await store.append(TURNS[2])

            await store.append(TURNS[2])
            await other.stdin.send(b"\n")

            assert b"was deleted or replaced" in await said.receive_until(b"\n", 1000)

            await store.append(TURNS[3])

        expected = [ITEMS[0], "of another process", *ITEMS[1:4]]
        assert await store.load("s") == expected

    check_integrity(path)


READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("BEGIN")
connection.execute("SELECT * FROM memory_turn").fetchone()
print("reads", flush=True)
input()
"""


async def test_a_new_file_is_not_opened_while_another_process_reads_the_old_one(tmp_path):
    path, new = tmp_path / "sessions.db", tmp_path / "new.db"
    await backup(new, ["backup"])

    async with SqliteSessionStore(path) as store:
        await store.append(TURNS[0])
        command = python(READER, path)

        async with await anyio.open_process(command, stderr=None) as reader:
            assert await reader.stdout.receive() in (b"reads", b"reads\n")
            await store.append(TURNS[1])
            new.rename(path)
            for _ in range(3):
                with pytest.raises(SessionError, match="was deleted or replaced"):
                    await store.append(TURNS[2])
            await reader.stdin.send(b"\n")
            await reader.wait()

        await store.append(TURNS[2])
        assert await store.load("s") == ["backup", ITEMS[2]]

    check_integrity(path)


async def backup(path, items):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", items))


async def test_a_file_replaced_by_another_raises_once_and_both_are_whole(tmp_path):
    path, moved, new = (tmp_path / name for name in ("sessions.db", "moved.db", "new.db"))
    await backup(new, ["backup"])

    async with SqliteSessionStore(path) as store:
        for turn in TURNS:
            await store.append(turn)
        path.rename(moved)
        new.rename(path)
        late = Turn("s", ["late"])
        with pytest.raises(SessionError, match="was deleted or replaced while it was open"):
            await store.append(late)
        await store.append(late)
        assert await store.load("s") == ["backup", "late"]

    async with SqliteSessionStore(moved) as store:
        assert await store.load("s") == ITEMS
    check_integrity(path)
    check_integrity(moved)


def test_an_unused_connection_to_a_replaced_file_does_not_change_the_new_file(tmp_path):
    path, new = tmp_path / "sessions.db", tmp_path / "new.db"
    unused = Connection(str(path))
    with closing(sqlite3.connect(new, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("CREATE TABLE t (a)")
        new.rename(path)
        Path(f"{new}-wal").rename(f"{path}-wal")
        Path(f"{new}-shm").rename(f"{path}-shm")
        written = Path(f"{path}-wal").read_bytes()
        unused.close()
        assert Path(f"{path}-wal").read_bytes() == written != b""


def test_a_file_replaced_before_its_connection_was_used_is_detected(tmp_path):
    path, new = tmp_path / "sessions.db", tmp_path / "new.db"
    new.touch()
    with closing(Connection(str(path), isolation_level=None)) as opened:
        new.rename(path)
        make_read_only(opened)
        with pytest.raises(sqlite3.OperationalError, match="was deleted or replaced"):
            make_read_only(opened)


async def test_a_file_deleted_while_it_is_reopened_is_not_created_again(tmp_path, monkeypatch):
    path = tmp_path / "sessions.db"
    async with SqliteSessionStore(path) as store:
        await meet_fault_and_restore(store, path)
        path.unlink()
        report_every_file_as_present(monkeypatch)
        with pytest.raises(SessionError, match=str(path)):
            await store.load("s")
        assert not path.exists()


async def test_a_fault_in_a_database_in_memory_loses_no_items():
    def fail(connection):
        msg = "a fault"
        raise sqlite3.OperationalError(msg)

    async with SqliteSessionStore.in_memory() as store:
        await store.append(TURNS[0])
        with pytest.raises(SessionError, match="a fault"):
            await write(store, fail)
        assert await store.load("s") == ITEMS[:1]


ANOTHER_PROCESS = """
import sys, anyio
from tower_memory import SessionError, SqliteSessionStore, Turn

async def main():
    async with SqliteSessionStore(sys.argv[1]) as store:
        await store.append(Turn("s", ["of another process"]))
        print("saved", flush=True)
        input()
        try:
            await store.append(Turn("s", ["too late"]))
        except SessionError as error:
            print(error)

anyio.run(main)
"""


async def test_a_file_replaced_under_two_processes_gets_nothing_of_the_old_one(tmp_path):
    path, new = tmp_path / "sessions.db", tmp_path / "new.db"
    await backup(new, ["backup"])

    async with SqliteSessionStore(path) as store:
        await store.append(TURNS[0])
        command = python(ANOTHER_PROCESS, path)

        async with await anyio.open_process(command, stderr=None) as other:
            said = BufferedByteReceiveStream(other.stdout)
            assert await said.receive_until(b"\n", 100) == b"saved"
            new.rename(path)
            with pytest.raises(SessionError, match="was deleted or replaced"):
                await store.load("s")
            for turn in TURNS:
                await store.append(turn)
            await other.stdin.send(b"\n")
            assert b"was deleted or replaced" in await said.receive_until(b"\n", 1000)

        assert await store.load("s") == ["backup", *ITEMS]

    async with SqliteSessionStore(path) as store:
        assert await store.load("s") == ["backup", *ITEMS]
    check_integrity(path)


@pytest.fixture
def own_folder():
    """Give a folder to a user other than root, and run as this user meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        root = os.geteuid() == 0
        if root:
            os.chown(folder, 65534, 65534)
            os.seteuid(65534)
        yield Path(folder)
        if root:
            os.seteuid(0)


async def test_a_read_only_file_is_refused_until_it_is_writable(own_folder):
    path = own_folder / "sessions.db"
    store = SqliteSessionStore(path)
    await store.append(TURNS[0])
    await store.aclose()
    path.chmod(0o400)

    for operation, argument in [(store.append, TURNS[1]), (store.load, "s")]:
        with pytest.raises(SessionError, match=f"cannot open {path}: Permission denied"):
            await operation(argument)

    path.chmod(0o600)
    await store.append(TURNS[1])

    assert await store.load("s") == ITEMS[:2]

    await store.aclose()


async def test_a_folder_without_permission_raises_and_works_again_with_permission(own_folder):
    path = own_folder / "sessions.db"
    async with SqliteSessionStore(path) as store:
        await store.append(TURNS[0])
        own_folder.chmod(0)
        for operation, argument in [(store.append, TURNS[1]), (store.load, "s")] * 2:
            with pytest.raises(SessionError, match=f"{path}: Permission denied"):
                await operation(argument)
        own_folder.chmod(0o700)
        await store.append(TURNS[1])
        assert await store.load("s") == ITEMS[:2]


DISK_FULL = """
import resource, sys, anyio
from helpers.layers import memory_over
from tower_memory import SaveError, SessionError, SqliteSessionStore

async def main():
    path, backend = sys.argv[1:]
    async def model(messages):
        return "x" * 2000
    async with SqliteSessionStore(path) as store:
        chat = memory_over(store)(model)
        await chat([{"role": "user", "content": "0"}])
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
        said = 1
        failures = []
        while len(failures) < 5:
            try:
                await chat([{"role": "user", "content": str(said)}])
                said += 1
            except SaveError as error:
                assert error.response == "x" * 2000
                failures.append(error)
            except SessionError as error:
                failures.append(error)
            assert path in str(failures or path), failures
        print(failures[0])
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        stored = [item["content"] for item in await store.load("s")]
        assert stored[::2] == [str(n) for n in range(said)], stored[::2]
        assert set(stored[1::2]) == {"x" * 2000}
        for error in failures:
            if isinstance(error, SaveError):
                await store.append(error.turn)
        await chat([{"role": "user", "content": "last"}])
        assert (await store.load("s"))[-2]["content"] == "last"

anyio.run(main, backend=sys.argv[2])
"""


def test_a_full_disk_raises_and_once_there_is_room_everything_returned_is_there(
    tmp_path, anyio_backend
):
    path = tmp_path / "sessions.db"
    done = run_python(DISK_FULL, path, anyio_backend)
    assert done.returncode == 0, done.stderr
    assert str(path) in done.stdout
    check_integrity(path)
