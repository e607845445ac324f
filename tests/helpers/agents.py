"""Agents of agent-framework with a scripted model."""

from __future__ import annotations

import warnings

from agent_framework import (
    Agent,
    BaseChatClient,
    ChatMiddlewareLayer,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    FunctionInvocationLayer,
    Message,
    ResponseStream,
)


class ScriptedClient(FunctionInvocationLayer, ChatMiddlewareLayer, BaseChatClient):
    """A chat client that answers with given replies, in order.

    A reply is a list of texts and contents, an exception to raise, or an async function that
    returns a reply. In a stream, an async function in the list is awaited between two chunks.
    Without replies, the client answers with the number of messages.

    Attributes:
        requests: The messages of each call.
    """

    def __init__(self, *replies):
        super().__init__()
        self.replies = list(replies)
        self.requests = []

    def _inner_get_response(self, *, messages, stream, options, **kwargs):
        self.requests.append(list(messages))
        reply = self.replies.pop(0) if self.replies else [f"{len(messages)} messages"]
        if stream:
            return ResponseStream(self._updates(reply), finalizer=ChatResponse.from_updates)
        return self._respond(reply)

    async def _respond(self, reply):
        return ChatResponse(messages=[Message("assistant", await contents_of(reply))])

    async def _updates(self, reply):
        for content in await contents_of(reply):
            if callable(content):
                await content()
            made = Content.from_text(content) if isinstance(content, str) else content
            yield ChatResponseUpdate(contents=[made], role="assistant")

    def said(self, number=-1):
        """Return the texts of the messages of a call."""
        return [message.text for message in self.requests[number]]


async def contents_of(reply):
    if callable(reply):
        reply = await reply()
    if isinstance(reply, BaseException):
        raise reply
    return reply


def call(call_id="call_1", name="weather", arguments="{}"):
    """Return the content of a tool call."""
    return Content.from_function_call(call_id, name, arguments=arguments)


def agent_with(*providers, replies=(), **parameters):
    """Return an agent with *providers* and a client that answers with *replies*."""
    return Agent(ScriptedClient(*replies), context_providers=list(providers), **parameters)


def texts(messages):
    return [message.text for message in messages]


def snapshot_store(store):
    """Return a `SnapshotStore`, without the warning that its base class is experimental."""
    from tower_memory.integrations.agent_framework import SnapshotStore

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\[SESSION_STORE\]", FutureWarning)
        return SnapshotStore(store)
