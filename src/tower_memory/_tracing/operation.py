"""One traced operation: its span, its duration and its outcome.

1. A span has ids, numbers, and names of types. Neither the text of an error nor any other text goes
   into it, since they may show content.
2. The span is the current one while the operation runs, so the spans of the code inside become its
   children. A span that records nothing and has no id of its own is never made the current one.
3. Sizes in bytes are computed only for a span that is recorded, outside of the measured duration.
4. OpenTelemetry's SDK calls processors and samplers of the program. If one raises, a warning is
   logged, and the operation goes on: a reply and a save do not depend on their span.
5. A coroutine that is closed, rather than run to its end, ends no span: the garbage collector may
   close it while the exporter of this thread has a lock that the end of a span needs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import perf_counter, time_ns
from typing import Any, Final, Literal, TypeAlias, TypeGuard, TypeVar, final

from anyio import get_cancelled_exc_class
from opentelemetry.context import Context, attach, get_current
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    Status,
    StatusCode,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

from tower_memory import _log
from tower_memory._capabilities.catalog import SessionInfo
from tower_memory._capabilities.erasure import Erasure
from tower_memory._capabilities.pages import Page
from tower_memory._errors import SessionError
from tower_memory._history import NO_METADATA, History, peek
from tower_memory._reasons import reason_of
from tower_memory._stream_source import is_stream
from tower_memory._tracing import names
from tower_memory._tracing.sizes import json_size
from tower_memory._tracing.telemetry import Telemetry
from tower_memory._turn import Turn
from tower_memory._turn_report import TurnReport, current_report

T = TypeVar("T")

Outcome: TypeAlias = Literal["ok", "error", "cancelled", "interrupted", "dropped"]
"""The end of an operation; only that of a stream is interrupted or dropped."""

_SAVES: Final = frozenset({"save", "store.append"})


@final
class Operation:
    """An operation that begins now, and ends once.

    An argument of the wrong type, which the operation is going to refuse, does not become an
    attribute.

    Args:
        telemetry: The tracer and the instruments.
        name: Name of the operation, such as ``"load"``.
        turn: The turn of the operation, if it has one.
        ids: Ids by the names of their attributes.
        limit: Maximum number of items or entries, if it is known.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        name: str,
        *,
        turn: object = None,
        ids: Mapping[str, object] = NO_METADATA,
        limit: object = None,
    ) -> None:
        self._instruments = telemetry.instruments
        self._name = name
        self._items: Sequence[Any] = ()
        given: dict[str, AttributeValue] = {names.OPERATION: name}
        if isinstance(turn, Turn):
            self._items = turn.items
            ids = {names.CONVERSATION_ID: turn.session_id, names.TURN_ID: turn.turn_id}
            given[names.ITEMS] = len(turn.items)
        given |= {key: value for key, value in ids.items() if _is_id(value)}
        if _is_number(limit):
            given[names.LIMIT] = limit

        self._span = _start_span(telemetry, name, given)
        self._is_recording = self._span.is_recording()
        self._report = TurnReport() if name == "turn" else None

        own, current = self._span.get_span_context(), get_current_span().get_span_context()
        is_new = own.span_id != current.span_id
        self._context = set_span_in_context(self._span) if is_new else None  # rule 2

        self._since = perf_counter()
        self._seconds: float | None = None
        self._end_time: int | None = None
        self.is_ended = False

    def inside(self) -> Inside:
        """Return a context manager, in which the code is part of the operation."""
        return Inside(self._context, self._report)

    async def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of *call*; the operation ends with it, unless it is a stream."""
        try:
            if self._is_recording and self._items:
                self._set(names.BYTES, await json_size(self._items))
            self._since = perf_counter()
            with self.inside():
                result = await call()
            if is_stream(result):
                return result

            self._stop_clock()
            if self._is_recording and isinstance(result, History):
                self._set(names.BYTES, await json_size(peek(result)))
        except GeneratorExit:  # rule 5
            raise
        except BaseException as error:
            self.fail(error)
            raise

        self.end("ok", result=result)
        return result

    def fail(self, error: BaseException) -> None:
        """End the operation with *error*; a cancellation is no failure."""
        if isinstance(error, get_cancelled_exc_class()):
            self.end("cancelled")
            return
        if isinstance(error, SessionError) and _is_id(error.session_id):
            self._set(names.CONVERSATION_ID, error.session_id)
        self.end("error", type(error).__qualname__)

    def end(
        self, outcome: Outcome, error_type: str | None = None, *, result: object = None
    ) -> None:
        """End the operation, which has returned *result*; a second call does nothing."""
        if self.is_ended:
            return
        self.is_ended = True
        self._stop_clock()
        try:
            self._describe(result)
            self._record(outcome, error_type)
        except Exception as error:  # noqa: BLE001 - rule 4
            _log.operation_untraced(self._name, reason=reason_of(error))

    def _record(self, outcome: Outcome, error_type: str | None) -> None:
        """Measure the operation, and end its span."""
        measured: dict[str, AttributeValue] = {
            names.OPERATION: self._name,
            names.OUTCOME: outcome,
        }
        if error_type is not None:
            measured[names.ERROR_TYPE] = error_type
        self._instruments.duration(self._name).record(self._seconds or 0, measured, self._context)
        if outcome == "ok" and self._name in _SAVES:
            self._instruments.items_saved.add(len(self._items), {names.OPERATION: self._name})

        if self._is_recording:
            self._describe_turn()
            self._set(names.OUTCOME, outcome)
            if error_type is not None:
                self._set(names.ERROR_TYPE, error_type)
                self._span.set_status(Status(StatusCode.ERROR))
        self._span.end(self._end_time)

    def _stop_clock(self) -> None:
        """Take the time of the end, unless it was taken before."""
        if self._seconds is None:
            self._seconds = perf_counter() - self._since
            self._end_time = time_ns() if self._is_recording else None

    def _describe(self, result: object) -> None:
        """Count the loaded items, and set the attributes that *result* gives."""
        if isinstance(result, History):
            self._instruments.items_loaded.add(len(result), {names.OPERATION: self._name})
        if not self._is_recording:
            return

        match result:
            case History() | SessionInfo():
                self._set(names.REVISION, result.revision)
                self._set(names.ITEMS, len(result) if isinstance(result, History) else result.items)
            case Erasure():
                self._set(names.SESSIONS, result.sessions)
                self._set(names.TURNS, result.turns)
                self._set(names.ITEMS, result.items)
            case Page():
                self._set(names.ENTRIES, len(result))
            case list() if self._name == "store.pending":
                self._set(names.ENTRIES, len(result))
            case int() if self._name in _SAVES:
                self._set(names.REVISION, result)
            case _:
                pass

    def _describe_turn(self) -> None:
        """Set the attributes that a memory layer has reported."""
        report = self._report
        if report is None or report.session_id is None:
            return
        self._set(names.CONVERSATION_ID, report.session_id)
        if report.turn_id is not None:
            self._set(names.TURN_ID, report.turn_id)
            self._set(names.ITEMS, report.items)
            self._set(names.REVISION, report.revision)

    def _set(self, name: str, value: AttributeValue | None) -> None:
        if value is not None:
            self._span.set_attribute(name, value)


@final
class Inside:
    """Makes a span the current one, and a report the one that memory layers fill.

    A coroutine may be closed in another context than it ran in, where there is nothing to restore.
    So after an error, only a span and a report that are still the current ones are taken back.
    """

    __slots__ = ("_context", "_previous", "_previous_report", "_report")

    def __init__(self, context: Context | None, report: TurnReport | None) -> None:
        self._context = context
        self._report = report

    def __enter__(self) -> None:
        if self._context is not None:
            self._previous = get_current()
            attach(self._context)
        if self._report is not None:
            self._previous_report = current_report.get()
            current_report.set(self._report)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._context is not None and (kind is None or get_current() is self._context):
            attach(self._previous)
        if self._report is not None and (kind is None or current_report.get() is self._report):
            current_report.set(self._previous_report)


def _start_span(telemetry: Telemetry, name: str, given: dict[str, AttributeValue]) -> Span:
    """Return a new span, or one that records nothing if the new span cannot be made (rule 4)."""
    try:
        return telemetry.tracer.start_span(f"{names.SCOPE}.{name}", attributes=given)
    except Exception as error:  # noqa: BLE001 - rule 4
        _log.operation_untraced(name, reason=reason_of(error))
        return NonRecordingSpan(get_current_span().get_span_context())


def _is_id(value: object) -> TypeGuard[str]:
    """Return True if *value* can be an id: a text that an exporter can encode."""
    if not isinstance(value, str) or not value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_number(value: object) -> TypeGuard[int]:
    """Return True if *value* is an integer that an exporter can encode."""
    return type(value) is int and -(2**63) <= value < 2**63
