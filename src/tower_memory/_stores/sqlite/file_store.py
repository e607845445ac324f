"""A store's use of its file: the base of the methods of every capability."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from anyio.lowlevel import checkpoint_if_cancelled

from tower_memory._items import Item
from tower_memory._stores.progress import log_progress
from tower_memory._stores.search_text import TextOf
from tower_memory._stores.sql.sql_store import SqlStore
from tower_memory._stores.sqlite.connections import DatabaseFile, Synchronous
from tower_memory._stores.sqlite.file_guard import Connection
from tower_memory._stores.sqlite.open_file import OpenFile, acquire
from tower_memory._stores.sqlite.search_index import build_step

T = TypeVar("T")


class FileStore(SqlStore[Item]):
    """A store on a file, which the first operation opens. See `SqliteSessionStore`."""

    def __init__(
        self,
        file: DatabaseFile,
        *,
        item_type: Any,
        busy_timeout: float,
        synchronous: Synchronous,
        hot_bytes: int,
        search_index: bool,
        text_of: TextOf[Any] | None,
    ) -> None:
        super().__init__(item_type=item_type, text_of=text_of)
        self.busy_timeout = busy_timeout
        self._file = file
        self._synchronous: Synchronous = synchronous
        self._hot_bytes = hot_bytes
        self._search_index = search_index
        self._opened: OpenFile | None = None
        self._indexed: OpenFile | None = None  # the use in which the index was complete

    async def aclose(self) -> None:
        """Close the store after its operations in progress. Closing a closed store does nothing.

        If a timeout or another native cancellation ends the call, the store closes nevertheless. A
        store that was left open when its event loop ended may be closed from any event loop.
        """
        file = self._opened
        if file is not None and not file.is_closed:
            file.check_closing()
            self._opened = None
            await file.close()

    async def __aenter__(self) -> Self:
        try:
            file = await self._open_file()
            await file.ready(self.busy_timeout)
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _open_already(self) -> OpenFile | None:
        """Return the file if this store uses it already; refuse to use it elsewhere."""
        opened = self._opened
        if opened is None or opened.is_closed:
            return None
        opened.check()
        return opened

    async def _open_file(self) -> OpenFile:
        """Return the file, which the first operation on it opens."""
        self._open_already()
        await checkpoint_if_cancelled()  # so an already cancelled call changes nothing
        while True:
            if self._opened is None or self._opened.is_closed:
                self._opened = acquire(self._file, self._synchronous, self._hot_bytes)

            file = self._opened
            if not self._search_index or self._indexed is file:
                return file

            await self._build_index(file)
            self._indexed = file  # which `aclose` may have closed meanwhile: then open it again
            if not file.is_closed:
                return file

    async def _read(self, operation: Callable[[Connection], T], session_id: str | None = None) -> T:
        file = await self._open_file()
        return await file.read(operation, self.busy_timeout, session_id)

    async def _read_in_steps(
        self, operation: Callable[[Connection], Generator[None, None, T]]
    ) -> T:
        file = await self._open_file()
        return await file.read_in_steps(operation, self.busy_timeout)

    async def _write(self, operation: Callable[[Connection], T], session_id: str) -> T:
        file = await self._open_file()
        return await file.write(session_id, operation, self.busy_timeout)

    async def _write_once(self, operation: Callable[[Connection], T], session_id: str) -> T:
        return await self._write(operation, session_id)  # SQLite tells the outcome of each commit

    async def _build_index(self, file: OpenFile) -> None:
        """Build the search index of the file, unless it is complete; log the progress."""
        report = log_progress(Path(self._file.path).name, "building the search index")
        step = partial(build_step, reader=self._reader)

        async def steps() -> None:
            while not (index := await file.write(None, step, self.busy_timeout)).is_complete:
                report(index.built_to, index.build_until)

        await file.in_steps(steps, self.busy_timeout)

    def __eq__(self, other: object) -> bool:
        """Return True if *other* is a store on the same file, of any item type."""
        if not isinstance(other, FileStore):
            return NotImplemented
        return self._file == other._file

    def __hash__(self) -> int:
        return hash(self._file)

    def __repr__(self) -> str:
        return f"SqliteSessionStore({self._file.path!r})"
