"""Durability: a turn is synced to disk before its append returns.

A kill cannot show this, a power cut could. The tests read the system calls of a process that saves.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from helpers.processes import environment, python

TURNS = 5

# Each turn has a text of its own, and the program reports the text once the append has returned.
CHILD = """
import json, os, sys
import anyio
from helpers.layers import memory_over
from tower_memory import SqliteSessionStore, Turn

path, backend, way, tasks, turns, settings = sys.argv[1:]

def user(text):
    return {"role": "user", "content": text}

async def append(store, session, question, answer):
    await store.append(Turn(session, [user(question), user(answer)]))

async def remember(store, session, question, answer):
    async def model(messages):
        return answer

    await memory_over(store, session)(model)([user(question)])

async def main():
    async with SqliteSessionStore(path, **json.loads(settings)) as store:
        async def converse(task):
            for turn in range(int(turns)):
                said = f"<question {task} {turn}>", f"<answer {task} {turn}>"
                await globals()[way](store, f"session {task % 4}", *said)
                os.write(1, f"returned {said[0]} {said[1]}\\n".encode())

        async with anyio.create_task_group() as group:
            for task in range(int(tasks)):
                group.start_soon(converse, task)

anyio.run(main, backend=backend)
"""

SYNCS = ("fdatasync", "fsync")
CALL = re.compile(r"(\w+)\(\d+<(.*?)>(.*)")
SAID = re.compile(r"<\w+ \d+ \d+>")


class Call(NamedTuple):
    thread: str
    name: str
    file: str
    data: str


def events(log):
    """Yield the calls in strace's *log*: each when it starts, and again when it has succeeded."""
    running = {}

    for line in log:
        thread, text = line.split(maxsplit=1)
        if text.startswith("<..."):
            call = running.pop(thread)
        elif match := CALL.match(text):
            call = Call(thread, *match.groups())
            yield call, "starts"
        else:  # a signal, or the end of a thread
            continue
        if text.endswith("<unfinished ...>"):
            running[thread] = call
        elif " = -1 " not in text:
            yield call, "ends"


def returned(log):
    return [
        said
        for call, event in events(log)
        if is_report(call) and event == "starts"
        for said in SAID.findall(call.data)
    ]


def is_report(call):
    return call.name == "write" and call.data.startswith(', "returned ')


def unsynced(log):
    """Return the texts that were reported before a sync of the log that began after their write."""
    written, covered, synced = set(), {}, set()
    early = []

    for call, event in events(log):
        if is_report(call):
            if event == "starts":
                early += [said for said in SAID.findall(call.data) if said not in synced]
        elif not call.file.endswith("-wal"):
            continue
        elif call.name not in SYNCS:
            if event == "ends":
                written.update(SAID.findall(call.data))
        elif event == "starts":
            covered[call.thread] = set(written)
        else:
            synced |= covered.pop(call.thread)

    return early


@pytest.fixture
def watch(tmp_path, anyio_backend):
    """Return a function that runs a program and returns the log of its system calls."""
    if shutil.which("strace") is None:
        without = pytest.fail if "CI" in os.environ else pytest.skip
        without("needs strace")

    def run(way, tasks, **settings):
        log = tmp_path / "log"
        strace = ["strace", "-f", "-y", "-s", "8192", "-o", log]
        strace += ["-e", "trace=write,pwrite64,pwritev,fsync,fdatasync"]
        (tmp_path / "sessions").mkdir()
        arguments = [tmp_path / "sessions" / "sessions.db", anyio_backend, way]
        arguments += [tasks, TURNS, json.dumps(settings)]
        command = [*strace, *python(CHILD, *arguments)]
        subprocess.run(
            command, check=True, stdout=subprocess.DEVNULL, timeout=60, env=environment()
        )
        lines = log.read_text().splitlines()

        assert len(set(returned(lines))) == tasks * TURNS * 2

        return lines

    return run


@pytest.mark.parametrize(
    ("way", "tasks", "settings"),
    [
        ("append", 1, {}),
        ("append", 8, {}),
        ("append", 8, {"synchronous": "extra"}),
        ("remember", 8, {}),
    ],
    ids=["one after another", "at once", "extra", "through the layer"],
)
def test_a_returned_turn_had_been_synced(watch, way, tasks, settings):
    assert unsynced(watch(way, tasks, **settings)) == []


def test_the_watcher_detects_turns_that_were_not_synced(watch):
    log = watch("append", 8, synchronous="normal")
    assert unsynced(log) == returned(log)


def test_the_name_of_a_new_file_is_synced_before_its_first_turn_is_returned(watch):
    touched, named = set(), set()
    for call, event in events(watch("append", 1)):
        if is_report(call):
            break
        path = Path(call.file)
        if path.name == "sessions" and call.name in SYNCS and event == "ends":
            named |= touched
        touched.add(path.name)
    assert named >= {"sessions.db", "sessions.db-wal"}


WRITE = '7 pwrite64(8</s.db-wal>, "\\0<answer 0 0>\\0", 16, 32'
REPORT = '1 write(1<pipe:[5]>, "returned <answer 0 0>\\n", 22) = 22'


@pytest.mark.parametrize(
    ("log", "early"),
    [
        ([f"{WRITE}) = 16", "7 fdatasync(8</s.db-wal>) = 0", REPORT], False),
        ([f"{WRITE}) = 16", "7 fdatasync(8</s.db>) = 0", REPORT], True),
        ([f"{WRITE}) = 16", "7 fdatasync(8</s.db-wal>) = -1 EIO (...)", REPORT], True),
        ([f"{WRITE}) = 16", REPORT, "7 fdatasync(8</s.db-wal>) = 0"], True),
        (
            [
                f"{WRITE}) = 16",
                "7 fdatasync(8</s.db-wal> <unfinished ...>",
                REPORT,
                "7 <... fdatasync resumed>) = 0",
            ],
            True,
        ),
        (
            [
                f"{WRITE} <unfinished ...>",
                "9 fdatasync(8</s.db-wal>) = 0",
                "7 <... pwrite64 resumed>) = 16",
                REPORT,
            ],
            True,
        ),
        (["7 fdatasync(8</s.db-wal>) = 0", REPORT], True),
    ],
    ids=["synced", "other file", "failed", "later", "unfinished", "begun before", "unwritten"],
)
def test_only_a_sync_begun_after_the_write_and_done_before_the_return_counts(log, early):
    assert unsynced(log) == (["<answer 0 0>"] if early else [])
