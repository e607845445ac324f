"""The contents of Gemini, and the spellings of their fields.

1. The API spells fields in camel case, as in ``functionCall``. The client's objects, and mappings
   for the client, have snake case, as in ``function_call``. The dialect reads both, and stores
   items in camel case.
2. The client's objects hold bytes: inline data and thought signatures. Stored items have them as
   base64 with the URL-safe alphabet, as the client sends them. Text stays as it is; the API and the
   client read both alphabets.
3. The arguments of a function call, the response of a function and the metadata of a part belong to
   the user. Their fields are not renamed.
4. The client accepts a text, a part and a list of parts in place of a content, and joins
   consecutive parts to one content (``google.genai.types.ContentListUnion``). So does
   `read_contents`.
"""

from __future__ import annotations

from base64 import b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Final

from tower_memory.dialects.toolkit import (
    MISSING,
    check_list,
    describe_shape,
    field,
    list_field,
    messages_field,
    to_builtins,
    to_class,
)

_OWN_FIELDS: Final = frozenset({"args", "partMetadata", "response"})
"""Fields whose values belong to the user (rule 3)."""


def read(value: Any, name: str) -> Any:
    """Return the field *name* of *value* in either spelling; None if absent.

    *name* is in snake case, such as ``"function_call"``.
    """
    found = field(value, name)
    if found is MISSING:
        found = field(value, _camel(name))
    return None if found is MISSING else found


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


# Stored items


def to_item(value: Any) -> Any:
    """Return a content, or a part of one, as it is stored: without fields that are None."""
    return _to_json(to_builtins(value))


def _to_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return urlsafe_b64encode(value).decode()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list):
        return [_to_json(part) for part in value]
    if not isinstance(value, dict):
        return value

    named = ((_camel(str(key)), part) for key, part in value.items() if part is not None)
    return {name: part if name in _OWN_FIELDS else _to_json(part) for name, part in named}


def content_class(contents: Sequence[Any]) -> type | None:
    """Return the class of the first object of the client among *contents*; None without an object.

    The client has subclasses for one role each. The result is their base class that has the fields
    ``role`` and ``parts``, because an object of the history may have another role.
    """
    for content in contents:
        if not isinstance(content, Mapping):
            bases = [
                base
                for base in type(content).__mro__
                if {"role", "parts"} <= set(getattr(base, "model_fields", ()))
            ]
            return bases[-1] if bases else type(content)
    return None


def to_object(content: Any, kind: type) -> Any:
    """Return *content* as an object of the class *kind*; an object stays as it is."""
    return to_class(_with_bytes(to_item(content)), kind) if isinstance(content, dict) else content


def _with_bytes(value: Any, name: str = "") -> Any:
    """Return *value*, the value of the field *name*, with its base64 texts as bytes."""
    if isinstance(value, list):
        return [_with_bytes(part, name) for part in value]
    if not isinstance(value, dict) or name in _OWN_FIELDS:
        return value
    return {
        key: _decode(part)
        if key == "thoughtSignature" or (name, key) == ("inlineData", "data")
        else _with_bytes(part, key)
        for key, part in value.items()
    }


def _decode(text: Any) -> Any:
    """Return the bytes of a base64 *text* of either alphabet; return any other value as it is."""
    if not isinstance(text, str):
        return text
    padding = "=" * (-len(text) % 4)  # it may be missing
    try:
        return b64decode(text.replace("-", "+").replace("_", "/") + padding, validate=True)
    except ValueError:
        return text


# Requests


def request_contents(request: Any) -> list[Any]:
    """Return the contents of *request* (rule 4).

    Raises:
        TypeError: *request* has no contents, or one of them is of an unknown shape.
        ValueError: *request* has an empty list of contents.
    """
    given = messages_field(request, "contents")
    is_single = isinstance(given, (str, Mapping)) or _is_content(given) or _is_part(given)
    return read_contents([given] if is_single else given, "request.contents")


def read_contents(given: Any, where: str) -> list[Any]:
    """Return *given* as contents, each with a role (rule 4).

    Args:
        given: A list of contents, parts and texts.
        where: Place of *given*, for the error message.

    Raises:
        TypeError: *given* is no list, or an element is of an unknown shape.
        ValueError: *given* is empty.
    """
    contents: list[Any] = []
    last: dict[str, Any] | None = None  # the content that further parts belong to

    for index, entry in enumerate(check_list(given, where)):
        if _is_content(entry) or isinstance(entry, (list, tuple)):
            contents.append(_content(entry, f"{where}[{index}]"))
            last = None
            continue

        part = _part(entry, f"{where}[{index}]")
        role = "model" if read(part, "function_call") else "user"
        if last is None or last["role"] != role:
            last = {"role": role, "parts": []}
            contents.append(last)
        last["parts"].append(part)

    return contents


def _is_content(value: Any) -> bool:
    return field(value, "parts") is not MISSING or field(value, "role") is not MISSING


def _is_part(value: Any) -> bool:
    """Return True if *value* is a part, or a file that was uploaded."""
    return any(read(value, name) is not None for name in ("text", *_DATA_FIELDS, *_FILE_FIELDS))


_DATA_FIELDS: Final = (
    "code_execution_result",
    "executable_code",
    "file_data",
    "function_call",
    "function_response",
    "inline_data",
    "thought_signature",
    "tool_call",
    "tool_response",
)
_FILE_FIELDS: Final = ("uri", "file_uri")


def _content(value: Any, where: str) -> Any:
    """Return *value*, a content or a list of parts, as a content with a role."""
    if isinstance(value, (list, tuple)):
        return {"role": "user", "parts": [_part(part, where) for part in value]}
    if read(value, "role") is None:  # the API needs a role if there are several contents
        return {"role": "user", "parts": list(list_field(value, "parts"))}
    return value


def _part(value: Any, where: str) -> Any:
    """Return *value*, a text, an uploaded file or a part, as a part."""
    if isinstance(value, str):
        return {"text": value}
    if uri := read(value, "uri") or read(value, "file_uri"):
        return {"fileData": {"fileUri": uri, "mimeType": read(value, "mime_type")}}
    if not _is_part(value):
        msg = (
            f"{where} must be a content with parts, a part or a text, got {describe_shape(value)}; "
            "make a Part of other values, such as an image"
        )
        raise TypeError(msg)
    return value
