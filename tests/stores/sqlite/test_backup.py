"""Copies of an open database."""

from __future__ import annotations

import stat
import threading

import anyio
import pytest

from helpers.cancelling import cancel_at_every_suspension, every_cancellation
from helpers.messages import ITEM
from helpers.sqlite import check_integrity, locked
from helpers.sqlite_internals import (
    Connection,
    is_reopening,
    open_again_at_next_use,
    replace_connections_of_backups,
)
from helpers.waiting import until
from tower_memory import SessionError, SqliteSessionStore, Turn

MANY = [{"n": n, "text": "x" * 500} for n in range(4000)]  # several steps of a backup


@pytest.fixture(params=["file", "memory"])
async def source(request, path):
    """Return a store with a session s of one item, in a file or in memory."""
    async with SqliteSessionStore(path if request.param == "file" else ":memory:") as store:
        await store.append(Turn("s", [ITEM]))
        yield store


async def test_a_copy_holds_what_was_saved_and_is_an_ordinary_file(source, tmp_path):
    copy = tmp_path / "copy.db"
    await source.backup(copy)
    await source.append(Turn("s", ["later"]))
    check_integrity(copy)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600

    async with SqliteSessionStore(copy) as store:
        assert await store.load("s") == [ITEM]
        await store.append(Turn("s", ["in the copy"]))
    assert await source.load("s") == [ITEM, "later"]


async def test_a_relative_path_is_one_in_the_current_folder(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    await source.backup("copy.db")
    assert (tmp_path / "copy.db").exists()


async def test_a_path_that_exists_is_refused_and_stays_as_it_is(source, tmp_path):
    there, dangling = tmp_path / "there.db", tmp_path / "dangling.db"
    there.write_text("something else")
    dangling.symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.iterdir())

    for target in (there, dangling):
        with pytest.raises(SessionError, match=f"to {target}: it exists; choose the path of a new"):
            await source.backup(target)

    assert sorted(tmp_path.iterdir()) == before
    assert there.read_text() == "something else"


@pytest.mark.parametrize(
    ("target", "error"),
    [(":memory:", ValueError), ("", ValueError), ("a\0b", ValueError), (b"a.db", TypeError)],
)
async def test_a_path_that_no_file_can_have_is_refused_by_name(source, target, error):
    with pytest.raises(error, match="path"):
        await source.backup(target)


async def test_a_copy_that_cannot_be_written_is_an_error_and_the_store_works(source, tmp_path):
    target = tmp_path / "missing" / "copy.db"
    with pytest.raises(SessionError, match=f"cannot write a backup to {target}: No such file"):
        await source.backup(target)
    assert await source.load("s") == [ITEM]


async def test_loads_and_saves_go_on_during_a_backup_and_are_not_in_it(path, tmp_path, monkeypatch):
    reached, go_on = threading.Event(), threading.Event()

    class Slow(Connection):
        def backup(self, target, *, pages, progress):
            def wait(*status):
                reached.set()
                go_on.wait()
                progress(*status)

            super().backup(target, pages=pages, progress=wait)

    replace_connections_of_backups(monkeypatch, Slow)
    copy = tmp_path / "copy.db"
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", MANY))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.backup, copy)
            await until(reached.is_set)
            await store.append(Turn("s", ["meanwhile"]))
            assert (await store.load("s"))[-1] == "meanwhile"
            assert not copy.exists()
            go_on.set()

    async with SqliteSessionStore(copy) as store:
        assert await store.load("s") == MANY


@every_cancellation
async def test_a_cancelled_backup_leaves_a_whole_copy_or_nothing(path, tmp_path, cancelled):
    folder = tmp_path / "copies"
    folder.mkdir()

    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", MANY))

        async def check(nth, _outcome, was_cancelled):
            await until(lambda: not list(folder.glob(".*")))
            copy = folder / f"{nth}.db"
            assert was_cancelled or copy.exists()
            if copy.exists():
                check_integrity(copy)
            assert len(await store.load("s", limit=1)) == 1

        await cancel_at_every_suspension(
            lambda nth: store.backup(folder / f"{nth}.db"), cancelled, check
        )


async def test_a_backup_stops_when_its_caller_is_cancelled(path, tmp_path, monkeypatch):
    steps = []
    reached = threading.Event()
    go_on = threading.Event()

    class Slow(Connection):
        def backup(self, target, *, pages, progress):
            def wait(*status):
                steps.append(status)
                reached.set()
                go_on.wait()
                progress(*status)

            super().backup(target, pages=pages, progress=wait)

    replace_connections_of_backups(monkeypatch, Slow)
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", MANY))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.backup, tmp_path / "copy.db")
            await until(reached.is_set)
            tasks.cancel_scope.cancel()

            async def release():
                with anyio.CancelScope(shield=True):
                    await anyio.wait_all_tasks_blocked()
                go_on.set()

            tasks.start_soon(release)
    assert len(steps) == 1
    assert {file.name for file in tmp_path.iterdir()} == {"sessions.db"}


async def test_a_backup_needs_no_lock_of_a_writer(path, tmp_path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", [ITEM]))
        with locked(path):
            await store.backup(tmp_path / "copy.db")
    async with SqliteSessionStore(tmp_path / "copy.db") as store:
        assert await store.load("s") == [ITEM]


async def test_a_backup_waits_while_another_call_opens_the_file_again(path, tmp_path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", [ITEM]))
        open_again_at_next_use(store)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.load, "s")
            await until(lambda: is_reopening(store))
            await store.backup(tmp_path / "copy.db")
    check_integrity(tmp_path / "copy.db")


async def test_a_file_that_appears_during_a_backup_is_not_replaced(path, tmp_path, monkeypatch):
    copy = tmp_path / "copy.db"

    class Late(Connection):
        def backup(self, target, **parameters):
            super().backup(target, **parameters)
            copy.write_text("something else")

    replace_connections_of_backups(monkeypatch, Late)
    async with SqliteSessionStore(path) as store:
        with pytest.raises(SessionError, match="it exists"):
            await store.backup(copy)
    assert copy.read_text() == "something else"


async def test_a_backup_of_a_file_that_was_deleted_is_an_error(path, tmp_path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", [ITEM]))
        path.rename(tmp_path / "moved.db")
        with pytest.raises(
            SessionError, match="cannot write a backup to .*copy.db: unable to open"
        ):
            await store.backup(tmp_path / "copy.db")
        (tmp_path / "moved.db").rename(path)
        assert await store.load("s") == [ITEM]
