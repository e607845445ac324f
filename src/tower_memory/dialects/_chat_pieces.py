"""Joining the deltas of a chat completion's stream to one message.

OpenAI's own client (``openai.lib.streaming``) joins pieces by their position in a list. Many
servers that copy the API send pieces that do not fit this. Therefore this module joins pieces by
their index, id and name.

1. Text that arrives in pieces is joined. A value that arrives whole is stored once, even if every
   chunk repeats it. The first role, type and id count, and the latest value of every other field. A
   name may be repeated or may arrive in pieces.
2. A piece of a list belongs to the element with its ``index``, or else to the element with its
   ``id``. A piece without both continues the last element if that is text. Two elements may share
   an index if their types or ids differ; a piece then continues the later one
   (InternLM/lmdeploy#3412). One chunk may hold several pieces of one element (openai-python#3201).
3. A piece of a tool call without a name and without a new id continues the call of its index, or
   else the last call. Cloudflare, Kimi and Gemini send no index (openai-python#2806), and some
   servers send a wrong index (agno-agi/agno#8880).
4. A piece with a name and arguments begins a new call if the arguments of the present call are
   complete, even if it has the index or the id of that call: some servers number all calls 0
   (su-kaka/gcli2api#406). If the present arguments are incomplete, the piece continues the call,
   even with another id: some servers make a new id for each chunk (vllm-project/vllm#23522).
5. Fields that only number or describe chunks are not stored: the ``id``, ``index`` and ``logprobs``
   of a delta, and the ``index`` of a tool call.
6. A surrogate pair that was split over two chunks is one character (see ``_text``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from tower_memory._fields import MISSING, field, list_field
from tower_memory.dialects._text import is_json, join_text

_Find = Callable[[list[dict[str, Any]], dict[str, Any]], dict[str, Any] | None]
"""A function that returns the element of a list that a piece continues, or None."""

_FIXED_FIELDS: Final = frozenset({"role", "type", "id", "index"})
"""Fields that never change within a stream."""

_CHUNK_FIELDS: Final = ("id", "index", "logprobs")
"""Fields of a delta that belong to the chunk and not to the message."""

_FRAGMENTED_FIELDS: Final = frozenset(
    {"arguments", "data", "input", "summary", "text", "thinking", "transcript"}
)
"""Fields inside a message's parts that arrive in pieces. Other texts there arrive whole."""


class _Pieces:
    """A text that arrives in pieces, which are joined once, at the end."""

    __slots__ = ("texts",)

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)

    def __str__(self) -> str:
        return join_text(self.texts)


def join_deltas(deltas: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the message of the assistant that consists of *deltas*."""
    message: dict[str, Any] = {"role": "assistant", "content": None}
    for delta in deltas:
        fields = {key: value for key, value in delta.items() if key not in _CHUNK_FIELDS}
        _add(message, fields, inside=False)

    message = _join_pieces(message)
    for call in list_field(message, "tool_calls"):
        if isinstance(call, dict):
            call.pop("index", None)
    return message


def _add(target: dict[str, Any], delta: dict[str, Any], *, inside: bool) -> None:
    """Add *delta* to *target*: the message, or with *inside* a value inside the message."""
    for key, value in delta.items():
        present = target.get(key)
        if isinstance(value, list) or (isinstance(present, list) and isinstance(value, str)):
            find = _find_call if key == "tool_calls" else _find_part
            target[key] = _add_parts(_as_parts(present), _as_parts(value), find)
        elif isinstance(present, dict) and isinstance(value, dict):
            _add(present, value, inside=True)
        elif isinstance(present, _Pieces) and isinstance(value, str):
            present.texts.append(value)
        elif isinstance(present, str) and isinstance(value, str):
            target[key] = _join(key, present, value, inside=inside)
        elif value is not None or present is None:
            target[key] = value


def _join(key: str, present: str, value: str, *, inside: bool) -> str | _Pieces:
    """Return the text of the field *key* after *value* has followed *present* (rule 1)."""
    if key in _FIXED_FIELDS:
        return present or value

    # Some servers repeat a name in each chunk, and some send it in pieces.
    if key == "name":
        return present if value == present else join_text((present, value))

    is_whole = inside and key not in _FRAGMENTED_FIELDS
    return (value or present) if is_whole else _Pieces(present, value)


def _join_pieces(value: Any) -> Any:
    """Return *value* with each text in pieces as one text, at any depth."""
    return map_values(lambda part: str(part) if isinstance(part, _Pieces) else part, value)


def map_values(change: Callable[[Any], Any], value: Any) -> Any:
    """Return *value* with each value that is no list and no mapping changed, at any depth."""
    if isinstance(value, dict):
        return {key: map_values(change, part) for key, part in value.items()}
    if isinstance(value, list):
        return [map_values(change, part) for part in value]
    return change(value)


def _as_parts(content: Any) -> list[Any]:
    """Return *content* as a list of parts: a reasoning model may send text first, then parts."""
    if isinstance(content, list):
        parts: list[Any] = content
        return parts
    text = str(content) if isinstance(content, _Pieces) else content
    return [{"type": "text", "text": text}] if text else []


def _add_parts(parts: list[Any], pieces: list[Any], find: _Find) -> list[Any]:
    """Add *pieces* to *parts*: each to the part that *find* returns, or as a new part."""
    for piece in pieces:
        known = [part for part in parts if isinstance(part, dict)]
        part = find(known, piece) if known and isinstance(piece, dict) else None
        if part is None:
            parts.append(piece)
        else:
            _add(part, piece, inside=True)
    return parts


def _find_part(parts: list[dict[str, Any]], piece: dict[str, Any]) -> dict[str, Any] | None:
    """Return the element of *parts* that *piece* continues, or None (rule 2)."""
    alike = [part for part in parts if _agree(part, piece, "type") and _agree(part, piece, "id")]
    for name in ("index", "id"):
        if piece.get(name) not in (None, ""):
            return next((part for part in reversed(alike) if part.get(name) == piece[name]), None)

    last = parts[-1]
    is_text = last.get("type") in ("text", "thinking") and not last.get("signature")
    return last if is_text and any(part is last for part in alike) else None


def _find_call(calls: list[dict[str, Any]], piece: dict[str, Any]) -> dict[str, Any] | None:
    """Return the call of *calls* that *piece* continues, or None (rules 2 to 4)."""
    index, call_id, name = piece.get("index"), piece.get("id"), _name(piece)
    candidates: list[dict[str, Any]]
    candidates = [call for call in reversed(calls) if _may_continue(call, piece)]

    if index is not None:
        of_index: list[dict[str, Any]]
        of_index = [call for call in candidates if call.get("index") == index]
        if of_index:
            return of_index[0]

    if call_id:
        of_id = [call for call in candidates if call.get("id") == call_id]
        return of_id[0] if of_id and (index is None or not name) else None

    last = calls[-1]
    repeats_name = index is None and name == _name(last) and _is_open(last)
    return last if not name or repeats_name else None


def _may_continue(call: dict[str, Any], piece: dict[str, Any]) -> bool:
    """Return True if *piece*, which has the index or the id of *call*, may continue *call*."""
    name, index = _name(piece), piece.get("index")
    if not _agree(call, piece, "type") or (name and _arguments(piece) and _is_whole(call)):
        return False
    if _agree(call, piece, "id") or (_is_open(call) and name in ("", _name(call))):
        return True
    # A server that makes a new id for each chunk has sent no arguments yet.
    has_same_index = index is not None and call.get("index") == index
    return not name and has_same_index and not _arguments(call)


def _agree(part: dict[str, Any], piece: dict[str, Any], name: str) -> bool:
    """Return True unless the field *name* has different values in *part* and *piece*."""
    return not part.get(name) or not piece.get(name) or part[name] == piece[name]


def _name(call: dict[str, Any]) -> str:
    """Return the name of the tool of *call*, or an empty text."""
    tool = call.get("function") or call.get("custom")
    name = field(tool, "name")
    return name if isinstance(name, str) else ""


def _arguments(call: dict[str, Any]) -> Any:
    """Return the arguments of *call*, or None; text in pieces is joined."""
    arguments = field(call.get("function"), "arguments")
    if arguments is MISSING:
        return None
    return str(arguments) if isinstance(arguments, _Pieces) else arguments


def _is_whole(call: dict[str, Any]) -> bool:
    """Return True if the arguments of *call* are a complete object."""
    arguments = _arguments(call)
    if isinstance(arguments, str):
        return arguments.rstrip().endswith("}") and is_json(arguments)
    return isinstance(arguments, dict)


def _is_open(call: dict[str, Any]) -> bool:
    """Return True if the arguments of *call* have begun and are not complete."""
    arguments = _arguments(call)
    return isinstance(arguments, str) and arguments != "" and not is_json(arguments)
