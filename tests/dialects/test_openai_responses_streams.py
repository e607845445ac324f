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


def test_the_texts_of_unfinished_messages_are_joined_in_their_order():
    deltas = [
        output_text_delta(2, "e"),
        output_text_delta(1, "c", content_index=1),
        output_text_delta(1, "a", content_index=0),
        output_text_delta(1, "d", content_index=1),
        output_text_delta(1, "b", content_index=0),
    ]
    assert assemble_items(*deltas, interrupted=True) == [assistant(f"abcde\n\n{INTERRUPTED_REPLY}")]


def test_a_surrogate_pair_split_over_two_deltas_is_one_character():
    first, second = output_text_delta(0, "a\ud83d"), output_text_delta(0, "\ude00b")
    cut = [assistant(f"a\U0001f600b\n\n{INTERRUPTED_REPLY}")]
    assert assemble_items(first, second, interrupted=True) == cut
    assert assemble_items(first, interrupted=True) == [assistant(f"a\n\n{INTERRUPTED_REPLY}")]


def test_a_stream_with_an_error_event_is_refused_without_its_message():
    error = {"type": "error", "message": "secret"}
    with pytest.raises(ValueError, match="with an error event") as caught:
        assemble_items(output_text_delta(0, "secret"), error)
    assert "secret" not in str(caught.value)
