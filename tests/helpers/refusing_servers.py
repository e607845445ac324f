"""Servers that refuse as the providers do, and the conversations with them.

A server sends the replies of its script, and checks each request with the provider's validator. A
client raises if its request is refused.
"""

from __future__ import annotations

import json
from time import time

import anthropic
import openai
import pytest

from helpers.harmful_replies import ANSWERED, AUDIO_EXPIRES_AT, X_SEARCH, chat_chunks, said, spoken
from helpers.messages import assistant
from helpers.provider_replies import (
    anthropic_message,
    completion,
    events_of,
    message_events,
    response,
)
from helpers.validators import (
    check_anthropic,
    check_mistral,
    check_openai_chat,
    check_openai_responses,
    check_vllm,
)
from helpers.validators.refused import refuse_if
from tower_memory import MemoryLayer

both_ways = pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])


def harms(*tables):
    """Return a mark that runs a test with each harmful reply of *tables*.

    All replies on asyncio, and the first of each table also on trio: a dialect awaits nothing, so
    its part of a conversation is the same on every runtime.
    """
    cases = [
        pytest.param(
            backend,
            harm,
            id=f"{backend}-{harm.name}",
            marks=() if backend == "asyncio" or harm is table[0] else pytest.mark.long,
        )
        for table in tables
        for harm in table
        for backend in ("asyncio", "trio")
    ]
    return pytest.mark.parametrize(("anyio_backend", "harm"), cases)


def remember(store, dialect, ask):
    """Return *ask* with a memory."""
    return MemoryLayer.over(store, session_id="s", dialect=dialect)(ask)


async def converse(server, send, first, follow):
    """Make requests until *server* has sent all its replies, and return the replies.

    *follow* returns the request that follows a reply.
    """
    replies, request = [], first
    while server.replies:
        replies.append(await send(request))
        request = follow(replies[-1])
    return replies


# Clients, which read no certificates: this takes most of the time of a short test


def openai_client(server):
    http_client = openai.DefaultAsyncHttpxClient(verify=False)
    return openai.AsyncOpenAI(base_url=server.url, api_key="none", http_client=http_client)


def anthropic_client(server):
    http_client = anthropic.DefaultAsyncHttpxClient(verify=False)
    return anthropic.AsyncAnthropic(base_url=server.url, api_key="none", http_client=http_client)


# Scripts


def check_openai(messages):
    """Refuse chat messages as OpenAI does now."""
    check_openai_chat(messages, audio_expires_at=AUDIO_EXPIRES_AT, now=time())


def script_chat(server, harm, streamed, checks=(check_openai, check_vllm, check_mistral)):
    """Let *server* send a harmful message twice, and refuse what one of *checks* refuses.

    Return the messages that the server sends.
    """

    def check(body):
        for each in checks:
            each(body["messages"])

    server.check = check
    script = [(harm.reply, harm.reason)] * 2 + [(assistant("Bye."), "stop")]
    server.replies.extend(chat_chunks(*each) if streamed else completion(*each) for each in script)
    return [message for message, _ in script]


def script_responses(server, harm, streamed, stores):
    """Let *server* send a harmful output.

    The server has the items of its last reply, or of none if *stores* is false. So an item that a
    later exchange names by its id may be gone, as it is after 30 days.
    """
    status = "incomplete" if harm.reason == "incomplete" else "completed"
    script = [(harm.reply, status), ([spoken("Yes?", 2)],), ([spoken("Bye.", 3)],)]
    server.replies.extend(events_of(*each) if streamed else response(*each) for each in script)

    def check(body):
        number = len(server.requests) - 1
        last = script[number - 1][0] if stores and number else ()
        check_openai_responses(body["input"], stored_ids={item["id"] for item in last})
        for item in body["input"]:
            _check_arguments(item)
            refuse_if(item.get("call_id") == X_SEARCH["call_id"], "the server has run this call")

    server.check = check


def _check_arguments(item):
    """Refuse a call whose arguments are no JSON object, as vLLM does (vllm-project/vllm#48922)."""
    if item.get("type") == "function_call":
        try:
            arguments = json.loads(item["arguments"])
        except ValueError:
            arguments = None
        refuse_if(not isinstance(arguments, dict), "the arguments are no JSON object")


def script_anthropic(server, replies, streamed):
    """Let *server* send *replies*: pairs of blocks and a stop_reason."""
    server.check = lambda body: check_anthropic(body["messages"])
    server.replies.extend(_anthropic_reply(*each, streamed) for each in replies)


def twice(harm):
    """Return the replies of a server that sends the harmful blocks twice."""
    return [(harm.reply, harm.reason)] * 2 + [([said("Bye.")], "end_turn")]


def script_refusals(server, refused, streamed, turns):
    """Let *server* send *refused* as long as a request has the text "Harm"."""

    def reply(body):
        is_refused = "Harm" in json.dumps(body["messages"])
        return _anthropic_reply(*(refused if is_refused else ANSWERED), streamed)

    server.check = lambda body: check_anthropic(body["messages"])
    server.replies.extend([reply] * turns)


def _anthropic_reply(blocks, reason, streamed):
    return list(message_events(blocks, reason)) if streamed else anthropic_message(blocks, reason)
