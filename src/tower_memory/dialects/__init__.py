"""How a service spells a conversation.

A dialect is three pure functions between a service's requests and responses and a session's
items. `MemoryLayer` awaits, a dialect decides.
"""

from tower_memory.dialects._chat_completions import ChatCompletions
from tower_memory.dialects._dialect import Dialect

__all__ = ("ChatCompletions", "Dialect")
