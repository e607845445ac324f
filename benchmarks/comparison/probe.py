"""The interface of a probe: one library, used as its own documentation shows.

1. A probe does not help its library, and does not hinder it: it uses default settings, one store
   for all sessions if the library has such a store, and the library's own key of a message.
2. The model is a function of the scenario. It gets the texts that the library sends to the model,
   and returns a text. No probe uses a network.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

Model: TypeAlias = Callable[[list[str]], Awaitable[str]]
"""The scripted model: from the texts of the messages to the text of the reply."""

Message: TypeAlias = tuple[str, str]
"""The role of a stored message, ``"user"`` or ``"assistant"``, and its text."""


class Probe(ABC):
    """One library with its store in *folder*."""

    name: ClassVar[str]
    """The name of the library in the tables."""

    distributions: ClassVar[tuple[str, ...]]
    """The distributions whose versions are noted; the first is the library."""

    setup: ClassVar[str]
    """The classes that the probe uses, in one line."""

    stores: ClassVar[Literal["sqlite", "lines", "memory"]]
    """An SQLite file, a file of JSON lines for each session, or the memory of the process."""

    has_reply_before_save: ClassVar[bool] = False
    """True if the program holds the reply before it calls the save itself."""

    largest: ClassVar[int] = 1_000
    """The number of items up to which the time of a turn is measured."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def path(self) -> Path:
        """The file of the store."""
        return self.folder / "chat.db"

    @abstractmethod
    async def open(self) -> None:
        """Open the store."""

    async def close(self) -> None:  # noqa: B027 - most libraries have nothing to close
        """Close the store."""

    @abstractmethod
    async def turn(self, session_id: str, text: str, model: Model, key: str | None = None) -> str:
        """Run one turn and return the reply.

        *key* identifies the request; a library without such keys ignores it.
        """

    @abstractmethod
    async def stored(self, session_id: str) -> list[Message]:
        """Load the messages of a session through the library."""

    @abstractmethod
    async def erase(self, session_id: str) -> None:
        """Delete a session and its content as thoroughly as the library can."""

    def damage(self, session_id: str) -> None:
        """Cut off the second half of a stored row, the second turn's if a turn has its own."""
        raise NotImplementedError

    def fail_saves(self) -> None:
        """Make the next save fail, in a library that has no file."""
        raise NotImplementedError

    def halve(self, table: str, column: str, rowid: str) -> None:
        """Cut off the second half of a value of the SQLite file; *rowid* is an SQL expression."""
        statement = (
            f"UPDATE {table} SET {column} = substr({column}, 1, length({column}) / 2)"  # noqa: S608
            f" WHERE rowid = ({rowid})"
        )
        with closing(sqlite3.connect(self.path)) as connection, connection:
            if connection.execute(statement).rowcount != 1:
                message = f"No row of {table} was damaged."
                raise LookupError(message)
