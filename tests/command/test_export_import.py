"""Exports, and imports of them."""

from __future__ import annotations

import sqlite3
from errno import ENOSPC

import anyio
import pytest

from helpers.commands import failed
from helpers.sqlite_internals import ImportedSession, import_entries, write_whole
from tower_memory import SqliteSessionStore, Turn

TIME = "2025-01-02T03:04:05.000006Z"


def described(path):
    """Return everything that a store tells about the sessions of a file, but their revisions."""

    async def describe():
        async with SqliteSessionStore(path) as store:
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


def test_an_export_that_is_imported_is_the_same_file(run, filled, tmp_path):
    run("--db", filled, "export", "-o", "all.jsonl").lines()
    (line,) = run("--db", "copy.db", "import", "all.jsonl").lines()
    assert line == "imported 7 turns with 7 items into copy.db, 4 new sessions"
    assert described(tmp_path / "copy.db") == described(filled)
    exported = (tmp_path / "all.jsonl").read_text()
    assert run("--db", "copy.db", "export").stdout == exported


def test_the_lines_of_an_export_are_as_documented(run, filled):
    header, *lines, end = run("--db", filled, "export", "b").objects()
    assert header == {"format": "tower-memory", "version": 1}
    assert end == {"kind": "end", "sessions": 1}
    session, first, _ = lines
    assert {**session, "created_at": TIME, "updated_at": TIME} == {
        "kind": "session",
        "session_id": "b",
        "created_at": TIME,
        "updated_at": TIME,
        "turns": 2,
        "items": 2,
        "metadata": {"title": "Tokyo"},
        "forked_from": "a",
    }
    assert {**first, "created_at": TIME} == {
        "kind": "turn",
        "session_id": "b",
        "turn_id": "t1",
        "created_at": TIME,
        "metadata": {"model": "m"},
        "items": [
            {"role": "user", "content": "東京 \u2028\U0001f600"},
            {"n": [1.0, 2**63, -0.5e300]},
        ],
    }


def test_the_json_of_items_is_exported_and_imported_unchanged(run, filled, tmp_path):
    item = '{"n":1.50,\n"big":123456789012345678901234567890,"e":1E2}'
    connection = sqlite3.connect(filled)
    connection.execute("UPDATE memory_turn SET items = ? WHERE turn_id = 't3'", (f"[{item}]",))
    connection.commit()
    connection.close()
    done = run("--db", filled, "export", "a")
    on_one_line = item.replace("\n", " ")
    assert on_one_line in done.stdout

    (tmp_path / "a.jsonl").write_text(done.stdout)
    run("--db", "copy.db", "import", "a.jsonl")
    assert on_one_line in run("--db", "copy.db", "export").stdout


def test_importing_twice_adds_nothing_and_further_turns_are_appended(run, filled, tmp_path):
    (tmp_path / "old.jsonl").write_text(run("--db", filled, "export").stdout)
    run("--db", "copy.db", "import", "old.jsonl")
    before = described(tmp_path / "copy.db")
    numbers = {"sessions": 0, "turns": 0, "items": 0, "skipped": 7}
    assert run("--db", "copy.db", "import", "--json", "old.jsonl").objects() == [numbers]
    assert described(tmp_path / "copy.db") == before

    anyio.run(_append, filled, Turn("a", ["more"], turn_id="t9"))
    (tmp_path / "new.jsonl").write_text(run("--db", filled, "export", "--all").stdout)
    (line,) = run("--db", "copy.db", "import", "new.jsonl").lines()
    assert line.endswith(
        "imported 1 turn with 1 item into copy.db, 0 new sessions; 7 turns there already"
    )
    assert described(tmp_path / "copy.db") == described(filled)


async def _append(path, turn):
    async with SqliteSessionStore(path) as store:
        await store.append(turn)


async def _change(path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("a", ["mine"], turn_id="mine"))
        await store.annotate("a", {"title": "Mine", "pinned": True})
        await store.begin(Turn("a", ["begun"], turn_id="t1"))
        return await store.describe("a")


def test_a_session_that_exists_keeps_its_turns_times_and_metadata(run, filled, tmp_path):
    before = anyio.run(_change, tmp_path / "mine.db")
    (tmp_path / "a.jsonl").write_text(run("--db", filled, "export", "--prefix", "a").stdout)
    run("--db", "mine.db", "import", "a.jsonl").lines()

    ((about, items, turns),) = described(tmp_path / "mine.db")
    assert about[1] == before.created_at
    assert about[2] == before.updated_at  # it is later than that of the file
    assert about[5] == {"title": "Mine", "pinned": True}
    assert items[0] == "mine"
    assert [turn[0] for turn in turns][:4] == ["mine", "t1", "t2", "t3"]

    async def pending():
        async with SqliteSessionStore(tmp_path / "mine.db") as store:
            return await store.pending("a")

    assert anyio.run(pending) == []


def test_an_origin_is_restored_if_the_store_or_the_file_holds_it(run, filled, tmp_path):
    (tmp_path / "b.jsonl").write_text(run("--db", filled, "export", "b").stdout)
    run("--db", "alone.db", "import", "b.jsonl").lines()
    (session,) = run("--db", "alone.db", "sessions", "--json").objects()
    assert session["forked_from"] is None


def test_an_import_adds_to_the_search_index(run, filled, tmp_path):
    async def index():
        async with SqliteSessionStore(tmp_path / "copy.db", search_index=True) as store:
            return await store.sessions()

    assert anyio.run(index) == []
    (tmp_path / "all.jsonl").write_text(run("--db", filled, "export").stdout)
    run("--db", "copy.db", "import", "all.jsonl").lines()
    hits = run("--db", "copy.db", "search", "東京", "--json").objects()
    assert {hit["session_id"] for hit in hits} == {"a", "b"}


def test_an_export_is_imported_from_standard_input(run, filled):
    exported = run("--db", filled, "export", "c").stdout
    assert run("--db", "copy.db", "import", "-", said=exported).lines()
    assert run("--db", "copy.db", "export").stdout == exported
    failed(run("--db", "copy.db", "import", "-", said=""), "standard input: ", "cut")


HEADER = '{"format":"tower-memory","version":1}'
SESSION = (
    '{"kind":"session","session_id":"s","created_at":"2025-01-02T03:04:05Z",'
    '"updated_at":"2025-01-02T03:04:05Z","turns":1,"items":1,"metadata":{},"forked_from":null}'
)
TURN = (
    '{"kind":"turn","session_id":"s","turn_id":"t","created_at":"2025-01-02T03:04:05Z",'
    '"metadata":{},"items":[1]}'
)
END = '{"kind":"end","sessions":1}'
WHOLE = [HEADER, SESSION, TURN, END]


def changed(number, old, new):
    """Return the lines of an export, with *new* in place of *old* in one line."""
    assert old in WHOLE[number]
    return [line.replace(old, new) if n == number else line for n, line in enumerate(WHOLE)]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["Dear diary"], ["line 1 ", "not the header"]),
        (["[" * 100_000], ["line 1 ", "not the header"]),
        (changed(0, "tower-memory", "x"), ["line 1 ", "not the header"]),
        (changed(0, "1}", "2}"), ["line 1:", "version 2", "upgrade"]),
        ([HEADER, TURN, END], ["line 2:", "does not follow its session"]),
        (changed(1, '"session_id":"s"', '"session_id":""'), ["line 2:", "must not be empty"]),
        (changed(1, "null", '""'), ["line 2:", "forked_from must not be empty"]),
        (changed(1, "05Z", "05"), ["line 2:"]),
        (changed(1, "2025", "1000"), ["line 2:", "too far from 1970"]),
        (changed(1, '"metadata":{}', '"metadata":[]'), ["line 2:", "metadata must be an object"]),
        (changed(1, '"kind":"session"', '"kind":"x"'), ["line 2:"]),
        (changed(1, '"turns":1', '"turns":2'), ["line 4:", "1 of 2 turns", "missing"]),
        (changed(1, '"items":1', '"items":2'), ["line 4:", "1 of 2 items", "missing"]),
        (changed(2, '"s"', '"other"'), ["line 3:", "does not follow its session"]),
        (changed(2, '"t"', '""'), ["line 3:", "turn_id must not be empty"]),
        (changed(2, "[1]", "7"), ["line 3:"]),
        (changed(2, "[1]", '["\\ud800"]'), ["line 3:"]),
        (changed(2, "[1]", "[" * 600 + "]" * 600), ["line 3:", "nested too deeply"]),
        (changed(2, "[1]", "[" * 90_000 + "]" * 90_000), ["line 3:", "nested too deeply"]),
        (changed(2, "]}", ""), ["line 3:", "truncated"]),
        (changed(3, "1}", "2}"), ["line 4:", "1 of 2 sessions", "missing"]),
        (WHOLE[:3], ["the last line is missing"]),
        ([*WHOLE, END], ["line 5:", "after the last line"]),
    ],
)
def test_a_damaged_export_is_one_line_and_changes_nothing(run, tmp_path, lines, words):
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    done = run("--db", "copy.db", "import", "x.jsonl")
    failed(done, "x.jsonl: ", *words, "nothing was imported")
    assert not (tmp_path / "copy.db").exists()


def test_the_smallest_export_is_imported(run, tmp_path):
    (tmp_path / "x.jsonl").write_text("\n".join(WHOLE))
    assert run("--db", "copy.db", "import", "x.jsonl").lines()


def test_an_import_that_fails_while_it_writes_changes_nothing(filled):
    before = described(filled)

    def entries():
        yield ImportedSession("new", 1, 1)
        raise OSError(ENOSPC, "no space")

    with pytest.raises(OSError, match="no space"), write_whole(str(filled)) as connection:
        import_entries(connection, entries())
    assert described(filled) == before


def test_an_output_that_exists_or_cannot_be_written_is_one_line(run, filled, tmp_path):
    (tmp_path / "x.jsonl").write_text("mine")
    failed(run("--db", filled, "export", "-o", "x.jsonl"), "x.jsonl exists", "new file")
    assert (tmp_path / "x.jsonl").read_text() == "mine"
    failed(run("--db", filled, "export", "-o", "no/x.jsonl"), "no/x.jsonl", "No such file")


def test_a_damaged_turn_ends_an_export_which_leaves_no_file(run, filled, tmp_path):
    connection = sqlite3.connect(filled)
    connection.execute("UPDATE memory_turn SET items = 'x' WHERE turn_id = 't3'")
    connection.commit()
    connection.close()
    failed(run("--db", filled, "export", "-o", "x.jsonl"), "'a'", "cannot be decoded")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["filled.db"]
    assert run("--db", filled, "export", "c").lines()


def test_an_unknown_session_ends_an_export_before_its_first_line(run, filled):
    done = run("--db", filled, "export", "a", "zzz")
    failed(done, "no session zzz")


@pytest.mark.parametrize("text", ["filled.db", "."])
def test_an_import_of_the_same_file_or_a_folder_is_one_line(run, filled, text):
    failed(run("--db", filled, "import", text), text, "nothing was imported")
