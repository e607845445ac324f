"""The model and the token counts that a provider reports with a reply.

Providers count differently. These rules make the counts comparable, so that a price table needs no
knowledge of providers:

1. **Input tokens are the whole input**, with the tokens that were read from a cache or written to
   it. OpenAI's and Gemini's counts include cached tokens
   (https://developers.openai.com/api/docs/guides/prompt-caching,
   https://ai.google.dev/api/generate-content#UsageMetadata). Anthropic's ``input_tokens`` are only
   the tokens outside the cache, so ``cache_read_input_tokens`` and ``cache_creation_input_tokens``
   are added (https://platform.claude.com/docs/en/build-with-claude/prompt-caching). pydantic-ai
   has added them already (https://ai.pydantic.dev/api/usage/).
2. **Output tokens include reasoning.** They do so at OpenAI
   (https://developers.openai.com/api/docs/guides/reasoning) and Anthropic, whose output tokens are
   "inclusive" (``anthropic.types.OutputTokensDetails``). Gemini's ``candidatesTokenCount`` excludes
   thoughts: its total is the sum of prompt, candidates, tool use and thoughts
   (``google.genai.types.GenerateContentResponseUsageMetadata``). Chat completions of xAI and of
   Gemini exclude reasoning as well, and only ``total_tokens`` has it (langchain-ai/langchain#34603,
   Clarifai/clarifai-python#978). Therefore the output of a chat completion is the total without the
   prompt, if this is more than ``completion_tokens``.
3. **The input of Gemini has the results of its own tools**, ``toolUsePromptTokenCount``, which
   ``promptTokenCount`` excludes (the same sum as in rule 2).
4. **Anthropic may sample several times for one reply**, and lists this in ``iterations``
   (``anthropic.types.beta.BetaUsage``). The sums exclude the tokens of a summary (``compaction``).
   They are added, since the model of the request makes it
   (https://platform.claude.com/docs/en/build-with-claude/compaction-threshold). If another model
   has completed the reply (``fallback_message``), it is the model. The tokens of any other model,
   such as an advisor's, do not count, because they have another price.
5. **The counts of a stream are cumulative, and the last one counts**, field by field. Anthropic's
   first event has the input, and a later event the output
   (https://platform.claude.com/docs/en/build-with-claude/streaming). A further ``message_start``
   restarts the message (see ``_anthropic_stream``).
6. **A count that the provider did not report is None**, not 0. pydantic-ai has 0 in both cases. If
   both its input and its output are 0, the provider has reported nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypedDict

from tower_memory._fields import MISSING, field, list_field
from tower_memory.dialects._builtins import to_builtins
from tower_memory.dialects._gemini_parts import to_item
from tower_memory.dialects._protocol import Streamed


class Usage(TypedDict):
    """The model and the token counts of one reply, as `usage_of` returns them.

    Attributes:
        model: Name of the model as the provider reports it, often with a version that the request
            did not name.
        input_tokens: The whole input, with cached tokens: instructions, tools, history and new
            messages.
        output_tokens: The whole output, with reasoning.
        cached_input_tokens: The part of the input that was read from the provider's cache.
        reasoning_tokens: The part of the output that is reasoning.

    Each count is 0 or more. None stands for a value that the provider did not report.
    """

    model: str | None
    input_tokens: int | None
    output_tokens: int | None
    cached_input_tokens: int | None
    reasoning_tokens: int | None


def usage_of(response: object, /) -> Usage:
    """Return the model and the token counts of *response*, for every dialect of this package.

    *response* is a reply or a `Streamed`, as the function ``metadata=`` of a
    `tower_memory.MemoryLayer` gets it: an object of a client library or its JSON. The result can be
    that function's result; the guide of `tower_memory.dialects` has an example. *response* may
    also be the result of a run of a pydantic-ai agent, or the list of its messages, of which the
    last run counts.

    Some providers report the counts of a stream only on request, such as OpenAI's chat completions
    with ``stream_options={"include_usage": True}``, and at its end. An interrupted stream often
    has None for all counts, though its tokens are billed. If google-genai calls functions itself,
    the counts are those of its last request to the model.

    This function never raises an error, because a missing count must not cost a reply. For a
    response that reports nothing, such as a text, all values are None.

    >>> from tower_memory.dialects import Streamed, usage_of
    >>> usage_of({"model": "claude", "usage": {
    ...     "input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 5}})
    ... # doctest: +NORMALIZE_WHITESPACE
    {'model': 'claude', 'input_tokens': 100, 'output_tokens': 5, 'cached_input_tokens': 90,
     'reasoning_tokens': None}
    >>> chunks = [{"model": "gpt"}, {"usage": {"prompt_tokens": 10, "completion_tokens": 5}}]
    >>> usage_of(Streamed(chunks))["output_tokens"]
    5
    """
    if isinstance(response, Streamed):
        return _read_events([*_of_stream(response.stream), *response.chunks])
    if isinstance(response, (list, tuple)):
        return _add([_read_events([each]) for each in _last_run(response)])
    return _read_events([response])


# Finding the usage

_HOLDERS: Final = ("chunk", "message", "response", "x_groq")
"""Fields of an event, of a result or of Groq's chunks that may hold the response with its usage."""

_MODEL_FIELDS: Final = ("model", "model_name", "model_version", "modelVersion")


def _read_events(events: Iterable[Any]) -> Usage:
    """Return the usage of one reply, which *events* report (rule 5); a reply is a single event."""
    model: str | None = None
    merged: dict[str, Any] = {}

    for event in events:
        if field(event, "type") == "message_start":
            merged = {}
        for holder in (*(field(event, name) for name in _HOLDERS), event):
            model = _model(holder) or model
            merged.update(_reported(holder))

    return {"model": model, **_counts(merged)}


def _model(holder: Any) -> str | None:
    """Return the name of the model in *holder*, or None."""
    fallbacks = _iterations(field(holder, "usage"), "fallback_message")
    names = [field(each, "model") for each in fallbacks]
    names += [field(holder, name) for name in _MODEL_FIELDS]
    return next((name for name in names if isinstance(name, str) and name), None)


def _iterations(usage: Any, kind: str) -> list[Any]:
    """Return the iterations of *kind* in an Anthropic *usage* (rule 4)."""
    return [each for each in list_field(usage, "iterations") if field(each, "type") == kind]


def _reported(holder: Any) -> dict[str, Any]:
    """Return the fields of the usage in *holder*, without those that are None."""
    usage = to_builtins(field(holder, "usage"))
    for name in ("usage_metadata", "usageMetadata"):
        if (found := field(holder, name)) is not MISSING:
            usage = to_item(found)  # in camel case
    if not isinstance(usage, dict):  # Ollama's own API has the counts in the reply itself
        usage = {name: field(holder, name) for name in ("prompt_eval_count", "eval_count")}
    return {
        name: value for name, value in usage.items() if value is not None and value is not MISSING
    }


def _of_stream(stream: Any) -> list[Any]:
    """Return the usage of pydantic-ai's *stream*, whose chunks have none, as an event."""
    names = ("model_name", "usage")
    return [{name: found for name in names if (found := field(stream, name)) is not MISSING}]


def _last_run(messages: Sequence[Any]) -> list[Any]:
    """Return the responses of the last run of an agent of pydantic-ai among its *messages*.

    The other messages may be the history. Without ids of runs, only a single response is known to
    be new; otherwise the result is empty.
    """
    responses = [each for each in messages if field(each, "kind") == "response"]
    if len(responses) < 2:  # noqa: PLR2004 - one
        return responses
    run_id = field(responses[-1], "run_id")
    return [each for each in responses if run_id and field(each, "run_id") == run_id]


# Reading the counts


class _Counts(TypedDict):
    input_tokens: int | None
    output_tokens: int | None
    cached_input_tokens: int | None
    reasoning_tokens: int | None


def _counts(usage: dict[str, Any]) -> _Counts:
    """Return the counts of *usage*, in which each provider has names of its own."""
    if "prompt_tokens" in usage or "completion_tokens" in usage:
        return _of_chat_completion(usage)
    if "promptTokenCount" in usage or "totalTokenCount" in usage:
        return _of_gemini(usage)
    if "prompt_eval_count" in usage or "eval_count" in usage:
        return _of_ollama(usage)
    return _of_response(usage)


def _of_chat_completion(usage: dict[str, Any]) -> _Counts:
    """Read the usage of a chat completion.

    The source of the names is OpenAI's ``CompletionUsage``. DeepSeek has
    ``prompt_cache_hit_tokens`` (https://api-docs.deepseek.com/guides/kv_cache), Moonshot
    ``cached_tokens`` and Azure's DeepSeek ``reasoning_tokens`` beside the sums.
    """
    prompt, output = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    total = _count(usage, "total_tokens")
    if None not in (prompt, total):
        output = max(output or 0, (total or 0) - (prompt or 0))
    return {
        "input_tokens": prompt,
        "output_tokens": output,
        "cached_input_tokens": _first(
            _count(usage, "prompt_tokens_details", "cached_tokens"),
            _count(usage, "prompt_cache_hit_tokens"),
            _count(usage, "cached_tokens"),
        ),
        "reasoning_tokens": _first(
            _count(usage, "completion_tokens_details", "reasoning_tokens"),
            _count(usage, "reasoning_tokens"),
        ),
    }


def _of_gemini(usage: dict[str, Any]) -> _Counts:
    """Read the usage of a Gemini response: ``GenerateContentResponseUsageMetadata``."""
    thoughts = _count(usage, "thoughtsTokenCount")
    return {
        "input_tokens": _sum(
            _count(usage, "promptTokenCount"), _count(usage, "toolUsePromptTokenCount")
        ),
        "output_tokens": _sum(_count(usage, "candidatesTokenCount"), thoughts),
        "cached_input_tokens": _count(usage, "cachedContentTokenCount"),
        "reasoning_tokens": thoughts,
    }


def _of_ollama(usage: dict[str, Any]) -> _Counts:
    """Read the counts of Ollama's own API (https://docs.ollama.com/api/usage)."""
    return {
        "input_tokens": _count(usage, "prompt_eval_count"),
        "output_tokens": _count(usage, "eval_count"),
        "cached_input_tokens": None,
        "reasoning_tokens": None,
    }


def _of_response(usage: dict[str, Any]) -> _Counts:
    """Read the usage of OpenAI's responses, of Anthropic or of pydantic-ai.

    They share the names ``input_tokens`` and ``output_tokens``, and differ in all others. The
    sources are ``ResponseUsage`` of OpenAI's client, ``Usage`` of Anthropic's client and
    ``RequestUsage`` of pydantic-ai.
    """
    requests = [usage, *_iterations(usage, "compaction")]
    sent = _sum(*(_count(each, name) for each in requests for name in _ANTHROPIC_INPUTS))
    received = _sum(*(_count(each, "output_tokens") for each in requests))
    if "cache_read_tokens" in usage and not (sent or received):  # rule 6
        return _of_response({})
    return {
        "input_tokens": sent,
        "output_tokens": received,
        "cached_input_tokens": _first(
            _sum(*(_count(each, "cache_read_input_tokens") for each in requests)),
            _count(usage, "input_tokens_details", "cached_tokens"),
            _count(usage, "cache_read_tokens"),
        ),
        "reasoning_tokens": _first(
            _count(usage, "output_tokens_details", "reasoning_tokens"),
            _count(usage, "output_tokens_details", "thinking_tokens"),
            _count(usage, "output_reasoning_tokens"),
        ),
    }


_ANTHROPIC_INPUTS: Final = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
)
"""The parts of Anthropic's input (rule 1); other providers have only the first."""


# Numbers


def _count(usage: Any, *path: str) -> int | None:
    """Return the count at *path*, or None if there is none."""
    for name in path:
        usage = field(usage, name)
    return usage if isinstance(usage, int) and not isinstance(usage, bool) else None


def _first(*counts: int | None) -> int | None:
    """Return the first count that was reported, or None."""
    return next((count for count in counts if count is not None), None)


def _sum(*counts: int | None) -> int | None:
    """Return the sum of the counts that were reported; None if none was."""
    reported = [count for count in counts if count is not None]
    return sum(reported) if reported else None


def _add(usages: Sequence[Usage]) -> Usage:
    """Return the sum of *usages*; a count that one of them lacks is None."""
    if not usages:
        return _read_events([])

    def total(counts: Iterable[int | None]) -> int | None:
        found = list(counts)
        return None if None in found else _sum(*found)

    return {
        "model": usages[-1]["model"],
        "input_tokens": total(each["input_tokens"] for each in usages),
        "output_tokens": total(each["output_tokens"] for each in usages),
        "cached_input_tokens": total(each["cached_input_tokens"] for each in usages),
        "reasoning_tokens": total(each["reasoning_tokens"] for each in usages),
    }
