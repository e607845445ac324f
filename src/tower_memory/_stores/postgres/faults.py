"""The faults of a server: passing and lasting faults, lost connections, and texts.

1. After a passing fault, the operation is tried again until the caller's patience has passed. Such
   a fault is a lost connection, a server that starts, stops or is read-only for a failover, a
   conflict of transactions, or a lock. Every other fault is lasting and raised at once. An error of
   connecting has no SQLSTATE: it is lasting if its text is a known refusal, and otherwise passing.
2. A lost connection is not used again. The connection to a server that has become read-only counts
   as lost: the connection string may name several servers, and another one may now be the primary.
3. The text of a fault is the server's message without its details, which may show stored values.
"""

from __future__ import annotations

from typing import Final

import psycopg

_READ_ONLY: Final = "25006"
_OUTCOME_UNKNOWN: Final = "40003"
_LOCKED: Final = "55P03"

_INTERNAL: Final = "XX000"
"""An internal error; Citus reports the loss of a worker by it."""

_LOST_CLASSES: Final = ("08", "57P")
"""Connection exceptions, and interventions of an operator such as a shutdown."""

_MAY_PASS: Final = frozenset(
    {
        "23505",  # a unique key: another writer was faster, on an engine without atomic upserts
        _READ_ONLY,
        "40001",  # serialization failure
        _OUTCOME_UNKNOWN,
        "40P01",  # deadlock
        "53300",  # too many connections
        _INTERNAL,
        _LOCKED,
    }
)

_REFUSALS: Final = (
    "authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "pg_hba.conf rejects",
    "does not exist",
    "no such database",
    "permission denied for",
    "not permitted to log in",
    "invalid value for parameter",
    "unrecognized configuration parameter",
)
"""Parts of the messages by which a server or a pooler refuses a user or a database."""


def is_lost(error: psycopg.Error) -> bool:
    """Return True if the connection of *error* must not be used again (rule 2)."""
    state = error.sqlstate
    return state is None or state.startswith(_LOST_CLASSES) or state == _READ_ONLY


def is_locked(error: psycopg.Error) -> bool:
    """Return True if a statement waited too long for the lock of another writer."""
    return error.sqlstate == _LOCKED


def may_pass(error: psycopg.Error) -> bool:
    """Return True if *error* is a passing fault (rule 1)."""
    state = error.sqlstate
    if state is not None:
        return state in _MAY_PASS or state.startswith(_LOST_CLASSES)
    if not isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return False
    return not any(part in str(error) for part in _REFUSALS)


def may_have_committed(error: psycopg.Error) -> bool:
    """Return True if a COMMIT that ended with *error* may have succeeded."""
    state = error.sqlstate
    if state is None or state.startswith(_LOST_CLASSES):
        return True
    return state in (_OUTCOME_UNKNOWN, _INTERNAL)


def text_of_fault(error: psycopg.Error) -> str:
    """Return the message of *error* on one line (rule 3)."""
    primary = error.diag.message_primary
    text = f"{primary} (SQLSTATE {error.sqlstate})" if primary else str(error)
    return " ".join(text.split())
