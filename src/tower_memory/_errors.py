"""What can go wrong with a session.

1. Everything the library raises about a session is a `SessionError`; mistakes in calling it are
   Python's own `TypeError`, `ValueError` and `RuntimeError`.
2. An error that is raised after a model was paid for carries the response.
   Of a reply that was streamed that is a `tower_memory.dialects.Streamed`, with its chunks.
3. Messages name sessions and places; what people said is on the attributes, except for the
   start of a value that cannot be stored or read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final


class SessionError(Exception):
    """Raised when a session cannot be read or written; the base of all the library's errors.

    Attributes:
        session_id: The session, or None when it is the whole store that failed.
    """

    def __init__(self, message: str, *, session_id: str | None = None) -> None:
        where = "" if session_id is None else f"session {session_id!r}: "
        super().__init__(where + message)
        self.session_id = session_id

    def __reduce__(self) -> tuple[Any, ...]:
        # Its parameters are not its args, so that pickle would make it anew from the wrong ones.
        return _restored, (type(self), self.args, self.__dict__)


def _restored(
    kind: type[SessionError], args: tuple[Any, ...], attributes: dict[str, Any]
) -> SessionError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


@final
class SessionConflict(SessionError):
    """Raised when a session is no longer what a turn was made for.

    Attributes:
        expected: The revision that was expected, or None where none was compared: another turn is
            under way, or the request's conversation is not the session's.
        actual: The revision that was found, or None likewise.
        response: What the inner service answered, or None when it was not called.
        turn: The turn that was not saved, or None when there was none yet.
    """

    def __init__(
        self,
        session_id: str,
        *,
        expected: int | None = None,
        actual: int | None = None,
        response: Any = None,
        turn: Any = None,
        reason: str = "another turn of it is under way",
    ) -> None:
        if expected is not None:
            reason = f"revision {expected} was expected, {actual} was found"
        super().__init__(f"{reason}; load it again and decide", session_id=session_id)
        self.expected = expected
        self.actual = actual
        self.response = response
        self.turn = turn


@final
class TurnExists(SessionError):
    """Raised when the turn a request stands for is already in its session.

    Attributes:
        turn_id: The turn.
        items: The turn's items as they are stored, or None where the history was loaded with a
            limit that leaves them out.
        response: What the inner service answered, or None when it was not called.
    """

    def __init__(
        self, session_id: str, *, turn_id: str, items: Sequence[Any] | None, response: Any = None
    ) -> None:
        super().__init__(f"turn {turn_id!r} is already saved", session_id=session_id)
        self.turn_id = turn_id
        self.items = items
        self.response = response


@final
class SaveError(SessionError):
    """Raised when the inner service answered and its turn could not be saved.

    The cause is chained. Saving ``turn`` again is safe, however late the first attempt failed: a
    turn that is already saved is not saved twice.

    Attributes:
        response: What the inner service answered.
        turn: The turn to save, or None where the response could not be read.
    """

    def __init__(self, session_id: str, reason: str, *, response: Any, turn: Any) -> None:
        super().__init__(
            f"the reply is on this error, its turn may not be saved: {reason}",
            session_id=session_id,
        )
        self.response = response
        self.turn = turn


@final
class CorruptSessionError(SessionError):
    """Raised when a stored item cannot be decoded. The item stays where it is.

    Attributes:
        row: The item's row in the store.
    """

    def __init__(self, session_id: str, *, row: int, reason: str) -> None:
        super().__init__(f"row {row} cannot be decoded: {reason}", session_id=session_id)
        self.row = row


@final
class UnencodableItemError(SessionError):
    """Raised when an item holds something that JSON cannot, or that would come back changed.

    Attributes:
        where: The place in the items, such as ``items[0].content[2]``.
        value: What stood there.
    """

    def __init__(self, session_id: str, *, where: str, value: Any, reason: str) -> None:
        super().__init__(f"{where} cannot be stored: {reason}", session_id=session_id)
        self.where = where
        self.value = value
