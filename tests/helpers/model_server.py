"""A server of chat completions whose answers, delays and errors a test controls."""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Event

from helpers.servers import Handler, Server, running

MODEL = "gpt-5-mini-2025-08-07"
PATIENCE = 30  # seconds


@dataclass
class Answer:
    """The answer to one question, and the title of a chat that begins with it.

    Attributes:
        texts: The texts of the stream.
        title: The title.
        status: The HTTP status of the answer; an error is sent unless it is 200.
        hold_before: The number of the text before which the stream waits for `release`. 0 holds
            the whole reply back, None holds nothing.
        hold_title: True if the title waits for `release_title`.
        reached: Set when the answer waits.
        title_reached: Set when the title waits.
        calls: Number of requests for the answer.
    """

    texts: list[str]
    title: str = "A title"
    status: int = 200
    hold_before: int | None = None
    hold_title: bool = False
    calls: int = 0
    reached: Event = field(default_factory=Event)
    title_reached: Event = field(default_factory=Event)
    _released: Event = field(default_factory=Event)
    _title_released: Event = field(default_factory=Event)

    def wait_until_held(self):
        assert self.reached.wait(PATIENCE)

    def wait_until_title_held(self):
        assert self.title_reached.wait(PATIENCE)

    def release(self):
        self._released.set()

    def release_title(self):
        self._title_released.set()

    def hold_at(self, number):
        if number == self.hold_before:
            self.reached.set()
            self._released.wait(PATIENCE)

    def hold_the_title(self):
        if self.hold_title:
            self.title_reached.set()
            self._title_released.wait(PATIENCE)


class ModelHandler(Handler):
    def do_POST(self):  # noqa: N802 - http.server calls it so
        body = self.receive()
        with suppress(BrokenPipeError, ConnectionResetError):  # the reader may leave
            if body.get("stream"):
                self.send_answer(body["messages"][-1]["content"])
            elif body["messages"][-1]["content"].startswith("Write a title"):
                self.send_title(body["messages"][0]["content"])
            else:
                self.send_text("A summary.")

    def send_title(self, question):
        answer = self.server.answer_to(question)
        answer.hold_the_title()
        self.send_text(answer.title)

    def send_text(self, text):
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        self.send_json(json.dumps(completion("chat.completion", choices=[choice])).encode())

    def send_answer(self, question):
        answer = self.server.answer_to(question)
        answer.calls += 1
        answer.hold_at(0)
        if answer.status != 200:
            error = {"error": {"message": "The model is ill.", "type": "server_error"}}
            self.send_json(json.dumps(error).encode(), answer.status, X_Should_Retry="false")
            return

        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for number, text in enumerate(answer.texts):
            if number:
                answer.hold_at(number)
            self.send_chunk(choices=[{"index": 0, "delta": {"content": text}}])
        self.send_chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
        counts = {"prompt_tokens": 1000, "completion_tokens": 250, "total_tokens": 1250}
        self.send_chunk(choices=[], usage=counts)
        self.wfile.write(b"data: [DONE]\n\n")

    def send_chunk(self, **fields):
        chunk = json.dumps(completion("chat.completion.chunk", **fields))
        self.wfile.write(f"data: {chunk}\n\n".encode())


def completion(kind, **fields):
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": MODEL, **fields}


class ModelServer(Server):
    """A server of chat completions. A question without an answer of its own is repeated.

    It answers questions with streams. Other requests are for a title or a summary.
    """

    handler = ModelHandler

    def __init__(self):
        super().__init__()
        self._answers = {}

    @property
    def url(self):
        return f"{super().url}/v1"

    def answer(self, question, *texts, **fields):
        """Set the answer to *question* and return it."""
        self._answers[question] = answer = Answer(list(texts), **fields)
        return answer

    def answer_to(self, question):
        """Return the answer to *question*."""
        return self._answers.get(question) or self.answer(question, "You said: ", question)

    def forget_answers(self):
        """Let every answer and title go on, and repeat every question from now on."""
        for answer in self._answers.values():
            answer.release()
            answer.release_title()
        self._answers = {}


@contextmanager
def model_server():
    """Run a model whose answers the test sets."""
    with running(ModelServer()) as server:
        try:
            yield server
        finally:
            server.forget_answers()
