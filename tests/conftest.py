"""What all tests share: both runtimes, every store, and JSON to keep in them."""

from __future__ import annotations

import gc

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tower_memory import InMemorySessionStore, SqliteSessionStore

settings.register_profile(
    "default",
    deadline=None,  # a machine may be busy
    derandomize=True,  # what fails once fails again
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("default")

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def pytest_collection_finish():
    """Look for garbage only in what the tests make, not in all that they import."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture(params=["in memory", "sqlite file", "sqlite in memory"])
async def store(request, tmp_path):
    match request.param:
        case "in memory":
            yield InMemorySessionStore()
        case "sqlite file":
            async with SqliteSessionStore(tmp_path / "sessions.db") as store:
                yield store
        case _:
            async with SqliteSessionStore.in_memory() as store:
                yield store


@pytest.fixture
async def sqlite(tmp_path):
    async with SqliteSessionStore(tmp_path / "sessions.db") as store:
        yield store
