"""Settings and fixtures of all tests: both runtimes, and every store."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, settings

from tower_memory import InMemorySessionStore, SqliteSessionStore

settings.register_profile(
    "default",
    max_examples=40,
    deadline=None,  # the machine may be busy
    derandomize=True,  # a failure can be repeated
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.register_profile("long", settings.get_profile("default"), max_examples=100)

pytest.register_assert_rewrite("helpers")

IN_MEMORY = Path("/dev/shm")
"""Folder of files in memory, where a sync takes no time."""

STORE_KINDS = ["in memory", "sqlite file", "sqlite in memory"]
"""The kinds of stores that need no server."""

ROOM = 2 * 2**30
"""Bytes that must be free there: many times what the files of all tests take."""


def pytest_configure(config):
    """Keep the files of the tests in memory, if there is room and nobody chose another folder.

    Choose the number of examples of each property.
    """
    is_chosen = "TMPDIR" in os.environ
    if not is_chosen and IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free >= ROOM:
        tempfile.tempdir = str(IN_MEMORY)
    if sys.dont_write_bytecode:
        share_compiled_modules(config)
    settings.load_profile("long" if config.option.markexpr == "long" else "default")


def share_compiled_modules(config):
    """Let the programs that tests start share compiled modules, in a folder of this run.

    The setting PYTHONDONTWRITEBYTECODE keeps the folders of the sources clean. But with it, each
    program compiles the whole library again, which takes most of the time of a short program.
    """
    folder = tempfile.TemporaryDirectory(prefix="compiled-", ignore_cleanup_errors=True)
    config.add_cleanup(folder.cleanup)
    os.environ["PYTHONPYCACHEPREFIX"] = folder.name
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # absent if python was started with -B


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Let ``pytest -m long`` also run the tests of properties, which then have more examples."""
    if config.option.markexpr == "long":
        for item in items:
            if hasattr(getattr(item, "function", None), "hypothesis"):
                item.add_marker(pytest.mark.long)


def pytest_collection_finish():
    """Exclude all imported objects from garbage collection, which makes it faster."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def leftovers_are_frozen():
    """Exclude also what a module has imported and cached, which no test of another module needs."""
    yield
    gc.collect()
    gc.freeze()


@contextmanager
def temporary_file():
    """Provide the path of a database file that does not exist yet, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "sessions.db"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture(params=[*STORE_KINDS, pytest.param("postgres", marks=pytest.mark.long)])
def store_kind(request):
    """Return the kind of the store. The tests of stores use Postgres also by default."""
    return request.param


@pytest.fixture
async def store(request, store_kind, tmp_path):
    match store_kind:
        case "in memory":
            yield InMemorySessionStore()
        case "sqlite file":
            async with SqliteSessionStore(tmp_path / "sessions.db") as store:
                yield store
        case "sqlite in memory":
            async with SqliteSessionStore.in_memory() as store:
                yield store
        case _:
            from tower_memory.postgres import PostgresSessionStore

            tables = request.getfixturevalue("postgres_tables")
            with tables.emptied() as url:
                async with PostgresSessionStore(url) as store:
                    yield store


@pytest.fixture
def addresses(request):
    """Return a function that returns a context manager of the address of an empty store.

    Each call gives another address; None stands for a store in memory.
    """
    match request.param:
        case "in memory":
            return nullcontext
        case "sqlite":
            return temporary_file
        case _:
            return request.getfixturevalue("postgres_tables").emptied


@pytest.fixture
def address(addresses):
    """Return the address of an empty store; see `addresses`."""
    with addresses() as address:
        yield address


@pytest.fixture
async def sqlite(tmp_path):
    async with SqliteSessionStore(tmp_path / "sessions.db") as store:
        yield store


@pytest.fixture
def path(tmp_path):
    """Return the path of a database file that does not exist yet."""
    return tmp_path / "sessions.db"


OTHER_POSTGRES = os.environ.get("TOWER_MEMORY_TEST_POSTGRES")
"""Connection string of a server that runs already, and may create databases; see CONTRIBUTING."""


@pytest.fixture(scope="session")
def postgres_server():
    """Run the Postgres server of all tests; one that ends it starts it again."""
    if OTHER_POSTGRES:
        pytest.skip("this test needs a server of its own")
    from helpers.postgres_server import PostgresServer  # only its tests need the driver

    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_database(request):
    """Return a context manager that provides the URL of an empty Postgres database."""
    if not OTHER_POSTGRES:
        return request.getfixturevalue("postgres_server").database
    from helpers.other_postgres import new_database

    return partial(new_database, OTHER_POSTGRES)


@pytest.fixture
def postgres_url(postgres_database):
    """Return the URL of an empty Postgres database."""
    with postgres_database() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_tables(postgres_server):
    """Return the tables that the tests of stores on Postgres use one after another."""
    from helpers.postgres import PostgresTables

    with postgres_server.database() as url:
        tables = PostgresTables(postgres_server, url)
        with start_blocking_portal() as portal:  # an event loop may run in this thread
            portal.call(tables.create)
        yield tables


@pytest.fixture
def tables_url(postgres_tables):
    """Return the URL of a Postgres database that has the tables of a store, all empty."""
    with postgres_tables.emptied() as url:
        yield url
