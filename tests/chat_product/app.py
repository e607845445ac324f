"""A web chat for several users, which stores everything in one tower-memory store.

    pip install '.[openai]' starlette uvicorn
    OPENAI_API_KEY=... uvicorn --app-dir tests/chat_product app:app --timeout-graceful-shutdown 5

1. Each user has a scope, named by a cookie without a password; take it from your own login instead.
2. The page chooses the id of a turn, so a request that arrives twice is answered once.
3. A question is a pending turn until its answer is saved, so it survives an error and a crash.
4. An answer goes on without its readers, and any page of the user can join or stop it, because one
   worker gets all requests of a session: behind nginx, run several, each with a ``--port``
   (`tower_memory.resumable`). A shutdown waits, then saves what was written.
5. The model gets a summary of older turns. Titles and token counts are metadata.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from msgspec import json
from openai import AsyncOpenAI, OpenAIError
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

from tower_memory import MemoryLayer, ScopedStore, SessionError
from tower_memory import SqliteSessionStore as Store  # or PostgresSessionStore, and a URL
from tower_memory.dialects import usage_of
from tower_memory.resumable import ResumableLayer
from tower_memory.windows import LastTurns, Summarised

MODEL = os.environ.get("CHAT_MODEL", "gpt-5-mini")  # OPENAI_BASE_URL sets another provider
TITLE, SUMMARY = "Write a title of at most five words for this chat.", "Summarise this chat."
completions = AsyncOpenAI().chat.completions
all_users = Store(os.environ.get("CHAT_DB", "chat.db"), search_index=True)
resumable = ResumableLayer(key=lambda request: request["key"], keep_seconds=0)


@asynccontextmanager
async def running(_: Starlette) -> AsyncIterator[None]:
    async with all_users, resumable:
        yield


def opened(request: Request) -> tuple[ScopedStore[Any], tuple[str, ...]]:
    """Return the store of the user of a request (rule 1), and its key: user, session and turn."""
    user = unquote(request.cookies.get("user", ""))
    return ScopedStore(all_users, user), (user, *request.path_params.values())


def as_json(value: Any) -> Response:
    """Return *value* as JSON; for None, a session that the user does not have, return a 404."""
    return Response(json.encode(value, enc_hook=dict), 404 if value is None else 200)


async def ask(request: Any) -> Any:
    """Ask the model for an answer, as a stream that ends with the token counts."""
    options: Any = {"stream": True, "stream_options": {"include_usage": True}}
    return await completions.create(model=MODEL, messages=request["messages"], **options)


async def write(messages: Sequence[Any], wish: str = SUMMARY) -> str:
    """Let the model write a short text about messages."""
    asked: Any = [*messages, {"role": "user", "content": wish}]
    reply = await completions.create(model=MODEL, messages=asked)
    return reply.choices[0].message.content or ""


async def lines(answer: Awaitable[Any]) -> AsyncIterator[bytes]:
    """Yield an answer as lines of JSON."""
    try:
        async with await answer as chunks:
            async for chunk in chunks:
                for choice in chunk.choices:
                    yield json.encode({"text": choice.delta.content}) + b"\n"
    except (OpenAIError, SessionError) as error:  # TurnExists if it was answered before
        yield json.encode({"error": type(error).__name__}) + b"\n"


class Turn(HTTPEndpoint):
    async def put(self, request: Request) -> Response:
        """Ask, perhaps in place of an old turn, and stream the answer."""
        (store, key), body = opened(request), await request.json()
        memory = MemoryLayer.over(
            store,
            session_id=key[1],
            turn_id=lambda _: key[2],
            replaces=lambda _: body["replaces"] and (body["replaces"], int(body["revision"])),
            metadata=lambda _, reply: {**usage_of(reply), "stopped": reply.interrupted},
            window=Summarised(write, store=store, keep=LastTurns(10)),
            keep_interrupted=True,
            journal=True,
        )
        asked = {**body, "key": key, "messages": [{"role": "user", "content": body["text"]}]}
        return StreamingResponse(lines(resumable(memory(ask))(asked)))

    async def get(self, request: Request) -> Response:
        """Stream the answer that is being written, from its start."""
        return StreamingResponse(lines(resumable.join(opened(request)[1])))

    async def post(self, request: Request) -> Response:
        """Stop the answer for all readers. The part that was written is saved."""
        return as_json(await resumable.stop(opened(request)[1]))

    async def delete(self, request: Request) -> Response:
        """Forget a question that was not answered."""
        store, (_, session_id, turn_id) = opened(request)
        await store.forget(session_id, turn_id)
        return as_json({})


class Session(HTTPEndpoint):
    async def get(self, request: Request) -> Response:
        """Show all turns, or the 20 turns before a turn, or the newest; and pending questions."""
        (store, key), query = opened(request), request.query_params
        limit = None if "all" in query else 40  # items: 20 turns
        session, pending = await store.describe(key[1]), await store.pending(key[1])
        history = await store.load(key[1], limit=limit, before=query.get("before"))
        turns = [(turn, history.turn(turn.turn_id)) for turn in history.turns]
        here = [(*key, turn.turn_id) in resumable.running() for turn in pending]  # can be joined
        seen = str(history.revision)  # a browser would round the number
        return as_json(session and (session, turns, history.offset, pending, seen, here))

    async def patch(self, request: Request) -> Response:
        """Change the title, or let the model write one, once for all pages that ask for it."""
        (store, key), title = opened(request), (await request.json())["title"]

        async def change(_: Any) -> Any:
            text = title or await write((await store.load(key[1]))[:1], TITLE)
            return await store.annotate(key[1], {"title": text}, overwrite=bool(title))

        return as_json(await resumable(change)({"key": (*key, "title", title)}))

    async def post(self, request: Request) -> Response:
        """Copy the turns before an edited question to a new session."""
        (store, key), body = opened(request), await request.json()
        return as_json(await store.fork(key[1], body["id"], before=body["before"]))

    async def delete(self, request: Request) -> Response:
        """Erase the session."""
        store, (_, session_id) = opened(request)
        return as_json(await store.erase(session_id=session_id))


async def sessions(request: Request) -> Response:
    """List the sessions, the last active first; or find the turns with all words of a text."""
    (store, _), query = opened(request), request.query_params
    if "q" in query:
        hits = await store.search(query["q"])
        return as_json([(hit, await store.describe(hit.session_id)) for hit in hits])
    page = await store.sessions(limit=30, after=query.get("after"))
    return as_json((list(page), page.next))


app = Starlette(
    lifespan=running,
    exception_handlers=dict.fromkeys(
        (SessionError, ValueError, OpenAIError), lambda _, e: Response(type(e).__name__, 409)
    ),
    routes=[
        Route("/", FileResponse(Path(__file__).with_name("index.html"))),
        Route("/sessions", sessions),
        Route("/sessions/{id}", Session),
        Route("/sessions/{id}/turns/{turn}", Turn),
    ],
)
