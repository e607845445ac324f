"""The interface of a side: one of the implementations that are compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import anyio

from benchmarks.transcripts import ChatTurn


class Side:
    """An implementation that keeps sessions in the file at *path*; open while it is entered.

    `prepare` does the work that does not belong to the side, such as converting messages to the
    classes of its library. It runs outside the clock.

    Attributes:
        name: Name in tables, plots and JSON.
        supports_limit: True if the side can load only the newest items.
        is_slow: True if quick runs leave the side out.
        max_items: Size of the longest session that is measured. In longer sessions one turn of
            this side takes more than 0.3 seconds.
        limit: Number of the newest items that a turn loads; None loads all.
    """

    name: ClassVar[str]
    supports_limit: ClassVar[bool] = False
    is_slow: ClassVar[bool] = False
    max_items: ClassVar[int] = 10_000

    def __init__(self, path: Path, *, limit: int | None = None) -> None:
        self.path = path
        self.limit = limit

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def prepare(self, turn: ChatTurn) -> Any:
        """Return *turn* in the form that `run_turn` takes."""
        return turn.items

    async def fill(self, session_id: str, turns: Sequence[ChatTurn]) -> None:
        """Add *turns* as fast as possible, without loading the session."""
        raise NotImplementedError

    async def run_turn(self, session_id: str, prepared: Any) -> None:
        """Load the session and add a *prepared* turn to it."""
        raise NotImplementedError

    async def load(self, session_id: str) -> int:
        """Load the session, access each item, and return the number of items."""
        raise NotImplementedError

    async def run_concurrently(self, turns: Iterable[tuple[str, Sequence[Any]]]) -> None:
        """Run the prepared turns of each session id in a task of their own, one after another."""

        async def run_turns(session_id: str, session_turns: Sequence[Any]) -> None:
            for prepared in session_turns:
                await self.run_turn(session_id, prepared)

        async with anyio.create_task_group() as tasks:
            for session_id, session_turns in turns:
                tasks.start_soon(run_turns, session_id, session_turns)
