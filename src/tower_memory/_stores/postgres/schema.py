"""Recognising the tables of a Postgres schema, and creating them.

1. The tables are ours if ``memory_schema`` has our row, with the version of the tables.
2. If ``memory_schema`` is absent or has no row of ours, the missing tables are created, and then
   the row. Each statement is a transaction of its own, as some engines demand, and may be repeated.
   So an interrupted creation is completed, and several processes may create the tables at the same
   time.
3. Tables of another program, or of a newer version, are refused and stay unchanged.
4. A user without the privilege to create a schema may use one that exists.
"""

from __future__ import annotations

import time
from typing import Final

from psycopg import errors
from psycopg.sql import SQL, Identifier

from tower_memory._stores.postgres.faults import text_of_fault
from tower_memory._stores.postgres.link import Connection
from tower_memory._stores.postgres.tables import (
    PROGRAM,
    SEARCH_INDEX,
    VERSION,
    table_statements,
)

_NAMES: Final = [
    "memory_schema",
    "memory_head",
    "memory_turn",
    "memory_pending",
    "memory_summary",
]
_HAS_SCHEMA: Final = "SELECT 1 FROM pg_namespace WHERE nspname = %s"
_FIND: Final = "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename = ANY(%s)"
_VERSION: Final = "SELECT version FROM memory_schema WHERE program = %s"

_RETRY_DELAY: Final = 0.02
"""Seconds before the tables are looked for again while another process creates them."""

_CREATED_ELSEWHERE: Final = (
    errors.DuplicateObject,
    errors.DuplicateSchema,
    errors.DuplicateTable,
    errors.UniqueViolation,
)
"""The errors of a creation while another process creates the same tables."""

_FORBIDDEN: Final = (
    errors.InsufficientPrivilege,
    errors.InvalidSchemaName,
    errors.UndefinedTable,
)
"""The errors of a user without privileges: a schema that the user may not use is not found."""

_UNKNOWN_TO_ENGINE: Final = (
    errors.FeatureNotSupported,
    errors.SyntaxError,
    errors.UndefinedFunction,
    errors.UndefinedObject,
)
"""The errors of an engine that lacks the search index: a search then reads all turns."""


class Refused(Exception):
    """Raised when a schema is refused; the message is the reason."""


def prepare(connection: Connection, schema: str) -> None:
    """Recognise the tables in *schema*, which is first in the search path, or create them.

    Raises:
        Refused: The tables are another program's or of a newer version, or the user lacks
            privileges.
        psycopg.Error: The server failed.
    """
    try:
        while not _is_prepared(connection, schema):
            try:
                _create(connection, schema)
            except _CREATED_ELSEWHERE:
                if connection.deadline.has_passed():
                    raise
                time.sleep(_RETRY_DELAY)
    except _FORBIDDEN as error:
        msg = (
            f"{text_of_fault(error)}; to create the tables, grant the user USAGE and CREATE on the "
            f"schema {schema!r}, or CREATE on the database if the schema does not exist; for "
            "tables that another user has created, grant USAGE on the schema, and SELECT, INSERT, "
            "UPDATE and DELETE on the tables"
        )
        raise Refused(msg) from error


def check_prepared(connection: Connection, schema: str) -> None:
    """Refuse *schema* if the tables are not there; create nothing.

    Raises:
        Refused: The tables are missing, another program's, or of a newer version.
        psycopg.Error: The server failed.
    """
    if not _is_prepared(connection, schema):
        msg = f"the schema {schema!r} has no tables of tower-memory"
        raise Refused(msg)


def _is_prepared(connection: Connection, schema: str) -> bool:
    """Return True if the tables of this version are there (rule 1); refuse others (rule 3)."""
    found = {name for (name,) in connection.execute(_FIND, (schema, _NAMES))}
    if "memory_schema" not in found:
        if found:
            raise _foreign(schema, min(found))
        return False

    try:
        row = connection.execute(_VERSION, (PROGRAM,)).fetchone()
    except errors.UndefinedColumn:
        raise _foreign(schema, "memory_schema") from None
    if row is None:
        return False

    (version,) = row
    if version != VERSION:
        msg = (
            f"the tables in the schema {schema!r} are of version {version}, this tower-memory "
            f"knows {VERSION}: upgrade it"
        )
        raise Refused(msg)
    return True


def _foreign(schema: str, table: str) -> Refused:
    return Refused(
        f"the schema {schema!r} has tables of another program, such as {table}; choose another "
        "schema="
    )


def _create(connection: Connection, schema: str) -> None:
    """Create the schema, if it is absent, and the missing tables (rules 2 and 4)."""
    if not connection.execute(_HAS_SCHEMA, (schema,)).fetchone():
        connection.execute(SQL("CREATE SCHEMA IF NOT EXISTS {}").format(Identifier(schema)))
    for statement in table_statements():
        try:
            connection.execute(statement.encode())
        except _UNKNOWN_TO_ENGINE:
            if statement != SEARCH_INDEX:
                raise
