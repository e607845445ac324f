"""Google's Gemini (``models.generateContent``), in camelCase or snake_case.

Not checked: that turns of user and model alternate, and that the last turn is the user's. Google's
maintainers call the first no requirement (https://github.com/google/adk-go/pull/1302), while others
report "Please ensure that multiturn requests alternate between user and model"
(https://github.com/NousResearch/hermes-agent/issues/55125).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any, Final

from helpers.validators.refused import check_json, check_list, check_object, check_text, refuse_if

_DATA: Final = (
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
    "toolCall",
    "toolResponse",
)
"""Fields of a part of which exactly one is set: the union ``data``
(https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest/v1beta1/Content)."""


def check_gemini(contents: object, *, signatures: bool = True) -> None:
    """Raise `Refused` if Gemini would refuse *contents*.

    *signatures* applies the rule of Gemini 3 that function calls carry their thought signatures.
    """
    check_json(contents)
    checked = check_list(contents, "contents")
    turns = [
        [_part(part, f"contents[{index}].parts[{number}]") for number, part in _parts(turn, index)]
        for index, turn in enumerate(checked)
    ]
    roles = [_role(turn, len(checked)) for turn in checked]
    _check_order(roles, turns)
    if signatures:
        _check_signatures(roles, turns)


def _field(value: Mapping[str, Any], name: str) -> Any:
    """Return the field *name* of *value*, in camelCase or in snake_case; None if it is missing."""
    snake = re.sub(r"[A-Z]", lambda match: f"_{match[0].lower()}", name)
    return value.get(name, value.get(snake))


def _role(turn: Mapping[str, Any], length: int) -> str:
    """Return the role of *turn*; refuse another one than user and model.

    "Please use a valid role: user, model." (https://github.com/songquanpeng/one-api/issues/1385). A
    single turn may have no role ("Useful to set for multi-turn conversations, otherwise can be left
    blank or unset",
    https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest/v1beta1/Content).
    """
    role = turn.get("role")
    if role is None and length == 1:
        return "user"
    refuse_if(role not in ("user", "model"), "Please use a valid role: user, model.")
    return str(role)


def _parts(turn: Mapping[str, Any], index: int) -> Sequence[tuple[int, Any]]:
    """Return the numbered parts of *turn*; refuse a turn without parts.

    "it must include at least one parts field" (https://github.com/langgenius/dify/issues/30566).
    """
    parts = turn.get("parts")
    refuse_if(not parts, f"contents[{index}]: contents.parts must not be empty.")
    return list(enumerate(check_list(parts, f"contents[{index}].parts")))


def _part(part: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Return *part*; refuse one without data, with empty text, or with an invalid call.

    "required oneof field 'data' must have one initialized field"
    (https://github.com/router-for-me/CLIProxyAPI/issues/1292). "it has an empty text parameter"
    (https://github.com/glowingjade/obsidian-smart-composer/issues/218); empty text that carries a
    thought signature is accepted, because Gemini itself sends it
    (https://ai.google.dev/gemini-api/docs/thought-signatures). That two data fields are refused
    follows from the union and has no other source.
    """
    data = [name for name in _DATA if _field(part, name) is not None]
    refuse_if(
        not data, f"{where}.data: required oneof field 'data' must have one initialized field"
    )
    refuse_if(len(data) > 1, f"{where}: oneof field 'data' is already set")
    if data == ["text"]:
        text = check_text(part["text"], f"{where}.text", empty=True)
        refuse_if(not text and not _signed(part), f"{where}: it has an empty text parameter")
    elif data[0] in ("functionCall", "functionResponse"):
        _check_function(_field(part, data[0]), data[0], f"{where}.{data[0]}")
    return part


def _check_function(value: object, kind: str, where: str) -> None:
    """Refuse a call or a response without its name, and arguments or a response but an object.

    "function_response.name: Name cannot be empty"
    (https://github.com/googleapis/js-genai/issues/607). ``args`` (optional) and ``response`` are
    "a structured JSON object"
    (https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest/v1beta1/Content).
    """
    fields = check_object(value, where)
    check_text(fields.get("name"), f"{where}.name")
    if kind == "functionResponse":
        check_object(fields.get("response"), f"{where}.response")
    elif fields.get("args") is not None:
        check_object(fields["args"], f"{where}.args")


def _count(parts: Sequence[Mapping[str, Any]], name: str) -> int:
    """Return how many of *parts* hold the data *name*."""
    return sum(_field(part, name) is not None for part in parts)


def _check_order(roles: Sequence[str], turns: Sequence[Sequence[Mapping[str, Any]]]) -> None:
    """Refuse a first turn of the model, and calls and responses in a wrong place or number.

    A first turn of the model: https://github.com/NousResearch/hermes-agent/issues/55427, and with a
    call https://github.com/google-gemini/gemini-cli/issues/11814. "function call turn comes
    immediately after a user turn or after a function response turn"
    (https://github.com/google-gemini/gemini-cli/issues/26486). "function response turn comes
    immediately after a function call turn" (https://github.com/langchain-ai/langchain/issues/27799).
    "the number of function response parts is equal to the number of function call parts of the
    function call turn" (https://github.com/google-gemini/gemini-cli/issues/4217), also if responses
    are missing (https://github.com/microsoft/vscode/issues/299295).
    """
    refuse_if(roles[0] != "user", "Please ensure that the first turn is a user turn.")
    calls = 0
    before = ""
    for role, parts in zip(roles, turns, strict=True):
        responses = _count(parts, "functionResponse")
        refuse_if(
            responses and not calls,
            "Please ensure that function response turn comes immediately after a function call turn.",
        )
        refuse_if(
            responses != calls,
            "Please ensure that the number of function response parts is equal to the number of "
            "function call parts of the function call turn.",
        )
        calls = _count(parts, "functionCall")
        refuse_if(
            calls and before != "user",
            "Please ensure that function call turn comes immediately after a user turn or after a "
            "function response turn.",
        )
        before = role
    refuse_if(calls, "Please ensure that each function call has its function response.")


def _signed(part: Mapping[str, Any]) -> bool:
    """Return True if *part* carries a thought signature."""
    return bool(_field(part, "thoughtSignature"))


def _check_signatures(roles: Sequence[str], turns: Sequence[Sequence[Mapping[str, Any]]]) -> None:
    """Refuse a step of the current turn whose first function call has no thought signature.

    The current turn begins at the newest content of the user that is not a function response. The
    further calls of a step carry none (https://ai.google.dev/gemini-api/docs/thought-signatures).
    "Function call is missing a thought_signature in functionCall parts"
    (https://github.com/lbjlaq/Antigravity-Manager/issues/139).
    """
    newest_first = zip(reversed(roles), reversed(turns), strict=True)
    for _, parts in takewhile(lambda turn: not _begins_turn(*turn), newest_first):
        calls = [part for part in parts if _field(part, "functionCall") is not None]
        refuse_if(
            calls and not _signed(calls[0]),
            "Function call is missing a thought_signature in functionCall parts.",
        )


def _begins_turn(role: str, parts: Sequence[Mapping[str, Any]]) -> bool:
    """Return True if the content is the user's and no function response."""
    return role == "user" and not _count(parts, "functionResponse")
