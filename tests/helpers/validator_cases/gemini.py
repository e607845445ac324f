"""Contents of Gemini."""

from __future__ import annotations


def turn(role, *parts):
    """Return a content of Gemini."""
    return {"role": role, "parts": list(parts)}


def gemini_call(**fields):
    """Return a part with a function call of Gemini, and *fields* beside it."""
    return {"functionCall": {"name": "f", "args": {}}, **fields}


SIGNED = gemini_call(thoughtSignature="x")
ASK = turn("user", {"text": "Hi"})
CALL = turn("model", SIGNED)
RESPONSE = {"functionResponse": {"name": "f", "response": {"output": 1}}}
GEMINI = {
    "text": [ASK],
    "a turn without role": [{"parts": [{"text": "Hi"}]}],
    "a conversation": [ASK, turn("model", {"text": "Hello"}), ASK],
    "two turns of the user": [ASK, ASK],
    "a call": [ASK, CALL, turn("user", RESPONSE)],
    "snake_case": [
        ASK,
        turn("model", {"function_call": {"name": "f"}, "thought_signature": "x"}),
        turn("user", {"function_response": {"name": "f", "response": {}}}),
    ],
    "parallel calls": [ASK, turn("model", SIGNED, gemini_call()), turn("user", RESPONSE, RESPONSE)],
    "calls one after the other": [ASK, CALL, turn("user", RESPONSE), CALL, turn("user", RESPONSE)],
    "an unsigned call of an earlier turn": [
        ASK,
        turn("model", gemini_call()),
        turn("user", RESPONSE),
        turn("model", {"text": "Hello"}),
        ASK,
    ],
    "an empty text with a signature": [ASK, turn("model", {"text": "", "thoughtSignature": "x"})],
    "a thought": [ASK, turn("model", {"text": "Hm.", "thought": True}, {"text": "Hello"})],
    "an image": [turn("user", {"inlineData": {"mimeType": "image/png", "data": "x"}})],
}
GEMINI_REFUSED = {
    "no contents": ("empty array", []),
    "the role assistant": ("valid role", [ASK, turn("assistant", {"text": "x"})]),
    "no role of many": ("valid role", [{"parts": [{"text": "Hi"}]}, ASK]),
    "the model first": ("first turn", [turn("model", {"text": "x"}), ASK]),
    "no parts": ("parts must not be empty", [turn("user")]),
    "a part without data": ("one initialized field", [turn("user", {})]),
    "a thought alone": ("one initialized field", [ASK, turn("model", {"thought": True})]),
    "an empty text": ("empty text parameter", [turn("user", {"text": ""})]),
    "two data": ("already set", [turn("user", {"text": "x", **RESPONSE})]),
    "a call without name": ("empty string", [ASK, turn("model", {"functionCall": {"name": ""}})]),
    "arguments as text": (
        "expected an object",
        [ASK, turn("model", {"functionCall": {"name": "f", "args": "{}"}})],
    ),
    "a response as text": (
        "expected an object",
        [ASK, CALL, turn("user", {"functionResponse": {"name": "f", "response": "x"}})],
    ),
    "a call after the model": (
        "function call turn comes",
        [ASK, turn("model", {"text": "x"}), CALL, turn("user", RESPONSE)],
    ),
    "a response alone": ("function response turn comes", [ASK, turn("user", RESPONSE)]),
    "a call without response": ("equal to the number", [ASK, CALL, ASK]),
    "a call at the end": ("has its function response", [ASK, CALL]),
    "half of the responses": (
        "equal to the number",
        [ASK, turn("model", SIGNED, gemini_call()), turn("user", RESPONSE)],
    ),
    "responses in two turns": (
        "equal to the number",
        [ASK, turn("model", SIGNED, gemini_call()), turn("user", RESPONSE), turn("user", RESPONSE)],
    ),
    "an unsigned call": (
        "missing a thought_signature",
        [ASK, turn("model", gemini_call()), turn("user", RESPONSE)],
    ),
    "an unsigned second step": (
        "missing a thought_signature",
        [ASK, CALL, turn("user", RESPONSE), turn("model", gemini_call()), turn("user", RESPONSE)],
    ),
    "only the second signed": (
        "missing a thought_signature",
        [ASK, turn("model", gemini_call(), SIGNED), turn("user", RESPONSE, RESPONSE)],
    ),
    "half of a surrogate pair": ("not valid JSON", [turn("user", {"text": "\ud800"})]),
}
