"""The catalogue of our stores beyond the contract, which testing_kit checks."""

from __future__ import annotations

import pytest

from helpers.messages import user
from tower_memory import Turn
from tower_memory.store_toolkit import from_cursor, to_cursor

A = user("a")


async def walk(store, *, prefix="", limit=1):
    """Return the pages of a walk."""
    pages = [await store.sessions(prefix=prefix, limit=limit)]
    while pages[-1].next is not None:
        pages.append(await store.sessions(prefix=prefix, limit=limit, after=pages[-1].next))
    return pages


def ids_of(*pages):
    return [info.session_id for page in pages for info in page]


# Cursors


@pytest.mark.parametrize(
    "change",
    [
        lambda cursor: f"{cursor}=",
        lambda cursor: f"{cursor}\n",
        lambda cursor: f"!{cursor}",
        lambda cursor: cursor[:-1] + chr(ord(cursor[-1]) + 1),
    ],
    ids=["padded", "with a new line", "with another sign", "with unused bits"],
)
def test_a_text_that_is_only_similar_to_a_cursor_is_refused(change):
    cursor = to_cursor(("sessions", ""), (7,))
    assert from_cursor(cursor, ("sessions", ""), length=1) == (7,)
    with pytest.raises(ValueError, match="after must be the cursor `next` of a page"):
        from_cursor(change(cursor), ("sessions", ""), length=1)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**40])
def test_a_cursor_with_a_number_beyond_64_bits_is_refused(number):
    cursor = to_cursor(("sessions", ""), (number,))
    with pytest.raises(ValueError, match="after must be the cursor `next` of a page"):
        from_cursor(cursor, ("sessions", ""), length=1)


async def test_a_cursor_of_another_query_or_length_is_refused_by_name(store):
    for place in [(), (1,), (1, 2, 3)]:
        cursor = to_cursor(("search", ""), place)
        with pytest.raises(ValueError, match="after must be the cursor `next` of a page"):
            await store.sessions(after=cursor)
    with pytest.raises(ValueError, match="got another text of"):
        await store.sessions(after=to_cursor(("sessions", ""), (1, 2, 3)))


# Walks


async def test_a_session_that_is_erased_and_written_again_is_not_listed_twice(store):
    for session in "abcd":
        await store.append(Turn(session, [A]))
    first = await store.sessions(limit=1)
    for session in "bcd":
        await store.erase(session_id=session)
    await store.append(Turn("d", [A]))  # its place may be below that of the first page
    await store.append(Turn("new", [A]))
    second = await store.sessions(limit=1, after=first.next)
    assert (ids_of(first, second), second.next) == (["d", "a"], None)
    assert ids_of(*await walk(store)) == ["new", "d", "a"]


@pytest.mark.parametrize("limit", [2**63 - 2, 2**63 - 1, 2**63, 10**100])
async def test_a_limit_beyond_64_bits_lists_all_sessions(store, limit):
    for session in "ab":
        await store.append(Turn(session, [A]))
    page = await store.sessions(limit=limit)
    assert (ids_of(page), page.next) == (["b", "a"], None)
