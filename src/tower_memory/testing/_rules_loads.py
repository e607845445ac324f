"""Rules about the part of a session that a load selects."""

from __future__ import annotations

from typing import Any

from tower_memory._errors import TurnMissing
from tower_memory._history import History
from tower_memory._turn import Turn
from tower_memory.testing._case import Case, Rule, expect, expect_error, turns_of


async def limited_load(case: Case) -> None:
    """A limit keeps the newest items, their turns and the session's revision, and sets is_cut."""
    session = case.new_session()
    items = [case.items[n % 3] for n in range(150)]
    one, two = Turn(session, items[:100]), Turn(session, items[100:])
    await case.store.append(one)
    revision = await case.store.append(two)
    distances = [(one.turn_id, 150), (two.turn_id, 50)]  # of each turn's start from the end

    for limit in (0, 1, 2, 49, 50, 51, 149, 150, 151, 2**70):
        newest = items[max(0, len(items) - limit) :]
        turns = [(turn, len(newest) - back) for turn, back in distances if back <= len(newest)]
        history = await case.store.load(session, limit=limit)

        expect(f"the items with limit={limit}", list(history), newest)
        expect(f"the turns with limit={limit}", turns_of(history), turns)
        expect(f"the revision with limit={limit}", history.revision, revision)
        expect(f"is_cut with limit={limit}", history.is_cut, len(newest) < len(items))


async def offset_and_session(case: Case) -> None:
    """A history knows its session, and how many items of the session precede it."""
    session = case.new_session()
    await _expect_offset(await case.store.load(session), session, 0)
    await case.store.append(Turn(session, case.items))
    await case.store.append(Turn(session, case.items))
    for limit, offset in ((None, 0), (1, 5), (3, 3), (4, 2), (6, 0), (7, 0)):
        await _expect_offset(await case.store.load(session, limit=limit), session, offset)


async def _expect_offset(history: History[Any], session: str, offset: int) -> None:
    expect("the session of a history", history.session_id, session)
    expect(f"the offset of {len(history)} items", history.offset, offset)


async def before_offset(case: Case) -> None:
    """An offset as before selects the items before it; one beyond the end selects all."""
    session = case.new_session()
    items, turns = await _append_turns(case, session)
    revision = (await case.store.load(session)).revision

    for before in (0, 1, 2, 3, 4, len(items) - 1, len(items), len(items) + 1, 2**70):
        for limit in (None, 0, 1, 3):
            end = min(before, len(items))
            start = 0 if limit is None else max(0, end - limit)
            history = await case.store.load(session, limit=limit, before=before)

            how = f"with limit={limit}, before={before}"
            listed = [(turn, place - start) for turn, place in turns if start <= place < end]
            expect(f"the items {how}", list(history), items[start:end])
            expect(f"the turns {how}", turns_of(history), listed)
            expect(f"the offset {how}", history.offset, start)
            expect(f"the revision {how}", history.revision, revision)


async def before_turn(case: Case) -> None:
    """A turn id as before selects the items before that turn; TurnMissing if it is not held."""
    session, other = case.new_session(), case.new_session()
    items, turns = await _append_turns(case, session)
    await case.store.append(Turn(other, case.items[:1], turn_id="elsewhere"))
    revision = (await case.store.load(session)).revision

    for turn_id, place in turns:
        history = await case.store.load(session, before=turn_id)
        expect(f"the items before item {place}", list(history), items[:place])
        expect("the revision", history.revision, revision)
        history = await case.store.load(session, limit=2, before=turn_id)
        expect(f"two items before item {place}", list(history), items[max(0, place - 2) : place])

    for missing in ("elsewhere", "0", turns[0][0] + " "):
        for name in (session, case.new_session()):
            load = case.store.load(name, before=missing)
            error = await expect_error(TurnMissing, load, f"before={missing!r}")
            expect("the error", (error.session_id, error.turn_id), (name, missing))


async def pages(case: Case) -> None:
    """Pages that are loaded back by their offsets have each item and each turn once."""
    session = case.new_session()
    items, turns = await _append_turns(case, session)

    for limit in (1, 2, 3, 4, 7):
        page = await case.store.load(session, limit=limit)
        found, listed = list(page), _places(page)
        while page.offset:
            page = await case.store.load(session, limit=limit, before=page.offset)
            expect(f"whether a page of {limit} items before others has items", len(page) > 0, True)  # noqa: FBT003
            found[:0] = page
            listed[:0] = _places(page)

        expect(f"the items of all pages of {limit}", found, items)
        expect(f"the turns of all pages of {limit}", listed, turns)


def _places(history: History[Any]) -> list[tuple[str, int]]:
    """Return the id of each turn, and the place of its first item in the session."""
    return [(turn_id, history.offset + place) for turn_id, place in turns_of(history)]


async def _append_turns(case: Case, session: str) -> tuple[list[Any], list[tuple[str, int]]]:
    """Append turns of different lengths; return all items, and each turn's id and place."""
    items: list[Any] = []
    turns: list[tuple[str, int]] = []
    for length in (2, 1, 4, 3):
        turn = Turn(session, [case.items[n % 3] for n in range(length)])
        turns.append((turn.turn_id, len(items)))
        items += turn.items
        await case.store.append(turn)
    return items, turns


LOAD_RULES: tuple[Rule, ...] = (
    limited_load,
    offset_and_session,
    before_offset,
    before_turn,
    pages,
)
