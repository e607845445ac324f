"""Every Python block of the README runs, and prints what the README says it prints."""

from __future__ import annotations

import re
from pathlib import Path

from openai_server import serving

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<out>.*?)^```\n)?", re.MULTILINE | re.DOTALL
)


def blocks():
    text = README.read_text()
    for match in BLOCK.finditer(text):
        lines_before = text.count("\n", 0, match.start("code"))
        code = "\n" * lines_before + match["code"]  # errors then point into the README
        yield compile(code, README, "exec"), match["out"]


def test_every_block_runs_in_order_and_prints_what_it_says(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "readme"}
    with serving() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        ran = 0
        for code, out in blocks():
            exec(code, namespace)
            printed = capsys.readouterr().out
            assert out is None or printed == out
            ran += 1
    assert ran == README.read_text().count("```python")


def test_the_first_example_has_at_most_25_lines():
    assert len(BLOCK.search(README.read_text())["code"].splitlines()) <= 25
