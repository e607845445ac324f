"""Streamed responses of pydantic-ai, whole and interrupted."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from pydantic_ai import messages as pydantic_ai

from helpers.messages import INTERRUPTED_REPLY
from tower_memory.dialects import PydanticAI, Streamed


def test_a_streamed_response_is_assembled_by_its_own_state():
    parts = [
        pydantic_ai.TextPart("a"),
        pydantic_ai.ToolCallPart("f", '{"x": 1}', "1"),
        pydantic_ai.ToolCallPart("f", '{"x', "2"),
        pydantic_ai.ToolCallPart("f", {"x": 1}, "3"),
    ]
    now = datetime.now(UTC)

    def streamed(state, *, interrupted):
        response = pydantic_ai.ModelResponse(parts, state=state, timestamp=now)
        stream = SimpleNamespace(get=lambda: response)
        request = [pydantic_ai.ModelRequest.user_text_prompt("a")]
        return PydanticAI().reply_items(request, Streamed((), interrupted, stream))[0]

    whole = streamed("complete", interrupted=False)
    assert len(whole["parts"]) == 4
    assert streamed("suspended", interrupted=False) == {**whole, "state": "suspended"}
    assert streamed("complete", interrupted=True) == whole

    cut = streamed("incomplete", interrupted=True)
    assert cut["state"] == "interrupted"
    assert [part.get("tool_call_id") for part in cut["parts"]] == [None, "1", "3", None]
    assert cut["parts"][-1]["content"] == INTERRUPTED_REPLY

    (again,) = pydantic_ai.ModelMessagesTypeAdapter.validate_python([cut])
    assert again.parts[:2] == parts[:2]
    with pytest.raises(ValueError, match="before its response was complete .*'incomplete'"):
        streamed("incomplete", interrupted=False)


def test_streams_other_than_pydantic_ais_are_refused():
    request = [pydantic_ai.ModelRequest.user_text_prompt("a")]
    with pytest.raises(TypeError, match="must be pydantic-ai's StreamedResponse, got int"):
        PydanticAI().reply_items(request, Streamed(("a",), stream=3))
