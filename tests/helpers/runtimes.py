"""The runtimes of a test."""

from __future__ import annotations

import pytest

on_one_runtime = pytest.mark.parametrize(
    "anyio_backend",
    ["asyncio", pytest.param("trio", marks=pytest.mark.long)],
)
"""Mark of a test of what awaits nothing, such as a dialect: on trio only with ``-m long``.

Such code cannot know the runtime, and the examples of the test are the same on both.
"""

on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])
"""Mark of a test of a framework that runs on asyncio only."""
