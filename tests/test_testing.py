"""The kit for testing stores, tested: our stores pass it, and stores that break one rule fail that
rule and no other. And the service that follows a script.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Any, NamedTuple

import anyio
import pytest
from anyio.lowlevel import checkpoint
from msgspec import json

from tower_memory import (
    History,
    InMemorySessionStore,
    LoadSession,
    MemoryLayer,
    MessageItem,
    Role,
    RunItem,
    SaveSession,
    SessionConflict,
    SessionError,
    SqliteSessionStore,
    ToolCallItem,
    ToolOutputItem,
)
from tower_memory._arguments import check_text
from tower_memory._codec import ItemCodec
from tower_memory._history import TurnStart
from tower_memory._sessions import check_load
from tower_memory.testing import ScriptedService, StoreBroken, StoreReport, check_session_store

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUN_ITEMS = [
    MessageItem("1", Role.USER, "What is 2 + 2?", NOW),
    ToolCallItem("2", "add", {"a": 2, "b": 2}, NOW),
    ToolOutputItem("3", "2", 4, None, NOW),
]


@pytest.mark.parametrize("items", [None, RUN_ITEMS], ids=["JSON values", "run items"])
@pytest.mark.parametrize("kind", ["in memory", "sqlite file", "sqlite in memory"])
async def test_our_stores_keep_the_contract(tmp_path, kind, items):
    item_type = Any if items is None else RunItem
    make_store = {
        "in memory": lambda: InMemorySessionStore(item_type=item_type),
        "sqlite file": lambda: SqliteSessionStore(tmp_path / "sessions.db", item_type=item_type),
        "sqlite in memory": lambda: SqliteSessionStore.in_memory(item_type=item_type),
    }[kind]
    report = await check_session_store(make_store, items=items)
    assert len(report.held) == 24
    assert report.broken == {}


def turn_starts(turn_ids):
    """Where turns start, given the id of each turn at its first item."""
    return [TurnStart(place, turn_id) for place, turn_id in enumerate(turn_ids) if turn_id]


class Row(NamedTuple):
    id: int
    turn_id: str | None
    item: bytes


class Plain:
    """A store that keeps the contract, in parts that can be broken."""

    def __init__(self):
        self.sessions = {}
        self.ids = count(1)
        self.codec = ItemCodec(Any)
        self.lock = anyio.Semaphore(1)

    def rows(self, session_id):
        return self.sessions.setdefault(session_id, [])

    def encode(self, turn):
        return self.codec.encode(turn.items, turn.session_id)

    def decode(self, raw):
        return json.decode(raw)

    def revision(self, rows):
        return rows[-1].id if rows else 0

    def limited(self, rows, limit):
        return rows if limit is None else rows[max(0, len(rows) - limit) :]

    def check(self, session_id, limit=None):
        check_load(session_id, limit)

    def held(self, rows, turn):
        return any(row.turn_id == turn.turn_id for row in rows)

    def conflicts(self, turn, revision):
        return turn.expected_revision not in (None, revision)

    def added(self, turn, encoded):
        turn_ids = [turn.turn_id, *[None] * len(encoded)]
        return [Row(next(self.ids), *row) for row in zip(turn_ids, encoded, strict=False)]

    async def write(self, rows, added):
        rows += added

    async def load(self, session_id, *, limit=None):
        self.check(session_id, limit)
        await checkpoint()
        rows = self.rows(session_id)
        kept = self.limited(rows, limit)
        return History(
            [self.decode(row.item) for row in kept],
            revision=self.revision(rows),
            turns=turn_starts(row.turn_id for row in kept),
            is_cut=len(kept) < len(rows),
        )

    async def append(self, turn):
        encoded = self.encode(turn)
        await checkpoint()
        rows = self.rows(turn.session_id)
        if self.held(rows, turn):
            return self.revision(rows)
        if self.conflicts(turn, revision := self.revision(rows)):
            raise SessionConflict(turn.session_id, expected=turn.expected_revision, actual=revision)
        await self.write(rows, self.added(turn, encoded))
        return self.revision(rows)

    async def pop(self, session_id):
        self.check(session_id)
        rows = self.rows(session_id)
        return self.decode(rows.pop().item) if rows else None

    async def clear(self, session_id):
        self.check(session_id)
        self.rows(session_id).clear()


async def test_a_store_that_keeps_the_contract_passes():
    assert (await check_session_store(Plain)).broken == {}


BROKEN = {}


def breaks(rule):
    def note(store):
        BROKEN[store] = rule
        return store

    return note


@breaks("A session that holds nothing is empty and at revision 0.")
class AtMinusOne(Plain):
    def revision(self, rows):
        return super().revision(rows) or -1

    def conflicts(self, turn, revision):
        return super().conflicts(turn, max(revision, 0))

    async def append(self, turn):
        return max(await super().append(turn), 0)


@breaks("Items come back oldest first, turn after turn.")
class ClockStepsBack(Plain):
    def revision(self, rows):
        return max((row.id for row in rows), default=0)

    async def write(self, rows, added):
        starts = [n for n, row in enumerate(rows) if row.turn_id]
        place = starts[-1] if len(starts) == 4 else len(rows)
        rows[place:place] = added


@breaks("A history knows where each of its turns starts, and its id.")
class KnowsTheLastTurnOnly(Plain):
    async def load(self, session_id, *, limit=None):
        history = await super().load(session_id, limit=limit)
        last = history.turns[-1:] if limit is None else history.turns
        return History(history, revision=history.revision, turns=last, is_cut=history.is_cut)


@breaks("What comes back is what was appended.")
class WholeNumbersBecomeFloats(Plain):
    """As in a store whose JSON is JavaScript's."""

    def decode(self, raw):
        return json.decode(raw, strict=False) if len(raw) < 10 else super().decode(raw)

    def encode(self, turn):
        encoded = super().encode(turn)
        return [
            str(float(raw)).encode() if raw.isdigit() and len(raw) < 10 else raw for raw in encoded
        ]


@breaks("What would come back changed is refused, and its turn with it, which may then be another.")
class MakesNanNull(Plain):
    def encode(self, turn):
        try:
            return super().encode(turn)
        except Exception:
            if turn.items[-1] == turn.items[-1] or not isinstance(turn.items[-1], float):
                raise
            return [json.encode(item) for item in turn.items]


@breaks("What would come back changed is refused, and its turn with it, which may then be another.")
class SkipsWhatItCannotKeep(Plain):
    def encode(self, turn):
        encoded = []
        for item in turn.items:
            try:
                encoded += self.codec.encode([item], turn.session_id)
            except Exception:
                continue
        return encoded


@breaks("Any text but the empty one is an id, of a session and of a turn.")
class StopsAtNul(Plain):
    def added(self, turn, encoded):
        first, *others = super().added(turn, encoded) or [None]
        return [first._replace(turn_id=first.turn_id.partition("\0")[0]), *others] if first else []


@breaks("A session holds its own turns only, however like another's its id, or theirs, may be.")
class TrimsIds(Plain):
    def rows(self, session_id):
        return super().rows(session_id.strip(" "))


@breaks("A session holds its own turns only, however like another's its id, or theirs, may be.")
class TurnIdsAreGlobal(Plain):
    def held(self, rows, turn):
        return any(
            super(TurnIdsAreGlobal, self).held(rows, turn) for rows in self.sessions.values()
        )


@breaks("A limit keeps the newest items, their turns and the true revision, and tells what it cut.")
class LimitKeepsTheOldest(Plain):
    def limited(self, rows, limit):
        return rows if limit is None else rows[:limit]


@breaks("A limit keeps the newest items, their turns and the true revision, and tells what it cut.")
class LimitZeroIsNoLimit(Plain):
    def limited(self, rows, limit):
        return super().limited(rows, limit or None)


@breaks("A limit keeps the newest items, their turns and the true revision, and tells what it cut.")
class RevisionOfWhatIsLoaded(Plain):
    async def load(self, session_id, *, limit=None):
        history = await super().load(session_id, limit=limit)
        revision, is_cut = history.revision if history else 0, history.is_cut
        return History(history, revision=revision, turns=history.turns, is_cut=is_cut)


@breaks("A limit keeps the newest items, their turns and the true revision, and tells what it cut.")
class KeepsQuietAboutWhatItCut(Plain):
    async def load(self, session_id, *, limit=None):
        history = await super().load(session_id, limit=limit)
        return History(history, revision=history.revision, turns=history.turns)


@breaks("A turn that is held is not saved again, and the current revision is returned.")
class LooksAtTheLastTurnOnly(Plain):
    def held(self, rows, turn):
        last = next((row for row in reversed(rows) if row.turn_id), None)
        return last is not None and super().held([last], turn)


@breaks("That a turn is held is found before its revision is compared.")
class ComparesFirst(Plain):
    def held(self, rows, turn):
        return not self.conflicts(turn, self.revision(rows)) and super().held(rows, turn)


@breaks("An outdated revision raises SessionConflict, which names both, and writes nothing.")
class ZeroExpectsNothing(Plain):
    def conflicts(self, turn, revision):
        return bool(turn.expected_revision) and super().conflicts(turn, revision)


@breaks("An outdated revision raises SessionConflict, which names both, and writes nothing.")
class WritesWhatConflicts(Plain):
    async def append(self, turn):
        try:
            return await super().append(turn)
        except SessionConflict as error:
            if turn.expected_revision == 0:
                await self.write(self.rows(turn.session_id), self.added(turn, [b"0"]))
            raise error from None


@breaks("A turn without items writes nothing, and the current revision is returned.")
class EmptyTurnsTakeAnId(Plain):
    async def append(self, turn):
        revision = await super().append(turn)
        return revision if turn.items else next(self.ids)


@breaks("pop takes the newest item, and gives None when there is none.")
class PopsTheOldest(Plain):
    async def pop(self, session_id):
        rows = self.rows(session_id)
        rows.reverse()
        popped = await super().pop(session_id)
        rows.reverse()
        rows[-1:] = [row._replace(id=next(self.ids)) for row in rows[-1:]]
        return popped


@breaks("clear takes all items of its session, and of no other, however like its id may be.")
class ClearsWhatIsLike(Plain):
    async def clear(self, session_id):
        self.check(session_id)
        for like in self.sessions:
            if like.lower() == session_id.lower():
                self.sessions[like].clear()


@breaks("A turn of which nothing is left is no longer held.")
class RemembersTurns(Plain):
    def __init__(self):
        super().__init__()
        self.ever = set()

    def held(self, rows, turn):
        return (turn.session_id, turn.turn_id) in self.ever

    def added(self, turn, encoded):
        self.ever |= {(turn.session_id, turn.turn_id)} if encoded else set()
        return super().added(turn, encoded)


@breaks("An outdated revision raises SessionConflict, which names both, and writes nothing.")
class RemembersWhatConflicted(Plain):
    def __init__(self):
        super().__init__()
        self.refused = set()

    def held(self, rows, turn):
        return turn.turn_id in self.refused or super().held(rows, turn)

    def conflicts(self, turn, revision):
        conflicts = super().conflicts(turn, revision)
        self.refused |= {turn.turn_id} if conflicts else set()
        return conflicts


@breaks("No two contents of a session share a revision, which changes with the content only.")
class CountsItems(Plain):
    def revision(self, rows):
        return len(rows)


@breaks("What a caller does to an item that it gave or got changes nothing stored.")
class KeepsTheVeryItems(Plain):
    """What was decoded once is handed out again."""

    def __init__(self):
        super().__init__()
        self.decoded = {}

    def decode(self, raw):
        return self.decoded.setdefault(raw, super().decode(raw))


@breaks("Bad arguments raise TypeError or ValueError.")
class TakesAnyLimit(Plain):
    def check(self, session_id, limit=None):
        check_text("session_id", session_id)

    def limited(self, rows, limit):
        return super().limited(rows, None if limit is None else abs(int(limit)))


@breaks("Turns appended at once are all kept, whole, and none fails for what another did.")
class LastWriteWins(Plain):
    async def write(self, rows, added):
        if any(row.turn_id for row in rows) and len(added) == 3:
            before = [*rows]
            await checkpoint()
            rows[:] = before
        rows += added


@breaks("Turns appended at once are all kept, whole, and none fails for what another did.")
class FailsWhileAnotherIsWritten(Plain):
    def __init__(self):
        super().__init__()
        self.writing = {}

    async def append(self, turn):
        session_id, turn_id = turn.session_id, turn.turn_id
        if turn.expected_revision is None and self.writing.get(session_id, turn_id) != turn_id:
            msg = "database is locked"
            raise SessionError(msg, session_id=session_id)
        self.writing[session_id] = turn_id
        try:
            return await super().append(turn)
        finally:
            self.writing.pop(session_id, None)


@breaks("A turn that several append at once is saved once.")
class LooksBeforeItWaits(Plain):
    async def append(self, turn):
        rows = self.rows(turn.session_id)
        if self.held(rows, turn):
            return await super().append(turn)
        await checkpoint()
        revision = await super().append(replace(turn, turn_id="not yet known"))
        rows[:] = [
            row._replace(turn_id=turn.turn_id) if row.turn_id == "not yet known" else row
            for row in rows
        ]
        return revision


@breaks("Of several turns that expect the same revision at once, one is saved.")
class ComparesBeforeItWaits(Plain):
    async def append(self, turn):
        rows = self.rows(turn.session_id)
        if not self.held(rows, turn) and self.conflicts(turn, self.revision(rows)):
            return await super().append(turn)
        await checkpoint()
        return await super().append(replace(turn, expected_revision=None))


@breaks("Items that several pop at once are each given once.")
class LooksBeforeItPops(Plain):
    async def pop(self, session_id):
        self.check(session_id)
        rows = self.rows(session_id)
        newest = rows[-1:]
        await checkpoint()
        rows[-1:] = []
        return self.decode(newest[0].item) if newest else None


@breaks("A load while turns are appended and cleared sees whole turns only.")
class ShowsHalves(Plain):
    async def append(self, turn):
        async with self.lock:
            return await super().append(turn)

    async def write(self, rows, added):
        before = len(rows)
        try:
            for row in added:
                rows.append(row)
                await checkpoint()
        except BaseException:
            del rows[before:]
            raise


@breaks("An append cancelled at any point saves all or nothing; made again, it is there once.")
class KeepsHalves(Plain):
    async def append(self, turn):
        async with self.lock:
            return await super().append(turn)

    async def load(self, session_id, *, limit=None):
        self.check(session_id, limit)
        async with self.lock:
            return await super().load(session_id, limit=limit)

    async def write(self, rows, added):
        for row in added:
            rows.append(row)
            await checkpoint()


@pytest.mark.parametrize("store", BROKEN, ids=lambda store: store.__name__)
async def test_a_store_that_breaks_a_rule_fails_that_rule_and_no_other(store):
    with pytest.raises(StoreBroken) as caught:
        await check_session_store(store)
    assert list(caught.value.report.broken) == [BROKEN[store]]


def test_each_rule_is_broken_by_a_store():
    assert len(set(BROKEN.values())) == 24


async def test_the_report_names_what_broke_and_how_and_what_held():
    with pytest.raises(StoreBroken) as caught:
        await check_session_store(PopsTheOldest)
    report = caught.value.report
    assert isinstance(report, StoreReport)
    assert len(report.held) == 23
    assert str(caught.value) == str(report)
    first, broken, how, *held = str(report).splitlines()
    assert first == "23 of 24 rules held."
    assert broken == "  BROKEN  pop takes the newest item, and gives None when there is none."
    assert how.startswith("          what was popped: expected {'content': 'two', ")
    assert held == [f"  held    {rule}" for rule in report.held]


class Hangs(Plain):
    async def append(self, turn):
        await anyio.sleep_forever()


async def test_a_store_that_hangs_breaks_the_rules_that_it_keeps_waiting():
    message = "TimeoutError: it took more than 0.01 seconds; give it more patience"
    with pytest.raises(StoreBroken, match=message) as caught:
        await check_session_store(Hangs, patience=0.01)
    assert {type(error) for error in caught.value.report.broken.values()} == {TimeoutError}


class FailsAtOnce(Plain):
    busy = 0

    async def append(self, turn):
        self.busy += 1
        try:
            await checkpoint()
            if self.busy > 1:
                raise OSError("too many\ncallers")  # noqa: EM101, TRY003
            return await super().append(turn)
        finally:
            self.busy -= 1


async def test_what_fails_in_several_tasks_is_told_by_the_first():
    with pytest.raises(StoreBroken, match="          OSError: too many callers\n"):
        await check_session_store(FailsAtOnce)


async def test_a_store_may_be_made_by_a_context_manager():
    opened = []

    @asynccontextmanager
    async def make_store():
        opened.append("opened")
        yield Plain()
        opened.append("closed")

    await check_session_store(make_store)
    assert opened == ["opened", "closed"] * 24


async def test_what_makes_no_store_breaks_every_rule():
    with pytest.raises(StoreBroken, match="TypeError: store must have load, append, pop and clear"):
        await check_session_store(dict)


@pytest.mark.parametrize("bad", [None, Plain(), check_session_store])
async def test_what_is_no_plain_function_makes_no_store(bad):
    with pytest.raises(TypeError, match="make_store must be a plain function that makes a store"):
        await check_session_store(bad)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"items": [1, 2]}, ValueError, r"items must be three different items, got \[1, 2\]"),
        ({"items": [1, 2, 1]}, ValueError, "items must be three different items, got"),
        ({"items": 3}, TypeError, "items must be a sequence of items, got int"),
        ({"patience": -1}, ValueError, "patience must"),
        ({"patience": "1"}, TypeError, "patience must"),
    ],
)
async def test_bad_parameters_are_refused_by_name(parameters, error, message):
    with pytest.raises(error, match=message):
        await check_session_store(Plain, **parameters)


async def test_a_scripted_service_gives_its_answers_in_order_and_keeps_the_requests():
    async def slowly(request):
        await checkpoint()
        return f"{request}!"

    service = ScriptedService("one", {"two": 2}, ConnectionError("reset"), str.upper, slowly)
    assert await service("a") == "one"
    assert await service("b") == {"two": 2}
    with pytest.raises(ConnectionError, match="reset"):
        await service("c")
    assert (
        repr(service)
        == "ScriptedService(str.upper, \
test_a_scripted_service_gives_its_answers_in_order_and_keeps_the_requests.<locals>.slowly)"
    )
    assert await service("d") == "D"
    assert await service("e") == "e!"
    assert service.requests == ["a", "b", "c", "d", "e"]
    with pytest.raises(AssertionError, match="there is no answer left for request 6: 'f'"):
        await service("f")


async def test_a_scripted_service_can_be_cancelled_and_tests_a_layer(store):
    service = ScriptedService("Hello", "Hello again")
    memory = MemoryLayer(LoadSession(store), SaveSession(store), session_id="s")
    with anyio.CancelScope() as scope:
        scope.cancel()
        await memory(service)([{"role": "user", "content": "Hi"}])
    assert await memory(service)([{"role": "user", "content": "Hi"}]) == "Hello"
    assert await memory(service)([{"role": "user", "content": "Hi"}]) == "Hello again"
    assert [len(request) for request in service.requests] == [1, 3]
