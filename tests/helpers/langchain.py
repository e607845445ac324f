"""Runnables that stand in for chat models and agents of LangChain."""

from __future__ import annotations

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.runnables import Runnable

from tower_memory import InMemorySessionStore
from tower_memory.integrations.langchain import RunnableWithMemory

HERE = {"configurable": {"session_id": "here"}}
"""The config of a call in the session "here"."""


def said(messages):
    """Return the contents of *messages*, or of items."""
    return [
        message.content if isinstance(message, BaseMessage) else message["data"]["content"]
        for message in messages
    ]


async def stored(store, session_id="here"):
    """Return the contents of the stored messages of a session."""
    return said(await store.load(session_id))


class UnwritableStore(InMemorySessionStore):
    """A store that cannot save."""

    async def append(self, turn):
        raise OSError


class Model(Runnable):
    """A model that gives the next of *replies*, or repeats the last message; on every runtime.

    Attributes:
        inputs: The input of each call.
        configs: The config of each call.
    """

    def __init__(self, *replies):
        self.replies = list(replies)
        self.inputs = []
        self.configs = []

    def invoke(self, given, config=None, **kwargs):
        self.inputs.append(given)
        self.configs.append(config)
        if not self.replies:
            return AIMessage(f"re: {given[-1].content}")
        reply = self.replies.pop(0)
        if isinstance(reply, BaseException):
            raise reply
        return reply

    async def ainvoke(self, given, config=None, **kwargs):
        return self.invoke(given, config, **kwargs)


class Streaming(Model):
    """A model that streams its next reply, a list of chunks, and raises the errors among them."""

    def stream(self, given, config=None, **kwargs):
        for chunk in self.invoke(given, config, **kwargs):
            if isinstance(chunk, BaseException):
                raise chunk
            yield chunk

    async def astream(self, given, config=None, **kwargs):
        for chunk in self.stream(given, config, **kwargs):
            yield chunk


def words(*texts, **fields):
    """Return the chunks of one message."""
    return [AIMessageChunk(content=text, id="message-1", **fields) for text in texts]


def with_memory(model, store, **options):
    """Return *model* with memory over *store*."""
    return RunnableWithMemory(model, store, **options)
