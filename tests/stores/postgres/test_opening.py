"""Opening a store: servers, databases and schemas that refuse, and creating the tables."""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier, Thread

import anyio
import pytest
from anyio import fail_after

from helpers.postgres_faults import GRACE, ITEMS, LONG, SHORT, assert_works
from helpers.processes import run_python
from tower_memory import SessionError, Turn
from tower_memory.postgres import PostgresSessionStore

pytestmark = pytest.mark.anyio

PASSWORD = "secret/4711"


async def refusal(url, **parameters):
    """Return the error by which a store is refused at once."""
    with fail_after(GRACE), pytest.raises(SessionError) as caught:
        async with PostgresSessionStore(url, patience=LONG, **parameters):
            pass
    return str(caught.value)


@contextmanager
def role(server, url, name):
    """Provide the URL of a role without privileges, which needs a password, until the block ends."""
    (hba,) = server.execute("SHOW hba_file")[0]
    rules = Path(hba).read_text()
    server.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    Path(hba).write_text(f"local all {name} scram-sha-256\n{rules}")
    server.reload()
    try:
        yield url.replace("user=postgres", f"user={name}")
    finally:
        Path(hba).write_text(rules)
        server.reload()
        server.execute(f"DROP OWNED BY {name} CASCADE", url=url)
        server.execute(f"DROP ROLE {name}")


@pytest.fixture
def limited_url(postgres_server, postgres_url):
    """Return the URL of a role that has its password, and no privilege."""
    with role(postgres_server, postgres_url, "limited") as url:
        yield f"{url}&password={PASSWORD.replace('/', '%2F')}"


@pytest.mark.parametrize("password", ["", "&password=guessed"])
async def test_a_wrong_or_missing_password_is_refused_at_once(
    postgres_server, postgres_url, password
):
    with role(postgres_server, postgres_url, "locked_out") as url:
        error = await refusal(f"{url}{password}")
    assert "password" in error
    assert "guessed" not in error


async def test_an_unknown_database_is_refused_at_once(postgres_server):
    assert '"nowhere" does not exist' in await refusal(postgres_server.conninfo(dbname="nowhere"))


async def test_an_unknown_user_is_refused_at_once(postgres_url):
    url = postgres_url.replace("user=postgres", "user=nobody")
    assert '"nobody" does not exist' in await refusal(url)


@pytest.mark.parametrize("schema", ["public", "new"])
async def test_a_user_who_may_not_create_tables_learns_what_to_grant(limited_url, schema):
    error = await refusal(limited_url, schema=schema)
    assert "permission denied" in error
    assert f"CREATE on the schema {schema!r}, or CREATE on the database" in error


async def test_a_user_may_use_a_schema_that_another_one_has_created(
    postgres_server, postgres_url, limited_url
):
    postgres_server.execute("CREATE SCHEMA chats AUTHORIZATION limited", url=postgres_url)
    async with PostgresSessionStore(limited_url, schema="chats") as store:
        await assert_works(store)


async def test_a_user_without_privileges_on_the_tables_learns_what_to_grant(
    postgres_server, postgres_url, limited_url
):
    async with PostgresSessionStore(postgres_url, schema="chats"):
        pass
    assert "grant USAGE on the schema" in await refusal(limited_url, schema="chats")

    postgres_server.execute("GRANT USAGE ON SCHEMA chats TO limited", url=postgres_url)
    assert "DELETE on the tables" in await refusal(limited_url, schema="chats")

    grant = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA chats TO limited"
    postgres_server.execute(grant, url=postgres_url)
    async with PostgresSessionStore(limited_url, schema="chats") as store:
        await assert_works(store)


@pytest.mark.parametrize(
    "conninfo",
    [
        "postgresql://me:my%ZZsecret@host/chat",
        "postgresql://me:my@secret@host/chat",
        "postgresql://me:my#secret/4711@host/chat",
        "host=localhost password=my secret",
        "my secret",
        "host=localhost secret=my",
        "host=localhost dbname='postgresql://me:secret@host/chat'",
        "host=localhost dbname='chat password=secret'",
    ],
)
def test_a_malformed_connection_string_is_not_shown(conninfo):
    with pytest.raises(ValueError, match="conninfo") as caught:
        PostgresSessionStore(conninfo)
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_several_hosts_and_an_abstract_socket_are_accepted():
    store = PostgresSessionStore("host=first,@second port=5432,5433 dbname=chat")
    assert repr(store) == "PostgresSessionStore('postgresql://first,@second/chat', schema='public')"


@pytest.mark.parametrize("table", ["memory_turn", "memory_schema"])
async def test_tables_of_another_program_are_refused_and_stay(postgres_server, postgres_url, table):
    postgres_server.execute(f"CREATE TABLE {table} (note text)", url=postgres_url)

    error = await refusal(postgres_url)
    assert f"has tables of another program, such as {table}; choose another schema=" in error
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    assert postgres_server.execute(tables, url=postgres_url) == [(table,)]

    async with PostgresSessionStore(postgres_url, schema="other") as store:
        await assert_works(store)


async def test_a_view_with_the_name_of_a_table_is_refused(postgres_server, postgres_url):
    postgres_server.execute("CREATE VIEW memory_head AS SELECT 1 AS one", url=postgres_url)
    with fail_after(SHORT + GRACE), pytest.raises(SessionError, match='"memory_head"'):
        async with PostgresSessionStore(postgres_url, patience=SHORT):
            pass


async def test_a_type_with_the_name_of_a_table_is_an_error(postgres_server, postgres_url):
    postgres_server.execute("CREATE TYPE memory_turn AS ENUM ('one')", url=postgres_url)
    with fail_after(SHORT + GRACE), pytest.raises(SessionError, match='"memory_turn"'):
        async with PostgresSessionStore(postgres_url, patience=SHORT):
            pass


def test_the_module_names_its_extra_if_psycopg_is_missing():
    program = "import sys; sys.modules['psycopg'] = None; import tower_memory.postgres"
    done = run_python(program)
    assert "ImportError: tower_memory.postgres needs psycopg 3: pip install" in done.stderr


async def test_tables_of_a_newer_version_are_refused(postgres_server, postgres_url):
    async with PostgresSessionStore(postgres_url):
        pass
    postgres_server.execute("UPDATE memory_schema SET version = 99", url=postgres_url)
    assert "version 99" in await refusal(postgres_url)


@pytest.mark.parametrize("schema", ["public", "new", 'Any "name" \u00e9'])
async def test_a_missing_schema_is_created(postgres_server, postgres_url, schema):
    postgres_server.execute("DROP SCHEMA public CASCADE", url=postgres_url)
    async with PostgresSessionStore(postgres_url, schema=schema) as store:
        await assert_works(store)

    schemas = "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename LIKE 'memory%%'"
    assert postgres_server.execute(schemas, url=postgres_url) == [(schema,)]


@pytest.mark.parametrize("schema", ["", "a\0b", "$user", "n" * 64, "\u00e9" * 32])
def test_a_schema_that_the_server_would_take_for_another_one_is_refused(schema):
    with pytest.raises(ValueError, match=r"^schema must"):
        PostgresSessionStore("postgresql:///chat", schema=schema)


async def test_a_schema_may_have_the_longest_name(postgres_url):
    async with PostgresSessionStore(postgres_url, schema="n" * 63) as store:
        await assert_works(store)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
async def test_the_encoding_of_the_environment_does_not_matter(postgres_url, monkeypatch, encoding):
    monkeypatch.setenv("PGCLIENTENCODING", encoding)
    for _ in range(2):  # the second time, the tables are there
        async with PostgresSessionStore(postgres_url, schema="gespr\u00e4che \u20ac") as store:
            await assert_works(store)


async def test_the_encoding_of_the_database_does_not_matter(postgres_server, postgres_url):
    postgres_server.execute("CREATE DATABASE plain ENCODING 'SQL_ASCII' TEMPLATE template0")
    try:
        for _ in range(2):
            async with PostgresSessionStore(postgres_server.conninfo(dbname="plain")) as store:
                await assert_works(store)
    finally:
        postgres_server.execute("DROP DATABASE plain WITH (FORCE)")


async def test_tables_that_are_dropped_meanwhile_are_an_error(postgres_server, postgres_url):
    async with PostgresSessionStore(postgres_url, schema="chats") as store:
        await store.append(Turn("session", ITEMS))
        postgres_server.execute("DROP SCHEMA chats CASCADE", url=postgres_url)
        with fail_after(GRACE), pytest.raises(SessionError, match="does not exist"):
            await store.load("session")
        with fail_after(GRACE), pytest.raises(SessionError, match="does not exist"):
            await store.append(Turn("session", ITEMS))

    async with store:
        assert list(await store.load("session")) == []
        await assert_works(store)


@pytest.mark.parametrize("schema", ["first", "second", "third"])
def test_stores_that_open_an_empty_schema_at_the_same_time_all_succeed(postgres_url, schema):
    threads, outcomes = 8, []
    barrier = Barrier(threads)

    async def use(number):
        async with PostgresSessionStore(postgres_url, schema=schema, patience=LONG) as store:
            await store.append(Turn(f"session {number}", ITEMS))
            outcomes.append(list(await store.load(f"session {number}")))

    def run(number):
        barrier.wait()
        anyio.run(use, number, backend=("asyncio", "trio")[number % 2])

    running = [Thread(target=run, args=[number]) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert outcomes == [ITEMS] * threads


async def test_the_errors_of_a_server_show_no_stored_values(postgres_server, postgres_url):
    """The server's DETAIL shows the row that violates a constraint."""
    secret = b"my secret".hex()
    async with PostgresSessionStore(postgres_url) as store:
        await store.append(Turn("session", ["my secret"], turn_id="first"))
        postgres_server.execute(
            "ALTER TABLE memory_turn ADD CHECK (turn_id <> 'refused')", url=postgres_url
        )
        for count in (1, 2):
            turn = Turn("session", ["my secret"] * count, turn_id="refused")
            with pytest.raises(SessionError, match="check constraint") as caught:
                await store.append(turn)
            shown = "".join(traceback.format_exception(caught.value))
            assert "my secret" not in shown
            assert secret not in shown
            assert "Failing row" not in shown
            assert "Failing row" in caught.value.__cause__.diag.message_detail


async def test_no_password_is_shown(postgres_url):
    url = f"{postgres_url}&password=my%20secret"
    store = PostgresSessionStore(url, patience=0.1)
    async with store:
        shown = [repr(store), repr(store._address), repr(store._database)]
    with pytest.raises(SessionError) as caught:
        async with PostgresSessionStore(f"{url}&options=-c%20nonsense%3D1", patience=0.1):
            pass
    shown.append("".join(traceback.format_exception(caught.value)))
    assert "my secret" not in "".join(shown)
