"""A web chat for several users, which stores everything in one tower-memory store.

    pip install '.[openai]' starlette uvicorn
    OPENAI_API_KEY=... uvicorn --app-dir tests/chat_product app:app --workers 3

1. A user sees only the sessions in the scope of the user's name. The page puts the name into a
   cookie, without a password; take it from your own login instead.
2. The page chooses the id of a turn, so a request that arrives twice is answered once.
3. A question is a pending turn until its answer is saved, so it survives a reload and an error.
4. An answer stops when its reader closes the connection. The received part is saved.
5. The title is metadata of the session. The token counts are metadata of the turn.
"""

import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

from msgspec import json
from openai import AsyncOpenAI, OpenAIError
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

from tower_memory import MemoryLayer, ScopedStore, SessionError, SqliteSessionStore
from tower_memory.dialects import usage_of

MODEL = os.environ.get("CHAT_MODEL", "gpt-5-mini")  # OPENAI_BASE_URL sets another provider
PRICES = {"gpt-5-mini": (0.25, 0.025, 2.0), "gpt-5": (1.25, 0.125, 10.0)}
"""US dollars for a million tokens of input, of cached input and of output."""
client = AsyncOpenAI()
all_users = SqliteSessionStore(os.environ.get("CHAT_DB", "chat.db"), search_index=True)


def store_of(request: Request) -> ScopedStore[Any]:
    """Return the store of the user of a request (rule 1); `ValueError` if there is no name."""
    return ScopedStore(all_users, unquote(request.cookies.get("user", "")))


def as_json(value: Any) -> Response:
    """Return *value* as JSON; for None, a session that the user does not have, return a 404."""
    return Response(json.encode(value, enc_hook=dict), 404 if value is None else 200)


async def ask(messages: list[Any]) -> Any:
    """Ask the model for an answer, as a stream that ends with the token counts."""
    options: Any = {"stream": True, "stream_options": {"include_usage": True}}
    return await client.chat.completions.create(model=MODEL, messages=messages, **options)


async def send(request: Request) -> Response:
    """Stream the answer to a question, perhaps in place of an old turn, as lines of JSON."""
    store, path, body = store_of(request), request.path_params, await request.json()
    memory = MemoryLayer.over(
        store,
        session_id=path["id"],
        turn_id=lambda _: path["turn"],
        replaces=lambda _: body["replaces"] and (body["replaces"], int(body["revision"])),
        metadata=lambda _, reply: {**usage_of(reply), "stopped": reply.interrupted},
        keep_interrupted=True,
        journal=True,
    )

    async def lines() -> AsyncIterator[bytes]:
        try:
            async with await memory(ask)([{"role": "user", "content": body["text"]}]) as answer:
                async for chunk in answer:
                    for choice in chunk.choices:
                        yield json.encode({"text": choice.delta.content}) + b"\n"
        except (OpenAIError, SessionError) as error:  # TurnExists if it was answered before
            yield json.encode({"error": type(error).__name__}) + b"\n"

    return Lines(lines(), background=BackgroundTask(add_title, store, path["id"], body["text"]))


class Lines(StreamingResponse):
    """A stream that is closed at once if its reader leaves, so the received part is saved."""

    async def stream_response(self, send: Any) -> None:
        async with aclosing(cast("Any", self.body_iterator)):
            await super().stream_response(send)


async def add_title(store: ScopedStore[Any], session_id: str, question: str) -> None:
    """Let the model write a title. A user's own title stays, and a deleted chat stays deleted."""
    session = await store.describe(session_id)
    if session and session.turns and "title" not in session.metadata:
        prompt = f"Write a title of at most five words for a chat that begins with: {question}"
        messages: Any = [{"role": "user", "content": prompt}]
        reply = await client.chat.completions.create(model=MODEL, messages=messages)
        title = reply.choices[0].message.content
        await store.annotate(session_id, {"title": title}, overwrite=False)


async def forget(request: Request) -> Response:
    """Remove a question that was not answered."""
    await store_of(request).forget(request.path_params["id"], request.path_params["turn"])
    return as_json({})


class Session(HTTPEndpoint):
    """A conversation."""

    async def get(self, request: Request) -> Response:
        """Show all turns, or the 20 turns before a turn, or the newest; and pending questions."""
        store, session_id = store_of(request), request.path_params["id"]
        query = request.query_params
        limit = None if "all" in query else 40  # items: 20 turns
        session, pending = await store.describe(session_id), await store.pending(session_id)
        history = await store.load(session_id, limit=limit, before=query.get("before"))
        turns = [(t, history.turn(t.turn_id), cost_of(t.metadata)) for t in history.turns]
        seen = str(history.revision)  # a browser would round the number
        return as_json(session and (session, turns, history.offset, pending, seen))

    async def patch(self, request: Request) -> Response:
        """Change the title."""
        title = {"title": (await request.json())["title"]}
        return as_json(await store_of(request).annotate(request.path_params["id"], title))

    async def post(self, request: Request) -> Response:
        """Copy the turns before an edited question to a new session."""
        store, path, body = store_of(request), request.path_params, await request.json()
        return as_json(await store.fork(path["id"], body["id"], before=body["before"]))

    async def delete(self, request: Request) -> Response:
        """Erase the session."""
        return as_json(await store_of(request).erase(session_id=request.path_params["id"]))


def cost_of(usage: Any) -> float | None:
    """Return the cost of an answer in US dollars; None if a count or the price is not known."""
    model, cached = str(usage["model"]), usage["cached_input_tokens"] or 0
    tokens, output = usage["input_tokens"], usage["output_tokens"]
    price = PRICES.get(model) or PRICES.get(model[:-11])  # without the date, as in -2025-08-07
    if price is None or tokens is None or output is None:
        return None
    return ((tokens - cached) * price[0] + cached * price[1] + output * price[2]) / 1_000_000


async def sessions(request: Request) -> Response:
    """List the sessions, the last active first."""
    page = await store_of(request).sessions(limit=30, after=request.query_params.get("after"))
    return as_json((list(page), page.next))


async def search(request: Request) -> Response:
    """Find the turns that contain all words of a text, newest first."""
    store, query = store_of(request), request.query_params["q"]
    return as_json([(h, await store.describe(h.session_id)) for h in await store.search(query)])


app = Starlette(
    exception_handlers={
        refusal: lambda _, error: Response(type(error).__name__, 409)
        for refusal in (SessionError, ValueError)
    },
    routes=[
        Route("/", FileResponse(Path(__file__).with_name("index.html"))),
        Route("/sessions", sessions),
        Route("/sessions/{id}", Session),
        Route("/sessions/{id}/turns/{turn}", send, methods=["PUT"]),
        Route("/sessions/{id}/turns/{turn}", forget, methods=["DELETE"]),
        Route("/search", search),
    ],
)
