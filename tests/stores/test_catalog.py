"""The catalogue of our stores beyond the contract, which testing_kit checks."""

from __future__ import annotations

import pytest

from tower_memory.store_toolkit import from_cursor, to_cursor

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
