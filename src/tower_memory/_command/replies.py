"""The printing of a reply as it arrives.

1. A reply in a pipe is one line, so the lines of the output belong to the lines of the input. On a
   terminal it has the lines that the model wrote.
2. A terminal obeys control characters. Each character that is not printable becomes a space.
"""

from __future__ import annotations

from typing import Any, Final, TextIO, final

from tower_memory._command.output import JOINERS

_BREAKS: Final = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
"""The characters that end a line, as for ``str.splitlines``."""


@final
class ReplyPrinter:
    """Prints one reply, piece by piece.

    Attributes:
        has_text: True if something was printed.
    """

    def __init__(self, stream: TextIO) -> None:
        self.has_text = False
        self._stream = stream
        self._break = "\n" if stream.isatty() else " "
        self._waiting = ""  # line breaks, printed before the next text
        self._after_return = False

    def write(self, piece: str) -> None:
        """Print a piece of the reply."""
        printed = "".join(map(self._printed, piece))
        if printed:
            self.has_text = True
            print(printed, end="", file=self._stream, flush=True)

    def _printed(self, character: str) -> str:
        is_rest_of_break = character == "\n" and self._after_return
        self._after_return = character == "\r"
        if character in _BREAKS:
            self._waiting += "" if is_rest_of_break else self._break
            return ""

        breaks, self._waiting = self._waiting, ""
        is_shown = character.isprintable() or character in JOINERS
        return breaks + (character if is_shown else " ")

    def end(self) -> None:
        """End the line of the reply."""
        print(file=self._stream, flush=True)


def text_of_chunk(chunk: Any) -> str:
    """Return the text of a chunk of a streamed chat completion, or an empty text."""
    choices = getattr(chunk, "choices", None)
    delta = getattr(choices[0], "delta", None) if choices else None
    text = getattr(delta, "content", None) or getattr(delta, "refusal", None)
    return text if isinstance(text, str) else ""
