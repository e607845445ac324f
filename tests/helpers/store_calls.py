"""Calls of a store as JSON, so that another process can make them, and a plain model of a store."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from helpers.internals import mutate
from tower_memory import SessionError, Turn

SERVE = """
import json, sys
import anyio
from helpers.store_calls import make_call
from helpers.stores import open_store

async def main():
    async with open_store(sys.argv[1]) as store:
        print("open", flush=True)
        for line in sys.stdin:
            name, arguments = json.loads(line)
            print(json.dumps(await make_call(store, name, **arguments)), flush=True)

anyio.run(main, backend=sys.argv[2])
"""
"""A program that opens the store argv[1], and makes the calls that it reads from its input."""


async def make_call(store, name, **arguments):
    """Make a call of *store*, and return its result as JSON values, or the name of its error."""
    try:
        match name:
            case "append":
                if arguments.get("replaces") is not None:
                    history = await store.load(arguments["session_id"], limit=0)
                    arguments["expected_revision"] = history.revision
                return await store.append(Turn(**arguments))
            case "load":
                history = await store.load(**arguments)
                loaded = json.loads(json.dumps(described(history)))
                for item in history:
                    mutate(item)  # a copy
                return loaded
            case "pop":
                popped = await store.pop(**arguments)
                result = json.loads(json.dumps(popped))
                mutate(popped)
                return result
            case "describe" | "annotate" | "fork":
                return described_info(await getattr(store, name)(**arguments))
            case "sessions":
                page = await store.sessions(**arguments)
                return {"infos": [described_info(info) for info in page], "next": page.next}
            case "load_summary" | "save_summary":
                summary = await getattr(store, name)(**arguments)
                return summary and [summary.text, summary.turn_id, summary.end]
            case _:
                return await make_journal_call(store, name, **arguments)
    except SessionError as error:
        return {"error": type(error).__name__}


async def make_journal_call(store, name, **arguments):
    """Make a call of the journal, or another call whose result needs no conversion."""
    if name == "begin":
        options = {"lease": arguments.pop("lease"), "owner": arguments.pop("owner")}
        return await store.begin(Turn(**arguments), **options)

    result = await getattr(store, name)(**arguments)
    if name == "pending":
        return [[each.turn_id, list(each.items), each.state] for each in result]
    return result


def described(history):
    """Return everything that *history* shows, but its revision, as JSON values."""
    return {
        "items": list(history),
        "turns": [[turn.turn_id, turn.position, dict(turn.metadata)] for turn in history.turns],
        "offset": history.offset,
        "is_cut": history.is_cut,
        "revision": history.revision,
    }


def described_info(info):
    """Return the description of a session as JSON values; None if there is none."""
    if info is None:
        return None
    times = {"created_at": str(info.created_at), "updated_at": str(info.updated_at)}
    return {**asdict(replace(info, metadata={})), **times, "metadata": {**info.metadata}}


@dataclass(eq=False)
class ModelTurn:
    """A turn of a model; it is equal only to itself."""

    turn_id: str
    items: list[Any]
    metadata: dict[str, Any] = field(default_factory=dict)


class ModelSession:
    """A session as a list of its turns."""

    def __init__(self, turns=()):
        self.turns = list(turns)

    @property
    def items(self):
        return [item for turn in self.turns for item in turn.items]

    def index(self, turn_id):
        """Return the index of a turn, or None."""
        ids = [turn.turn_id for turn in self.turns]
        return ids.index(turn_id) if turn_id in ids else None

    def pop(self):
        """Remove and return the newest item, or None; its turn goes with its last item."""
        if not self.items:
            return None
        while not self.turns[-1].items:
            del self.turns[-1]
        popped = self.turns[-1].items.pop()
        if not self.turns[-1].items:
            del self.turns[-1]
        return popped

    def load(self, limit, before):
        """Return what a history shows, but its revision; None if the turn *before* is missing."""
        last = len(self.turns)
        items = self.items
        end = len(items)
        if isinstance(before, str):
            last = self.index(before)
            if last is None:
                return None
            end = sum(len(turn.items) for turn in self.turns[:last])
        elif before is not None:
            end = min(before, end)
        start = 0 if limit is None else max(0, end - limit)

        turns, position = [], 0
        for turn in self.turns[:last]:
            begins = start <= position < end
            follows = start < position <= end or position == start == 0
            if limit != 0 and (begins if turn.items else follows):
                turns.append([turn.turn_id, position - start, turn.metadata])
            position += len(turn.items)

        return {
            "items": items[start:end],
            "turns": turns,
            "offset": start,
            "is_cut": start > 0,
        }
