"""An estimate of the tokens of an item, without a tokeniser.

1. Text counts by the length of its JSON. Content counts by its own rule, in place of its base64
   text, its URL or its file id. Content is a picture, a recording, a video or a document.
2. Content is found by the shape of its mapping: a field for content, beside a media type or within
   a part of a known type. Only fields that can lead to content are followed, so the arguments of a
   tool call are text. A data URL within a text is text for the model too.
3. Only the first bytes of content are decoded. Its length comes from the length of its base64 text.
4. Most items contain only text. `_is_text` recognises them quickly, because it reads no strings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from msgspec import json

from tower_memory._media_header import picture_size, wav_byte_rate

_BYTES_PER_TOKEN = 4
"""Bytes of English text that count as one token, with the tokenisers of most providers."""

_TOKENS_PER_ITEM = 4

_PATCH = 28
"""Pixels of the side of a square that counts as one token."""

_UNKNOWN_PICTURE = 1568
"""Tokens of a picture of unknown size."""

_MAX_PICTURE = 4784
"""Maximum number of tokens of a picture."""

_LOW_DETAIL = (512, 512)
"""Width and height to which a picture is scaled if its detail is low, in pixels."""

_TOKENS_PER_SECOND = {"audio": 32, "video": 263}
_BYTES_PER_SECOND = {"audio": 8_000, "video": 125_000}
"""Rates of compressed speech of good quality, and of a small video: 64 kbit/s and 1 Mbit/s."""

_UNKNOWN_SECONDS = 60
"""Length of a recording or a video that is named by a URL or a file id."""

_TOKENS_PER_PAGE = 3000 + _UNKNOWN_PICTURE
_BYTES_PER_PAGE = 50_000

_INLINE = frozenset({"base64", "data", "file_data", "result"})
_CONTENT = _INLINE | {"fileUri", "file_id", "file_uri", "file_url", "image_url", "uri", "url"}
"""Fields whose string is content, or names it."""

_SIGNS = _CONTENT.union(
    ("audio", "file", "fileData", "images", "inlineData", "inline_data"),
    ("input_audio", "outputs", "source"),
)
"""Fields that contain content, or may lead to it."""

_FOLLOWED = _SIGNS.union(("content", "output", "parts"))
"""Fields whose mappings and lists may contain content; the last three mostly contain text."""

_KINDS = {
    **dict.fromkeys(("image", "image_url", "image-url", "input_image"), "image"),
    **dict.fromkeys(("computer_screenshot", "image_generation_call"), "image"),
    **dict.fromkeys(("audio", "audio-url", "input_audio"), "audio"),
    **dict.fromkeys(("video", "video-url", "video_url"), "video"),
    **dict.fromkeys(("document", "document-url", "file", "input_file"), "application"),
}
"""Types of parts, and the kind of their content: a media type up to its slash."""

_DATA_URL = re.compile(r"data:([^/,;]*)[^,]{0,200},")

_encode = json.Encoder().encode


def estimated_tokens(item: Any) -> int:
    """Return an estimate of the tokens of *item*.

    This is a heuristic for use without the provider's tokeniser. It is usually too high for text.
    For content it follows the numbers that providers publish:

    ======================== =================================================== ===========
    content                  tokens                                              source
    ======================== =================================================== ===========
    text                     a quarter of the JSON's bytes, plus 4 for the item
    picture                  1 for each 28x28 pixels, at most 4,784              [1]
    picture of low detail    361, as for 512x512 pixels                          [2]
    picture of unknown size  1,568                                               [1] [2] [3]
    audio                    32 a second                                         [3] [4]
    video                    263 a second                                        [3]
    PDF or other document    4,568 a page: text 3,000, picture of the page 1,568 [5] [6]
    ======================== =================================================== ===========

    - [1] https://platform.claude.com/docs/en/build-with-claude/vision: at most 1,568 before
      Claude 4.7.
    - [2] https://developers.openai.com/api/docs/guides/images-vision: GPT-4o counts 85 at low
      detail, otherwise 85 and 170 for each of at most 8 tiles. Other models count 1 for each 32x32
      pixels, up to a maximum of 1,536 or more, times a factor of the model; the estimate can be too
      low for these.
    - [3] https://ai.google.dev/gemini-api/docs/tokens: Gemini 2 counts 258 for each tile of 768x768
      pixels, and for each page. https://ai.google.dev/gemini-api/docs/media-resolution: Gemini 3
      counts 1,120 for a picture and 560 for a page.
    - [4] https://developers.openai.com/api/docs/guides/realtime-costs: 10 a second of the user's
      audio, 20 of the assistant's.
    - [5] https://platform.claude.com/docs/en/build-with-claude/pdf-support: 1,500 to 3,000 a page,
      and the picture of the page.
    - [6] https://developers.openai.com/api/docs/guides/file-inputs: text and picture of each page.

    Content is found in the shapes of all dialects, of Gemini and of LangChain. The size of a PNG,
    JPEG, GIF or WebP picture and the rate of a WAV recording are read from the first bytes. Other
    lengths are assumed: 8,000 bytes of audio a second, 125,000 of video, 50,000 a page. If the item
    has only a URL or a file id, its content counts as a picture of unknown size, a minute of audio
    or video, or one page. This can be too low. Signatures and encrypted reasoning count as text,
    although a provider may ignore those of earlier turns.

    An estimate that counts the characters of a data URL is so high that a token budget drops the
    whole history (langchain#40741).

    Args:
        item: Any value that can be written as JSON.

    Returns:
        Number of tokens; 4 or more.

    >>> from tower_memory.windows import estimated_tokens
    >>> estimated_tokens({"role": "user", "content": "What is in this picture?"})
    17
    >>> url = "data:image/png;base64," + "A" * 200_000  # not a real picture: its size is unknown
    >>> picture = {"type": "image_url", "image_url": {"url": url}}
    >>> estimated_tokens({"role": "user", "content": [picture]})
    1589
    """
    text_bytes = len(_encode(item))
    tokens = _TOKENS_PER_ITEM
    if not _is_text(item):
        for length, count in _contents(item, ""):
            text_bytes -= length
            tokens += count
    return text_bytes // _BYTES_PER_TOKEN + tokens


def _is_text(value: Any) -> bool:
    """Return True if *value* is sure to contain no content."""
    if value.__class__ is not dict:
        return True
    inner = value.get("content")
    if inner.__class__ is str and len(value) == 2 and "role" in value:  # noqa: PLR2004 - the two
        return True
    if not _SIGNS.isdisjoint(value):
        return False

    inner = inner or value.get("parts") or value.get("output")
    if inner.__class__ is list:
        for each in inner:  # noqa: SIM110 - a generator takes longer than the loop
            if not _is_text(each):
                return False
        return True
    return _is_text(inner)


def _contents(mapping: dict[str, Any], kind: str) -> Iterator[tuple[int, int]]:
    """Yield the length and the tokens of each string that is or names content.

    *kind* is the kind of the part that *mapping* belongs to; empty if it belongs to none.
    """
    kind = _media_kind(mapping) or kind or _part_kind(mapping)
    is_low = mapping.get("detail") == "low"

    for name in _FOLLOWED.intersection(mapping):
        value = mapping[name]
        if isinstance(value, str):
            if name in _CONTENT and (tokens := _tokens(name, value, kind, is_low=is_low)):
                yield len(value), tokens
            continue

        inner_kind = "audio" if name == "audio" else kind
        for each in value if isinstance(value, list) else (value,):
            if isinstance(each, dict):
                yield from _contents(each, inner_kind)


def _media_kind(mapping: dict[str, Any]) -> str:
    """Return the kind in the media type of *mapping*; empty if there is none."""
    for name in ("media_type", "mime_type", "mimeType"):
        if isinstance(media_type := mapping.get(name), str):
            return media_type.partition("/")[0]
    return ""


def _part_kind(mapping: dict[str, Any]) -> str:
    part_type = mapping.get("type") or mapping.get("kind")
    return _KINDS.get(part_type, "") if isinstance(part_type, str) else ""


def _tokens(name: str, text: str, kind: str, *, is_low: bool) -> int:
    """Return the tokens of the content in the field *name*; 0 if it is text."""
    base64 = text if name in _INLINE else ""
    if data_url := _DATA_URL.match(text):
        base64 = text[data_url.end() :]
        kind = data_url[1] or kind

    match kind:
        case "" | "text":
            return 0
        case "image":
            return _picture(base64, is_low=is_low)
        case "audio" | "video":
            return _recording(base64, kind)
        case _:
            return _TOKENS_PER_PAGE * max(1, _ceil(_size(base64), _BYTES_PER_PAGE))


def _picture(base64: str, *, is_low: bool) -> int:
    width, height = _LOW_DETAIL if is_low else picture_size(base64)
    patches = _ceil(width, _PATCH) * _ceil(height, _PATCH)
    return min(patches or _UNKNOWN_PICTURE, _MAX_PICTURE)


def _recording(base64: str, kind: str) -> int:
    if not base64:
        return _TOKENS_PER_SECOND[kind] * _UNKNOWN_SECONDS
    bytes_per_second = max(_BYTES_PER_SECOND[kind], wav_byte_rate(base64))
    return _ceil(_TOKENS_PER_SECOND[kind] * _size(base64), bytes_per_second)


def _size(base64: str) -> int:
    """Return the number of bytes in *base64*, which may be padded."""
    return len(base64) * 3 // 4


def _ceil(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)
