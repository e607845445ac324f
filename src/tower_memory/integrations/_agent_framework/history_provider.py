"""A history provider of agent-framework over a store.

1. A run is one turn. The framework makes a `SessionContext` for each run, so the turn id belongs to
   this object. If the framework saves a run again, it passes the same context, and the store keeps
   one turn. Two runs at once on one `AgentSession` have two contexts, so both are stored.
2. With ``require_per_service_call_history_persistence``, the framework makes a context for each
   call of the model. Each call is then a turn.
3. A caller's own run id stands in the provider's state, which the runs of an `AgentSession` share.
   So the first run that starts takes it out, and no other run can have it.
4. The framework decides which messages are loaded and stored: `before_run` and `after_run` of the
   base class do it. Both pass the run to `get_messages` and `save_messages` in a copy of the state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, cast, final
from uuid import uuid4
from weakref import WeakKeyDictionary

from agent_framework import (
    AgentSession,
    HistoryProvider,
    Message,
    SessionContext,
    SupportsAgentRun,
)

from tower_memory._arguments import check_text
from tower_memory._codec import ItemCodec
from tower_memory._errors import TurnExists
from tower_memory._large_turns import encode_turn
from tower_memory._memory.checks import check_service, check_window_store
from tower_memory._memory.replacing import held_items
from tower_memory._memory.save import TurnSaver
from tower_memory._memory.window_loading import apply_window, from_start, load_history
from tower_memory._service import attribute
from tower_memory._session_services import LoadSession, SaveSession
from tower_memory._store import SessionStore, check_session_id
from tower_memory._turn import Turn
from tower_memory.integrations._agent_framework.messages import (
    message_links,
    to_items,
    to_messages,
)
from tower_memory.windows import BoundedWindow, Window

_GRACE = 5.0
"""Seconds that a save may run past its caller's deadline, if the store has no ``busy_timeout``."""

_RUN_ID = "run_id"
"""Key of the caller's run id in the provider's state."""

_RUN = "tower_memory.run"
"""Key of the `_Run` in the copy of the state (rule 4)."""


@dataclass
class _Run:
    """A run, or one call of the model in it (rule 2).

    Attributes:
        turn_id: Id of the run's turn.
        is_given: True if the caller gave the id, so another run may have it.
        since: Revision of the loaded history; None if none was loaded.
        response: The framework's response; None before the model has answered.
    """

    turn_id: str = field(default_factory=lambda: uuid4().hex)
    is_given: bool = False
    since: int | None = None
    response: Any = None


@final
class SessionHistoryProvider(HistoryProvider):
    """A history provider that keeps the messages of an agent in a store.

    Each run of the agent is one turn of the session whose id is `AgentSession.session_id`. The
    guide in `tower_memory.integrations.agent_framework` has an example, the run id of a caller, and
    the differences to the framework's own providers.

    Args:
        store: The store of the sessions, such as a `SqliteSessionStore` or a `ScopedStore`.
        source_id: The provider's name in the framework: the key of its state, and the attribution
            of the messages that it loads. Providers of one agent need different names.
        window: The part of the history that the model gets, such as ``LastTurns(20)`` of
            `tower_memory.windows`; None gives the whole history.
        load_messages: True starts a run with the history. False only stores.
        store_inputs: True stores the messages that the caller passes to the run.
        store_context_messages: True stores the messages that other providers add to a run.
        store_context_from: The ``source_id`` of the providers whose messages are stored; None
            stores those of all. It needs *store_context_messages*.
        store_outputs: True stores the messages of the reply.

    Raises:
        TypeError: *store* is no store, *source_id* is no string, or *window* is no window.
        ValueError: *source_id* is empty, or *window* reads another store.
    """

    DEFAULT_SOURCE_ID: ClassVar[str] = "tower_memory"

    def __init__(
        self,
        store: SessionStore[Any],
        source_id: str = DEFAULT_SOURCE_ID,
        *,
        window: Window | None = None,
        load_messages: bool = True,
        store_inputs: bool = True,
        store_context_messages: bool = False,
        store_context_from: set[str] | None = None,
        store_outputs: bool = True,
    ) -> None:
        self._load = LoadSession(store)  # checks the store
        check_text("source_id", source_id)
        if window is not None:
            check_service("window", window, "LastTurns(20)")
            check_window_store(window, store)

        super().__init__(
            source_id,
            load_messages=load_messages,
            store_inputs=store_inputs,
            store_context_messages=store_context_messages,
            store_context_from=store_context_from,
            store_outputs=store_outputs,
        )
        self.store = store
        self.window = window
        self._codec = ItemCodec[Any](attribute(store, "item_type") or Any)
        self._runs: WeakKeyDictionary[SessionContext, _Run] = WeakKeyDictionary()

    async def get_messages(
        self,
        session_id: str | None,
        *,
        state: dict[str, Any] | None = None,
        **kwargs: Any,  # noqa: ARG002 - the base class has it
    ) -> list[Message]:
        """Return the messages of the session, oldest first; those of the window if there is one.

        Args:
            session_id: The session. It must not be None: a session shared by all runs without one
                would mix their users.
            state: The provider's state. A caller may leave it out.
            kwargs: Not used.

        Raises:
            TypeError: *session_id* is no string.
            SessionError: The store cannot be read, or the session has other items.
        """
        bounded = self.window if isinstance(self.window, BoundedWindow) else None
        history = await load_history(bounded, self._load, _checked(session_id), message_links)
        if state is not None and isinstance(run := state.get(_RUN), _Run):
            run.since = history.revision

        history = from_start(history, (), message_links)
        if self.window is None:
            return to_messages(history, history)
        return to_messages(history, await apply_window(self.window, history, (), message_links))

    async def save_messages(
        self,
        session_id: str | None,
        messages: Sequence[Message],
        *,
        state: dict[str, Any] | None = None,
        **kwargs: Any,  # noqa: ARG002 - the base class has it
    ) -> None:
        """Store *messages* as one turn.

        Args:
            session_id: The session; not None (see `get_messages`).
            messages: The messages, oldest first. Without messages, nothing is stored.
            state: The provider's state. Its ``"run_id"`` is the turn id: messages that are saved
                again with the same run id are stored once. Without it, each call is a new turn.
            kwargs: Not used.

        Raises:
            TypeError: *session_id* or the run id is no string.
            SaveError: The turn is perhaps not saved. The error has the response and the turn.
            SessionCleared: The session was cleared or erased while the run was in progress.
            TurnExists: The session holds other messages under the caller's run id.
        """
        run = _run_in(state or {})
        items = to_items(messages)
        turn = Turn(_checked(session_id), items, turn_id=run.turn_id, since=run.since)

        grace = attribute(self.store, "busy_timeout")
        save = TurnSaver(
            SaveSession(self.store),
            self._load,
            self.store,
            grace=_GRACE if grace is None else cast("float", grace),
            is_repeatable=run.is_given,
        )
        await save(turn, run.response)

    async def before_run(
        self,
        *,
        agent: SupportsAgentRun,
        session: AgentSession,
        context: SessionContext,
        state: dict[str, Any],
    ) -> None:
        """Add the history to the run. The framework calls this before it calls the model.

        Raises:
            TypeError: The session id or the run id is no string.
            TurnExists: The session holds the turn of the caller's run id. The error has its items.
            UnencodableItemError: An input message cannot be stored.
            SessionError: The store cannot be read, or the session has other items.
        """
        session_id = _checked(context.session_id)
        run = self._run(context, state)
        if run.is_given:
            held = await held_items(self.store, self._load, session_id, run.turn_id)
            if held is not None:
                raise TurnExists(session_id, turn_id=run.turn_id, items=held)

        if self.store_inputs:
            items = to_items(context.input_messages)
            await encode_turn(partial(self._codec.encode, items, session_id), items)

        run_state = {**state, _RUN: run}
        await super().before_run(agent=agent, session=session, context=context, state=run_state)

    async def after_run(
        self,
        *,
        agent: SupportsAgentRun,
        session: AgentSession,
        context: SessionContext,
        state: dict[str, Any],
    ) -> None:
        """Store the run. The framework calls this once the model has answered.

        Raises:
            SessionError: As for `save_messages`.
        """
        run = self._run(context, state)
        run.response = context.response
        run_state = {**state, _RUN: run}
        await super().after_run(agent=agent, session=session, context=context, state=run_state)

    def _run(self, context: SessionContext, state: dict[str, Any]) -> _Run:
        """Return the run of *context*; a new run takes the caller's id out of *state* (rule 3)."""
        run = self._runs.get(context)
        if run is None:
            run = self._runs[context] = _run_in(state)
            state.pop(_RUN_ID, None)
        return run


def _run_in(state: dict[str, Any]) -> _Run:
    """Return the run in a provider's state: the framework's, or a new one with the caller's id."""
    if isinstance(run := state.get(_RUN), _Run):
        return run
    run_id = state.get(_RUN_ID)
    if run_id is None:
        return _Run()
    check_text("run_id", run_id)
    return _Run(run_id, is_given=True)


def _checked(session_id: str | None) -> str:
    check_session_id(session_id)
    return cast("str", session_id)
