"""Read the size of a picture and the byte rate of a recording from their base64 text.

Only the first bytes are decoded, in either alphabet of base64. If the text cannot be decoded, or
its header is cut or unknown, the result is 0: the functions raise no error.
"""

from __future__ import annotations

from binascii import a2b_base64

_STANDARD_ALPHABET = str.maketrans("-_", "+/")

_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Types of the JPEG segments that state the size."""

_MAX_JPEG_SEGMENTS = 100
"""Maximum number of segments to read; metadata such as colour profiles comes before the size."""


def picture_size(base64: str) -> tuple[int, int]:
    """Return the width and the height of a PNG, JPEG, GIF or WebP picture in pixels.

    A width or a height that is unknown is 0.
    """
    head = _decode(base64, 0, 30)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])
    if head.startswith((b"GIF87a", b"GIF89a")):
        return _little(head[6:8]), _little(head[8:10])
    if head.startswith(b"\xff\xd8"):
        return _jpeg_size(base64)
    if head[8:12] == b"WEBP":
        return _webp_size(head)
    return 0, 0


def wav_byte_rate(base64: str) -> int:
    """Return the number of bytes per second of a WAV recording; 0 if unknown."""
    head = _decode(base64, 0, 32)
    return _little(head[28:32]) if head[:4] + head[8:16] == b"RIFFWAVEfmt " else 0


def _jpeg_size(base64: str) -> tuple[int, int]:
    """Return the width and the height from the first JPEG segment that states them.

    Each segment states its length, so the next segment can be found without the data between.
    """
    start = 2
    for _ in range(_MAX_JPEG_SEGMENTS):
        segment = _decode(base64, start, start + 9)
        if len(segment) < 9 or segment[0] != 0xFF:  # noqa: PLR2004 - the bytes decoded, the marker
            break
        if segment[1] in _JPEG_SIZES:
            return int.from_bytes(segment[7:9]), int.from_bytes(segment[5:7])
        start += 2 + int.from_bytes(segment[2:4])
    return 0, 0


def _webp_size(head: bytes) -> tuple[int, int]:
    """Return the width and the height from the first chunk: extended, lossless or lossy."""
    if head[12:16] == b"VP8X":
        return 1 + _little(head[24:27]), 1 + _little(head[27:30])
    if head[12:16] == b"VP8L":
        bits = _little(head[21:25])
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return _little(head[26:28]) & 0x3FFF, _little(head[28:30]) & 0x3FFF


def _decode(base64: str, start: int, stop: int) -> bytes:
    """Return the decoded bytes from *start* to *stop*; fewer if *base64* ends or is invalid."""
    first = start // 3
    text = base64[4 * first : 4 * -(-stop // 3)].translate(_STANDARD_ALPHABET)
    try:
        decoded = a2b_base64(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""
    return decoded[start - 3 * first : stop - 3 * first]


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")
