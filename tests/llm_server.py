"""A server on loopback that answers as told, and keeps what it was asked.

Its answers are those of a provider: a reply is JSON, or, if it is a list, the events of a stream,
which go out one by one.
"""

from __future__ import annotations

import json
from collections import deque
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread


class Server(ThreadingHTTPServer):
    """Attributes:
    requests: The bodies that it was sent, oldest first.
    replies: What it answers, one after another.
    slow: Whether each event after the first waits for `go_on`.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = []
        self.replies = deque()
        self.slow = False
        self.go_on = Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        reply = self.server.replies.popleft()
        self.send_response(200)
        if isinstance(reply, list):
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.stream(reply)
        else:
            raw = json.dumps(reply).encode()
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.send_header("Request-Id", "req_1")
            self.end_headers()
            self.wfile.write(raw)

    def stream(self, events):
        chat = "chat/completions" in self.path
        for number, event in enumerate(events):
            if self.server.slow and number:
                self.server.go_on.wait(60)
                self.server.go_on.clear()
            if event is None:  # the connection breaks
                self.close_connection = True
                return
            name = "" if chat else f"event: {event['type']}\n"
            self.write(f"{name}data: {json.dumps(event)}\n\n")
        if chat:
            self.write("data: [DONE]\n\n")
        self.write("")

    def write(self, text):
        self.wfile.write(f"{len(text.encode()):x}\r\n{text}\r\n".encode())
        self.wfile.flush()

    def log_message(self, *args):
        """Say nothing."""


@contextmanager
def serving():
    with Server() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
