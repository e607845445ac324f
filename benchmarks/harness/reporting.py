"""The report of a part, and its forms: tables as text and as Markdown, and JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from typing import Any

from benchmarks.harness.measuring import (
    Series,
    highest,
    lowest,
    quartiles,
    ratios,
    rounds_of,
)
from benchmarks.sides import OURS, is_peer

_SIGNIFICANT_DIGITS = 3


@dataclass(frozen=True, slots=True)
class Target:
    """A bound that tower-memory aims at, and the values measured for it.

    Attributes:
        description: Description of the measured value.
        rounds: Value of each round: a ratio, or a number in *unit*.
        bound: Highest value that the median may have; with *at_least* the lowest.
        at_least: True if higher values are better.
        unit: Unit of *rounds* and *bound*; empty for ratios.
    """

    description: str
    rounds: Sequence[float]
    bound: float
    at_least: bool = False
    unit: str = ""

    @property
    def is_met(self) -> bool:
        """True if the median is on the right side of the bound."""
        median = quartiles(self.rounds).median
        return median >= self.bound if self.at_least else median <= self.bound


@dataclass(frozen=True, slots=True)
class Table:
    """A title, a header and rows."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> str:
        """Return the table as aligned text."""
        lines = [self.header, *self.rows]
        widths = [max(map(len, column)) for column in zip_longest(*lines, fillvalue="")]
        header, *rows = [_aligned(line, widths) for line in lines]
        rule = "  ".join("-" * width for width in widths)
        return "\n".join([self.title, "", header, rule, *rows])

    def markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        return "\n".join([f"**{self.title}**\n", *(f"| {' | '.join(line)} |" for line in lines)])


@dataclass(frozen=True, slots=True)
class Report:
    """The results of a part."""

    series: list[Series] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)


def ratio_target(
    description: str,
    series: Sequence[Series],
    case: str,
    other: str,
    bound: float,
    *,
    at_least: bool = False,
) -> Target:
    """Return a target for the values of tower-memory divided by those of the side *other*."""
    quotients = ratios(rounds_of(series, OURS, case), rounds_of(series, other, case))
    return Target(f"{description} ÷ {other}", quotients, bound, at_least)


def fastest_peer_targets(
    description: str, series: Sequence[Series], case: str, bound: float, *, at_least: bool = False
) -> list[Target]:
    """Return a target for tower-memory divided by the fastest peer; none without peers.

    The fastest peer has the lowest median, or the highest with *at_least*.
    """
    peers = [each for each in series if each.case == case and is_peer(each.side)]
    if not peers:
        return []

    fastest = highest(peers) if at_least else lowest(peers)
    quotients = ratios(rounds_of(series, OURS, case), fastest.rounds)
    label = f"{description} ÷ {fastest.side}, the fastest peer"
    return [Target(label, quotients, bound, at_least)]


def format_number(value: float) -> str:
    """Format *value* with three digits, or with all digits before the point if there are more."""
    if value == 0:
        return "0"

    is_small = abs(value) < 10**_SIGNIFICANT_DIGITS
    text = f"{value:.{_SIGNIFICANT_DIGITS}g}" if is_small else f"{value:,.0f}"
    return f"{float(text):g}" if "e" in text else text


def format_quartiles(values: Sequence[float]) -> str:
    """Format the median, followed by the quartiles if there are several *values*."""
    found = quartiles(values)
    if len(values) == 1:
        return format_number(found.median)

    low, high = format_number(found.low), format_number(found.high)
    return f"{format_number(found.median)} ({low} to {high})"


def values_table(title: str, series: Sequence[Series]) -> Table:
    """Return a table of the measured values: a row for each side, a column for each case."""
    return _table(title, series, lambda each: format_quartiles(each.rounds))


def ratios_table(title: str, series: Sequence[Series], base: str) -> Table:
    """Return a table of the values of the side *base* divided by those of each other side."""
    base_rounds = {each.case: each.rounds for each in series if each.side == base}

    def cell(each: Series) -> str:
        return format_quartiles(ratios(base_rounds[each.case], each.rounds))

    return _table(title, [each for each in series if each.side != base], cell)


def _table(title: str, series: Sequence[Series], cell: Callable[[Series], str]) -> Table:
    cases = list(dict.fromkeys(each.case for each in series))
    sides = list(dict.fromkeys(each.side for each in series))
    cells = {(each.side, each.case): cell(each) for each in series}
    rows = [[side, *(cells.get((side, case), "not measured") for case in cases)] for side in sides]
    return Table(title, ["", *cases], rows)


def summary_table(targets: Iterable[Target]) -> Table:
    """Return a table of all targets and their results."""
    rows = [
        [
            target.description,
            f"{format_quartiles(target.rounds)} {target.unit}".strip(),
            _format_bound(target),
            "met" if target.is_met else "missed",
        ]
        for target in targets
    ]
    return Table("Summary", ["measurement", "median (quartiles)", "target", "result"], rows)


def _format_bound(target: Target) -> str:
    relation = "at least" if target.at_least else "at most"
    return f"{relation} {format_number(target.bound)} {target.unit}".strip()


def as_json(report: Report) -> dict[str, Any]:
    """Return the report with all measured values; the keys are a stable format."""
    series = [{**asdict(each), "quartiles": _quartile_list(each.rounds)} for each in report.series]
    targets = [
        {
            "what": target.description,
            "rounds": target.rounds,
            "bound": target.bound,
            "at_least": target.at_least,
            "unit": target.unit,
            "quartiles": _quartile_list(target.rounds),
            "is_met": target.is_met,
        }
        for target in report.targets
    ]

    return {"series": series, "targets": targets}


def _quartile_list(values: Sequence[float]) -> list[float]:
    found = quartiles(values)
    return [found.low, found.median, found.high]


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
