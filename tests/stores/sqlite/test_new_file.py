"""Files that a store refuses to open, and leaves as they are."""

from __future__ import annotations

import os

import pytest

from helpers.messages import ITEM
from helpers.processes import environment, run_python
from tower_memory import SessionError, SqliteSessionStore, Turn


async def test_a_file_with_two_names_is_refused_until_it_has_one(path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", [ITEM]))
    other = path.with_name("other.db")
    os.link(path, other)

    for name in (path, other):
        with pytest.raises(SessionError, match=f"cannot open {name}: it has 2 hard links"):
            await SqliteSessionStore(name).load("s")

    other.unlink()
    async with SqliteSessionStore(path) as store:
        assert await store.load("s") == [ITEM]


async def test_an_empty_file_of_another_user_is_refused(path, monkeypatch):
    path.touch(mode=0o666)
    owner = path.stat().st_uid
    with monkeypatch.context() as another_user:
        another_user.setattr(os, "geteuid", lambda: owner + 1)
        with pytest.raises(SessionError, match=f"it is empty and belongs to the user .* {owner},"):
            await SqliteSessionStore(path).load("s")
        assert path.stat().st_size == 0
    async with SqliteSessionStore(path) as store:
        assert await store.load("s") == []


def path_of_length(folder, length):
    """Return a path of *length* bytes in new folders."""
    while length - len(str(folder)) > 230:
        folder /= "f" * 200
    folder.mkdir(parents=True, exist_ok=True)
    return folder / ("n" * (length - len(str(folder)) - 1))


async def test_a_path_that_is_too_long_for_sqlite_is_refused_before_a_file_is_created(tmp_path):
    longest, too_long = path_of_length(tmp_path, 504), path_of_length(tmp_path, 505)
    async with SqliteSessionStore(longest) as store:
        await store.append(Turn("s", [ITEM]))
    with pytest.raises(SessionError, match="its path has 505 bytes, and SQLite opens at most 504"):
        await SqliteSessionStore(too_long).load("s")
    assert not too_long.exists()


async def test_a_name_that_is_too_long_for_its_folder_is_refused_before_a_file_is_created(tmp_path):
    most = os.pathconf(tmp_path, "PC_NAME_MAX") - len("-journal")
    longest, too_long = tmp_path / ("é" * (most // 2)), tmp_path / ("n" * (most + 1))
    async with SqliteSessionStore(longest) as store:
        await store.append(Turn("s", [ITEM]))
    with pytest.raises(
        SessionError, match=f"its name has {most + 1} bytes, .* at most {most} here"
    ):
        await SqliteSessionStore(too_long).load("s")
    assert not too_long.exists()


FORK = """
import os, sys, threading, anyio
from helpers.sqlite_internals import creating_a_file
from tower_memory import SqliteSessionStore

async def main():
    async with SqliteSessionStore(sys.argv[1]) as store:
        print(list(await store.load("s")), flush=True)

with creating_a_file():
    child = os.fork()
    if child == 0:
        anyio.run(main, backend=sys.argv[2])
        os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_child_forked_while_a_thread_creates_a_file_can_create_files(path, anyio_backend):
    variables = environment(PYTHONWARNINGS="ignore")
    done = run_python(FORK, path, anyio_backend, timeout=60, env=variables)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
