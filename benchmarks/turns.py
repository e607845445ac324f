"""What a durable turn costs, as a ratio to raw sqlite3.

Measured: one turn is loading a session of n items and adding two messages of 300 bytes, in a file
with a write-ahead log and ``synchronous=FULL``. The floor does the same with sqlite3 and msgspec
in one thread; our side goes through `SqliteSessionStore` as it is shipped. How: rounds alternate
between the sides on one machine, each round a few turns, after one round that does not count.
After each turn its two items are popped again, outside the clock, so that n stays n.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter

import anyio
import msgspec

from tower_memory import SqliteSessionStore, Turn

ROUNDS = 30
TURNS = 5
TEXT = "x" * 300
NEW = [{"role": "user", "content": TEXT}, {"role": "assistant", "content": TEXT}]


class Floor:
    """Raw sqlite3: one table, one SELECT, one transaction."""

    def __init__(self, path: Path, items: int) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, session, item)")
        self.connection.execute("CREATE INDEX item_session ON item (session)")
        self.add(NEW * (items // 2))

    def add(self, items: list[dict[str, str]]) -> None:
        """Add *items* in one transaction."""
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany(
            "INSERT INTO item (session, item) VALUES ('s', ?)",
            [(msgspec.json.encode(item).decode(),) for item in items],
        )
        self.connection.execute("COMMIT")

    def turn(self) -> None:
        """Load and add."""
        rows = self.connection.execute("SELECT item FROM item WHERE session = 's' ORDER BY id")
        [msgspec.json.decode(item) for (item,) in rows]
        self.add(NEW)

    def pop(self) -> None:
        """Take a turn's items out again."""
        self.connection.execute("DELETE FROM item WHERE id > (SELECT max(id) - 2 FROM item)")


async def timed(turn: Callable[[], Awaitable[None]], pop: Callable[[], Awaitable[None]]) -> float:
    """Seconds for one turn: the median of a round."""
    times: list[float] = []
    for _ in range(TURNS):
        start = perf_counter()
        await turn()
        times.append(perf_counter() - start)
        await pop()
    return median(times)


async def compare(folder: Path, items: int) -> list[tuple[float, float]]:
    """Seconds for a turn of the floor and of ours, round by round."""
    floor = Floor(folder / "floor.db", items)
    async with SqliteSessionStore(folder / "ours.db") as store:
        await store.append(Turn("s", NEW * (items // 2)))

        async def floor_turn() -> None:
            floor.turn()

        async def floor_pop() -> None:
            floor.pop()

        async def our_turn() -> None:
            await store.load("s")
            await store.append(Turn("s", NEW))

        async def our_pop() -> None:
            await store.pop("s")
            await store.pop("s")

        rounds = []
        for number in range(ROUNDS + 1):
            rounds.append((await timed(floor_turn, floor_pop), await timed(our_turn, our_pop)))
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{items} items: round {number} of {ROUNDS} ")
        return rounds[1:]


def main() -> None:
    """Print the table."""
    print("runtime  items  floor ms  ours ms  ratio (quartiles)")
    for runtime in ("asyncio", "trio"):
        for items in (10, 100, 1000):
            with tempfile.TemporaryDirectory() as folder:
                rounds = anyio.run(compare, Path(folder), items, backend=runtime)
            ratios = [ours / floor for floor, ours in rounds]
            low, middle, high = quantiles(ratios, n=4)
            floor, ours = (1000 * median(side) for side in zip(*rounds, strict=True))
            if sys.stderr.isatty():
                sys.stderr.write("\r")
            print(
                f"{runtime:7}  {items:5}  {floor:8.2f}  {ours:7.2f}"
                f"  {middle:5.2f} ({low:.2f} to {high:.2f})"
            )


if __name__ == "__main__":
    main()
