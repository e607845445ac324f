"""Messages in the spelling of chat completions: for OpenAI, Mistral and the open servers."""

from __future__ import annotations

from helpers.messages import SYSTEM, assistant, calling, result, user

HI = user("Hi")
FUNCTION = {"name": "f", "arguments": "{}"}


def with_function(**changes):
    """Return a tool call whose function has *changes*."""
    call = {"id": "a", "type": "function", "function": {**FUNCTION, **changes}}
    return {"role": "assistant", "tool_calls": [call]}


def with_custom(**changes):
    """Return a custom tool call with *changes*."""
    call = {"id": "a", "type": "custom", "custom": {"name": "f", "input": "", **changes}}
    return {"role": "assistant", "tool_calls": [call]}


def spoken(**fields):
    """Return a message of the assistant with other fields than content."""
    return {"role": "assistant", **fields}


OPENAI_CHAT = {
    "text": [HI],
    "all roles": [
        SYSTEM,
        {"role": "developer", "content": "Be kind."},
        HI,
        assistant(""),
        user([{"type": "text", "text": "a"}, {"type": "file", "file": {"file_id": "f"}}]),
    ],
    "calls": [HI, calling("a", "b"), result("b"), result("a", [{"type": "text", "text": "x"}])],
    "a custom call": [
        HI,
        with_custom(),
        result("a"),
    ],
    "arguments that are no JSON": [HI, with_function(arguments="{"), result("a")],
    "a function call": [
        HI,
        spoken(content=None, function_call=FUNCTION),
        {"role": "function", "name": "f", "content": None},
        {"role": "function", "name": "f", "content": "done"},
    ],
    "a refusal": [HI, spoken(content=None, refusal="No.")],
    "a refusal as a part": [HI, assistant([{"type": "refusal", "refusal": "No."}])],
    "audio": [HI, spoken(audio={"id": "audio_1"})],
    "audio beside text": [HI, spoken(content="Hello", audio=None)],
    "an unknown field of the user": [{**HI, "tool_calls": "x"}],
    "an unknown field": [HI, spoken(content="Hello", reasoning_content="Hm.")],
}
OPENAI_CHAT_REFUSED = {
    "no list": ("expected an array", {"role": "user"}),
    "no messages": ("empty array", []),
    "no object": ("expected an object", ["Hi"]),
    "no role": (r"messages\[0\].role", [{"content": "Hi"}]),
    "an unknown role": ("Invalid value for", [{"role": "model", "content": "Hi"}]),
    "null of the user": ("got null", [user(None)]),
    "no parts": ("empty array", [user([])]),
    "an unknown part": ("Invalid value", [user([{"type": "reasoning", "reasoning": "x"}])]),
    "a part without text": ("expected a string", [user([{"type": "text"}])]),
    "a part without its object": ("image_url", [user([{"type": "image_url"}])]),
    "an image in a result": (
        "Invalid value",
        [HI, calling("a"), result("a", [{"type": "image_url", "image_url": {"url": "u"}}])],
    ),
    "a refusal and text": (
        "mixes a refusal",
        [HI, assistant([{"type": "refusal", "refusal": "No."}, {"type": "text", "text": "x"}])],
    ),
    "a role alone": ("got null", [HI, spoken()]),
    "null of the assistant": ("got null", [HI, assistant(None)]),
    "null fields alone": (
        "got null",
        [HI, spoken(content=None, function_call=None, refusal=None, audio=None)],
    ),
    "no calls": ("empty array", [HI, spoken(content="x", tool_calls=[])]),
    "null calls": ("expected an array", [HI, spoken(content="x", tool_calls=None)]),
    "an empty call id": (
        "empty string",
        [HI, spoken(tool_calls=[{"id": "", "type": "function", "function": FUNCTION}])],
    ),
    "no type of a call": (
        "Invalid value",
        [HI, spoken(tool_calls=[{"id": "a", "function": FUNCTION}])],
    ),
    "no function": ("function", [HI, spoken(tool_calls=[{"id": "a", "type": "function"}])]),
    "a custom call without name": ("name", [HI, with_custom(name=None)]),
    "a custom call without input": ("input", [HI, with_custom(input=None)]),
    "content of a function result as a number": (
        "content",
        [HI, {"role": "function", "name": "f", "content": 1}],
    ),
    "no custom": ("custom", [HI, spoken(tool_calls=[{"id": "a", "type": "custom"}])]),
    "an empty name": ("empty string", [HI, with_function(name=""), result("a")]),
    "a name with a dot": ("pattern", [HI, with_function(name="a.b"), result("a")]),
    "a long name": ("pattern", [HI, with_function(name="n" * 65), result("a")]),
    "arguments as an object": ("expected a string", [HI, with_function(arguments={}), result("a")]),
    "an empty function call": (
        "empty string",
        [HI, spoken(content=None, function_call={"name": "", "arguments": "{}"})],
    ),
    "a function result without name": ("name", [HI, {"role": "function", "content": "x"}]),
    "a function result without content": ("content", [HI, {"role": "function", "name": "f"}]),
    "audio with data": (
        "Unknown parameter",
        [HI, spoken(audio={"id": "audio_1", "data": "", "transcript": "x"})],
    ),
    "audio without id": ("empty string", [HI, spoken(audio={"id": ""})]),
    "a call without result": ("must be followed", [HI, calling("a")]),
    "a result that is late": ("must be followed", [HI, calling("a"), HI, result("a")]),
    "half of the results": ("must be followed", [HI, calling("a", "b"), result("a"), HI]),
    "a result alone": ("must be a response", [HI, result("a")]),
    "a second result": ("must be a response", [HI, calling("a"), result("a"), result("a")]),
    "NaN": ("not valid JSON", [{**HI, "x": float("nan")}]),
    "half of a surrogate pair": ("not valid JSON", [user("\ud800")]),
    "bytes": ("not valid JSON", [user(b"Hi")]),
}


def text(value="x"):
    """Return a text part."""
    return {"type": "text", "text": value}


HELLO = assistant("Hello")
MISTRAL = {
    "text": [HI],
    "a system message alone": [SYSTEM],
    "a conversation": [SYSTEM, HI, HELLO, HI],
    "a call": [HI, calling("a"), result("a")],
    "calls one after the other": [
        HI,
        calling("a"),
        result("a"),
        calling("b"),
        result("b"),
        HELLO,
        HI,
    ],
    "content beside calls": [HI, {**calling("a"), "content": "x"}, result("a")],
    "thinking": [HI, assistant([{"type": "thinking", "thinking": [text()]}, text()]), HI],
    "arguments as an object": [HI, with_function(arguments={}), result("a")],
    "a prefix": [HI, spoken(content="Hel", prefix=True)],
    "a name of a result": [HI, calling("a"), {**result("a"), "name": "f"}],
}
MISTRAL_REFUSED = {
    "no messages": ("empty array", []),
    "an unknown role": ("Unexpected role 'developer'", [{"role": "developer", "content": "x"}]),
    "the assistant first": ("must start with", [HELLO, HI]),
    "a system message later": ("after role 'user'", [HI, SYSTEM, HI]),
    "two of the user": ("must alternate", [HI, HI]),
    "two of the assistant": ("must alternate", [HI, HELLO, HELLO, HI]),
    "the user after a result": ("after role 'tool'", [HI, calling("a"), result("a"), HI]),
    "a result after the user": ("after role 'user'", [HI, result("a")]),
    "a reply at the end": ("Expected last role", [HI, HELLO]),
    "a prefix before the end": (
        "must be last message",
        [HI, spoken(content="x", prefix=True), HI],
    ),
    "no content": ("Input should be", [{"role": "user"}]),
    "a chunk without type": ("chunk types", [user(["x"])]),
    "an empty reply": ("but not none", [HI, assistant(""), HI]),
    "a role alone": ("but not none", [HI, spoken(), HI]),
    "a refusal": (
        "chunk types in assistant",
        [HI, assistant([{"type": "refusal", "refusal": "No."}]), HI],
    ),
    "a name with a dot": ("pattern", [HI, with_function(name="a.b"), result("a")]),
    "a result's name": ("pattern", [HI, calling("a"), {**result("a"), "name": "a.b"}]),
    "no arguments": ("valid string", [HI, with_function(arguments=None), result("a")]),
    "no function": ("function", [HI, spoken(tool_calls=[{"id": "a"}]), result("a")]),
    "no call id": (r"\.id'", [HI, spoken(tool_calls=[{"function": FUNCTION}]), result("a")]),
    "content of a call as a number": (
        "Input should be",
        [HI, {**calling("a"), "content": 1}, result("a")],
    ),
    "a call without result": ("Not the same number", [HI, calling("a", "b"), result("a")]),
    "a call left behind": ("Not the same number", [HI, calling("a"), calling("b"), result("b")]),
    "another result": ("Unexpected tool call id", [HI, calling("a"), result("b")]),
    "an id twice": ("Duplicate tool call id", [HI, calling("a", "a"), result("a"), result("a")]),
    "NaN": ("not valid JSON", [{**HI, "x": float("inf")}]),
}

VLLM = {
    "text": [HI],
    "null": [user(None), assistant(None)],
    "parts": [user([text(), {"type": "image_url", "image_url": {"url": "u"}}])],
    "calls without content": [HI, with_function(), result("a")],
    "no calls": [HI, spoken(tool_calls=[]), spoken(tool_calls=None)],
    "arguments": [HI, with_function(arguments='{"a": [1, null, "\\ud83d\\ude00"]}')],
    "arguments as an object": [HI, with_function(arguments={})],
    "a result alone": [HI, result("a")],
}
VLLM_REFUSED = {
    "no messages": ("empty array", []),
    "no role": ("role", [{"content": "x"}]),
    "a role alone": ("either 'content' or 'tool_calls'", [HI, spoken(refusal="No.")]),
    "a result without content": ("must contain 'content'", [{"role": "tool"}]),
    "content as a number": ("string or an array", [user(1)]),
    "a part as text": ("expected an object", [user(["x"])]),
    "a part without type": ("type", [user([{"text": "x"}])]),
    "a refusal as a part": ("Unsupported content part", [assistant([{"type": "refusal"}])]),
    "a text part without text": ("text", [user([{"type": "text"}])]),
    "a custom call": ("Unsupported tool call type", [spoken(tool_calls=[{"type": "custom"}])]),
    "no function": ("function", [spoken(tool_calls=[{"type": "function"}])]),
    "no name": ("name", [with_function(name=None)]),
    "no arguments": ("not a JSON object", [with_function(arguments=None)]),
    "cut arguments": ("Failed to parse", [with_function(arguments='{"a": "x')]),
    "empty arguments": ("Failed to parse", [with_function(arguments="")]),
    "NaN in arguments": ("Failed to parse", [with_function(arguments='{"a": NaN}')]),
    "half of a pair in arguments": (
        "Failed to parse",
        [with_function(arguments='{"a": "\\ud800"}')],
    ),
    "deep arguments": ("Failed to parse", [with_function(arguments="[" * 100_000)]),
    "a list as arguments": ("not a JSON object", [with_function(arguments="[]")]),
    "half of a surrogate pair": ("not valid JSON", [user("\ud800")]),
}
