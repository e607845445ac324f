"""Private names of the source that tests use: the only tests' way to them.

The private names of session locks are in `locks`, those of the SQLite store in `sqlite_internals`.
"""

from __future__ import annotations

from tower_memory import _log, _reconcile
from tower_memory._arguments import check_text
from tower_memory._asyncio_call import BridgedCall
from tower_memory._calls import SyncServiceError
from tower_memory._capabilities.erasure import check_erase, must_erase
from tower_memory._capabilities.journal import check_begin, check_owner, check_pending
from tower_memory._capabilities.pages import check_page, from_cursor, to_cursor
from tower_memory._codec import ItemCodec, snapshot
from tower_memory._command import chat as chat_module
from tower_memory._command.main import main
from tower_memory._command.output import cut, width
from tower_memory._command.progress import ProgressLine, progress, show_progress
from tower_memory._excerpts import excerpt
from tower_memory._history import checked_length
from tower_memory._items import to_messages
from tower_memory._large_turns import encode_turn, is_large
from tower_memory._memory import journal, lease_keeper, window_loading
from tower_memory._memory.journal import process_owner
from tower_memory._memory.lease_keeper import KeptLease
from tower_memory._message_text import message_text, turn_text
from tower_memory._metadata import decode_metadata, encode_metadata
from tower_memory._portal import open_portal, remote_task
from tower_memory._resumable import calls as resumable_calls
from tower_memory._resumable.running_call import RunningCall
from tower_memory._search_words import fold, patterns, query_words, search_words
from tower_memory._store import check_load
from tower_memory._stores.cached_session import to_kept, turns_between
from tower_memory._stores.in_memory import cataloguing
from tower_memory._stores.jobs import RetryLater
from tower_memory._stores.sqlite import catalog
from tower_memory._stores.worker_thread import WorkerThread
from tower_memory._stream_proxy import StreamProxy
from tower_memory.dialects._known_links import known_links, links_of
from tower_memory.testing._case import mutate

__all__ = [
    "BridgedCall",
    "ItemCodec",
    "KeptLease",
    "ProgressLine",
    "RetryLater",
    "RunningCall",
    "StreamProxy",
    "SyncServiceError",
    "WorkerThread",
    "chat_module",
    "check_begin",
    "check_erase",
    "check_load",
    "check_owner",
    "check_page",
    "check_pending",
    "check_text",
    "check_window",
    "checked_length",
    "cut",
    "decode_metadata",
    "encode_metadata",
    "encode_turn",
    "excerpt",
    "fold",
    "from_cursor",
    "grace_of",
    "is_large",
    "links_of",
    "main",
    "message_text",
    "must_erase",
    "mutate",
    "new_in_request",
    "new_in_response",
    "open_portal",
    "patterns",
    "process_owner",
    "progress",
    "query_words",
    "remote_task",
    "renew_every",
    "report_every_save_as_slow",
    "report_every_wait_as_long",
    "resumable_calls",
    "search_words",
    "set_lease",
    "show_progress",
    "snapshot",
    "sort_at_most",
    "to_cursor",
    "to_kept",
    "to_messages",
    "turn_text",
    "turns_between",
    "width",
]


def new_in_request(session_id, history, conversation, links=known_links):
    """Return the new items of a request; the links are those of any dialect if none are given."""
    return _reconcile.new_in_request(session_id, history, conversation, links)


def new_in_response(received, conversation):
    """Return the new items of a response, with the links of any dialect."""
    return _reconcile.new_in_response(received, conversation, known_links)


def check_window(history, items, new):
    """Return what a window made of *history*, with the links of any dialect."""
    return window_loading.check_window(history, items, new, known_links)


def grace_of(layer):
    """Return the seconds that a save of *layer* may run past its caller's deadline."""
    return layer._parts.save.grace


def set_lease(monkeypatch, seconds):
    """Give each turn that begins a lease of *seconds*."""
    monkeypatch.setattr(journal, "_LEASE", seconds)


def renew_every(monkeypatch, seconds):
    """Renew leases every *seconds*."""
    monkeypatch.setattr(lease_keeper, "_RENEW_EVERY", seconds)


def report_every_save_as_slow(monkeypatch):
    """Let every save count as slow."""
    monkeypatch.setattr(_log, "_SLOW_SAVE_SECONDS", 0.0)


def report_every_wait_as_long(monkeypatch):
    """Let every wait for a session lock count as long."""
    monkeypatch.setattr(_log, "_LONG_WAIT_SECONDS", 0.0)


def sort_at_most(monkeypatch, matches):
    """Let catalogues walk over all sessions if more than *matches* of them have the prefix."""
    for module in (catalog, cataloguing):
        monkeypatch.setattr(module, "_MOST_SORTED", matches)
