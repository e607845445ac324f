"""The errors of the library.

1. Every error about a session is a `SessionError`. A mistake in calling the library raises
   Python's own `TypeError`, `ValueError` or `RuntimeError`.
2. An error that is raised after a paid model call carries the response. The response of a stream
   is a `tower_memory.dialects.Streamed`, which has the chunks.
3. Error messages name sessions, turns, tool calls, places and types. Conversation content is only
   in the attributes. A chained error of another library may show content in its own text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final


class SessionError(Exception):
    """Raised when a session cannot be read or written; the base class of the library's errors.

    The text begins with the value that `session_id` has when the text is read: a store that wraps
    a store may change it.

    Attributes:
        session_id: Id of the session; None if the error is about the whole store.
    """

    session_id: str | None = None

    def __init__(self, message: str, *, session_id: str | None = None) -> None:
        super().__init__(message)
        self.session_id = session_id

    def __str__(self) -> str:
        where = "" if self.session_id is None else f"session {self.session_id!r}: "
        return where + super().__str__()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # By default, pickle passes self.args to the constructor, which takes other parameters.
        return _restore, (type(self), self.args, self.__dict__)


def _restore(
    kind: type[SessionError], args: tuple[Any, ...], attributes: dict[str, Any]
) -> SessionError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


@final
class SessionConflict(SessionError):
    """Raised when a turn or a call does not fit the present state of its session.

    The session is at another revision than expected, another turn of the session is in progress, or
    the request's conversation differs from the session's.

    Attributes:
        expected: Expected revision; None if the conflict is not about revisions.
        actual: Revision of the session; None if the conflict is not about revisions.
        response: Response of the inner service; None if the inner service was not called.
        turn: Turn that was not saved; None if the conflict came before there was a turn.
    """

    def __init__(
        self,
        session_id: str | None,
        *,
        expected: int | None = None,
        actual: int | None = None,
        response: Any = None,
        turn: Any = None,
        reason: str = "another turn of the session is in progress",
        remedy: str = "load the session again and decide",
    ) -> None:
        if expected is not None:
            reason = f"revision {expected} was expected, {actual} was found"
        super().__init__(f"{reason}; {remedy}", session_id=session_id)
        self.expected = expected
        self.actual = actual
        self.response = response
        self.turn = turn


@final
class SessionCleared(SessionError):
    """Raised when a session was cleared or erased after the history of a turn was loaded.

    The turn is not saved, so the session stays as it is. If the turn is still wanted, append it
    again with ``since=None``.

    Attributes:
        response: Response of the inner service; None if the inner service was not called.
        turn: Turn that was not saved; None if the session was cleared before there was a turn.
    """

    def __init__(self, session_id: str, *, response: Any = None, turn: Any = None) -> None:
        super().__init__(
            "it was cleared or erased after the turn's history was loaded; the turn is not saved",
            session_id=session_id,
        )
        self.response = response
        self.turn = turn


@final
class TurnMissing(SessionError):
    """Raised when a session does not hold a turn that a parameter names.

    The session was perhaps cleared, or another turn has replaced the missing turn.

    Attributes:
        turn_id: Id of the missing turn.
        response: Response of the inner service; None if the inner service was not called.
        turn: Turn that was not saved; None if the turn was missing before there was a new turn.
    """

    def __init__(
        self, session_id: str, *, turn_id: str, response: Any = None, turn: Any = None
    ) -> None:
        super().__init__(
            f"it does not hold the turn {turn_id!r}; load the session again and decide",
            session_id=session_id,
        )
        self.turn_id = turn_id
        self.response = response
        self.turn = turn


@final
class TurnExists(SessionError):
    """Raised when a session already holds the turn of a request.

    Attributes:
        turn_id: Id of the turn.
        items: Stored items of the turn; None if the history was loaded with a limit that leaves
            them out.
        response: Response of the inner service; None if the inner service was not called.
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
    """Raised when the inner service has answered and saving the turn has failed.

    The cause is chained. Saving ``turn`` again is safe at any time: if the failed attempt saved
    the turn after all, a second save changes nothing. The message has the text of the cause only if
    this library or the operating system raised it, because another text may show content.

    Attributes:
        response: Response of the inner service.
        turn: Turn to save; None if the dialect could not read the response.
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
    """Raised when a stored turn cannot be decoded. The turn stays in the store.

    Attributes:
        row: Row of the turn in the store.
    """

    def __init__(self, session_id: str, *, row: int, reason: str) -> None:
        super().__init__(f"row {row} cannot be decoded: {reason}", session_id=session_id)
        self.row = row


@final
class UnencodableItemError(SessionError, ValueError):
    """Raised when JSON cannot hold an item or a turn's metadata, or would change it.

    Attributes:
        where: Place of the fault, such as ``items[0].content[2]`` or ``metadata.model``. A key
            that is no short identifier may be content; the place then has its position:
            ``[key 0]``.
        value: Value at that place.
    """

    def __init__(self, session_id: str, *, where: str, value: Any, reason: str) -> None:
        super().__init__(f"{where} cannot be stored: {reason}", session_id=session_id)
        self.where = where
        self.value = value
