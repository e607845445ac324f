"""Hypothesis strategies for replies with every fault that is known of real providers."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

TEXTS = st.sampled_from(["", " \n", "Hello!", "two words"])
ARGUMENTS = st.sampled_from(["{}", '{"at": "x"}', '{"at": "', "", "[1]", "null", "not JSON"])
NAMES = st.sampled_from(["f", "f", "get_weather", ""])


@dataclass(frozen=True)
class Reply:
    """A reply of a provider: whole, or a stream that ends or breaks off.

    ``chunks`` is None for a whole reply. Only the first ``end`` chunks arrive; if these are not
    all, the connection breaks.
    """

    whole: dict[str, Any]
    chunks: list[dict[str, Any]] | None = None
    end: int = 0

    def arrives(self):
        """Return True if the reply arrives whole."""
        return self.chunks is None or self.end == len(self.chunks)

    def response(self):
        """Return what the client returns to its caller."""
        return self.whole if self.chunks is None else self._stream()

    async def _stream(self):
        for chunk in self.chunks[: self.end]:
            yield chunk
        if not self.arrives():
            msg = "the connection broke"
            raise ConnectionError(msg)


@st.composite
def replies(draw, wholes, to_chunks):
    """Draw a reply, whole or streamed; *to_chunks(draw, whole)* returns its chunks."""
    whole = draw(wholes)
    if draw(st.booleans()):
        return Reply(whole)
    chunks = to_chunks(draw, whole)
    return Reply(whole, chunks, draw(st.integers(0, len(chunks))))


def pieces(draw, text):
    """Draw two parts of *text*, as it may arrive."""
    middle = draw(st.integers(0, len(text)))
    return text[:middle], text[middle:]


# Chat completions


def optional(**fields):
    """Draw a mapping that may have each of *fields*."""
    return st.fixed_dictionaries({}, optional=fields)


@st.composite
def chat_calls(draw):
    count = draw(st.integers(0, 2))
    return [
        {
            "id": f"call_{number}",
            **draw(optional(type=st.just("function"))),
            "function": draw(optional(name=NAMES, arguments=ARGUMENTS)),
        }
        for number in range(count)
    ]


@st.composite
def audio(draw):
    seconds = draw(st.sampled_from([-1000, 1000]))
    transcript = draw(st.sampled_from(["", "spoken"]))
    expires_at = int(time.time()) + seconds
    # The id tells the validator when the audio expires.
    return {"id": f"audio_{expires_at}", "expires_at": expires_at, "transcript": transcript}


def text_part(text):
    return {"type": "text", "text": text}


def from_assistant(fields):
    return {"role": "assistant", **fields}


chat_messages = st.builds(
    from_assistant,
    optional(
        content=st.none() | TEXTS | st.lists(TEXTS.map(text_part)),
        tool_calls=st.none() | chat_calls(),
        function_call=st.just({"name": "", "arguments": ""}),
        audio=st.just({"id": ""}) | audio(),
        refusal=st.sampled_from([None, "", "I can't."]),
        reasoning_content=st.sampled_from(["", "Hm."]),
        annotations=st.just([]),
        name=st.just(""),
    ),
)


def completion(message, finish_reason="stop"):
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return {"object": "chat.completion", "choices": [choice]}


def chat_chunks(draw, whole):
    message = whole["choices"][0]["message"]
    calls = message.get("tool_calls") or []
    rest = {key: value for key, value in message.items() if key not in ("content", "tool_calls")}
    deltas: list[dict[str, Any]] = [rest]

    content = message.get("content")
    if isinstance(content, str):
        deltas += [{"content": piece} for piece in pieces(draw, content)]
    elif content:
        deltas.append({"content": content})

    for index, call in enumerate(calls):
        numbered = {"index": index} if draw(st.booleans()) else {}
        first, last = pieces(draw, call["function"].get("arguments", ""))
        deltas.append(
            {
                "tool_calls": [
                    {**numbered, **call, "function": {**call["function"], "arguments": first}}
                ]
            }
        )
        deltas.append({"tool_calls": [{**numbered, "function": {"arguments": last}}]})

    reason = draw(st.sampled_from(["stop", "length", "tool_calls", None, ""]))
    reasons = [*[None] * (len(deltas) - 1), reason]
    return [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": each}]}
        for delta, each in zip(deltas, reasons, strict=True)
    ]


def chat_reply():
    """Return a strategy for replies of chat completions."""
    return replies(chat_messages.map(completion), chat_chunks)


# Anthropic


@st.composite
def blocks(draw):
    numbers = range(draw(st.integers(0, 4)))
    return [draw(block(number)) for number in numbers]


def block(number):
    """Return a strategy for the block with this *number* in a message."""
    return st.one_of(
        TEXTS.map(text_part),
        st.fixed_dictionaries(
            {
                "type": st.just("thinking"),
                "thinking": st.just("Hm."),
                "signature": st.sampled_from(["", "sig"]),
            }
        ),
        st.fixed_dictionaries(
            {
                "type": st.just("tool_use"),
                "id": st.just(f"call_{number}"),
                "name": NAMES,
                "input": st.sampled_from([{}, {"at": "x"}]),
            }
        ),
        st.just({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}),
        st.just({"type": "web_search_tool_result", "tool_use_id": "s", "content": []}),
    )


STOP_REASONS = st.sampled_from(["end_turn", "tool_use", "max_tokens", "refusal", "pause_turn"])


def unique_server_calls(content):
    """Return *content* with at most one call of a server's tool, which its result follows."""
    kinds = ("server_tool_use", "web_search_tool_result")
    seen: list[str] = []
    kept = []
    for each in content:
        if each["type"] in kinds and (each["type"] in seen or "web_search_tool_result" in seen):
            continue
        seen.append(each["type"])
        kept.append(each)
    return kept


anthropic_messages = st.fixed_dictionaries(
    {
        "role": st.just("assistant"),
        "content": blocks().map(unique_server_calls),
        "stop_reason": STOP_REASONS,
    }
)


def anthropic_events(draw, whole):
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"role": "assistant", "content": []}}
    ]
    for index, each in enumerate(whole["content"]):
        start, deltas = begun_block(draw, each)
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        events += [
            {"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas
        ]
        events.append({"type": "content_block_stop", "index": index})
    events.append({"type": "message_delta", "delta": {"stop_reason": whole["stop_reason"]}})
    return [*events, {"type": "message_stop"}]


def begun_block(draw, block):
    """Return the start of *block*, and the deltas that complete it."""
    match block["type"]:
        case "text":
            deltas = [{"type": "text_delta", "text": each} for each in pieces(draw, block["text"])]
            return {**block, "text": ""}, deltas
        case "thinking":
            signed = {"type": "signature_delta", "signature": block["signature"]}
            thought = {"type": "thinking_delta", "thinking": "Hm."}
            return {**block, "thinking": "", "signature": ""}, [thought, signed]
        case "tool_use":
            text = draw(st.just(json.dumps(block["input"])) | ARGUMENTS)
            deltas = [
                {"type": "input_json_delta", "partial_json": each} for each in pieces(draw, text)
            ]
            return {**block, "input": {}}, deltas
        case _:
            return block, []


def anthropic_reply():
    """Return a strategy for replies of Anthropic's messages."""
    return replies(anthropic_messages, anthropic_events)


# Responses


def output_text(text):
    return {"type": "output_text", "text": text, "annotations": []}


def response_item(number):
    """Return a strategy for an output item; if it is a call, it has this *number*."""
    call_id = st.just(f"call_{number}")
    return st.one_of(
        st.fixed_dictionaries(
            {
                "type": st.just("message"),
                "role": st.just("assistant"),
                "content": st.lists(TEXTS.map(output_text), max_size=2),
            }
        ),
        st.fixed_dictionaries(
            {
                "type": st.just("function_call"),
                "call_id": call_id,
                "name": NAMES,
                "arguments": ARGUMENTS,
                "status": st.sampled_from(["completed", "incomplete"]),
            }
        ),
        st.fixed_dictionaries(
            {
                "type": st.just("custom_tool_call"),
                "call_id": call_id,
                "name": NAMES,
                "input": st.just("text"),
                "status": st.just("completed"),
            }
        ),
        st.just({"type": "reasoning", "summary": [], "encrypted_content": "x"}),
        st.just({"type": "web_search_call", "status": "completed"}),
        st.fixed_dictionaries(
            {"type": st.just("computer_call"), "call_id": call_id, "action": st.just({})}
        ),
    )


@st.composite
def responses(draw):
    output = []
    for number in range(draw(st.integers(0, 3))):
        if draw(st.booleans()):
            content = draw(optional(encrypted_content=st.just("x")))
            output.append({"type": "reasoning", "summary": [], **content})
        output.append(draw(response_item(number)))
    return {"status": draw(st.sampled_from(["completed", "incomplete"])), "output": output}


def response_events(draw, whole):
    events: list[dict[str, Any]] = [{"type": "response.created", "response": {}}]
    for index, item in enumerate(whole["output"]):
        if item["type"] == "message":
            for place, part in enumerate(item["content"]):
                events += [
                    {
                        "type": "response.output_text.delta",
                        "output_index": index,
                        "content_index": place,
                        "delta": piece,
                    }
                    for piece in pieces(draw, part["text"])
                ]
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    kind = f"response.{whole['status']}"
    return [*events, {"type": kind, "response": whole}]


def responses_reply():
    """Return a strategy for replies of OpenAI's responses, whose items have no ids yet."""
    return replies(responses(), response_events)


# Gemini


@st.composite
def gemini_part(draw):
    """Draw a part: text, a function call, or text with a thought signature."""
    signature = draw(optional(thoughtSignature=st.just("c2ln")))
    if draw(st.booleans()):
        return {"text": draw(TEXTS), **draw(optional(thought=st.just(True))), **signature}
    call = draw(optional(id=st.just("call_0"), args=st.sampled_from([{}, {"at": "x"}])))
    return {"functionCall": {"name": draw(NAMES), **call}, **signature}


@st.composite
def gemini_responses(draw):
    reason = draw(st.sampled_from(["STOP", "MAX_TOKENS", "SAFETY", "MALFORMED_FUNCTION_CALL"]))
    content = {"role": "model", "parts": draw(st.lists(gemini_part(), max_size=3))}
    candidate = {"finishReason": reason, **draw(optional(content=st.just(content)))}
    return draw(st.sampled_from([{"candidates": [candidate]}, {"promptFeedback": {}}]))


def gemini_chunks(draw, whole):
    """Return one chunk for each part, and a last one with the finishReason."""
    candidates = whole.get("candidates", [])
    parts = [part for each in candidates for part in each.get("content", {}).get("parts", ())]
    chunks = [{"candidates": [{"content": {"role": "model", "parts": [part]}}]} for part in parts]
    reasons = [{"finishReason": each["finishReason"]} for each in candidates]
    return [*chunks, {"candidates": reasons}]


def gemini_reply():
    """Return a strategy for replies of Gemini."""
    return replies(gemini_responses(), gemini_chunks)
