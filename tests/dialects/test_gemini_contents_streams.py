"""Assembly of the chunks of Gemini's contents, whole and interrupted."""

from __future__ import annotations

import pytest
from google.genai import types

from helpers.messages import INTERRUPTED_REPLY
from tower_memory.dialects import GeminiContents, Streamed

CALL = {"functionCall": {"name": "f", "args": {"a": 1}}}
SIGNED_CALL = {**CALL, "thoughtSignature": "YQ=="}
SIGNATURE = {"text": "", "thoughtSignature": "Yg=="}
MARK = {"text": INTERRUPTED_REPLY}
END = {"candidates": [{"finishReason": "STOP"}], "usageMetadata": {"totalTokenCount": 1}}


def assemble(chunks, *, interrupted=False):
    return GeminiContents().reply_items({"contents": "a"}, Streamed(chunks, interrupted))


def thought(text):
    return {"text": text, "thought": True}


def chunk(*parts, **fields):
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, **fields}]}


def parts_of(*chunks, interrupted=False):
    """Return the parts that the dialect assembles from *chunks*, or None for no content."""
    items = assemble(list(chunks), interrupted=interrupted)
    return items[0]["parts"] if items else None


@pytest.mark.parametrize("kind", [dict, types.GenerateContentResponse.model_validate])
def test_texts_of_one_kind_are_joined_and_signatures_stay_in_their_parts(kind):
    chunks = [
        chunk(thought("H")),
        chunk(thought("m.")),
        chunk({"text": "Let "}, {"text": "me "}),
        chunk({"text": "see."}, SIGNED_CALL),
        chunk(CALL),
        chunk(SIGNATURE),
        END,
    ]
    expected = [thought("Hm."), {"text": "Let me see."}, SIGNED_CALL, CALL, SIGNATURE]
    assert parts_of(*map(kind, chunks)) == expected


def test_a_text_with_a_signature_is_not_joined():
    """The API binds the signature to its part."""
    signed = {"text": "b", "thoughtSignature": "YQ=="}
    chunks = [chunk({"text": "a"}), chunk(signed), chunk({"text": "c"}), chunk({"text": "d"})]
    assert parts_of(*chunks) == [{"text": "a"}, signed, {"text": "cd"}]


def test_empty_texts_without_a_signature_are_not_stored():
    assert parts_of(chunk({"text": ""}), chunk(CALL), chunk({"text": ""}), END) == [CALL]
    assert parts_of(chunk({"text": ""}), END) is None


def test_a_split_character_is_one():
    assert parts_of(chunk({"text": "\ud83d"}), chunk({"text": "\ude00"})) == [
        {"text": "\U0001f600"}
    ]


def test_a_stream_without_a_finish_reason_is_whole():
    """A finish reason may also come before the end."""
    assert parts_of(chunk({"text": "a"})) == [{"text": "a"}]
    code = {"executableCode": {"code": "1"}}
    chunks = [chunk(code, finishReason="STOP"), chunk({"text": "a"}, finishReason="STOP")]
    assert parts_of(*chunks) == [code, {"text": "a"}]


@pytest.mark.parametrize(
    "chunks",
    [
        [{"promptFeedback": {"blockReason": "SAFETY"}}],
        [types.GenerateContentResponse(candidates=[types.Candidate(finish_reason="SAFETY")])],
        [END],
    ],
)
def test_a_reply_without_parts_is_not_stored(chunks):
    assert parts_of(*chunks) is None


def test_strings_are_a_text():
    assert parts_of("a", "b") == [{"text": "ab"}]
    assert parts_of("a", interrupted=True) == [{"text": f"a\n\n{INTERRUPTED_REPLY}"}]


@pytest.mark.parametrize("chunks", [[], [3], [{"type": "message_start"}]])
def test_chunks_of_another_dialect_are_refused(chunks):
    with pytest.raises(TypeError, match="a stream must give the responses of generate_content_str"):
        parts_of(*chunks)
    assert parts_of(*chunks, interrupted=True) is None


PIECES = [
    {"functionCall": {"name": "f", "willContinue": True}},
    {"functionCall": {"partialArgs": [{"jsonPath": "$.a", "numberValue": 1}]}},
]


@pytest.mark.parametrize("piece", PIECES)
def test_a_call_in_pieces_is_refused_and_left_out_if_interrupted(piece):
    chunks = [chunk({"text": "a"}), chunk(piece)]
    with pytest.raises(ValueError, match="do not set stream_function_call_arguments"):
        parts_of(*chunks)
    assert parts_of(*chunks, interrupted=True) == [{"text": f"a\n\n{INTERRUPTED_REPLY}"}]


@pytest.mark.parametrize(
    ("parts", "stored"),
    [
        ([{"text": "a"}], [{"text": f"a\n\n{INTERRUPTED_REPLY}"}]),
        ([{"text": "a"}, SIGNED_CALL, CALL], [{"text": "a"}, MARK, SIGNED_CALL, CALL]),
        ([SIGNATURE], [SIGNATURE, MARK]),
        ([{"text": "a"}, thought("b")], [{"text": f"a\n\n{INTERRUPTED_REPLY}"}]),
        ([thought("b")], None),
        ([], None),
    ],
)
def test_an_interrupted_content_is_marked(parts, stored):
    """The mark is in front of the calls, and half a thought is left out."""
    assert parts_of(*map(chunk, parts), interrupted=True) == stored


def test_functions_that_the_client_called_itself_are_stored():
    """The chunks of the first content come before those of the last."""
    result = {"functionResponse": {"name": "f", "response": {"output": 1}}}
    parsed = types.GenerateContentResponse.model_validate
    first = [parsed(chunk({"text": "Let "})), parsed(chunk({"text": "me."}, CALL))]
    last = [parsed(chunk({"text": "Do"})), parsed(chunk({"text": "ne."}))]
    question = types.UserContent("a")
    history = [
        question,
        *(each.candidates[0].content for each in first),
        types.Content.model_validate({"role": "user", "parts": [result]}),
    ]
    for each in last:
        each.automatic_function_calling_history = history

    assert assemble([*first, *last]) == [
        {"role": "model", "parts": [{"text": "Let me."}, CALL]},
        {"role": "user", "parts": [result]},
        {"role": "model", "parts": [{"text": "Done."}]},
    ]
