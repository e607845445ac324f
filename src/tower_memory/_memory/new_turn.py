"""The turn of a call: the new items of the request, the items of the reply, and metadata.

1. A turn always has the revision of the loaded history (`Turn.since`), so that it does not revive a
   session that was cleared or erased during the model call.
2. The metadata are encoded here, before the save. If they cannot be stored, the error carries the
   turn without them, which can be saved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, final

from tower_memory._arguments import shown
from tower_memory._memory.call import Call
from tower_memory._memory.save import save_error
from tower_memory._metadata import decode_metadata, encode_metadata
from tower_memory._reconcile import may_be_whole
from tower_memory._turn import Turn

if TYPE_CHECKING:
    from tower_memory._memory.layer import MemoryLayer


@final
class OpenTurn(NamedTuple):
    """A turn whose history is loaded, and whose reply is awaited.

    Attributes:
        call: The call.
        request: The request as the dialect reads the reply to it: the caller's request, or the
            newest part of a whole request.
        new: The new items of the request.
        revision: The session's revision when its history was loaded.
    """

    call: Call
    request: Any
    new: Sequence[Any]
    revision: int


def read_items(
    layer: MemoryLayer, opened: OpenTurn, given: Sequence[Any], response: object
) -> tuple[Any, ...]:
    """Return the items of the turn: the new items of the request and those of *response*.

    *given* is the history that the inner service got; the response may repeat it.

    Raises:
        SaveError: The dialect cannot read the response.
    """
    dialect, request = layer.dialect, opened.request
    try:
        if may_be_whole(response):
            # Hydrate anew: the inner service may have changed the request that it received.
            request = dialect.with_history(request, given)
        return (*opened.new, *dialect.reply_items(request, response))
    except Exception as error:
        raise save_error(opened.call.session_id, error, response, None) from error


def new_turn(
    layer: MemoryLayer, opened: OpenTurn, items: Sequence[Any], response: object
) -> Turn[Any]:
    """Return the turn to save, which has *items*.

    Raises:
        SaveError: The metadata of the turn cannot be made or stored. The error has the turn without
            metadata.
    """
    turn = turn_with(layer, opened, items)
    if layer.metadata is None:
        return turn

    call = opened.call
    try:
        metadata = _encode_result(layer.metadata(call.request, response), call.session_id)
    except Exception as error:
        raise save_error(call.session_id, error, response, turn) from error
    return turn if metadata is None else replace(turn, metadata=decode_metadata(metadata))


def turn_with(layer: MemoryLayer, opened: OpenTurn, items: Sequence[Any]) -> Turn[Any]:
    """Return the turn of a call with *items*, without metadata."""
    call = opened.call
    options: dict[str, Any] = {}
    if call.turn_id is not None:
        options["turn_id"] = call.turn_id
    if call.replaces is not None:
        options["replaces"] = call.replaces.turn_id
    if call.replaces is not None or layer.overlap == "reject":
        options["expected_revision"] = opened.revision

    return Turn(call.session_id, items, since=opened.revision, **options)


def _encode_result(metadata: object, session_id: str) -> bytes | None:
    """Encode the result of a layer's function *metadata*; return None if there is nothing."""
    if metadata is None or isinstance(metadata, Mapping):
        return encode_metadata(metadata, session_id)
    msg = (
        "the result of metadata(request, response) must be a mapping that JSON can hold, or None, "
        f"got {shown(metadata)}"
    )
    raise TypeError(msg)
