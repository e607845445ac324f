"""What a part reports, and how it is shown: tables as text and as Markdown, and JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from typing import Any

from benchmarks.measuring import Series, Spread, ratios, spread

_DIGITS = 3  # that are shown


@dataclass(frozen=True, slots=True)
class Target:
    """What a part must show, and what each round gave of it.

    Attributes:
        what: In words.
        rounds: A ratio for each round, or another number where *unit* says so.
        bound: What the median may be at most, or with *at_least* at least.
        unit: What *rounds* and *bound* are in; empty for ratios.
    """

    what: str
    rounds: Sequence[float]
    bound: float
    at_least: bool = False
    unit: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the median is on the right side of the bound."""
        middle = spread(self.rounds).middle
        return middle >= self.bound if self.at_least else middle <= self.bound


@dataclass(frozen=True, slots=True)
class Table:
    """A title, and rows under a head."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> str:
        """As it is printed."""
        cells = [self.head, *self.rows]
        widths = [max(map(len, column)) for column in zip_longest(*cells, fillvalue="")]
        lines = [_line(row, widths) for row in cells]
        rule = "  ".join("-" * width for width in widths)
        return "\n".join([self.title, "", lines[0], rule, *lines[1:]])

    def markdown(self) -> str:
        """As a README has it."""
        rows = [self.head, ["---"] * len(self.head), *self.rows]
        return "\n".join([f"**{self.title}**\n", *(f"| {' | '.join(row)} |" for row in rows)])


@dataclass(frozen=True, slots=True)
class Report:
    """What a part found."""

    series: list[Series] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)


def number(value: float) -> str:
    """*value* with three digits, or with all that are before the point."""
    if value == 0:
        return "0"
    text = f"{value:.{_DIGITS}g}" if abs(value) < 10**_DIGITS else f"{value:,.0f}"
    return f"{float(text):g}" if "e" in text else text


def spread_text(values: Sequence[float]) -> str:
    """The median, with the quartiles beside it if there are several *values*."""
    found = spread(values)
    if len(values) == 1:
        return number(found.middle)
    return f"{number(found.middle)} ({number(found.low)} to {number(found.high)})"


def absolutes(title: str, series: Sequence[Series]) -> Table:
    """What was measured: a row for each side, a column for each case."""
    return _matrix(title, series, lambda each: spread_text(each.rounds))


def relatives(title: str, series: Sequence[Series], base: str) -> Table:
    """How many times each other side the side *base* is: the result."""
    bases = {each.case: each.rounds for each in series if each.side == base}

    def cell(each: Series) -> str:
        return spread_text(ratios(bases[each.case], each.rounds))

    return _matrix(title, [each for each in series if each.side != base], cell)


def _matrix(title: str, series: Sequence[Series], cell: Callable[[Series], str]) -> Table:
    cases = list(dict.fromkeys(each.case for each in series))
    sides = list(dict.fromkeys(each.side for each in series))
    cells = {(each.side, each.case): cell(each) for each in series}
    rows = [[side, *(cells.get((side, case), "not measured") for case in cases)] for side in sides]
    return Table(title, ["", *cases], rows)


def summary(targets: Iterable[Target]) -> Table:
    """What was to be shown, and whether it was."""
    rows = [
        [
            target.what,
            f"{spread_text(target.rounds)} {target.unit}".strip(),
            _bound(target),
            "met" if target.is_met else "missed",
        ]
        for target in targets
    ]
    return Table("Summary", ["what", "measured (quartiles)", "target", ""], rows)


def _bound(target: Target) -> str:
    side = "least" if target.at_least else "most"
    return f"at {side} {number(target.bound)} {target.unit}".strip()


def as_json(report: Report) -> dict[str, Any]:
    """The report with everything that was measured."""
    return {
        "series": [
            {**asdict(each), "quartiles": _quartiles(each.rounds)} for each in report.series
        ],
        "targets": [
            {**asdict(each), "quartiles": _quartiles(each.rounds), "is_met": each.is_met}
            for each in report.targets
        ],
    }


def _quartiles(values: Sequence[float]) -> list[float]:
    found: Spread = spread(values)
    return [found.low, found.middle, found.high]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
