"""Servers on the loopback interface that stand in for a provider's API."""

from __future__ import annotations

import json
import re
from collections import deque
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

from helpers.validators import Refused


class Server(ThreadingHTTPServer):
    """A server that records the bodies of its requests.

    Attributes:
    requests: The bodies that were sent to it, oldest first.
    """

    daemon_threads = True
    handler: type[BaseHTTPRequestHandler]

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.handler)
        self.requests = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    disable_nagle_algorithm = True  # otherwise each reply waits for an acknowledgement, for 40 ms

    def receive(self):
        """Read the body of the request, record it and return it."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        return body

    def send_json(self, raw, status=200, **headers):
        """Send *raw*, which is encoded JSON."""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *args):
        """Log nothing."""


@contextmanager
def running(server):
    """Serve in a thread until the block ends."""
    with server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class ScriptedHandler(Handler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.receive()
        try:
            self.server.check(body)
        except Refused as refused:
            self.send_json(json.dumps(error_body(str(refused))).encode(), 400)
            return

        reply = self.server.replies.popleft()
        if callable(reply):
            reply = reply(body)
        if isinstance(reply, list):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.stream(reply)
        else:
            self.send_json(json.dumps(reply).encode(), Request_Id="req_1")

    def stream(self, events):
        chat = "chat/completions" in self.path
        for number, event in enumerate(events):
            if self.server.slow and number:
                self.server.go_on.wait(60)
                self.server.go_on.clear()
            if event is None:  # the connection breaks
                self.close_connection = True
                return
            name = f"event: {event['type']}\n" if "type" in event else ""
            self.write(f"{name}data: {json.dumps(event)}\n\n")

        if chat:
            self.write("data: [DONE]\n\n")
        self.write("")

    def write(self, text):
        self.wfile.write(f"{len(text.encode()):x}\r\n{text}\r\n".encode())
        self.wfile.flush()


def error_body(message):
    """Return the body of a refusal, which the clients of OpenAI and of Anthropic understand."""
    error = {"type": "invalid_request_error", "message": message, "param": None, "code": None}
    return {"type": "error", "error": error}


def accept(_body):
    """Accept every request."""


class ScriptedServer(Server):
    """A server of any provider's API that sends prepared replies.

    Attributes:
    check: Called with the body of each request; if it raises `Refused`, the status is 400, and the
        reply is sent to the next request.
    replies: The replies to send, one for each request; a list is sent as the events of a stream,
        in which None breaks the connection. A function returns the reply to a request's body.
    slow: True if each event after the first waits for `go_on`.
    """

    handler = ScriptedHandler

    def __init__(self):
        super().__init__()
        self.check = accept
        self.replies = deque()
        self.slow = False
        self.go_on = Event()


def streamed(message, pieces=None):
    """Return the chunks of a chat completion with *message*, whose content comes in *pieces*.

    None splits the content before each space.
    """
    if pieces is None:
        pieces = re.findall(r"^\S+|\s\S*", message["content"])
    deltas = [{**message, "content": ""}, *({"content": piece} for piece in pieces)]
    chunks = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas] + [
        {"index": 0, "delta": {}, "finish_reason": "stop"}
    ]
    about = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return [{**about, "choices": [choice]} for choice in chunks]


class EchoHandler(Handler):
    def do_POST(self):
        body = self.receive()
        last = body["messages"][-1]["content"]
        message = {
            "role": "assistant",
            "content": f"{len(body['messages'])} messages, the last: {last}",
            "reasoning_content": "a vendor's own field",
        }
        reply = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        }
        if self.server.status != 200:
            reply = {"error": {"message": "No such model.", "type": "invalid_request_error"}}
        elif body.get("stream") and self.server.reply is None:
            self.send_events(streamed(message))
            return
        raw = json.dumps(reply).encode() if self.server.reply is None else self.server.reply
        self.send_json(raw, self.server.status)

    def send_events(self, events):
        """Send a stream of *events*; it ends with the connection."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for event in events:
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")


class EchoServer(Server):
    """A server of OpenAI's chat completions whose model repeats the last message.

    The reply also says how many messages were sent.

    Attributes:
    status: The HTTP status of every reply; an error is sent unless it is 200.
    reply: The body to send instead of a chat completion, or None.
    """

    handler = EchoHandler

    def __init__(self):
        super().__init__()
        self.status = 200
        self.reply = None

    @property
    def url(self):
        return f"{super().url}/v1"


def scripted_server():
    """Run a server that sends prepared replies."""
    return running(ScriptedServer())


def echo_server():
    """Run a server whose model repeats the last message."""
    return running(EchoServer())
