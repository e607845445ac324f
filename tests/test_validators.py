"""The checks of `helpers.validators`: a smallest request that each rule accepts, and one it refuses."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from anthropic.types import MessageParam
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionMessageParam
from openai.types.responses import ResponseInputItemParam
from pydantic import TypeAdapter

from helpers.json_values import JSON
from helpers.messages import assistant
from helpers.validator_cases.anthropic import ANTHROPIC, ANTHROPIC_REFUSED
from helpers.validator_cases.chat import (
    HELLO,
    HI,
    MISTRAL,
    MISTRAL_REFUSED,
    OPENAI_CHAT,
    OPENAI_CHAT_REFUSED,
    VLLM,
    VLLM_REFUSED,
    spoken,
)
from helpers.validator_cases.gemini import ASK, GEMINI, GEMINI_REFUSED, RESPONSE, gemini_call, turn
from helpers.validator_cases.responses import OPENAI_RESPONSES, OPENAI_RESPONSES_REFUSED, STORED
from helpers.validators import (
    Refused,
    check_anthropic,
    check_gemini,
    check_mistral,
    check_openai_chat,
    check_openai_responses,
    check_vllm,
)

TABLES: list[tuple[Any, dict[str, Any], dict[str, Any]]] = [
    (check_openai_chat, OPENAI_CHAT, OPENAI_CHAT_REFUSED),
    (
        partial(check_openai_responses, stored_ids={"rs_stored"}),
        OPENAI_RESPONSES,
        OPENAI_RESPONSES_REFUSED,
    ),
    (check_anthropic, ANTHROPIC, ANTHROPIC_REFUSED),
    (check_mistral, MISTRAL, MISTRAL_REFUSED),
    (check_vllm, VLLM, VLLM_REFUSED),
    (check_gemini, GEMINI, GEMINI_REFUSED),
]


def provider(check):
    """Return the name of the function *check*, for the ids of the tests."""
    return getattr(check, "func", check).__name__


@pytest.mark.parametrize(
    ("check", "messages"),
    [
        pytest.param(check, messages, id=f"{provider(check)}: {name}")
        for check, accepted, _ in TABLES
        for name, messages in accepted.items()
    ],
)
def test_a_valid_request_is_accepted(check, messages):
    """Each rule accepts a smallest valid request."""
    check(messages)


@pytest.mark.parametrize(
    ("check", "match", "messages"),
    [
        pytest.param(check, match, messages, id=f"{provider(check)}: {name}")
        for check, _, refused in TABLES
        for name, (match, messages) in refused.items()
    ],
)
def test_an_invalid_request_is_refused_by_its_rule(check, match, messages):
    """Each rule refuses a request, with a message that names the rule."""
    with pytest.raises(Refused, match=match):
        check(messages)


def test_audio_is_accepted_until_it_expires():
    """Audio whose time is over is refused."""
    messages = [HI, spoken(audio={"id": "audio_1"})]
    check = partial(check_openai_chat, messages, audio_expires_at={"audio_1": 10})
    check(now=9)
    with pytest.raises(Refused, match="has expired"):
        check(now=10)


def test_stored_items_need_a_server_that_has_them():
    """An item that stands for a stored one is refused by a server that stores nothing."""
    items = [HI, STORED, assistant("Hello")]
    check_openai_responses(items, stored_ids={"rs_stored"})
    with pytest.raises(Refused, match="not found"):
        check_openai_responses(items)


def test_claude_can_be_asked_to_accept_a_first_message_of_the_assistant():
    """A first message of the assistant is accepted if the caller says so."""
    check_anthropic([HELLO, HI], user_first=False)


def test_a_gemini_model_before_version_3_needs_no_signatures():
    """Function calls need no thought signatures if the caller says so."""
    check_gemini([ASK, turn("model", gemini_call()), turn("user", RESPONSE)], signatures=False)


@pytest.mark.parametrize(
    ("schema", "accepted"),
    [
        (ChatCompletionMessageParam, OPENAI_CHAT),
        (ResponseInputItemParam, OPENAI_RESPONSES),
        (MessageParam, ANTHROPIC),
    ],
    ids=["chat completions", "responses", "anthropic"],
)
def test_accepted_messages_have_the_shapes_of_the_clients(schema, accepted):
    """The types of the providers' clients accept each valid request."""
    adapter = TypeAdapter(list[schema])
    for name, messages in accepted.items():
        if not name.startswith("an unknown"):
            adapter.validate_python(messages)


FIELDS = """
role content type parts tool_calls tool_call_id function_call audio refusal id call_id name
arguments function input output summary encrypted_content text thinking signature tool_use_id
functionCall functionResponse thoughtSignature response args prefix
"""
VALUES = """
user assistant system tool model message reasoning function_call function_call_output
item_reference text tool_use tool_result server_tool_use thinking function custom a {} x
"""
SHAPED = st.recursive(
    st.sampled_from(VALUES.split()) | JSON,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(FIELDS.split()), inner, max_size=5)
    ),
    max_leaves=20,
)


@pytest.mark.parametrize("check", [check for check, _, _ in TABLES], ids=provider)
@given(messages=st.lists(SHAPED, max_size=4) | JSON)
def test_any_json_is_accepted_or_refused_without_another_error(check, messages):
    """The checks raise no other error than `Refused`, whatever JSON they get."""
    with suppress(Refused):
        check(messages)
