"""Proposing turns that may have the words of a search, the newest first.

1. A turn is proposed if its words include all words of the search, or if it is marked as not
   indexed. The caller reads each proposed turn, so an index never changes the hits.
2. A walk goes back in time in windows, each read by a short statement. So a common word, which soon
   fills a page, costs little, and other reads go on meanwhile.
3. After a window with few proposals, the walk asks the index for all older turns. It stays with
   windows if the server has no index, if many turns are marked, or if the answer takes long.
4. If the search has few sessions, the walk asks for their turns at once, which needs no index.
5. A stored turn keeps its place in the walk, so no turn is passed over while others are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, LiteralString, NamedTuple, TypeAlias
from uuid import UUID

from psycopg.errors import QueryCanceled

from tower_memory._stores.clock import now
from tower_memory._stores.postgres.link import Connection
from tower_memory._stores.postgres.tables import NOT_INDEXED

_WORDS: Final = "string_to_array(words, ' ')"
_IS_MARKED: Final = f"{_WORDS} @> '{{{NOT_INDEXED}}}'"
_FIND: Final = (
    "SELECT created_at, session, number, first FROM memory_turn"  # noqa: S608 - all are constants
    " WHERE created_at >= %(oldest)b AND created_at <= %(time)b"
    " AND (created_at, session, number) < (%(time)b, %(session)b, %(number)b)"
    f" AND ({_WORDS} @> %(words)b::text[] OR {_IS_MARKED})"
)
_IN_ORDER: Final = "ORDER BY created_at DESC, session DESC, number DESC LIMIT %(most)b"
_IN_WINDOW: Final = f"{_FIND} {_IN_ORDER}"

# Without the intermediate result, the server might walk over the index of times to the oldest turn.
_WITH: Final = f"WITH found AS MATERIALIZED ({_FIND}"
_OF_FOUND: Final = f") SELECT * FROM found {_IN_ORDER}"  # noqa: S608 - as above
_IN_INDEX: Final = f"{_WITH}{_OF_FOUND}"
_IN_SESSIONS: Final = f"{_WITH} AND session = ANY(%(sessions)b::uuid[]){_OF_FOUND}"

_END_OF_WINDOW: Final = (
    "SELECT created_at FROM memory_turn WHERE created_at < %b"
    " ORDER BY created_at DESC OFFSET %b LIMIT 1"
)
_HAS_INDEX: Final = "SELECT to_regclass('memory_turn_words') IS NOT NULL"
_COUNT_MARKED: Final = (
    "SELECT count(*) FROM"  # noqa: S608 - as above
    f" (SELECT 1 FROM memory_turn WHERE {_IS_MARKED} LIMIT %b) AS marked"
)
_LIMIT_TIME: Final = "SELECT set_config('statement_timeout', %s, true)"

_FIRST_SIZE: Final = 1000
"""Number of turns in the first window. Windows grow while they are fast."""

_WINDOW_TIME: Final = 0.005
"""Seconds that a window should take at most."""

_MOST_IN_WINDOW: Final = 500
"""Maximum number of turns that a window proposes."""

_FEW: Final = 50
"""A window has few proposals if it proposes at most one in this number of turns."""

_MOST_AT_ONCE: Final = 32_000
"""Maximum number of turns that a statement without a window proposes."""

_AT_ONCE_TIME: Final = 1.0
"""Seconds after which a statement without a window is stopped."""

_MOST_MARKED: Final = 1000
"""Maximum number of marked turns with which the walk asks the index."""

_OLDEST: Final = -(2**63)
_LATEST: Final = 2**63 - 1

Key: TypeAlias = tuple[int, UUID, int]
"""The time, the session and the number of a turn, by which turns are ordered."""

NEWEST: Final[Key] = (_LATEST, UUID(int=2**128 - 1), _LATEST)
"""A key that is newer than that of every turn."""


class Place(NamedTuple):
    """The place of a turn in the order of all turns, and the rest of its primary key.

    Attributes:
        created_at: Its time, in microseconds since 1970.
        session: The hash of its session id.
        number: Its number.
        first: Position of its first item.
    """

    created_at: int
    session: UUID
    number: int
    first: int


class Walk(NamedTuple):
    """The state of a walk between two statements.

    Attributes:
        after: The walk goes on with the turns before this key.
        sessions: The only sessions that the caller needs, if they are few; else None.
        has_few: True if the rest of the walk probably has few turns to propose.
        stays_in_windows: True once a statement without a window gave no answer.
        size: Number of turns in the next window; or maximum number that the next statement without
            a window proposes.
    """

    after: Key = NEWEST
    sessions: Sequence[UUID] | None = None
    has_few: bool = False
    stays_in_windows: bool = False
    size: int = _FIRST_SIZE


def propose(
    connection: Connection, words: Sequence[str], walk: Walk
) -> tuple[list[Place], Walk | None]:
    """Return the next turns that may have the *words*, and the rest of the walk, or None."""
    if walk.has_few and not walk.stays_in_windows:
        places = _find_at_once(connection, words, walk)
        if places is not None:
            following = walk._replace(size=min(4 * walk.size, _MOST_AT_ONCE))
            return places, _behind(following, places, walk.size, _OLDEST)
        walk = walk._replace(stays_in_windows=True, size=_FIRST_SIZE)

    began = now()
    oldest = _end_of_window(connection, walk)
    places = _find(connection, _IN_WINDOW, words, walk, oldest=oldest, most=_MOST_IN_WINDOW)
    is_fast = now() < began + _WINDOW_TIME / 2
    following = walk._replace(
        has_few=len(places) * _FEW <= walk.size,
        size=walk.size * 2 if is_fast else max(walk.size // 2, _FIRST_SIZE),
    )
    return places, _behind(following, places, _MOST_IN_WINDOW, oldest)


def _behind(walk: Walk, places: Sequence[Place], most: int, oldest: int) -> Walk | None:
    """Return the rest of the *walk* after a statement; None if it is at its end.

    The statement has proposed the *places*: at most *most*, and no turn older than *oldest*.
    """
    if len(places) == most:
        return walk._replace(after=places[-1][:3])
    if oldest == _OLDEST:
        return None
    return walk._replace(after=(oldest, UUID(int=0), _OLDEST))


def _end_of_window(connection: Connection, walk: Walk) -> int:
    """Return the time of the oldest turn in the next window; `_OLDEST` in the last window."""
    values = (walk.after[0], walk.size)
    found = connection.execute(_END_OF_WINDOW, values, prepare=False).fetchone()
    return found[0] if found else _OLDEST


def _find_at_once(connection: Connection, words: Sequence[str], walk: Walk) -> list[Place] | None:
    """Return the next turns without a window (rules 3 and 4); None if there is no answer."""
    seconds = min(_AT_ONCE_TIME, connection.deadline.left() / 2)
    milliseconds = max(1, int(1000 * seconds))  # 0 would be no limit

    try:
        with connection.transaction():
            connection.execute(_LIMIT_TIME, (str(milliseconds),))
            if walk.sessions is not None:
                return _find(connection, _IN_SESSIONS, words, walk, oldest=_OLDEST, most=walk.size)
            if not _has_index(connection):
                return None
            return _find(connection, _IN_INDEX, words, walk, oldest=_OLDEST, most=walk.size)
    except QueryCanceled:
        return None


def _has_index(connection: Connection) -> bool:
    """Return True if there is an index, and few turns are marked."""
    (has_index,) = connection.execute(_HAS_INDEX).fetchall()[0]
    if not has_index:
        return False
    limit = (_MOST_MARKED + 1,)
    (count,) = connection.execute(_COUNT_MARKED, limit, prepare=False).fetchall()[0]
    return bool(count <= _MOST_MARKED)


def _find(
    connection: Connection,
    statement: LiteralString,
    words: Sequence[str],
    walk: Walk,
    *,
    oldest: int,
    most: int,
) -> list[Place]:
    """Return the next turns: at most *most*, and no turn older than *oldest*.

    The server plans each statement anew, because the best plan depends on the words.
    """
    time, session, number = walk.after
    values = {
        "words": words,
        "sessions": walk.sessions,
        "oldest": oldest,
        "time": time,
        "session": session,
        "number": number,
        "most": most,
    }
    return [Place(*row) for row in connection.execute(statement, values, prepare=False)]
