"""Every Python block of the README runs, and prints the output that the README shows."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest

from helpers.servers import echo_server

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<out>.*?)^```\n)?", re.MULTILINE | re.DOTALL
)


def blocks():
    text = README.read_text()
    for match in BLOCK.finditer(text):
        lines_before = text.count("\n", 0, match.start("code"))
        code = "\n" * lines_before + match["code"]  # errors then point into the README
        yield compile(code, README, "exec"), match["out"]


def test_every_example_stands_alone_and_prints_the_text_below_it(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)

    with echo_server() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        ran = 0
        for code, out in blocks():
            exec(code, {"__name__": "readme"})
            printed = capsys.readouterr().out
            assert out is None or printed == out
            ran += 1

    assert ran == README.read_text().count("```python")


def test_the_first_example_has_at_most_10_lines_of_code():
    code = BLOCK.search(README.read_text())["code"]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10


def test_the_readme_has_at_most_200_lines():
    assert len(README.read_text().splitlines()) <= 200


LINK = re.compile(r"\[[^\]]*\]\((?!https?://)([^)#]*)(?:#([^)]*))?\)")
MARKDOWN = [
    *("README.md", "CHANGELOG.md", ".github/CONTRIBUTING.md"),
    *("src/tower_memory/README.md", "benchmarks/README.md", "benchmarks/comparison/README.md"),
]


@pytest.mark.parametrize("page", MARKDOWN)
def test_every_link_in_the_repository_leads_to_a_file_and_a_heading(page):
    path = ROOT / page
    for target, heading in LINK.findall(path.read_text()):
        found = (path.parent / target).resolve() if target else path
        assert found.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", found.read_text(), re.MULTILINE)
            assert heading in {title.lower().replace(" ", "-") for title in titles}


def test_the_page_of_the_package_has_no_dead_links():
    """The package index shows the README without the repository around it."""
    page = importlib.metadata.metadata("tower-memory")
    text = page.get_payload() or page["Description"]
    assert text.startswith("# tower-memory")
    assert [link for link in LINK.findall(text) if link[0]] == []
