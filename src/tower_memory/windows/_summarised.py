"""The window that shows a stored summary in front of the newest items.

1. A summary that covers more than the given history is not shown. For example, the history of a
   turn that replaces a covered turn ends before the covered turn.
2. If the summary cannot be renewed, the turn goes on: with the older summary if there is one, and
   with the kept items. A warning is logged. Cancellation is passed on.
3. The summary is stored after each fold, so a failure or a crash loses one fold at most. If it
   could not be stored, nothing more is summarised in the same turn.
4. This module loads only exchanges to summarise from the store. The layer loads all shown items,
   because `Summarised.needs` asks for *every* exchanges more than the kept ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from time import monotonic
from typing import Any, NamedTuple, Protocol, final

from tower_memory import _log
from tower_memory._arguments import check_int, check_text, shown
from tower_memory._calls import SyncServiceError, call_service, check_async
from tower_memory._capabilities.summaries import SessionSummaries
from tower_memory._errors import SessionError
from tower_memory._history import History, TurnInfo
from tower_memory._service import Service
from tower_memory._store import SessionStore, check_store
from tower_memory.windows._exchanges import exchange_starts, items_from, links_of
from tower_memory.windows._folding import Fold, NoEndError, find_fold, first_shown
from tower_memory.windows._newest import LastTurns, NewestItems, next_need
from tower_memory.windows._stepped import Stepped

_FIRST_PAGE = 256
"""Number of items of the first page in which the next exchanges to summarise are searched."""

_TRIED_TURNS = 64
"""Number of turns after which the search for the end of a summary is given up."""


class SummaryStore(SessionStore[Any], SessionSummaries, Protocol):
    """A store that keeps summaries."""


class _Used(NamedTuple):
    """The summary to show, stored or not; *end* is the number of items that it covers."""

    text: str
    end: int


def user_message(text: str) -> dict[str, Any]:
    """Return a summary as a message of the user."""
    return {"role": "user", "content": f"Summary of the conversation so far:\n\n{text}"}


@final
@dataclass(frozen=True, slots=True)
class Summarised:
    """The newest items, after a summary of all older ones.

    The service makes the summary when a turn needs it, and the store keeps it beside the session.
    It is renewed when *every* exchanges lie between it and *keep*. Fewer exchanges are shown as
    they are. So the model gets the summary, fewer than *every* exchanges, and the items of *keep*.
    While fewer than *every* exchanges are older than *keep*, the history stays whole, without a
    summary.

    If the service fails, or returns no text or a text that is too long, the model gets the older
    summary, if there is one, and the items of *keep*. The logger ``tower_memory`` reports a
    warning, and the next turn calls the service again. Two processes may call it for one summary at
    the same time; the store keeps one.

    The stored items do not change. A summary is removed together with any turn that it covers (see
    `SessionSummaries`). The guide of `tower_memory.windows` has an example.

    Attributes:
        service: A service from items, oldest first, to the text of their summary. It gets the item
            of the previous summary, if there is one, and exchanges of at most *max_input_tokens*.
            In a long session without a summary, a turn calls it several times.
        keep: The newest items to show: `LastTurns`, `LastItems`, `TokenBudget`, `Shortest`, or
            `Stepped` with one of these.
        store: The store of the sessions, which must be a `SessionSummaries`. Behind a
            `ScopedStore`, this is the scoped store.
        every: Number of exchanges between two renewals; 1 or more.
        item: A function from the text to the item that the model gets. The default makes a message
            of the user as in chat completions, Anthropic's messages and OpenAI's responses.
        name: The name of the summary in the store. Windows with different services need different
            names if they show the same sessions.
        max_characters: Maximum length of a summary; 1 or more. A longer text is a failure.
        max_input_tokens: Maximum number of estimated tokens of the exchanges that the service gets
            in one call; 1 or more. A single exchange may be longer.

    Raises:
        TypeError: A parameter has the wrong type, or *store* keeps no summaries.
        ValueError: A number is below 1, or *name* is empty or contains a lone surrogate. When
            called: the history has no session id.
        SessionError: When called: the store cannot be read.
    """

    service: Service[Sequence[Any], str]
    _: KW_ONLY
    store: SummaryStore
    keep: NewestItems | Stepped = LastTurns(20)
    every: int = 10
    item: Callable[[str], Any] = user_message
    name: str = "summary"
    max_characters: int = 20_000
    max_input_tokens: int = 30_000

    def __post_init__(self) -> None:
        if not callable(self.service) or isinstance(self.service, type):
            msg = f"service must be an async function from items to text, got {shown(self.service)}"
            raise TypeError(msg)
        check_async("service", self.service)

        if not isinstance(self.keep, NewestItems | Stepped):  # pyright: ignore[reportUnnecessaryIsInstance]
            msg = (
                "keep must be LastTurns, LastItems, TokenBudget, Shortest or Stepped, such as "
                f"LastTurns(20), got {shown(self.keep)}"
            )
            raise TypeError(msg)

        check_store(self.store)
        if not isinstance(self.store, SessionSummaries):  # pyright: ignore[reportUnnecessaryIsInstance]
            msg = (
                "store must keep summaries, as SqliteSessionStore does (see SessionSummaries), got "
                f"{shown(self.store)}"
            )
            raise TypeError(msg)

        if not callable(self.item):
            msg = f"item must be a function from a text to an item, got {shown(self.item)}"
            raise TypeError(msg)
        check_text("name", self.name)
        for name in ("every", "max_characters", "max_input_tokens"):
            check_int(name, getattr(self, name), least=1)

    def needs(self, loaded: History[Any] | None, /) -> int:
        """See `BoundedWindow.needs`. The window needs *every* exchanges more than *keep*."""
        if loaded is None:
            return self.keep.needs(None) + 2 * self.every

        kept = self.keep.needs(loaded)
        if kept > len(loaded):
            return kept

        start = self.keep.start(loaded)
        older = sum(each < start for each in exchange_starts(loaded))
        return next_need(loaded, is_enough=older >= self.every)

    async def __call__(self, history: History[Any], /) -> Sequence[Any]:
        """See `Window`."""
        if not history.session_id:
            msg = (
                "history must have a session_id, which names its summary; Summarised works in a "
                "MemoryLayer, or with the history of store.load(...)"
            )
            raise ValueError(msg)

        start = self.keep.start(history)
        if history.offset + start == 0:
            return history

        used = await self._load(history)
        used = await self._renewed(used, history, start)

        covered = _end(used) - history.offset
        items = items_from(history, first_shown(history, covered, start, every=self.every))
        return items if used is None else [self.item(used.text), *items]

    async def _load(self, history: History[Any]) -> _Used | None:
        """Return the stored summary, unless it covers more than *history* (rule 1)."""
        stored = await self.store.load_summary(history.session_id, name=self.name)
        if stored is None or stored.end > history.offset + len(history):
            return None
        return _Used(stored.text, stored.end)

    async def _renewed(self, used: _Used | None, history: History[Any], start: int) -> _Used | None:
        """Extend the summary *used* by each fold before the index *start*, and return the last one.

        After a failure, return the summary of the folds before it.
        """
        while (fold := await self._next_fold(history, start, _end(used))) is not None:
            started = monotonic()
            text = await self._summarise(used, fold, history.session_id)
            if text is None:
                return used

            used, is_stored = await self._save(text, fold, history, started)
            if not is_stored:
                return used

        return used

    async def _next_fold(self, history: History[Any], start: int, covered: int) -> Fold | None:
        """Return the next fold after the first *covered* items; None if there is none.

        Log a warning if exchanges stay hidden because no summary can end between them.
        """
        try:
            return await self._search_fold(history, start, covered)
        except NoEndError:
            reason = "none of its older turns starts with a message of the user"
            _log.no_summary(history.session_id, reason=reason)
            return None

    async def _search_fold(self, history: History[Any], start: int, covered: int) -> Fold | None:
        """Return the next fold after the first *covered* items; None if there is none.

        Exchanges that the layer has not loaded are loaded in a page, which grows until its fold is
        full.

        Raises:
            NoEndError: No summary can end between these exchanges.
        """
        size = _FIRST_PAGE
        while covered < history.offset:
            stop = min(covered + size, history.offset)
            page = await self.store.load(history.session_id, limit=stop - covered, before=stop)
            if page.offset != covered or len(page) != stop - covered:
                reason = "the store does not hold the items before the loaded ones"
                _log.no_summary(history.session_id, reason=reason)
                return None

            if stop == history.offset:
                return self._find_fold(_join(page, history), 0, len(page) + start)

            try:
                fold = self._find_fold(page.with_links(links_of(history)), 0, len(page))
            except NoEndError:
                fold = None
                if len(page.turns) >= _TRIED_TURNS:
                    raise
            if fold is not None and fold.is_full:
                return fold
            size *= 2

        return self._find_fold(history, covered - history.offset, start)

    def _find_fold(self, part: History[Any], start: int, stop: int) -> Fold | None:
        return find_fold(part, start, stop, every=self.every, max_tokens=self.max_input_tokens)

    async def _summarise(self, used: _Used | None, fold: Fold, session_id: str) -> str | None:
        """Return the text of the summary extended by *fold*; None if the service failed."""
        text = None if used is None else used.text

        for batch in fold.batches:
            previous = () if text is None else (self.item(text),)
            try:
                text = await call_service(self.service, (*previous, *batch))
            except SyncServiceError:  # a mistake in the program, which would fail each time
                raise
            except Exception as error:  # noqa: BLE001 - the turn goes on (rule 2)
                _log.no_summary(session_id, reason=f"the service raised {type(error).__name__}")
                return None

            if (fault := self._fault(text)) is not None:
                _log.no_summary(session_id, reason=fault)
                return None

        return text

    def _fault(self, text: object) -> str | None:
        """Return the reason why *text* cannot be a summary; None if it can."""
        if not isinstance(text, str):
            return f"the service returned {type(text).__name__} instead of text"
        if not text.strip():
            return "the service returned no text"
        if len(text) > self.max_characters:
            return f"the text has {len(text)} characters, and max_characters={self.max_characters}"
        if text.encode(errors="ignore").decode() != text:
            return "the text is no valid Unicode"
        return None

    async def _save(
        self, text: str, fold: Fold, history: History[Any], started: float
    ) -> tuple[_Used, bool]:
        """Store a summary; return the one to show, and True if it is stored.

        If another process has stored one that covers as much, return that one.
        """
        made, session_id = _Used(text, fold.end), history.session_id
        try:
            stored = await self.store.save_summary(
                session_id, text, turn_id=fold.turn_id, since=history.revision, name=self.name
            )
        except SessionError as error:
            _log.no_summary(session_id, reason=f"the store raised {type(error).__name__}")
            return made, False

        if stored is None:
            reason = "its turns changed meanwhile, or the store does not hold them"
            _log.no_summary(session_id, reason=reason)
            return made, False

        if stored.end > history.offset + len(history):  # rule 1
            return made, False
        _log.summary_stored(session_id, items=stored.end, since=started)
        return _Used(stored.text, stored.end), True


def _end(used: _Used | None) -> int:
    return 0 if used is None else used.end


def _join(page: History[Any], history: History[Any]) -> History[Any]:
    """Return *page* and *history*, which follows it, as one history."""
    later = (
        TurnInfo(turn.turn_id, turn.position + len(page), turn.created_at, turn.metadata)
        for turn in history.turns
    )
    return History(
        [*page, *history],
        session_id=history.session_id,
        revision=history.revision,
        offset=page.offset,
        turns=[*page.turns, *later],
        links=history.links,
    )
