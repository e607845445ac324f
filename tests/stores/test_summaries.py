"""The summaries of our stores beyond the contract, which testing_kit checks."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing, contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.cancelling import cancel_at_every_suspension, every_cancellation
from helpers.processes import start_python, unmeasured
from helpers.sqlite import query
from helpers.sqlite_internals import steps_of_find_summary, traced_reads
from helpers.store_calls import SERVE
from helpers.stores import assert_store_works, every_shared_store, open_contents
from tower_memory import CorruptSessionError, SessionSummaries, SqliteSessionStore, Turn

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


async def test_our_stores_keep_summaries(store):
    assert isinstance(store, SessionSummaries)


@settings(max_examples=30)
@given(text=st.just("") | TEXT, session=TEXT, turn=TEXT, name=TEXT)
async def test_any_text_under_any_ids_and_name_is_kept_as_it_was(store, text, session, turn, name):
    await store.clear(session)
    since = await store.append(Turn(session, [1], turn_id=turn))
    saved = await store.save_summary(session, text, turn_id=turn, since=since, name=name)
    assert (saved.text, saved.turn_id, saved.end) == (text, turn, 1)
    assert await store.load_summary(session, name=name) == saved


async def test_a_summary_of_changed_turns_is_refused_even_if_another_covers_them(store):
    since = await store.append(Turn("s", [1, 2], turn_id="t"))
    await store.pop("s")
    now = (await store.load("s")).revision
    saved = await store.save_summary("s", "present", turn_id="t", since=now)
    assert await store.save_summary("s", "outdated", turn_id="t", since=since) is None
    assert await store.load_summary("s") == saved


async def test_a_summary_of_an_erased_session_is_refused_in_a_fork_of_the_same_id(store):
    await store.append(Turn("origin", [1], turn_id="t"))
    since = await store.append(Turn("s", [2], turn_id="t"))
    await store.erase(session_id="s")
    await store.append(Turn("origin", [3]))
    await store.fork("origin", "s")
    assert await store.save_summary("s", "erased", turn_id="t", since=since) is None
    assert await store.load_summary("s") is None


async def test_a_summary_is_there_after_the_file_was_closed_and_copied(path, tmp_path):
    async with SqliteSessionStore(path) as store:
        since = await store.append(Turn("s", [1], turn_id="t"))
        saved = await store.save_summary("s", "text", turn_id="t", since=since)
        await store.backup(tmp_path / "copy.db")
    for each in (path, tmp_path / "copy.db"):
        async with SqliteSessionStore(each) as store:
            assert await store.load_summary("s") == saved


async def test_a_summary_leaves_the_cached_session_as_it_is(path):
    async with SqliteSessionStore(path) as store:
        since = await store.append(Turn("s", [1], turn_id="t"))
        await store.load("s")
        await store.save_summary("s", "text", turn_id="t", since=since)
        read = await traced_reads(store)
        assert await store.load("s") == [1]
        assert read == []


async def test_a_damaged_summary_raises_and_a_larger_one_takes_its_place(path):
    async with SqliteSessionStore(path) as store:
        since = await store.append(Turn("s", [1], turn_id="t"))
        await store.save_summary("s", "secret", turn_id="t", since=since)
        query(path, "UPDATE memory_summary SET summary = CAST(x'736563726574ff' AS TEXT)")
        damaged = r"^session 's': row 1 cannot be decoded: [^s]* can't decode byte 0xff"
        with pytest.raises(CorruptSessionError, match=damaged) as caught:
            await store.load_summary("s")
        assert "secret" not in str(caught.value)
        with pytest.raises(CorruptSessionError, match=damaged):
            await store.save_summary("s", "another", turn_id="t", since=since)

        since = await store.append(Turn("s", [2], turn_id="u"))
        saved = await store.save_summary("s", "larger", turn_id="u", since=since)
        assert await store.load_summary("s") == saved


@every_cancellation
async def test_a_summary_whose_save_is_cancelled_is_whole_or_absent(path, cancelled):
    async with SqliteSessionStore(path) as store:
        since = await store.append(Turn("s", [1], turn_id="t"))

        async def check(nth, _result, was_cancelled):
            await assert_store_works(store)  # a write that was cancelled natively is over then
            found = await store.load_summary("s", name=f"{nth}")
            assert found is None or found.text == "text"
            assert was_cancelled or found

        await cancel_at_every_suspension(
            lambda nth: store.save_summary("s", "text", turn_id="t", since=since, name=f"{nth}"),
            cancelled,
            check,
        )


async def test_a_summary_is_loaded_without_reading_the_turns_that_it_covers(path):
    async with SqliteSessionStore(path) as store:
        steps = []
        for covered in (5, 100):
            session = f"{covered} turns"
            for n in range(covered + 5):
                since = await store.append(Turn(session, [n], turn_id=f"{n}"))
            await store.save_summary(session, "text", turn_id=f"{covered - 1}", since=since)
            steps.append(await steps_of_find_summary(store, session))
        assert steps[0] == steps[1] > 0


# Several processes


@contextmanager
def two_processes(address, backend):
    """Let two processes have the store *address* open; each makes the calls that it is sent."""
    with ExitStack() as opened:
        processes = []
        for _ in range(2):
            process = start_python(SERVE, address, backend, env=unmeasured())
            processes.append(opened.enter_context(process))
            opened.callback(processes[-1].stdin.close)
            assert processes[-1].stdout.readline() == "open\n"
        yield processes


def send(process, name, **arguments):
    process.stdin.write(json.dumps([name, arguments]) + "\n")
    process.stdin.flush()


def answer(process):
    return json.loads(process.stdout.readline())


def call(process, name, **arguments):
    send(process, name, **arguments)
    return answer(process)


@pytest.mark.parametrize("count", [10, pytest.param(30, marks=pytest.mark.long)])
@every_shared_store
def test_of_two_processes_that_save_at_the_same_time_one_stores_and_both_get_it(
    address, anyio_backend, count
):
    with two_processes(address, anyio_backend) as processes:
        for n in range(count):
            session = {"session_id": f"{n}"}
            since = call(processes[0], "append", items=[1], turn_id="t", **session)
            for process, text in zip(processes, ("one", "two"), strict=True):
                send(process, "save_summary", text=text, turn_id="t", since=since, **session)

            found = [answer(process) for process in processes]
            assert found[0] == found[1]
            assert found[0] in (["one", "t", 1], ["two", "t", 1])
            assert call(processes[0], "load_summary", **session) == found[0]


@pytest.mark.parametrize("count", [10, pytest.param(30, marks=pytest.mark.long)])
@every_shared_store
def test_a_summary_that_is_saved_while_its_turn_is_replaced_leaves_no_row(
    address, anyio_backend, count
):
    with two_processes(address, anyio_backend) as (saver, replacer):
        for n in range(count):
            session = {"session_id": f"{n}"}
            since = call(saver, "append", items=[1], turn_id="t", **session)
            send(saver, "save_summary", text="text", turn_id="t", since=since, **session)
            send(replacer, "append", items=[2], replaces="t", **session)
            assert answer(saver) in (None, ["text", "t", 1])
            assert answer(replacer) > since
            assert call(saver, "load_summary", **session) is None
        with closing(open_contents(address)) as contents:
            assert contents.count("memory_summary") == 0
