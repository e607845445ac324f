"""The hashes that stand for ids and names in keys: 128 bits of BLAKE2b, as a UUID.

A collision is as improbable as one of two random UUIDs, and to search for one takes 2**64 attempts.
"""

from __future__ import annotations

from hashlib import blake2b
from uuid import UUID


def hash_of(text: str) -> UUID:
    """Return the hash of an id or a name."""
    return UUID(bytes=blake2b(text.encode(), digest_size=16, person=b"tower-memory").digest())
