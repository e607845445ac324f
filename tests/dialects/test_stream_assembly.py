"""Assembly of streamed replies, in every dialect."""

from __future__ import annotations

import pytest

from helpers.messages import INTERRUPTED_REPLY, assistant, user
from helpers.stream_chunks import (
    MESSAGE_START,
    MESSAGE_STOP,
    SPOKEN,
    assemble,
    assemble_blocks,
    assemble_chat,
    assemble_items,
    block_start,
    block_stop,
    chat_chunk,
    response_end,
)
from tower_memory.dialects import AnthropicMessages, ChatCompletions, OpenAIResponses


@pytest.mark.parametrize("dialect", [ChatCompletions(), AnthropicMessages(), OpenAIResponses()])
def test_text_is_text_in_every_dialect(dialect):
    assert assemble(dialect, ["He", "llo"]) == [assistant("Hello")]
    cut = [assistant(f"He\n\n{INTERRUPTED_REPLY}")]
    assert assemble(dialect, ["He"], interrupted=True) == cut

    assert assemble(dialect, ["\ud83d", "\ude00"]) == [assistant("\U0001f600")]
    assert assemble(dialect, ["He", "\ud83d"], interrupted=True) == cut


@pytest.mark.parametrize("dialect", [ChatCompletions(), AnthropicMessages(), OpenAIResponses()])
@pytest.mark.parametrize(
    ("chunks", "found"), [([], "nothing"), ([1, {}], "dict, int"), ([object()], "object")]
)
def test_chunks_of_an_unknown_kind_are_refused_with_their_types(dialect, chunks, found):
    with pytest.raises(TypeError, match=f"a stream must give .* or text, got {found}"):
        assemble(dialect, chunks)


def test_chunks_of_another_dialect_are_refused_with_the_name_of_that_dialect():
    """A layer with the wrong dialect raises, and names the right one."""
    chat, message = ChatCompletions(), {"role": "assistant", "content": [], "stop_reason": "x"}
    with pytest.raises(TypeError, match=r"or text, got dict; .*AnthropicMessages\(\)"):
        assemble(chat, [MESSAGE_START, MESSAGE_STOP])
    with pytest.raises(TypeError, match=r"got dict with role, .*AnthropicMessages\(\)"):
        chat.reply_items([user("a")], message)


def test_unknown_chunks_among_known_ones_are_ignored():
    assert assemble_chat(1, {"type": "future"}, chat_chunk(content="a"), object())["content"] == "a"

    known = [
        block_start(0, type="text", text="a"),
        {"type": "future"},
        block_stop(0),
        object(),
        MESSAGE_STOP,
    ]
    assert assemble_blocks(*known) == [{"type": "text", "text": "a"}]
    assert assemble_items(
        object(), {"type": "response.future"}, response_end("completed", [SPOKEN])
    ) == [SPOKEN]
