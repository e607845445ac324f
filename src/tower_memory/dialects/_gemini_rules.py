"""The provider rules of Gemini's contents."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, final

from tower_memory.dialects._gemini_parts import read, to_item
from tower_memory.dialects.toolkit import (
    EMPTY_MESSAGE,
    INTERRUPTED,
    UNNAMED_TOOL,
    Call,
    ItemLinks,
    Place,
    ProviderRules,
    Rule,
    field,
    id_or_name,
    is_blank,
    is_plain,
    item_links,
    list_field,
    mend_arguments,
    partition,
    partition_results,
    plain_links,
    starting_with_user,
)

_NO_DATA: Final = frozenset(
    {"mediaResolution", "partMetadata", "thought", "thoughtSignature", "videoMetadata"}
)
"""Fields of a part that only describe its data. A part needs a field with data, too."""


# Links and repair


@final
class GeminiRules(ProviderRules):
    """The provider rules of Gemini's contents."""

    results_together = True

    def links(self, item: Any, /) -> ItemLinks:
        """See `ProviderRules.links`."""
        if is_plain(item):
            return plain_links(item)

        parts = list_field(item, "parts")
        calls = (read(part, "function_call") for part in parts)
        results = (read(part, "function_response") for part in parts)
        return item_links(
            [_id_or_name(call) for call in calls if call is not None],
            [_id_or_name(result) for result in results if result is not None],
            starts_exchange=field(item, "role") == "user",
        )

    def add_results(self, run: list[Any], calls: Sequence[Call], /) -> list[Any]:
        """Return *run* with all results in one content, in the order of their calls.

        The API wants one result for each call, directly after the calls
        (google-gemini/gemini-cli#16216), and nothing else in their content
        (anomalyco/opencode#43479).
        """
        calling, *answers = run
        if len(answers) <= 1 and not calls:
            return run

        parts = (part for answer in answers for part in list_field(answer, "parts"))
        results, others = partition(parts, is_result)
        made = [
            call
            for part in list_field(calling, "parts")
            if (call := read(part, "function_call")) is not None
        ]
        rows = zip(made, _in_call_order(made, results), strict=True)
        answered = [
            _interrupted_result(call) if result is None else result
            for call, result in rows
            if calls or result is not None
        ]

        contents = [calling, {"role": "user", "parts": answered}]
        return [*contents, {"role": "user", "parts": others}] if others else contents

    def drop_results(self, item: Any, dropped: Collection[int], /) -> Any | None:
        """See `ProviderRules.drop_results`."""
        content = to_item(item)
        _, rest = partition_results(content["parts"], is_result, dropped)
        return {**content, "parts": rest} if rest else None

    def only_results(self, item: Any, kept: Collection[int], /) -> Any:
        """See `ProviderRules.only_results`."""
        content = to_item(item)
        results, _ = partition_results(content["parts"], is_result, kept)
        return {**content, "parts": results}

    def is_clean(self, item: Any, /) -> bool:
        """See `ProviderRules.is_clean`."""
        parts = list_field(item, "parts")
        return bool(parts) and all(map(_is_clean_part, parts))


def _id_or_name(value: Any) -> Any:
    """Return the id of a call or a result; without an id, the name of its function."""
    return id_or_name(read(value, "id"), read(value, "name"))


def _in_call_order(calls: Sequence[Any], results: Sequence[Any]) -> list[Any]:
    """Return the result part of each of *calls*, or None: by id, else by name, else by order."""
    rest = list(results)
    found: list[Any] = [None] * len(calls)

    for names in (("id",), ("name",), ()):
        for number, call in enumerate(calls):
            fitting = (index for index, part in enumerate(rest) if _agree(call, part, names))
            index = None if found[number] else next(fitting, None)
            if index is not None:
                found[number] = rest.pop(index)
    return found


def _agree(call: Any, part: Any, names: Sequence[str]) -> bool:
    """Return True if *call* and the result in *part* have the same values in the fields *names*."""
    result = read(part, "function_response")
    return all(read(call, name) and read(call, name) == read(result, name) for name in names)


def _interrupted_result(call: Any) -> dict[str, Any]:
    """Return a result part for *call*; ``error`` is the key that the API documents for errors."""
    call_id = read(call, "id")
    result = {"name": read(call, "name") or UNNAMED_TOOL, "response": {"error": INTERRUPTED}}
    return {"functionResponse": {"id": call_id, **result} if call_id else result}


def is_result(part: Any) -> bool:
    """Return True if *part* is the result of a function call."""
    return read(part, "function_response") is not None


def _is_clean_part(part: Any) -> bool:
    """Return True if the API accepts *part*, apart from its place in the content."""
    call, text = read(part, "function_call"), read(part, "text")
    if call is not None:
        return not _is_broken(call)
    if text is not None:
        return not is_blank(text) or bool(read(part, "thought_signature"))
    return not isinstance(part, Mapping) or not part.keys() <= _NO_DATA


# Rules for the whole history


def as_content(item: Any) -> Any:
    """Return a plain message, which a window may add, as a content; return a content as it is."""
    if not is_plain(item):
        return item
    role = "user" if item["role"] == "user" else "model"
    return {"role": role, "parts": [{"text": item["content"]}]}


def from_user(history: Sequence[Any], new: Sequence[Any]) -> list[Any]:
    """Return *history* from its first content of the user.

    The API refuses a first content of the model (NousResearch/hermes-agent#55427), and function
    calls that do not follow a content of the user (google-gemini/gemini-cli#11814). If a limit has
    cut that content off, and *new* answers a call after it, an empty content takes its place.
    """
    return starting_with_user(history, new, _LINKS, _has_no_user_content, _EMPTY_CONTENT)


def with_users_before_calls(conversation: Sequence[Any]) -> list[Any]:
    """Put an empty content of the user between a content of the model and one with calls.

    The API refuses function calls that do not follow a content of the user
    (google-gemini/gemini-cli#11814). Repair leaves such a place if it moves a late result.
    """
    contents: list[Any] = []
    for content in conversation:
        last_role = field(contents[-1], "role") if contents else "user"
        if last_role == "model" and _LINKS(content).calls:
            contents.append(_EMPTY_CONTENT)
        contents.append(content)
    return contents


_EMPTY_CONTENT: Final = {"role": "user", "parts": [{"text": EMPTY_MESSAGE}]}


def _has_no_user_content(content: Any) -> bool:
    """Return True if *content* is not from the user, or holds only results of function calls."""
    return field(content, "role") != "user" or all(map(is_result, list_field(content, "parts")))


# Rules for one content


def with_sendable_calls(content: Any, place: Place) -> Any:
    """Mend function calls without a name or with broken arguments; leave out unanswered ones.

    The arguments are an object (https://ai.google.dev/api/caching#FunctionCall). A call without
    arguments may omit them.
    """
    parts: list[Any] = []
    number = 0  # index of the next call

    for part in list_field(content, "parts"):
        call = read(part, "function_call")
        if call is None:
            parts.append(part)
            continue
        if not _is_broken(call):
            parts.append(part)
        elif number not in place.unanswered:
            parts.append({**part, "functionCall": _mend(call)})
        number += 1

    return {**content, "parts": parts}


def _is_broken(call: Any) -> bool:
    """Return True if *call* has no name, or has arguments that are no object."""
    args = read(call, "args")
    return not read(call, "name") or not (args is None or isinstance(args, dict))


def _mend(call: Any) -> dict[str, Any]:
    """Return *call* with a name, and with arguments that are an object."""
    given: dict[str, Any] = call if isinstance(call, dict) else {}
    args = json.loads(mend_arguments(given.get("args")))
    return {**given, "name": given.get("name") or UNNAMED_TOOL, "args": args}


def without_empty_parts(content: Any, _place: Place) -> Any:
    """Leave out parts without data and blank texts, unless they have a thought signature.

    The API wants data in each part (router-for-me/CLIProxyAPI#1292). It may send a signature in a
    part with an empty text, and wants the signature back in that part
    (https://ai.google.dev/gemini-api/docs/thought-signatures).
    """
    parts: list[Any] = []
    for part in list_field(content, "parts"):
        if _is_clean_part(part):
            parts.append(part)
        elif read(part, "thought_signature"):
            parts.append({"text": "", **part})
    return {**content, "parts": parts}


def with_parts(content: Any, _place: Place) -> Any | None:
    """Leave out a content of the model without parts; give a user's content `EMPTY_MESSAGE`.

    The API refuses a content without parts (agno-agi/agno#6644). The user's content stays, since a
    function call must follow a content of the user (google-gemini/gemini-cli#26486).
    """
    if content["parts"]:
        return content
    if content.get("role") == "user":
        return {**content, "parts": [{"text": EMPTY_MESSAGE}]}
    return None


RULES: Final[tuple[Rule, ...]] = (with_sendable_calls, without_empty_parts, with_parts)
"""The rules for one content, in the order in which they are applied."""

_LINKS: Final = GeminiRules().links
