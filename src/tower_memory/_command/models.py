"""The services that answer the chat: an endpoint of chat completions, and an offline model."""

from __future__ import annotations

import argparse
import os
import reprlib
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from typing import Any

from anyio.from_thread import BlockingPortal

from tower_memory import Service
from tower_memory._command.errors import CommandError
from tower_memory._items import to_messages


class NoReply(Exception):
    """Raised when the endpoint gave no reply, or only a part of it; the chat goes on."""


def make_model(
    options: argparse.Namespace, portal: BlockingPortal, resources: ExitStack
) -> Service[dict[str, Any], Any]:
    """Return the service that answers requests: the offline model, or a call of the endpoint."""
    if options.model is None:
        return offline_model

    try:
        import openai  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        msg = "--model needs the openai client: pip install 'tower-memory[openai]'"
        raise CommandError(msg) from error

    key = os.environ.get("OPENAI_API_KEY")
    base_url = options.base_url or os.environ.get("OPENAI_BASE_URL")
    if not key and not base_url:
        msg = "--model needs a key in OPENAI_API_KEY, or a --base-url that needs none"
        raise CommandError(msg)

    try:
        client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=key or "none",
            timeout=openai.Timeout(120, connect=5),
            max_retries=1,
        )
    except Exception as error:
        msg = f"{base_url} cannot be used: {error}"
        raise CommandError(msg) from error
    resources.enter_context(portal.wrap_async_context_manager(client))

    async def ask(request: dict[str, Any]) -> Any:
        try:
            stream = await client.chat.completions.create(
                model=options.model, stream=True, **request
            )
        except Exception as error:
            msg = f"{client.base_url} gave no reply: {error} {error.__cause__ or ''}"
            raise NoReply(msg) from error
        return _checked(stream, str(client.base_url))

    return ask


async def _checked(stream: Any, url: str) -> AsyncGenerator[Any]:
    """Yield the chunks of *stream*, and close it at the end.

    Raises:
        NoReply: The stream broke, or holds no chunk of a chat completion.
    """
    has_reply = False
    last: Any = None
    async with stream:
        try:
            async for chunk in stream:
                last = chunk
                has_reply = has_reply or bool(getattr(chunk, "choices", None))
                yield chunk
        except Exception as error:
            msg = f"{url} broke off its reply: {error} {error.__cause__ or ''}"
            raise NoReply(msg) from error

    if not has_reply:
        msg = f"{url} gave no streamed chat completion but {reprlib.repr(last)}"
        raise NoReply(msg)


async def offline_model(request: dict[str, Any]) -> str:
    """Describe the earlier messages of *request* instead of asking a model."""
    *earlier, _ = request["messages"]
    if not earlier:
        return "I was given no earlier messages."
    messages = "1 earlier message" if len(earlier) == 1 else f"{len(earlier)} earlier messages"
    return f'I was given {messages}, the first: "{to_messages(earlier)[0].content}"'
