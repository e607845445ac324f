"""Assembly of the events of OpenAI's responses, whole and interrupted."""

from __future__ import annotations

import pytest

from helpers.messages import INTERRUPTED_REPLY, THOUGHT, assistant
from helpers.stream_chunks import SPOKEN, assemble_items, item_done, output_text_delta, response_end
from tower_memory.dialects import OpenAIResponses


def test_the_items_are_those_of_the_response_or_else_the_finished_ones():
    assert assemble_items(item_done(0, type="x"), response_end("completed", [THOUGHT, SPOKEN])) == [
        THOUGHT,
        SPOKEN,
    ]
    assert assemble_items(response_end("incomplete", [SPOKEN])) == [SPOKEN]
    late_first = [item_done(1, **SPOKEN), item_done(0, **THOUGHT)]
    assert assemble_items(*late_first, response_end("completed", [])) == [THOUGHT, SPOKEN]


def test_a_failed_or_missing_response_is_refused():
    with pytest.raises(ValueError, match="must be completed or incomplete, got 'failed'"):
        assemble_items(item_done(0, **SPOKEN), response_end("failed", []))
    with pytest.raises(ValueError, match="ended without response.completed"):
        assemble_items(item_done(0, **SPOKEN))
    for status in ("failed", "cancelled", "queued", "in_progress"):
        with pytest.raises(ValueError, match=f"got '{status}'"):
            OpenAIResponses().reply_items("a", {"output": [SPOKEN], "status": status})


def test_an_interrupted_response_keeps_its_finished_items_and_its_unfinished_text():
    mark = assistant(INTERRUPTED_REPLY)
    cut = assistant(f"ab\n\n{INTERRUPTED_REPLY}")
    begun = [item_done(0, **THOUGHT), output_text_delta(1, "a"), output_text_delta(1, "b")]

    assert assemble_items(*begun, interrupted=True) == [cut]  # without its reasoning
    assert assemble_items(*begun, item_done(1, **SPOKEN), interrupted=True) == [
        THOUGHT,
        SPOKEN,
        mark,
    ]
    assert assemble_items({"type": "response.created"}, interrupted=True) == []

    finished = [*begun, response_end("completed", [THOUGHT, SPOKEN])]
    assert assemble_items(*finished, interrupted=True) == [THOUGHT, SPOKEN]
