"""Checks that refuse a request as the providers refuse it.

Each function takes the messages of one request, as plain JSON values, and raises `Refused` with a
message close to the provider's own. Each rule names its source: a page, a schema, or an issue with
the provider's answer. A rule without a source says so. The functions are pure and fast, so tests
with generated conversations and loopback servers can use them.
"""

from __future__ import annotations

from helpers.validators.anthropic import check_anthropic
from helpers.validators.gemini import check_gemini
from helpers.validators.mistral import check_mistral
from helpers.validators.openai_chat import check_openai_chat
from helpers.validators.openai_responses import check_openai_responses
from helpers.validators.refused import Refused
from helpers.validators.vllm import check_vllm

__all__ = [
    "Refused",
    "check_anthropic",
    "check_gemini",
    "check_mistral",
    "check_openai_chat",
    "check_openai_responses",
    "check_vllm",
]
