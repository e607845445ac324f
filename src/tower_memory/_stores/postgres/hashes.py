"""The hashes that stand for ids and names in keys: 128 bits of BLAKE2b, as a UUID.

A collision is as improbable as one of two random UUIDs, and to search for one takes 2**64 attempts.
"""

from __future__ import annotations

from hashlib import blake2b
from struct import pack, unpack
from uuid import UUID


def hash_of(text: str) -> UUID:
    """Return the hash of an id or a name."""
    return UUID(bytes=blake2b(text.encode(), digest_size=16, person=b"tower-memory").digest())


def from_uuid(value: UUID) -> tuple[int, int]:
    """Return a UUID as two signed 64-bit integers, as the cursor of a page has it."""
    high, low = unpack(">qq", value.bytes)
    return high, low


def to_uuid(high: int, low: int) -> UUID:
    """Return the UUID of two signed 64-bit integers."""
    return UUID(bytes=pack(">qq", high, low))
