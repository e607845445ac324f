"""The command on a Postgres database."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from threading import Thread

import anyio
import psycopg
import pytest

from helpers.commands import COMMAND, failed
from helpers.processes import environment
from tower_memory import SqliteSessionStore, Turn
from tower_memory.postgres import PostgresSessionStore

WAITING = """
SELECT xact_start FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


@pytest.fixture
def on_postgres(run, postgres_url):
    """Return a function that runs the command on an empty Postgres database."""
    return partial(run, "--db", postgres_url)


def described(store):
    """Return everything that a store tells about its sessions, but their revisions."""

    async def describe():
        async with store:
            sessions = []
            for info in await store.sessions():
                history = await store.load(info.session_id)
                about = [
                    *(info.session_id, info.created_at, info.updated_at, info.items, info.turns),
                    *(dict(info.metadata), info.forked_from),
                ]
                turns = [(t.turn_id, t.position, t.created_at, t.metadata) for t in history.turns]
                sessions.append((about, list(history), turns))
            return sessions

    return anyio.run(describe)


def test_sessions_move_from_a_file_to_postgres_and_back(run, on_postgres, filled, postgres_url):
    run("--db", filled, "export", "-o", "all.jsonl").lines()
    (line,) = on_postgres("import", "all.jsonl").lines()
    assert line.startswith("imported 7 turns with 7 items into postgresql://")
    assert line.endswith(", 4 new sessions")
    assert described(PostgresSessionStore(postgres_url)) == described(SqliteSessionStore(filled))

    exported = run("--db", filled, "export").stdout
    assert on_postgres("export").stdout == exported
    on_postgres("export", "-o", "back.jsonl").lines()
    run("--db", "back.db", "import", "back.jsonl").lines()
    assert run("--db", "back.db", "export").stdout == exported


def test_importing_twice_adds_nothing_and_further_turns_are_appended(
    run, on_postgres, filled, postgres_url
):
    run("--db", filled, "export", "-o", "old.jsonl").lines()
    on_postgres("import", "old.jsonl").lines()
    before = described(PostgresSessionStore(postgres_url))
    numbers = {"sessions": 0, "turns": 0, "items": 0, "skipped": 7}
    assert on_postgres("import", "--json", "old.jsonl").objects() == [numbers]
    assert described(PostgresSessionStore(postgres_url)) == before

    async def append():
        async with SqliteSessionStore(filled) as store:
            await store.append(Turn("a", ["more"], turn_id="t9"))

    anyio.run(append)
    run("--db", filled, "export", "-o", "new.jsonl").lines()
    (line,) = on_postgres("import", "new.jsonl").lines()
    assert line.startswith("imported 1 turn with 1 item")
    assert line.endswith(", 0 new sessions; 7 turns there already")
    assert described(PostgresSessionStore(postgres_url)) == described(SqliteSessionStore(filled))


def test_a_session_that_exists_keeps_its_turns_times_and_metadata(
    run, on_postgres, filled, postgres_url
):
    store = PostgresSessionStore(postgres_url)

    async def change():
        async with store:
            await store.append(Turn("a", ["mine"], turn_id="mine"))
            await store.annotate("a", {"title": "Mine", "pinned": True})
            await store.begin(Turn("a", ["begun"], turn_id="t1"))
            await store.append(Turn("c", ["mine"], turn_id="mine"))
            return await store.describe("a")

    async def pending():
        async with store:
            return await store.pending("a")

    before = anyio.run(change)
    run("--db", filled, "export", "-o", "all.jsonl").lines()
    on_postgres("import", "all.jsonl").lines()

    sessions = {session[0][0]: session for session in described(store)}
    about, items, turns = sessions["a"]
    assert about[1] == before.created_at
    assert about[2] == before.updated_at  # it is later than that of the file
    assert about[5] == {"title": "Mine", "pinned": True}
    assert items[0] == "mine"
    assert [turn[0] for turn in turns][:4] == ["mine", "t1", "t2", "t3"]
    assert sessions["c"][1] == ["mine", 1]
    assert anyio.run(pending) == []


def test_an_import_that_was_cut_is_completed_by_another_one(run, on_postgres, filled, postgres_url):
    run("--db", filled, "export", "-o", "all.jsonl").lines()
    on_postgres(said="Hi\n").lines()  # creates the tables
    on_postgres("erase", "--all", "--yes").lines()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE memory_head ADD CONSTRAINT x CHECK (session_id <> 'c')")
        done = on_postgres("import", "all.jsonl")
        connection.execute("ALTER TABLE memory_head DROP CONSTRAINT x")
    failed(done, "all.jsonl: postgresql://", "SQLSTATE 23514", "import it again to add the rest")
    ((about, _, _),) = described(PostgresSessionStore(postgres_url))
    assert (about[0], about[-1]) == ("b", None)  # its origin comes later in the file

    on_postgres("import", "all.jsonl").lines()
    moved = described(PostgresSessionStore(postgres_url))
    assert sorted(moved) == sorted(described(SqliteSessionStore(filled)))


def test_an_origin_is_not_set_if_the_session_is_another_one(run, on_postgres, filled):
    on_postgres("--session", "b", said="Hi\n").lines()
    run("--db", filled, "export", "a", "b", "-o", "ab.jsonl").lines()
    on_postgres("import", "ab.jsonl").lines()
    sessions = on_postgres("sessions", "--json").objects()
    assert {info["session_id"]: info["forked_from"] for info in sessions} == {"a": None, "b": None}


def test_an_origin_that_is_not_there_or_was_erased_is_not_exported(run, on_postgres, filled):
    def origins():
        lines = on_postgres("export").objects()
        return [line["forked_from"] for line in lines if line.get("kind") == "session"]

    run("--db", filled, "export", "b", "-o", "b.jsonl").lines()
    on_postgres("import", "b.jsonl").lines()
    assert origins() == [None]
    on_postgres("fork", "b", "copy").lines()
    assert origins() == [None, "b"]
    on_postgres("erase", "b", "--yes").lines()
    assert origins() == [None]
    on_postgres("--session", "b", said="Hi\n").lines()
    assert origins() == [None, None]  # this one is another session


HEADER = '{"format":"tower-memory","version":1}'
SESSION = (
    '{{"kind":"session","session_id":"{0}","created_at":"2025-01-02T03:04:05Z",'
    '"updated_at":"2025-01-02T03:04:05Z","turns":{1},"items":{1},"metadata":{{}},'
    '"forked_from":null}}'
)
TURN = (
    '{{"kind":"turn","session_id":"{}","turn_id":"{}","created_at":"2025-01-02T03:04:05Z",'
    '"metadata":{{}},"items":["{}"]}}'
)
END = '{{"kind":"end","sessions":{}}}'


def test_many_sessions_and_a_long_one_are_moved_whole(on_postgres, tmp_path):
    lines = [HEADER]
    for number in range(101):
        lines += [SESSION.format(f"s{number}", 1), TURN.format(f"s{number}", "t", "x")]
    lines.append(SESSION.format("long", 201))
    lines += [TURN.format("long", f"t{number}", "x" * 3000) for number in range(201)]
    lines.append(END.format(102))
    (tmp_path / "many.jsonl").write_text("\n".join(lines))

    (line,) = on_postgres("import", "many.jsonl").lines()
    assert line.startswith("imported 302 turns with 302 items")
    exported = on_postgres("export").stdout
    assert exported == "\n".join(lines).replace("05Z", "05.000000Z") + "\n"
    (line,) = on_postgres("import", "many.jsonl").lines()
    assert line.endswith("302 turns there already")
    on_postgres("export", "--prefix", "s1", "-o", "some.jsonl").lines()
    (line,) = on_postgres("import", "--json", "some.jsonl").objects()
    assert line["skipped"] == 12


def test_a_turn_that_the_file_has_twice_is_imported_once(on_postgres):
    turns = [TURN.format("s", name, text) for name, text in [("t", 1), ("u", 2), ("t", 3)]]
    exported = "\n".join([HEADER, SESSION.format("s", 3), *turns, END.format(1)])
    done = on_postgres("import", "-", "--json", said=exported)
    assert done.objects() == [{"sessions": 1, "turns": 2, "items": 2, "skipped": 1}]
    shown = on_postgres("show", "s", "--json").objects()
    assert [(turn["turn_id"], turn["items"]) for turn in shown] == [("t", ["1"]), ("u", ["2"])]


def test_what_was_imported_is_found_without_and_with_a_search_index(
    run, on_postgres, filled, postgres_url
):
    run("--db", filled, "export", "-o", "all.jsonl").lines()
    on_postgres("import", "all.jsonl").lines()
    hits = on_postgres("search", "東京", "--json").objects()
    assert {hit["session_id"] for hit in hits} == {"a", "b"}

    async def search():
        async with PostgresSessionStore(postgres_url, search_index=True) as store:
            return await store.search("東京")

    assert [hit.turn_id for hit in anyio.run(search)] == [hit["turn_id"] for hit in hits]


def test_an_export_without_sessions_creates_the_tables_only(on_postgres):
    (line,) = on_postgres("import", "-", said=f"{HEADER}\n{END.format(0)}\n").lines()
    assert line.startswith("imported 0 turns")
    assert on_postgres("sessions").lines() == []


def test_a_session_that_exists_gets_the_metadata_that_it_lacks(run, on_postgres):
    on_postgres("--session", "s", said="Hi\n").lines()
    (before,) = on_postgres("sessions", "--json").objects()
    exported = on_postgres("export").stdout
    changed = exported.replace('"metadata":{}', '"metadata":{"title":"T"}', 1)
    (line,) = on_postgres("import", "-", said=changed).lines()
    assert line.endswith("0 new sessions; 1 turn there already")
    (after,) = on_postgres("sessions", "--json").objects()
    assert after == {**before, "metadata": {"title": "T"}}


def test_a_chat_and_every_command_on_sessions_work(on_postgres):
    first, _ = on_postgres("--session", "s", said="Hello Tokyo\nAnd Rome?\n").lines()
    assert on_postgres("--session", "s", said="Again?\n").lines() != [first]
    on_postgres("title", "s", "Cities").lines()
    head, *_ = on_postgres("show", "s").lines()
    assert head == "Cities (s): 3 turns, 6 items"
    assert len(on_postgres("show", "s", "--last", "1", "--json").objects()) == 1
    assert on_postgres("fork", "s", "copy").lines() == ["copied s to copy: 3 turns, 6 items"]
    assert [line.split()[0] for line in on_postgres("sessions").lines()] == ["copy", "s"]
    hits = on_postgres("search", "rome", "--json").objects()
    assert {hit["session_id"] for hit in hits} == {"s", "copy"}
    done = on_postgres("erase", "copy", said="y\n", is_terminal=True)
    assert "help(tower_memory.postgres)" in done.stderr
    assert len(on_postgres("sessions").lines()) == 1
    failed(on_postgres("show", "copy"), "there is no session copy")


@pytest.mark.parametrize(
    ("arguments", "instead"),
    [
        (["scrub"], "help(tower_memory.postgres)"),
        (["backup", "copy.db"], "pg_dump"),
        (["check"], "pg_amcheck"),
    ],
)
def test_a_command_for_files_says_what_to_do_on_postgres(run, tmp_path, arguments, instead):
    done = run("--db", "postgresql://ann:s3cret@localhost/chat", *arguments)
    failed(done, f"{arguments[0]} is for SQLite files", instead)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    "arguments",
    [
        ["sessions"],
        ["show", "a"],
        ["search", "a"],
        ["title", "a", "b"],
        ["fork", "a", "b"],
        ["export"],
        ["erase", "--all", "--yes"],
    ],
    ids=" ".join,
)
def test_no_command_creates_missing_tables(on_postgres, postgres_url, arguments):
    failed(on_postgres(*arguments), "postgresql://", "has no tables of tower-memory")
    find = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute(find).fetchall() == []


def test_the_tables_may_be_in_another_schema(on_postgres, run):
    on_postgres("--schema", "chats", said="Hello\n").lines()
    assert len(on_postgres("sessions", "--schema", "chats").lines()) == 1
    failed(on_postgres("sessions"), "the schema 'public' has no tables")
    failed(run("sessions", "--schema", "chats"), "--schema is for a Postgres", status=2)


def test_no_output_shows_the_password(on_postgres, run, postgres_url, tmp_path):
    run = partial(run, "--db", f"{postgres_url}&password=s3cret")
    done = [
        run(said="/sessions\nHi\n", is_terminal=True),
        run("export", "-o", "all.jsonl", is_terminal=True),
        run("import", "all.jsonl", is_terminal=True),
        run("erase", "default", said="y\n", is_terminal=True),
        run("sessions", is_terminal=True),
    ]
    assert [each.returncode for each in done] == [0, 0, 0, 0, 0]
    assert "no sessions in postgresql://" in done[-1].stderr
    assert not any("s3cret" in each.stdout + each.stderr for each in done)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://ann:s3cret@127.0.0.1:1/chat", ["127.0.0.1", "refused"]),
        ("postgresql://ann:s3cret%zz@127.0.0.1/chat", ["connection string"]),
        ("postgresql://ann:s3/cret@127.0.0.1:1/chat", ["percent-encode"]),
        ("postgresql://ann:3/cret@127.0.0.1:1/chat", ["percent-encode"]),
        ("postgresql://ann:s3@cret@127.0.0.1:1/chat", ["percent-encode"]),
    ],
)
def test_no_error_shows_the_password(run, url, words):
    for arguments in (["sessions"], ["import", "-"]):
        done = run("--db", url, *arguments, said="")
        (line,) = done.stderr.splitlines()
        assert done.returncode > 0
        assert "cret" not in line
        if "import" not in arguments:
            assert all(word in line for word in words)

    done = run("--bd", url, "sessions")
    failed(done, "postgresql://ann:***@", status=2)
    assert "cret" not in done.stderr


def test_without_psycopg_an_error_names_the_extra(tmp_path):
    program = (
        "import sys; sys.modules['psycopg'] = None; from tower_memory.__main__ import main;"
        " sys.exit(main(['--db', sys.argv[1], 'sessions']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "postgresql://localhost/chat"],
        capture_output=True,
        cwd=tmp_path,
        text=True,
    )
    failed(done, "needs psycopg: pip install 'tower-memory[postgres]'")


def test_an_import_waits_for_another_writer(run, on_postgres, filled, postgres_url):
    """The row of a session is locked until the import has been tried a second time."""
    run("--db", filled, "export", "c", "-o", "c.jsonl").lines()
    on_postgres("--session", "c", said="Hi\n").lines()
    outcome = []
    importing = Thread(target=lambda: outcome.append(on_postgres("import", "c.jsonl")))
    with (
        psycopg.connect(postgres_url) as holder,
        psycopg.connect(postgres_url, autocommit=True) as watch,
    ):
        holder.execute("SELECT 1 FROM memory_head FOR UPDATE")
        importing.start()
        attempts = set()
        while len(attempts) < 2:
            attempts.update(watch.execute(WAITING).fetchall())
        holder.commit()
        importing.join()
    (line,) = outcome[0].lines()
    assert line.startswith("imported 1 turn with 1 item")


def test_an_export_shows_all_sessions_as_they_were_at_one_moment(postgres_url, tmp_path):
    store = PostgresSessionStore(postgres_url)

    async def append(turns):
        async with store:
            for turn in turns:
                await store.append(turn)

    large = ["x" * 300_000]  # the export waits for its reader
    anyio.run(append, [Turn("a", large), Turn("b", large)])
    with subprocess.Popen(
        [*COMMAND, "--db", postgres_url, "export"],
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        env=environment(),
    ) as exporting:
        exporting.stdout.readline()
        anyio.run(append, [Turn("b", ["later"]), Turn("c", ["later"])])
        rest = exporting.stdout.read()
    assert exporting.returncode == 0
    assert rest.count(b'"kind":"turn"') == 2
    assert rest.endswith(b'{"kind":"end","sessions":2}\n')
