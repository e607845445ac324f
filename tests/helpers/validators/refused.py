"""The error of the checks, and the rules that all providers share."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""A function's name, see `check_name`."""


class Refused(ValueError):
    """A provider would answer the request with status 400; the message names the rule."""


def refuse_if(refused: object, message: str) -> None:
    """Raise `Refused` with *message* if *refused* is true."""
    if refused:
        raise Refused(message)


def check_json(values: object) -> None:
    """Refuse a body that cannot be sent as JSON in UTF-8.

    RFC 8259 knows no NaN and no infinity. Providers refuse half of a surrogate pair, even escaped:
    "The request body is not valid JSON: no low surrogate in string"
    (https://github.com/anthropics/claude-code/issues/5934).
    """
    try:
        json.dumps(values, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"The request body is not valid JSON: {type(error).__name__}"
        raise Refused(msg) from error


def check_list(values: object, where: str) -> list[Mapping[str, Any]]:
    """Return *values*; refuse anything but a list of objects that is not empty.

    "Invalid 'messages': empty array. Expected an array with minimum length 1"
    (https://github.com/CopilotKit/CopilotKit/issues/529).
    """
    if not isinstance(values, list):
        msg = f"Invalid type for '{where}': expected an array"
        raise Refused(msg)

    refuse_if(not values, f"Invalid '{where}': empty array")
    return [check_object(each, f"{where}[{index}]") for index, each in enumerate(values)]


def check_object(value: object, where: str) -> Mapping[str, Any]:
    """Return *value*; refuse anything but an object."""
    if not isinstance(value, Mapping):
        msg = f"Invalid type for '{where}': expected an object"
        raise Refused(msg)
    return value


def check_text(value: object, where: str, *, empty: bool = False) -> str:
    """Return *value*; refuse anything but a string, which may be empty only with *empty*.

    "Invalid 'messages[69].tool_calls[0].function.name': empty string. Expected a string with
    minimum length 1" (https://github.com/continuedev/continue/issues/11645).
    """
    if not isinstance(value, str):
        msg = f"Invalid type for '{where}': expected a string"
        raise Refused(msg)
    refuse_if(not value and not empty, f"Invalid '{where}': empty string")
    return value


def check_name(value: object, where: str) -> None:
    """Refuse a function's name with other characters than a-z, A-Z, 0-9, _ and -, or too long.

    The pattern: https://github.com/mcp-use/mcp-use/issues/90 (OpenAI's chat completions). The
    length of 64: ``FunctionObject.name`` in openai/openai-openapi, and ``_validate_function_call``
    in mistralai/mistral-common, ``src/mistral_common/protocol/instruct/validator.py``.
    """
    name = check_text(value, where)
    refuse_if(not NAME.fullmatch(name), f"Invalid '{where}': string does not match pattern")


def blocks(content: object) -> Sequence[Mapping[str, Any]]:
    """Return the parts of *content* that are objects; text has none."""
    if not isinstance(content, list):
        return ()
    return [each for each in content if isinstance(each, Mapping)]
