"""Plots: what a turn costs against age, turns per second against concurrency, and the spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks import age, concurrency
from benchmarks.measuring import Series, ratios, spread
from benchmarks.reporting import Report, Target, number
from benchmarks.sides import FLOORS, TowerMemory

OURS = TowerMemory.name
_LABEL = 60  # characters of a line
_OURS_COLOUR = "#c2410c"
_FLOOR_COLOURS = ("#111827", "#6b7280")
_PEER_COLOURS = ("#93b5c6", "#5b8a72", "#b8a9c9", "#c9b27c", "#a8a29e")


def draw(out: Path, reports: Mapping[str, Report]) -> None:
    """Draw what the parts that were run have found."""
    if "age" in reports:
        _age(reports["age"].series).savefig(out / "age.png")
    if "concurrency" in reports:
        _concurrency(reports["concurrency"].series).savefig(out / "concurrency.png")
    if targets := [target for report in reports.values() for target in report.targets]:
        _spread(targets).savefig(out / "spread.png")
    plt.close("all")


def _age(series: Sequence[Series]) -> Figure:
    figure, (costs, compared) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    places = {age.case_of(items): items for items in age.AGES}
    whole = [each for each in series if each.case in places]
    _lines(costs, whole, places)
    costs.set(title="A turn: load, and add two messages or four", ylabel="ms", xlabel="items")
    _lines(compared, _relative(whole), places)
    compared.set(title="The time of each, as a multiple of tower-memory's", xlabel="items")
    compared.axhline(1, color=_OURS_COLOUR, linewidth=2)
    figure.legend(*costs.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _concurrency(series: Sequence[Series]) -> Figure:
    figure, (rates, compared) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    places = {concurrency.case_of(count, concurrency.AGE): count for count in concurrency.SESSIONS}
    those = [each for each in series if each.case in places]
    _lines(rates, those, places)
    rates.set(title="Durable turns per second", xlabel="sessions at once, of 100 items")
    _lines(compared, _relative(those), places)
    compared.set(title="The rate of each, as a multiple of tower-memory's")
    compared.set(xlabel="sessions at once, of 100 items")
    compared.axhline(1, color=_OURS_COLOUR, linewidth=2)
    figure.legend(*rates.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _spread(targets: Sequence[Target]) -> Figure:
    """Every round of every target, as a share of its bound."""
    shown = [target for target in targets if target.bound > 0]
    figure, axes = plt.subplots(figsize=(11, 1.5 + 0.42 * len(shown)), layout="constrained")
    figure.suptitle("What was to be shown: each round, its quartiles and median; left is better")
    for place, target in enumerate(reversed(shown)):
        shares = [
            target.bound / value if target.at_least else value / target.bound
            for value in target.rounds
        ]
        found = spread(shares)
        colour = "#15803d" if target.is_met else _OURS_COLOUR
        axes.plot(shares, [place] * len(shares), "|", color=colour, alpha=0.35, markersize=11)
        axes.plot([found.low, found.high], [place, place], color=colour, linewidth=4, alpha=0.6)
        axes.plot(found.middle, place, "o", color=colour)
    axes.axvline(1, color="black", linewidth=1)
    labels = [fill(target.what, _LABEL) for target in reversed(shown)]
    axes.set_yticks(range(len(shown)), labels, fontsize=8)
    axes.set_xscale("log")
    _plain(axes)
    axes.set(xlabel="as a share of the target, or the target as a share of it where it is a least")
    axes.grid(axis="x", alpha=0.2)
    return figure


def _lines(axes: Axes, series: Sequence[Series], places: Mapping[str, int]) -> None:
    """A line through the medians of each side, and a band between its quartiles."""
    sides = list(dict.fromkeys(each.side for each in series))
    peers = [side for side in sides if side not in (OURS, *FLOORS)]
    for side in sides:
        those = [each for each in series if each.side == side]
        found = [spread(each.rounds) for each in those]
        at = [places[each.case] for each in those]
        colour = _colour(side, peers)
        is_ours = side == OURS
        style = "--" if side.endswith("WAL") or side in FLOORS[1:] else "-"
        width, order = (3, 5) if is_ours else (1.6, 2)
        axes.plot(at, [each.middle for each in found], style, marker="o", markersize=4)
        line = axes.lines[-1]
        line.set(color=colour, linewidth=width, zorder=order, label=side)
        axes.fill_between(
            at,
            [each.low for each in found],
            [each.high for each in found],
            color=colour,
            alpha=0.25 if is_ours else 0.15,
            linewidth=0,
        )
    axes.set(xscale="log", yscale="log")
    _plain(axes)
    axes.set_xticks(list(places.values()))
    axes.minorticks_off()
    axes.grid(alpha=0.2)


def _relative(series: Sequence[Series]) -> list[Series]:
    ours = {each.case: each.rounds for each in series if each.side == OURS}
    return [
        Series(each.case, each.side, "", ratios(each.rounds, ours[each.case]))
        for each in series
        if each.side != OURS
    ]


def _colour(side: str, peers: Sequence[str]) -> str:
    if side == OURS:
        return _OURS_COLOUR
    if side in peers:
        return _PEER_COLOURS[peers.index(side) % len(_PEER_COLOURS)]
    return _FLOOR_COLOURS[FLOORS.index(side) > 0]


def _plain(axes: Axes) -> None:
    """Numbers as they are read, not as powers."""
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
            axis.set_minor_formatter(NullFormatter())
