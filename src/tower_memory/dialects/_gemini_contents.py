"""The dialect of Google's Gemini: contents of a user and a model, made of parts.

The modules of this dialect import only public names of the package, so they also show how a dialect
outside the package is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from tower_memory.dialects._gemini_parts import (
    content_class,
    read_contents,
    request_contents,
    to_item,
    to_object,
)
from tower_memory.dialects._gemini_rules import (
    RULES,
    GeminiRules,
    as_content,
    from_user,
    with_users_before_calls,
)
from tower_memory.dialects._gemini_stream import (
    assemble_items,
    content_items,
    is_response,
    join_contents,
    reply_content,
)
from tower_memory.dialects.toolkit import (
    MISSING,
    ItemLinks,
    Streamed,
    apply_rules,
    check_roles,
    describe_shape,
    field,
    is_valid,
    list_field,
    new_in_response,
    repair,
    replace_messages,
    streamed_text,
)


@final
@dataclass(frozen=True, slots=True)
class GeminiContents:
    """The dialect of google-genai's ``generate_content`` and ``generate_content_stream``.

    - **Request**: a mapping or an object with ``contents`` (a text, a part, a content or a list of
      these), or a list of them. All other fields, such as ``config`` with its
      ``system_instruction``, stay as they are.
    - **Response**: a ``GenerateContentResponse`` or its JSON, of which the first candidate counts,
      a string, or a list of contents, which are those of the reply alone or of the whole
      conversation. Only new contents are stored.
    - **Stream**: the chunks of ``generate_content_stream``, or strings.

    1. A content is stored as the API spells it, in camel case, with thought signatures, calls
       without ids and parts of unknown kinds. Bytes are stored as base64. If the request's contents
       are objects, the history becomes objects of their class.
    2. A reply without parts is not stored, because the API would refuse it: a blocked prompt, or a
       reply that ended for a reason such as ``SAFETY`` or ``MALFORMED_FUNCTION_CALL``. The user's
       content is stored all the same, and the next request stays valid.
    3. A history that was cut or interrupted is repaired. It starts with a content of the user. A
       result without its function call is left out. A call without its result gets a result that
       says that the call was interrupted. The results of all calls of one content are in one
       content. Parts without data, such as an empty text, are left out, unless they carry a thought
       signature.
    4. If the client calls functions itself, these calls and their results are stored, too.
    5. A stream whose function calls arrive in pieces is refused with `ValueError`
       (``stream_function_call_arguments``). An interrupted stream stores its texts and its complete
       function calls, and a text that says that the reply is not complete.

    >>> from tower_memory.dialects import GeminiContents
    >>> gemini = GeminiContents()
    >>> request = {"model": "gemini-flash-latest", "contents": "Hi"}
    >>> content = {"role": "model", "parts": [{"text": "Hello!"}]}
    >>> items = gemini.new_items(request)
    >>> items += gemini.reply_items(request, {"candidates": [{"content": content}]})
    >>> for item in gemini.with_history({**request, "contents": "Bye"}, items)["contents"]:
    ...     print(item)
    {'role': 'user', 'parts': [{'text': 'Hi'}]}
    {'role': 'model', 'parts': [{'text': 'Hello!'}]}
    {'role': 'user', 'parts': [{'text': 'Bye'}]}
    """

    def new_items(self, request: Any, /) -> list[Any]:
        """See `Dialect.new_items`."""
        return [to_item(content) for content in request_contents(request)]

    def with_history(self, request: Any, history: Sequence[Any], /) -> Any:
        """See `Dialect.with_history`."""
        new = request_contents(request)
        past = [as_content(item) for item in check_roles(history, "history")]
        conversation = [*past, *new]
        starts_with_user = from_user(past[:1], ()) == past[:1]
        if not (starts_with_user and is_valid(conversation, _RULES)):
            past = apply_rules(RULES, from_user(past, new), new, _RULES, now=0)
            conversation = with_users_before_calls(repair(past, new, _RULES))
        if not history:
            return request

        kind = content_class(new)
        if kind is not None:
            conversation = [to_object(content, kind) for content in conversation]
        return replace_messages(request, "contents", conversation)

    def reply_items(self, request: Any, response: Any, /) -> list[Any]:
        """See `Dialect.reply_items`."""
        if isinstance(response, Streamed):
            text = streamed_text(response)
            if text is not None:
                return self.reply_items(request, text)
            last = response.chunks[-1] if response.chunks else None
            return [*self._automatic_calls(request, last), *assemble_items(response)]

        if isinstance(response, str):
            return content_items({"parts": [{"text": str(response)}] if response else []})

        if isinstance(response, (list, tuple)):
            items = [to_item(content) for content in read_contents(response, "response")]
            return list(new_in_response(self.new_items(request), items, self.links))

        if is_response(response) or field(response, "candidates") is not MISSING:
            content = reply_content(response)
            return [*self._automatic_calls(request, response), *content_items(content)]

        msg = (
            "response must have candidates, or be a string or a list of contents, "
            f"got {describe_shape(response)}; write a dialect for it, or pass that of its client"
        )
        raise TypeError(msg)

    def _automatic_calls(self, request: Any, response: Any) -> list[Any]:
        """Return the function calls that the client made itself, and their results.

        The client lists them in *response*, after the contents that it sent. These include the
        history, which *request* may lack, so the method reads the list from its end.
        """
        given = list_field(response, "automatic_function_calling_history")
        if not given:
            return []

        contents = join_contents([to_item(content) for content in given])
        newest = self.new_items(request)[-1]
        start = len(contents)
        while start > 1 and contents[start - 1] != newest:
            calling, answer = contents[start - 2 : start]
            if not (self.links(calling).calls and self.links(answer).results):
                break
            start -= 2
        return contents[start:]

    def links(self, item: Any, /) -> ItemLinks:
        """See `LinkedDialect.links`."""
        return _RULES.links(item)

    def newest(self, request: Any, count: int, /) -> Any:
        """See `WholeRequests.newest`."""
        contents = request_contents(request)
        return replace_messages(request, "contents", contents[len(contents) - count :])


_RULES: Final = GeminiRules()
