"""The estimate of tokens: text by its length, pictures, audio and files as they are billed."""

from __future__ import annotations

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json

from helpers.json_values import JSON
from helpers.messages import assistant, calling, result, user
from tower_memory import History
from tower_memory.windows import TokenBudget, estimated_tokens

UNKNOWN_PICTURE = 1568
MAX_PICTURE = 4784
LOW_DETAIL = 361
PAGE = 4568
MINUTE_OF_AUDIO = 1920
MINUTE_OF_VIDEO = 15780


def encoded(data):
    """Return the base64 text of *data*."""
    return base64.b64encode(data).decode()


def little(*numbers):
    """Return each number as three bytes, the lowest first."""
    return b"".join(number.to_bytes(3, "little") for number in numbers)


def png(width, height):
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height)


def gif(width, height):
    return b"GIF89a" + struct.pack("<HH", width, height)


def jpeg(width, height):
    """Return a picture with a long segment of metadata before its size."""
    metadata = b"\xff\xe1" + struct.pack(">H", 1002) + bytes(1000)
    tables = b"\xff\xc4\0\x03\0"  # not a size, although near to the types that are
    return (
        b"\xff\xd8" + metadata + tables + b"\xff\xc2\0\x11\x08" + struct.pack(">HH", height, width)
    )


def webp(width, height):
    return b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + little(width - 1, height - 1)


def webp_lossless(width, height):
    bits = (width - 1) | (height - 1) << 14
    return b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f" + struct.pack("<I", bits)


def webp_lossy(width, height):
    frame = b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height)
    return b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0" + frame


def wav(bytes_per_second, size):
    head = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0"
    return (head + struct.pack("<II", 24_000, bytes_per_second)).ljust(size, b"\0")


FORMATS = [png, gif, jpeg, webp, webp_lossless, webp_lossy]
LARGE = encoded(b"?" * 99_999)  # of no known format; 133,332 characters without padding


def data_url(media_type, content=LARGE):
    return f"data:{media_type};base64,{content}"


def without(item, content):
    """Return the estimate of *item* if the string *content* counted nothing."""
    return (len(json.encode(item)) - len(content)) // 4 + 4


def tokens_of(item, content):
    """Return what the string *content* counts in *item*."""
    return estimated_tokens(item) - without(item, content)


PICTURE_URL, PDF_URL = data_url("image/png"), data_url("application/pdf")
AUDIO_URL, VIDEO_URL = data_url("audio/mpeg"), data_url("video/mp4")
REMOTE = "https://example.com/a"

PICTURES = {
    "chat": (user([{"type": "image_url", "image_url": {"url": PICTURE_URL}}]), PICTURE_URL),
    "chat, remote": (user([{"type": "image_url", "image_url": {"url": REMOTE}}]), REMOTE),
    "chat, in a reply": (
        assistant("Here.") | {"images": [{"type": "image_url", "image_url": {"url": PICTURE_URL}}]},
        PICTURE_URL,
    ),
    "responses": (user([{"type": "input_image", "image_url": PICTURE_URL}]), PICTURE_URL),
    "responses, remote": (user([{"type": "input_image", "image_url": REMOTE}]), REMOTE),
    "responses, a file": (
        user([{"type": "input_image", "file_id": "file-1", "image_url": None}]),
        "file-1",
    ),
    "responses, generated": (
        {"type": "image_generation_call", "id": "ig_1", "result": LARGE, "status": "completed"},
        LARGE,
    ),
    "responses, a screenshot": (
        {
            "type": "computer_call_output",
            "call_id": "1",
            "output": {"type": "computer_screenshot", "image_url": PICTURE_URL},
        },
        PICTURE_URL,
    ),
    "responses, of a tool": (
        {
            "type": "function_call_output",
            "call_id": "1",
            "output": [{"type": "input_image", "image_url": PICTURE_URL}],
        },
        PICTURE_URL,
    ),
    "anthropic": (
        user(
            [
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/jpeg", "data": LARGE},
                }
            ]
        ),
        LARGE,
    ),
    "anthropic, remote": (
        user([{"type": "image", "source": {"type": "url", "url": REMOTE}}]),
        REMOTE,
    ),
    "anthropic, a file": (
        user([{"type": "image", "source": {"type": "file", "file_id": "file_1"}}]),
        "file_1",
    ),
    "anthropic, of a tool": (
        user(
            [
                {
                    "type": "tool_result",
                    "tool_use_id": "1",
                    "content": [
                        {
                            "type": "image",
                            "source": {"type": "base64", "media_type": "image/png", "data": LARGE},
                        }
                    ],
                }
            ]
        ),
        LARGE,
    ),
    "gemini": (
        {"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": LARGE}}]},
        LARGE,
    ),
    "gemini in Python": (
        {"role": "user", "parts": [{"inline_data": {"mime_type": "image/png", "data": LARGE}}]},
        LARGE,
    ),
    "gemini, a file": (
        {"role": "user", "parts": [{"fileData": {"mimeType": "image/png", "fileUri": REMOTE}}]},
        REMOTE,
    ),
    "pydantic-ai": (
        {
            "kind": "request",
            "parts": [
                {
                    "part_kind": "user-prompt",
                    "content": [
                        "Look",
                        {"kind": "binary", "data": LARGE, "media_type": "image/png"},
                    ],
                }
            ],
        },
        LARGE,
    ),
    "pydantic-ai, in a reply": (
        {
            "kind": "response",
            "parts": [
                {
                    "part_kind": "file",
                    "content": {"kind": "binary", "data": LARGE, "media_type": "image/png"},
                }
            ],
        },
        LARGE,
    ),
    "pydantic-ai, remote": (
        {
            "kind": "request",
            "parts": [
                {
                    "part_kind": "user-prompt",
                    "content": [{"kind": "image-url", "url": REMOTE, "media_type": None}],
                }
            ],
        },
        REMOTE,
    ),
    "langchain": (user([{"type": "image", "base64": LARGE, "mime_type": "image/png"}]), LARGE),
    "a data URL alone": (user([{"url": PICTURE_URL}]), PICTURE_URL),
}


@pytest.mark.parametrize("shape", PICTURES)
def test_a_picture_of_unknown_size_counts_a_fixed_number_in_every_shape(shape):
    """A picture whose size cannot be read counts as one of 1,568 tokens."""
    assert tokens_of(*PICTURES[shape]) == UNKNOWN_PICTURE


DOCUMENT_OF_TWO_PAGES = 2 * PAGE  # 99,999 bytes
OTHERS = {
    "chat, audio": (
        user([{"type": "input_audio", "input_audio": {"data": LARGE, "format": "mp3"}}]),
        LARGE,
        400,
    ),
    "chat, audio of a reply": (
        assistant(None) | {"audio": {"id": "audio_1", "data": LARGE, "transcript": "Hi"}},
        LARGE,
        400,
    ),
    "chat, a file": (
        user([{"type": "file", "file": {"filename": "a.pdf", "file_data": PDF_URL}}]),
        PDF_URL,
        DOCUMENT_OF_TWO_PAGES,
    ),
    "chat, a file id": (user([{"type": "file", "file": {"file_id": "file-1"}}]), "file-1", PAGE),
    "responses, a file": (
        user([{"type": "input_file", "filename": "a.pdf", "file_data": PDF_URL}]),
        PDF_URL,
        DOCUMENT_OF_TWO_PAGES,
    ),
    "responses, a remote file": (
        user([{"type": "input_file", "file_url": REMOTE}]),
        REMOTE,
        PAGE,
    ),
    "anthropic, a document": (
        user(
            [
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": LARGE},
                }
            ]
        ),
        LARGE,
        DOCUMENT_OF_TWO_PAGES,
    ),
    "gemini, video": (
        {"role": "user", "parts": [{"inlineData": {"mimeType": "video/mp4", "data": LARGE}}]},
        LARGE,
        211,
    ),
    "pydantic-ai, remote audio": (
        {
            "kind": "request",
            "parts": [
                {
                    "part_kind": "user-prompt",
                    "content": [{"kind": "audio-url", "url": REMOTE, "media_type": "audio/mpeg"}],
                }
            ],
        },
        REMOTE,
        MINUTE_OF_AUDIO,
    ),
    "remote video": (
        user([{"type": "video", "url": REMOTE}]),
        REMOTE,
        MINUTE_OF_VIDEO,
    ),
    "a data URL of audio": (user([{"url": AUDIO_URL}]), AUDIO_URL, 400),
    "a data URL of video": (user([{"url": VIDEO_URL}]), VIDEO_URL, 211),
}


@pytest.mark.parametrize("shape", OTHERS)
def test_audio_video_and_documents_count_by_their_length(shape):
    """Audio counts 32 tokens a second, video 263, and a document 4,568 a page."""
    item, content, tokens = OTHERS[shape]
    assert tokens_of(item, content) == tokens


@pytest.mark.parametrize("picture", FORMATS)
@pytest.mark.parametrize(
    ("width", "height", "tokens"),
    [(1, 1, 1), (28, 56, 2), (29, 28, 2), (200, 300, 88), (1000, 1000, 1296), (4000, 3000, 4784)],
)
def test_a_picture_counts_by_the_size_in_its_header(picture, width, height, tokens):
    """A picture counts one token for each 28x28 pixels, at most 4,784."""
    content = encoded(picture(width, height))
    item = user([{"type": "input_image", "image_url": data_url("image/x", content)}])
    assert tokens_of(item, data_url("image/x", content)) == tokens


def test_a_picture_is_read_in_the_alphabet_of_urls():
    """pydantic-ai writes base64 with the alphabet for URLs, and counts as with the other."""
    content = base64.urlsafe_b64encode(gif(65_535, 28)).decode()
    assert content != encoded(gif(65_535, 28))
    item = {
        "parts": [{"content": [{"kind": "binary", "data": content, "media_type": "image/gif"}]}]
    }
    assert tokens_of(item, content) == 2341


@pytest.mark.parametrize(
    "content",
    [
        encoded(png(640, 480))[:20],
        encoded(png(640, 0)),
        encoded(jpeg(640, 480)[:900]),
        encoded(b"\xff\xd8\0\0\0\0\0\0\0\0\0\0"),
        encoded(b"\xff\xd8" + b"\xff\xfe\0\x02" * 1000 + jpeg(640, 480)[2:]),
        "é" * 40,
        "A",
        "",
    ],
    ids=[
        "cut",
        "of no height",
        "cut JPEG",
        "broken JPEG",
        "JPEG of 1,000 segments",
        "text",
        "one",
        "empty",
    ],
)
def test_a_picture_with_a_broken_header_is_of_unknown_size(content):
    """A header that cannot be read raises no error."""
    item = user([{"type": "image", "base64": content, "mime_type": "image/png"}])
    assert tokens_of(item, content) == UNKNOWN_PICTURE


def test_a_picture_of_low_detail_counts_as_a_small_one():
    """A picture of low detail counts 361 tokens, whatever its size."""
    for url in (REMOTE, PICTURE_URL, data_url("image/png", encoded(png(4000, 3000)))):
        nested = user([{"type": "image_url", "image_url": {"url": url, "detail": "low"}}])
        assert tokens_of(nested, url) == LOW_DETAIL
        flat = user([{"type": "input_image", "image_url": url, "detail": "low"}])
        assert tokens_of(flat, url) == LOW_DETAIL


@pytest.mark.parametrize(
    ("bytes_per_second", "tokens"), [(48_000, 640), (8_000, 3840), (1, 3840), (0, 3840)]
)
def test_a_wav_recording_counts_by_the_rate_in_its_header(bytes_per_second, tokens):
    """A WAV file tells its rate; a rate below 8,000 bytes a second does not raise the count."""
    content = encoded(wav(bytes_per_second, 960_000))
    item = user([{"type": "input_audio", "input_audio": {"data": content, "format": "wav"}}])
    assert tokens_of(item, content) == tokens


LONG = "x" * 4000
TEXTS = {
    "a message": user("Hi"),
    "a message with a data URL": user(PICTURE_URL),
    "a tool call": calling("1", "2"),
    "a tool result": result("1", PICTURE_URL),
    "a tool call with a picture as an argument": assistant(
        [{"type": "tool_use", "id": "1", "input": {"type": "image", "url": REMOTE}}]
    ),
    "a Gemini function": {
        "parts": [{"functionResponse": {"response": {"type": "image", "url": REMOTE}}}]
    },
    "a plain document": user(
        [
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": LONG},
            }
        ]
    ),
    "a document of text parts": user(
        [{"type": "document", "source": {"type": "content", "content": LONG}}]
    ),
    "a text file": user([{"type": "file", "file": {"file_data": data_url("text/csv")}}]),
    "a link": assistant(
        [{"type": "output_text", "text": "a", "annotations": [{"type": "file", "url": REMOTE}]}]
    ),
    "a link without a type": {"content": {"url": REMOTE}},
    "a part of an unknown type": user([{"type": "web_search_result", "url": REMOTE}]),
    "a type that is no text": user([{"type": ["image"], "url": REMOTE}]),
    "encrypted reasoning": {"type": "reasoning", "summary": [], "encrypted_content": LONG},
    "thinking": assistant([{"type": "thinking", "thinking": "a", "signature": LONG}]),
    "lists of lists": user([[{"type": "image", "url": REMOTE}]]),
    "a number": 3,
    "a list": ["a"],
}


@pytest.mark.parametrize("text", TEXTS)
def test_text_counts_a_quarter_of_its_json(text):
    """Text counts a quarter of its bytes, even if it contains or names a picture."""
    assert estimated_tokens(TEXTS[text]) == without(TEXTS[text], "")


@given(JSON)
def test_any_json_value_counts_at_least_four_tokens(value):
    """No value raises an error, and the estimate is 4 or more."""
    assert estimated_tokens(value) >= 4


@given(st.text(), st.sampled_from(["user", "assistant", "tool"]))
def test_a_message_of_text_counts_as_its_json(text, role):
    """A plain message counts exactly a quarter of its bytes, plus 4."""
    for content in (text, [{"type": "text", "text": text}]):
        item = {"role": role, "content": content}
        assert estimated_tokens(item) == len(json.encode(item)) // 4 + 4


@given(
    st.binary(max_size=2000),
    st.integers(0, 30),
    st.sampled_from([b"", *(f(640, 480) for f in FORMATS)]),
)
def test_the_bytes_of_a_picture_do_not_change_its_bound(data, times, head):
    """However long the base64 text is, a picture counts at least 1 and at most 4,784 tokens."""
    content = encoded(head + data * times)
    item = user([{"type": "image", "source": {"media_type": "image/png", "data": content}}])
    assert 1 <= tokens_of(item, content) <= MAX_PICTURE


@given(st.sampled_from(FORMATS), st.binary(max_size=2000), st.integers(0, 30))
def test_the_bytes_after_the_header_do_not_change_the_count(picture, data, times):
    """Two pictures of one size count the same."""
    content = encoded(picture(640, 480) + data * times)
    item = user([{"type": "image", "source": {"media_type": "image/png", "data": content}}])
    assert tokens_of(item, content) == 23 * 18


async def test_a_picture_does_not_empty_the_history():
    """A picture of 200 kB leaves room for the exchanges around it (langchain#40741)."""
    picture = user(
        [{"type": "image_url", "image_url": {"url": data_url("image/png", "A" * 200_000)}}]
    )
    history = [user("a"), assistant("A"), picture, assistant("B"), user("c")]
    assert list(await TokenBudget(2000)(History(history))) == history
