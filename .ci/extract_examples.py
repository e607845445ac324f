"""Write each example of the README and the guides into a file of its own, for the type checkers.

Usage: python .ci/extract_examples.py FOLDER. An example that uses a name without importing it then
fails the check, so the examples are self-contained.
"""

from __future__ import annotations

import doctest
import importlib
import re
import sys
from collections.abc import Iterator
from inspect import isclass, isroutine
from pathlib import Path

GUIDES = (
    "tower_memory",
    "tower_memory.bridges",
    "tower_memory.dialects",
    "tower_memory.dialects.toolkit",
    "tower_memory.integrations.agent_framework",
    "tower_memory.integrations.langchain",
    "tower_memory.integrations.openai_agents",
    "tower_memory.integrations.pydantic_ai",
    "tower_memory.postgres",
    "tower_memory.products",
    "tower_memory.resumable",
    "tower_memory.store_toolkit",
    "tower_memory.streams",
    "tower_memory.testing",
    "tower_memory.tracing",
    "tower_memory.windows",
)
# A doctest shows the value of an expression, so an expression may be a whole statement.
HEAD = "# pyright: strict, reportUnusedExpression=false\n"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples() -> Iterator[tuple[str, str]]:
    """Yield a name and the code of each example."""
    for number, code in enumerate(BLOCK.findall(Path("README.md").read_text()), 1):
        yield f"readme_{number}", code

    finder = doctest.DocTestFinder(exclude_empty=True)
    for guide in GUIDES:
        module = importlib.import_module(guide)
        public = [getattr(module, name) for name in module.__all__]
        documented = [module, *(each for each in public if isroutine(each) or isclass(each))]
        docstrings = {found.name: found for each in documented for found in finder.find(each)}
        for name, found in docstrings.items():
            if found.examples:
                yield name.replace(".", "_"), "".join(example.source for example in found.examples)


def main() -> None:
    """Write the files."""
    folder = Path(sys.argv[1])
    for name, code in examples():
        (folder / f"example_{name}.py").write_text(f"{HEAD}{code}")


if __name__ == "__main__":
    main()
