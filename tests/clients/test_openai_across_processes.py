"""The official openai client in a memory layer, against a server over HTTP."""

from __future__ import annotations

import pytest

from helpers.messages import user
from helpers.processes import run_python
from helpers.servers import echo_server

TURNS = """
import sys, anyio, openai
from tower_memory import LoadSession, MemoryLayer, SaveSession, ServiceBuilder, SqliteSessionStore
from tower_memory import TimeoutLayer

async def main(url, path, said):
    async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:

        async def ask(request):
            return await client.chat.completions.create(**request)

        async with SqliteSessionStore(path) as store:
            service = (
                ServiceBuilder()
                .layer(TimeoutLayer(60))
                .layer(MemoryLayer(LoadSession(store), SaveSession(store), session_id="user_123"))
                .service(ask)
            )
            for text in said:
                messages = [
                    {"role": "system", "content": "Be brief."}, {"role": "user", "content": text}
                ]
                completion = await service(
                    {"model": "m", "temperature": 0.5, "messages": messages}
                )
                print(completion.choices[0].message.content)
"""
exec(TURNS)


@pytest.fixture
def server():
    with echo_server() as server:
        yield server


async def test_two_turns_in_one_process_and_a_third_in_another_are_one_conversation(
    server, tmp_path, anyio_backend, capsys
):
    path = str(tmp_path / "chat.db")
    await main(server.url, path, ["one", "two"])  # noqa: F821 - of TURNS
    program = (
        TURNS + f"anyio.run(main, {server.url!r}, {path!r}, ['three'], backend={anyio_backend!r})"
    )
    done = run_python(program, check=True)
    replies = [
        "2 messages, the last: one",
        "4 messages, the last: two",
        "6 messages, the last: three",
    ]

    assert capsys.readouterr().out.splitlines() == replies[:2]
    assert done.stdout.splitlines() == replies[2:]

    system = {"role": "system", "content": "Be brief."}
    said = [user(text) for text in ("one", "two", "three")]
    answered = [
        {"role": "assistant", "content": text, "reasoning_content": "a vendor's own field"}
        for text in replies
    ]
    first, second, third = server.requests

    assert first == {"model": "m", "temperature": 0.5, "messages": [system, said[0]]}
    assert second["messages"] == [system, said[0], answered[0], said[1]]
    assert third["messages"] == [system, said[0], answered[0], said[1], answered[1], said[2]]
