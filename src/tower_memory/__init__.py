"""Conversation memory as a layer around any LLM call, on asyncio and trio."""

from tower_memory._errors import (
    CorruptSessionError,
    SaveError,
    SessionConflict,
    SessionError,
    TurnExists,
    UnencodableItemError,
)
from tower_memory._history import History
from tower_memory._items import (
    HandoffItem,
    Message,
    MessageItem,
    Role,
    RunItem,
    ToolCallItem,
    ToolOutputItem,
)
from tower_memory._layers.retry import RetryLayer
from tower_memory._layers.timeout import TimeoutLayer
from tower_memory._memory import MemoryLayer
from tower_memory._service import Layer, Service, ServiceBuilder
from tower_memory._sessions import LoadSession, SaveSession, Session, SessionStore, Turn
from tower_memory._stores.in_memory import InMemorySessionStore
from tower_memory._stores.sqlite import SqliteSession, SqliteSessionStore

__all__ = (
    "CorruptSessionError",
    "HandoffItem",
    "History",
    "InMemorySessionStore",
    "Layer",
    "LoadSession",
    "MemoryLayer",
    "Message",
    "MessageItem",
    "RetryLayer",
    "Role",
    "RunItem",
    "SaveError",
    "SaveSession",
    "Service",
    "ServiceBuilder",
    "Session",
    "SessionConflict",
    "SessionError",
    "SessionStore",
    "SqliteSession",
    "SqliteSessionStore",
    "TimeoutLayer",
    "ToolCallItem",
    "ToolOutputItem",
    "Turn",
    "TurnExists",
    "UnencodableItemError",
)
