"""A proxy in front of a Postgres server, which acts between two messages of the protocol.

1. A message is forwarded when it is complete. So a test can act between two messages, of both
   directions: cut the connection, or stop a process of the server.
2. All messages of the client count, and those that end an answer of the server: CommandComplete and
   ReadyForQuery. To the client, a cut before another message of the server is the same as one of
   these.
3. Nothing that the client sent before a cut is lost: the server gets it, and then the end.
"""

from __future__ import annotations

import socket
from contextlib import contextmanager, suppress
from pathlib import Path
from select import select
from threading import Lock, Thread
from urllib.parse import quote, urlencode

from psycopg.conninfo import conninfo_to_dict

ENDS = {b"C", b"Z"}
"""Types of the messages of the server that count."""

LENGTH = 4
"""Bytes of the length of a message, which counts itself."""


class Cut(Exception):
    """Raised by an action to cut the connection instead of forwarding the message."""


def cut():
    """Cut the connection."""
    raise Cut


class PostgresProxy:
    """A proxy on loopback for the server of *url*, which has its socket in a folder.

    Attributes:
        url: The URL of the same database through the proxy.
        has_acted: True once the action of `act_before` was called.
    """

    def __init__(self, url):
        parameters = conninfo_to_dict(url)
        self._server = Path(parameters["host"]) / f".s.PGSQL.{parameters['port']}"
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._lock = Lock()
        self._left, self._action = 0, None
        self.has_acted = False
        parameters |= {
            "host": "127.0.0.1",
            "port": self._listening.getsockname()[1],
            "sslmode": "disable",
            "gssencmode": "disable",
        }
        self.url = f"postgresql://?{urlencode(parameters, quote_via=quote)}"
        Thread(target=self._accept, daemon=True).start()

    def act_before(self, nth, action=cut):
        """Call *action* once, before the nth message from now on is forwarded."""
        with self._lock:
            self._left, self._action = nth, action
            self.has_acted = False

    def act_no_more(self):
        """Forget the action, and return True if it was called."""
        with self._lock:
            self._left = 0
            return self.has_acted

    def close(self):
        """Accept no more connections."""
        self._listening.shutdown(socket.SHUT_RDWR)  # ends `accept` in the thread
        self._listening.close()

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                Thread(target=self._relay, args=[client], daemon=True).start()

    def _relay(self, client):
        server = socket.socket(socket.AF_UNIX)
        with client, server, suppress(Cut, OSError):
            server.connect(str(self._server))
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            to = {client: server, server: client}
            messages = {client: Messages(has_types=False), server: Messages(has_types=True)}
            while True:
                for source in select(list(to), [], [])[0]:
                    received = source.recv(65536)
                    if not received:
                        return
                    for message in messages[source].add(received):
                        if source is client or message[:1] in ENDS:
                            self._act()
                        to[source].sendall(message)

    def _act(self):
        with self._lock:
            self._left -= 1
            if self._left == 0:
                try:
                    self._action()
                finally:
                    self.has_acted = True


class Messages:
    """The messages of one direction; the first one of a client has no type."""

    def __init__(self, *, has_types):
        self._type_length = 1 if has_types else 0
        self._buffer = b""

    def add(self, received):
        """Return the messages that are complete with *received*."""
        self._buffer += received
        complete = []
        while len(self._buffer) >= self._type_length + LENGTH:
            length = self._buffer[self._type_length : self._type_length + LENGTH]
            end = self._type_length + int.from_bytes(length)
            if len(self._buffer) < end:
                break
            complete.append(self._buffer[:end])
            self._buffer = self._buffer[end:]
            self._type_length = 1
        return complete


@contextmanager
def proxy_to(url):
    """Provide a proxy to the server of *url*."""
    proxy = PostgresProxy(url)
    try:
        yield proxy
    finally:
        proxy.close()
