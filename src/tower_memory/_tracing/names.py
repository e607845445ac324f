"""The names of spans, attributes and instruments.

The conventions of OpenTelemetry for generative AI name the conversation. They have no operation for
the loading or saving of a session (``search_memory`` and the like are operations on long-term
memories), so all other names are our own, and no span has ``gen_ai.operation.name``.
"""

from __future__ import annotations

from typing import Final

SCOPE: Final = "tower_memory"
"""Name of the tracer and of the meter; spans and instruments begin with it."""

CONVERSATION_ID: Final = "gen_ai.conversation.id"
ERROR_TYPE: Final = "error.type"

OPERATION: Final = "tower_memory.operation"
OUTCOME: Final = "tower_memory.outcome"

TURN_ID: Final = "tower_memory.turn.id"
NEW_CONVERSATION_ID: Final = "tower_memory.new_conversation.id"
LIMIT: Final = "tower_memory.limit"
REVISION: Final = "tower_memory.revision"
ITEMS: Final = "tower_memory.items"
BYTES: Final = "tower_memory.bytes"
TURNS: Final = "tower_memory.turns"
SESSIONS: Final = "tower_memory.sessions"
ENTRIES: Final = "tower_memory.entries"

OPERATION_DURATION: Final = "tower_memory.operation.duration"
CALL_DURATION: Final = "tower_memory.call.duration"
ITEMS_LOADED: Final = "tower_memory.items.loaded"
ITEMS_SAVED: Final = "tower_memory.items.saved"
