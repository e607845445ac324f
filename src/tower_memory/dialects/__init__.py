"""How a service spells a conversation.

A dialect is three pure functions between a service's requests and responses and a session's
items. `MemoryLayer` awaits, a dialect decides. No client library is imported: what is theirs is
read by what it has.
"""

from tower_memory.dialects._anthropic_messages import AnthropicMessages
from tower_memory.dialects._chat_completions import ChatCompletions
from tower_memory.dialects._dialect import Dialect, Streamed, WholeRequests
from tower_memory.dialects._openai_responses import OpenAIResponses
from tower_memory.dialects._pydantic_ai import PydanticAI

__all__ = (
    "AnthropicMessages",
    "ChatCompletions",
    "Dialect",
    "OpenAIResponses",
    "PydanticAI",
    "Streamed",
    "WholeRequests",
)
