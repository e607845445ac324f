"""The statements of `SessionSearch`: the turns of a walk (`proposals`) that have the words.

1. A search reads each proposed turn itself, and pauses after each statement.
2. The last statement leaves out the turns that were removed meanwhile, so a search that returns
   after an erasure contains nothing of it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Final, NamedTuple
from uuid import UUID

from tower_memory._capabilities.search import SearchHit
from tower_memory._excerpts import excerpt
from tower_memory._search_words import search_words
from tower_memory._stores.postgres.hashes import from_uuid, to_uuid
from tower_memory._stores.postgres.id_range import PREFIX_CONDITION, id_range
from tower_memory._stores.postgres.link import Connection
from tower_memory._stores.postgres.proposals import NEWEST, Key, Place, Walk, propose
from tower_memory._stores.postgres.search_index import read_turns
from tower_memory._stores.postgres.words import hashes_of
from tower_memory._stores.records import to_datetime
from tower_memory._stores.sql.searching import Wanted
from tower_memory._stores.sql.sql_store import PagePlace

PLACE_LENGTH: Final = 4
"""Count of the numbers of a hit's place: its time, its session as two numbers, and its number."""

_SESSION_IDS: Final = (
    "SELECT session, session_id FROM memory_head"  # noqa: S608 - a constant
    f" WHERE session = ANY(%b::uuid[]) {PREFIX_CONDITION}"
)

_SESSIONS: Final = f"SELECT session FROM memory_head WHERE true {PREFIX_CONDITION} LIMIT %b"  # noqa: S608 - as above

_FEW_SESSIONS: Final = 1000
"""Maximum number of sessions with a prefix whose turns a search asks for at once."""

_PART_LENGTH: Final = 50
"""Maximum number of turns that one statement reads."""


class _Found(NamedTuple):
    """A turn that has the words."""

    place: Place
    session_id: str
    turn_id: str
    text: str

    def hit(self, words: frozenset[str]) -> SearchHit:
        """Return the turn as a hit."""
        time = to_datetime(self.place.created_at * 1000)
        return SearchHit(self.session_id, self.turn_id, time, excerpt(self.text, words))


def search(
    connection: Connection, wanted: Wanted
) -> Generator[None, None, tuple[list[SearchHit], PagePlace | None]]:
    """See `SearchStatements.search`."""
    hashes = hashes_of(wanted.words)
    walk: Walk | None = _begin(connection, wanted)
    found: list[_Found] = []

    while walk is not None and len(found) <= wanted.limit:
        places, walk = propose(connection, hashes, walk)
        yield

        ids = _session_ids(connection, places, wanted.prefix)
        places = [place for place in places if place.session in ids]
        while places and len(found) <= wanted.limit:
            part, places = places[:_PART_LENGTH], places[_PART_LENGTH:]
            found += _read(connection, part, ids, wanted)
            yield

    page, more = found[: wanted.limit], found[wanted.limit :]
    hits = [(each.place, each.hit(wanted.words)) for each in page]
    there = read_turns(connection, [place for place, _ in hits])
    following = _to_page_place(page[-1].place) if more else None
    return [hit for place, hit in hits if place in there], following


def _begin(connection: Connection, wanted: Wanted) -> Walk:
    """Return the walk of a search at its beginning."""
    after = _to_key(wanted.after) if wanted.after else NEWEST
    if not wanted.prefix:
        return Walk(after)

    values = (*id_range(wanted.prefix), _FEW_SESSIONS + 1)
    sessions = [session for (session,) in connection.execute(_SESSIONS, values, prepare=False)]
    if len(sessions) > _FEW_SESSIONS:
        return Walk(after)
    return Walk(after, sessions, has_few=True)


def _session_ids(connection: Connection, places: Iterable[Place], prefix: str) -> dict[UUID, str]:
    """Return the ids of the sessions at *places* that start with *prefix*."""
    sessions = list({place.session for place in places})
    rows = connection.execute(_SESSION_IDS, (sessions, *id_range(prefix)), prepare=False)
    return {session: session_id.decode(errors="replace") for session, session_id in rows}


def _read(
    connection: Connection, places: Sequence[Place], ids: dict[UUID, str], wanted: Wanted
) -> Generator[_Found]:
    """Yield those of the turns at *places* that have the words."""
    turns = read_turns(connection, places)
    for place in places:
        turn = turns.get(place)
        if turn is None:
            continue
        text = turn.text(wanted.reader)
        if wanted.words <= search_words(text):
            turn_id = turn.turn_id.decode(errors="replace")
            yield _Found(place, ids[place.session], turn_id, text)


def _to_page_place(place: Place) -> PagePlace:
    return place.created_at, *from_uuid(place.session), place.number


def _to_key(place: PagePlace) -> Key:
    created_at, high, low, number = place
    return created_at, to_uuid(high, low), number
