"""Pending turns of several processes on one store, and of processes that are killed.

A turn that has begun is pending or whole, never both and never neither.
"""

from __future__ import annotations

import json

import pytest

from helpers.messages import user
from helpers.processes import KILL_CHILDREN, run_python, start_python, unmeasured
from helpers.stores import every_shared_store, open_store
from tower_memory import Turn

KILLER = (
    KILL_CHILDREN
    + """
import itertools, sys
import anyio
from helpers.layers import memory_over
from helpers.stores import open_store

async def turns(address, name, report):
    async with open_store(address) as store:
        async def run(session):
            async def model(messages):
                await anyio.lowlevel.checkpoint()
                report(f"begun {messages[-1]['content']}")
                if messages[-1]["content"].endswith("1"):
                    raise ConnectionError
                return "reply"

            memory = memory_over(
                store, session, journal=True, turn_id=lambda messages: messages[0]["content"]
            )
            for n in itertools.count():
                said = f"{name} {session} {n}"
                try:
                    await memory(model)([{"role": "user", "content": said}])
                except ConnectionError:
                    report(f"failed {said}")
                else:
                    report(f"saved {said}")

        async with anyio.create_task_group() as tasks:
            for session in "ab":
                tasks.start_soon(run, session)

def run(name, report):
    anyio.run(turns, address, name, report, backend=backend)

address, backend, kills, seed = sys.argv[1:]
kill_children(run, int(kills), int(seed), most=12)
"""
)


@pytest.mark.parametrize(("kills", "seed"), [(10, 1), pytest.param(600, 3, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "addresses",
    ["sqlite", pytest.param("postgres", marks=pytest.mark.long)],  # 20 processes connect slowly
    indirect=True,
)
async def test_a_turn_of_a_killed_process_is_pending_or_whole(address, anyio_backend, kills, seed):
    done = run_python(KILLER, address, anyio_backend, kills, seed, env=unmeasured())
    assert done.returncode == 0, done.stderr
    reported = {kind: set() for kind in ("begun", "failed", "saved")}
    for line in json.loads(done.stdout):
        kind, said = line.split(maxsplit=1)
        reported[kind].add(said)

    whole, pending = set(), {}
    async with open_store(address) as store:
        for session in "ab":
            history = await store.load(session)
            whole |= {turn.turn_id for turn in history.turns}
            for turn in history.turns:
                assert history.turn(turn.turn_id)[0] == user(turn.turn_id)
            for each in await store.pending(session):
                pending[each.turn_id] = each.state
                assert each.items == [user(each.turn_id)]

    assert not whole & pending.keys()
    assert reported["begun"] <= whole | pending.keys()
    assert reported["saved"] <= whole
    assert {pending.get(said) for said in reported["failed"]} <= {"failed"}
    assert "running" in pending.values()
    assert whole
    assert reported["failed"]


TAKER = """
import json, sys
import anyio
from helpers.stores import open_store
from tower_memory import SessionConflict, Turn

async def main():
    address, _, name, count = sys.argv[1:]
    async with open_store(address) as store:
        print("ready", flush=True)
        input()
        won = []
        for n in range(int(count)):
            turn = Turn("s", [{"role": "user", "content": name}], turn_id=f"t{n}")
            try:
                await store.begin(turn, lease=3600, owner=name)
                won.append(turn.turn_id)
            except SessionConflict:
                pass
    print(json.dumps(won), flush=True)

anyio.run(main, backend=sys.argv[2])
"""


@pytest.mark.parametrize("count", [60, pytest.param(3000, marks=pytest.mark.long)])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@every_shared_store
async def test_of_two_processes_one_takes_over_a_turn_whose_lease_has_expired(address, count):
    async with open_store(address) as store:
        for n in range(count):
            await store.begin(Turn("s", [user("?")], turn_id=f"t{n}"), lease=1e-6, owner="dead")
        assert {each.state for each in await store.pending("s")} == {"left"}

        takers = {
            name: start_python(TAKER, address, name, name, count, env=unmeasured())
            for name in ("asyncio", "trio")
        }
        for taker in takers.values():
            assert taker.stdout.readline() == "ready\n"
        for taker in takers.values():
            taker.stdin.write("\n")
            taker.stdin.close()

        won = []
        for name, taker in takers.items():
            with taker:
                won += [(turn_id, name) for turn_id in json.loads(taker.stdout.read())]
            assert taker.returncode == 0

        pending = await store.pending("s")
        found = [(each.turn_id, each.items[0]["content"]) for each in pending]
        assert sorted(found) == sorted(won)
        assert len(won) == count
        assert {each.state for each in pending} == {"running"}
