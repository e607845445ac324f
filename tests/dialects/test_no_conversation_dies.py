"""No reply makes a provider refuse the later requests of its session.

Replies are generated: whole, streamed or broken off anywhere, with every fault that is known of
real providers. Each request of the session must pass the provider's validator.
"""

from __future__ import annotations

import copy
import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from helpers.messages import user
from helpers.reply_strategies import anthropic_reply, chat_reply, gemini_reply, responses_reply
from helpers.runtimes import on_one_runtime
from helpers.validators import (
    check_anthropic,
    check_gemini,
    check_mistral,
    check_openai_chat,
    check_openai_responses,
    check_vllm,
)
from tower_memory import InMemorySessionStore, LoadSession, MemoryLayer, SaveError, SaveSession
from tower_memory.dialects import (
    AnthropicMessages,
    ChatCompletions,
    GeminiContents,
    OpenAIResponses,
)
from tower_memory.windows import LastItems, LastTurns, TokenBudget


class Provider:
    """A provider that validates each request, and replies anything.

    Attributes:
        dialect: The provider's dialect.
        field: Name of the field of a request for its messages.
        strategy: Strategy for replies.
        extra: Other fields of each request.
    """

    dialect: Any
    field = "messages"
    strategy: Any

    def __init__(self, replies, choices):
        self.replies = replies
        self.choices = choices
        self.extra = {}

    async def __call__(self, request):
        self.check(request[self.field])
        return self.replies.pop().response()

    def check(self, messages):
        """Raise `Refused` if the provider would refuse *messages*."""
        raise NotImplementedError

    def results(self, items):
        """Return messages with results of some of the tool calls of a turn's *items*."""
        raise NotImplementedError

    def question(self):
        """Return the next message of the user."""
        return user("question")

    def is_answered(self):
        """Return True if the next tool call gets a result."""
        return self.choices.pop()


class ChatProvider(Provider):
    dialect = ChatCompletions()
    strategy = chat_reply()

    def check(self, messages):
        sent = (message.get("audio") or {} for message in messages)
        expiry = {each["id"]: float(each["id"].partition("_")[2]) for each in sent if each}
        check_openai_chat(messages, audio_expires_at=expiry, now=time.time())
        if not expiry:  # only OpenAI speaks
            check_mistral(messages)
            check_vllm(messages)

    def results(self, items):
        return [
            {"role": "tool", "tool_call_id": call["id"], "content": "done"}
            for item in items
            for call in item.get("tool_calls") or ()
            if self.is_answered()
        ]


class AnthropicProvider(Provider):
    dialect = AnthropicMessages()
    strategy = anthropic_reply()

    def check(self, messages):
        check_anthropic(messages)
        assert all(message.keys() == {"role", "content"} for message in messages)
        assert "refused question" not in str(messages[:-1])

    def question(self):
        """Return a question that says if its reply is a refusal."""
        reply = self.replies[-1] if self.replies else None
        is_refused = reply and reply.arrives() and reply.whole["stop_reason"] == "refusal"
        return user("refused question" if is_refused else "question")

    def results(self, items):
        results = [
            {"type": "tool_result", "tool_use_id": block["id"], "content": "done"}
            for item in items
            if item.get("stop_reason") != "refusal"
            for block in item["content"]
            if isinstance(block, dict) and block["type"] == "tool_use" and self.is_answered()
        ]
        return [user(results)] if results else []


ID_PREFIXES = {
    "computer_call": "cu",
    "custom_tool_call": "ctc",
    "function_call": "fc",
    "message": "msg",
    "reasoning": "rs",
    "web_search_call": "ws",
}


class ResponsesProvider(Provider):
    """OpenAI's responses: items have ids, which the server knows if it stores responses.

    It forgets them when the user has asked again, as if a month had passed.
    """

    dialect = OpenAIResponses()
    field = "input"
    strategy = responses_reply()

    def __init__(self, replies, choices):
        super().__init__([self.numbered(*each) for each in enumerate(replies)], choices)
        self.extra = {"store": choices.pop()}
        self.known = set()
        self.reasons = dict(pair for reply in self.replies for pair in self.reasoned(reply))

    @staticmethod
    def numbered(turn, reply):
        """Return *reply* with ids for its items."""
        reply = copy.deepcopy(reply)
        for index, item in enumerate(reply.whole["output"]):
            item["id"] = f"{ID_PREFIXES[item['type']]}_{turn}_{index}"
        return reply

    @staticmethod
    def reasoned(reply):
        """Yield the id of each item with that of the reasoning which led to it."""
        reasoning = None
        for item in reply.whole["output"]:
            if item["type"] == "reasoning":
                reasoning = item["id"]
            elif reasoning is not None:
                yield item["id"], reasoning

    async def __call__(self, request):
        reply = self.replies[-1]
        response = await super().__call__(request)
        if request["input"][-1].get("role") == "user" and reply.arrives():
            self.known = set()
        if request["store"]:
            self.known.update(item["id"] for item in reply.whole["output"])
        return response

    def check(self, items):
        known = () if items[-1].get("role") == "user" else self.known
        check_openai_responses(items, stored_ids=frozenset(known))

        # "Item 'msg_...' was provided without its required 'reasoning' item" (vercel/ai#7543)
        ids = {item.get("id") for item in items}
        assert all(self.reasons.get(each, each) in ids for each in ids)

    def results(self, items):
        kinds = ("function_call", "custom_tool_call")
        return [
            {"type": f"{item['type']}_output", "call_id": item["call_id"], "output": "done"}
            for item in items
            if item.get("type") in kinds and self.is_answered()
        ]


class GeminiProvider(Provider):
    dialect = GeminiContents()
    field = "contents"
    strategy = gemini_reply()

    def check(self, messages):
        check_gemini(messages, signatures=False)

    def question(self):
        return {"role": "user", "parts": [{"text": "question"}]}

    def results(self, items):
        calls = [
            part["functionCall"]
            for item in items
            for part in item["parts"]
            if part.get("functionCall", {}).get("name") and self.is_answered()
        ]
        parts = [
            {
                "functionResponse": {
                    **{key: call[key] for key in ("id", "name") if key in call},
                    "response": {"result": "done"},
                }
            }
            for call in calls
        ]
        return [{"role": "user", "parts": parts}] if parts else []


windows = st.one_of(
    st.none(),
    st.builds(LastTurns, st.integers(1, 3)),
    st.builds(LastItems, st.integers(0, 8)),
    st.builds(TokenBudget, st.integers(0, 200)),
)


async def ask(service, request):
    """Send *request*, and read the reply if it is a stream."""
    try:
        response = await service(request)
        if hasattr(response, "__aiter__"):
            async for _ in response:
                pass
    except (ConnectionError, SaveError):
        pass  # the stream broke off, or the provider reported that the reply failed


def sessions(kind):
    """Return a decorator that gives a test the parameters of `assert_all_accepted`."""
    return given(
        replies=st.lists(kind.strategy, min_size=2, max_size=4),
        choices=st.lists(st.booleans(), min_size=30, max_size=30),
        window=windows,
        limit=st.none() | st.integers(0, 8),
    )


async def assert_all_accepted(kind, replies, choices, window, limit):
    """Have a conversation with a provider, which raises if it refuses a request."""
    store, provider = InMemorySessionStore(), kind(replies, choices)
    layer = MemoryLayer(
        LoadSession(store, limit=limit),
        SaveSession(store),
        session_id="s",
        dialect=provider.dialect,
        window=window,
        keep_interrupted=choices.pop(),
    )
    service = layer(provider)

    new = [provider.question()]
    while provider.replies:
        await ask(service, {provider.field: new, **provider.extra})
        history = await store.load("s")
        last = history[history.turns[-1].position :] if history.turns else ()
        is_whole = window is None and limit is None
        new = (provider.results(last) if is_whole else None) or [provider.question()]


@on_one_runtime
@sessions(ChatProvider)
async def test_no_reply_of_chat_completions_makes_later_requests_fail(**session):
    """OpenAI, Mistral, vLLM and llama.cpp accept each request after any replies."""
    await assert_all_accepted(ChatProvider, **session)


@on_one_runtime
@sessions(AnthropicProvider)
async def test_no_reply_of_anthropic_makes_later_requests_fail(**session):
    """Anthropic accepts each request after any replies."""
    await assert_all_accepted(AnthropicProvider, **session)


@on_one_runtime
@sessions(ResponsesProvider)
async def test_no_reply_of_openai_responses_makes_later_requests_fail(**session):
    """OpenAI's responses accept each request after any replies."""
    await assert_all_accepted(ResponsesProvider, **session)


@on_one_runtime
@sessions(GeminiProvider)
async def test_no_reply_of_gemini_makes_later_requests_fail(**session):
    """Gemini accepts each request after any replies."""
    await assert_all_accepted(GeminiProvider, **session)
