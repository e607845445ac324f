"""Messages in the spelling of chat completions, and the marks of interrupted replies and calls."""

from __future__ import annotations

SYSTEM = {"role": "system", "content": "Be brief."}
THOUGHT = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "x"}
INTERRUPTED_REPLY = "(interrupted: this reply is not complete)"
INTERRUPTED_CALL = "(interrupted: this call has no result)"


def user(content):
    """Return a message of the user."""
    return {"role": "user", "content": content}


def assistant(content):
    """Return a message of the assistant."""
    return {"role": "assistant", "content": content}


def calling(*ids):
    """Return a message of the assistant with a tool call for each of *ids*."""
    calls = [
        {"id": each, "type": "function", "function": {"name": "f", "arguments": "{}"}}
        for each in ids
    ]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def result(call_id, content="done"):
    """Return the result of the tool call with the id *call_id*."""
    return {"role": "tool", "tool_call_id": call_id, "content": content}


ITEM = user("Hi")
NEW = [user("new")]


def assert_valid_chat(messages):
    """Fail unless every tool call is followed by its result, and every result follows its call."""
    pending = []
    for message in messages:
        if message["role"] == "tool":
            pending.remove(message["tool_call_id"])
        else:
            assert not pending
            pending = [each["id"] for each in message.get("tool_calls", ())]
    assert not pending
