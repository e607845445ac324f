"""The lines of an export. The guide in `tower_memory.__main__` defines the format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Annotated, Any, Final, TypeAlias

from msgspec import Meta, Raw, Struct, json

from tower_memory._arguments import check_text
from tower_memory._codec import ItemCodec, split_array
from tower_memory._codec_faults import fault_text
from tower_memory._command.errors import CommandError, Fault
from tower_memory._command.output import json_time
from tower_memory._deep_json import is_too_deep
from tower_memory._stores.records import EncodedTurn, to_datetime, to_nanoseconds
from tower_memory._stores.sql.importing import Entry, ImportedSession, ImportedTurn
from tower_memory._stores.sql.stored import StoredSession, StoredTurn

FORMAT: Final = "tower-memory"
VERSION: Final = 1

_Time: TypeAlias = Annotated[datetime, Meta(tz=True)]


class _Header(Struct):
    format: str
    version: int


class _Session(Struct, tag_field="kind", tag="session"):
    session_id: str
    created_at: _Time
    updated_at: _Time
    turns: int
    items: int
    metadata: Raw
    forked_from: str | None


class _Turn(Struct, tag_field="kind", tag="turn"):
    session_id: str
    turn_id: str
    created_at: _Time
    metadata: Raw
    items: Raw


class _End(Struct, tag_field="kind", tag="end"):
    sessions: int


_Line: TypeAlias = _Session | _Turn | _End

_header: Final = json.Decoder(_Header)
_line: json.Decoder[_Line] = json.Decoder(_Line)
_codec: Final = ItemCodec[Any](Any)


def header_line() -> bytes:
    """Return the first line."""
    return _to_line({"format": FORMAT, "version": VERSION})


def session_line(session: StoredSession) -> bytes:
    """Return the line of a session."""
    return _to_line(
        {
            "kind": "session",
            "session_id": session.session_id,
            "created_at": json_time(to_datetime(session.created_at)),
            "updated_at": json_time(to_datetime(session.updated_at)),
            "turns": session.turns,
            "items": session.items,
            "metadata": _raw(session.metadata),
            "forked_from": session.forked_from,
        }
    )


def turn_line(session_id: str, turn: StoredTurn) -> bytes:
    """Return the line of a turn."""
    return _to_line({"kind": "turn", **turn_keys(session_id, turn)})


def turn_keys(session_id: str, turn: StoredTurn) -> dict[str, Any]:
    """Return the keys and values of a turn."""
    return {
        "session_id": session_id,
        "turn_id": turn.turn_id,
        "created_at": json_time(to_datetime(turn.created_at)),
        "metadata": _raw(turn.metadata),
        "items": _raw(turn.items),
    }


def end_line(sessions: int) -> bytes:
    """Return the last line."""
    return _to_line({"kind": "end", "sessions": sessions})


def _to_line(value: dict[str, Any]) -> bytes:
    return json.encode(value) + b"\n"


def _raw(encoded: bytes | None) -> Raw:
    """Return stored JSON on one line: an end of line in it can only be between its tokens."""
    return Raw((encoded or b"{}").replace(b"\r", b" ").replace(b"\n", b" "))


def check_header(line: bytes) -> None:
    """Refuse a first line that is not the header of an export.

    Raises:
        CommandError: It is not, or it is that of a newer version.
    """
    try:
        header = _header.decode(line)
    except (ValueError, RecursionError):
        header = None
    if header is None or header.format != FORMAT:
        msg = (
            "line 1 is not the header of an export of tower-memory, and this is not the path of an "
            "SQLite database either"
        )
        raise CommandError(msg)
    if header.version != VERSION:
        msg = (
            f"line 1: the export has version {header.version}, this tower-memory knows {VERSION}: "
            "upgrade it"
        )
        raise CommandError(msg)


def read_entries(lines: Iterable[bytes]) -> Iterator[Entry]:
    """Yield the sessions and turns of the *lines* of an export.

    Raises:
        CommandError: A line is damaged, or lines are missing; the error names the line.
    """
    reader = _Reader()
    for number, line in enumerate(lines, 1):
        if number == 1:
            check_header(line)
            continue
        try:
            entry = reader.entry(line)
        except ValueError as error:
            msg = f"line {number}: {error}"
            raise CommandError(msg) from error
        if entry is not None:
            yield entry

    if not reader.has_ended:
        msg = "the last line is missing: the export was cut"
        raise CommandError(msg)


class _Reader:
    """Reads the lines after the header, and checks their order and number."""

    def __init__(self) -> None:
        self.has_ended = False
        self._session: _Session | None = None
        self._sessions = self._turns = self._items = 0

    def entry(self, line: bytes) -> Entry | None:
        """Return the entry of a line, or None for the last line.

        Raises:
            ValueError: The line is damaged.
        """
        if self.has_ended:
            msg = "it comes after the last line of the export"
            raise Fault(msg)

        match _decode(line):
            case _Session() as session:
                self._end_session()
                self._session = session
                self._sessions += 1
                self._turns = self._items = 0
                return _to_session(session)
            case _Turn() as turn:
                entry = self._to_turn(turn)
                self._turns += 1
                self._items += len(entry.encoded.items)
                return entry
            case end:
                self._end_session()
                if end.sessions != self._sessions:
                    msg = (
                        f"{self._sessions} of {end.sessions} sessions are there: lines are missing"
                    )
                    raise Fault(msg)
                self.has_ended = True
                return None

    def _end_session(self) -> None:
        """Refuse a session with too few or too many turns."""
        session = self._session
        if session and (self._turns, self._items) != (session.turns, session.items):
            msg = (
                f"the session before it has {self._turns} of {session.turns} turns, and "
                f"{self._items} of {session.items} items: lines are missing"
            )
            raise Fault(msg)

    def _to_turn(self, turn: _Turn) -> ImportedTurn:
        if self._session is None or turn.session_id != self._session.session_id:
            msg = "the turn does not follow its session"
            raise Fault(msg)
        check_text("turn_id", turn.turn_id)
        encoded = encode_items(split_array(bytes(turn.items)), _metadata(turn.metadata))
        return ImportedTurn(turn.turn_id, stored_time(turn.created_at), encoded)


def _decode(line: bytes) -> _Line:
    try:
        return _line.decode(line)
    except ValueError as error:
        raise Fault(fault_text(error)) from None
    except RecursionError:
        msg = "it is nested too deeply"
        raise Fault(msg) from None


def _to_session(session: _Session) -> ImportedSession:
    check_text("session_id", session.session_id)
    if session.forked_from is not None:
        check_text("forked_from", session.forked_from)
    return ImportedSession(
        session.session_id,
        stored_time(session.created_at),
        stored_time(session.updated_at),
        _metadata(session.metadata),
        session.forked_from,
    )


def _metadata(raw: Raw) -> bytes | None:
    """Return the JSON of a mapping as it is stored."""
    encoded = bytes(raw)
    value = decode_item(encoded)
    if not isinstance(value, dict):
        msg = "metadata must be an object"
        raise Fault(msg)
    return encoded if value else None


def encode_items(items: list[bytes], metadata: bytes | None = None) -> EncodedTurn:
    """Return a turn of *items*, which are JSON and stay unchanged.

    Raises:
        ValueError: An item is not JSON, or nested too deeply.
    """
    return EncodedTurn(items, [decode_item(item) for item in items], metadata, added_text="")


def decode_item(encoded: bytes) -> Any:
    """Return the value of an item's JSON, if a store can load it.

    Raises:
        ValueError: It is not JSON, or nested too deeply.
    """
    value = _codec.decode(encoded)
    if is_too_deep(encoded):
        msg = "it is nested too deeply"
        raise Fault(msg)
    return value


def stored_time(time: datetime) -> int:
    """Return *time* in nanoseconds since 1970.

    Raises:
        Fault: It is too far from 1970 for 64 bits.
    """
    nanoseconds = to_nanoseconds(time)
    if abs(nanoseconds) >= 2**63:
        msg = "a time is too far from 1970 for 64-bit nanoseconds"
        raise Fault(msg)
    return nanoseconds
