"""The metadata of turns and sessions: JSON objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from sys import getsizeof
from typing import Any, final

from tower_memory._capabilities.catalog import merge_metadata
from tower_memory._codec import decode_value, encode_value
from tower_memory._history import NO_METADATA


def encode_metadata(metadata: Mapping[str, Any] | None, session_id: str) -> bytes | None:
    """Encode *metadata* to UTF-8 JSON; return None for an empty mapping and for None.

    Raises:
        UnencodableItemError: JSON cannot hold the mapping, or would change it.
    """
    if not metadata:
        return None
    return encode_value(dict(metadata), session_id, "metadata")


def metadata_dict(encoded: bytes | str | None) -> dict[str, Any]:
    """Return the mapping that is stored as *encoded*, decoded once, as the caller's own dict."""
    decoded: dict[str, Any] = {} if encoded is None else decode_value(encoded)
    return decoded


def merge_encoded(
    present: bytes | None, added: bytes | None, session_id: str, *, overwrite: bool
) -> bytes | None:
    """Return the stored metadata of a session after `SessionCatalog.annotate` (`merge_metadata`).

    Raises:
        UnencodableItemError: See `encode_metadata`.
    """
    merged = merge_metadata(metadata_dict(present), metadata_dict(added), overwrite=overwrite)
    return encode_metadata(merged, session_id)


def decode_metadata(encoded: bytes | str | None) -> Mapping[str, Any]:
    """Return the mapping that is stored as *encoded*, which cannot be changed."""
    return NO_METADATA if encoded is None else _StoredMetadata(encoded)


@final
class _StoredMetadata(Mapping[str, Any]):
    """A mapping that decodes its JSON at each access, so that its readers share no value."""

    __slots__ = ("_encoded",)

    def __init__(self, encoded: bytes | str) -> None:
        self._encoded = encoded

    def _decoded(self) -> dict[str, Any]:
        decoded: dict[str, Any] = decode_value(self._encoded)
        return decoded

    def __getitem__(self, key: str, /) -> Any:
        return self._decoded()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._decoded())

    def __len__(self) -> int:
        return len(self._decoded())

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + getsizeof(self._encoded)

    def __repr__(self) -> str:
        return repr(self._decoded())
