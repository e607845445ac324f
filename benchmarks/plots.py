"""Draw the plots of three parts, and the spread of all targets."""

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

from benchmarks.harness.measuring import Series, items_case, quartiles, ratios
from benchmarks.harness.reporting import Report, Target, format_number
from benchmarks.parts import concurrency, history_length, prompt_cache
from benchmarks.sides import BASELINES, OURS, is_peer

_LABEL_WIDTH = 60
_OUR_COLOUR = "#c2410c"
_MET_COLOUR = "#15803d"
_BASELINE_COLOURS = ("#111827", "#6b7280")
_CACHED_COLOUR = "#f5c9ab"
_PRICE_COLOURS = ("#3b5b6d", "#93b5c6")
_PEER_COLOURS = ("#93b5c6", "#5b8a72", "#b8a9c9", "#c9b27c", "#a8a29e")


def draw(folder: Path, reports: Mapping[str, Report]) -> None:
    """Draw the plots of the parts in *reports* into *folder*."""
    if "history_length" in reports:
        _history_length(reports["history_length"].series).savefig(folder / "history_length.png")
    if "concurrency" in reports:
        _concurrency(reports["concurrency"].series).savefig(folder / "concurrency.png")
    if "prompt_cache" in reports:
        _prompt_cache(reports["prompt_cache"].series).savefig(folder / "prompt_cache.png", dpi=150)
    if targets := [target for report in reports.values() for target in report.targets]:
        _spread(targets).savefig(folder / "spread.png")

    plt.close("all")


def _history_length(series: Sequence[Series]) -> Figure:
    return _values_and_ratios(
        series,
        {items_case(items): items for items in history_length.LENGTHS},
        value_title="Time of a turn: load, and add two or four messages",
        value_label="ms",
        ratio_title="Time of each side ÷ time of tower-memory",
        position_label="items",
    )


def _concurrency(series: Sequence[Series]) -> Figure:
    items = concurrency.ITEMS
    return _values_and_ratios(
        series,
        {concurrency.case_of(count, items): count for count in concurrency.SESSIONS},
        value_title="Durable turns per second",
        value_label="",
        ratio_title="Rate of each side ÷ rate of tower-memory",
        position_label=f"concurrent sessions of {items} items",
    )


def _values_and_ratios(
    series: Sequence[Series],
    positions: Mapping[str, int],
    *,
    value_title: str,
    value_label: str,
    ratio_title: str,
    position_label: str,
) -> Figure:
    """Draw the values of all sides, and beside them the ratios to tower-memory.

    Args:
        series: Series of a part; those of other cases than in *positions* are left out.
        positions: Position of each case on the horizontal axis.
        value_title: Title of the left plot.
        value_label: Label of its vertical axis.
        ratio_title: Title of the right plot.
        position_label: Label of both horizontal axes.
    """
    figure, (values, quotients) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    shown = [each for each in series if each.case in positions]

    _lines(values, shown, positions)
    values.set(title=value_title, ylabel=value_label, xlabel=position_label)

    _lines(quotients, _divided_by_ours(shown), positions)
    quotients.set(title=ratio_title, xlabel=position_label)
    quotients.axhline(1, color=_OUR_COLOUR, linewidth=2)

    figure.legend(*values.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _prompt_cache(series: Sequence[Series]) -> Figure:
    """Draw the tokens that each window sends, and beside them their price."""
    windows = list(dict.fromkeys(each.side for each in series))
    values = {(each.side, each.case): quartiles(each.rounds).median for each in series}
    positions = range(len(windows), 0, -1)  # the first window is at the top

    figure, (tokens, prices) = plt.subplots(
        1, 2, figsize=(12, 4.2), sharey=True, layout="constrained"
    )
    figure.suptitle(f"Input of a conversation of {prompt_cache.TURNS} turns", fontsize=14)

    uncached = [values[window, prompt_cache.UNCACHED] for window in windows]
    cached = [values[window, prompt_cache.CACHED] for window in windows]
    repeated = [values[window, prompt_cache.REPEATED] for window in windows]
    tokens.barh(positions, uncached, 0.6, color=_OUR_COLOUR, label="not cached")
    bars = tokens.barh(
        positions, cached, 0.6, left=uncached, color=_CACHED_COLOUR, label="read from the cache"
    )
    tokens.bar_label(bars, [f"{share:.0%}" for share in repeated], padding=5)
    tokens.set(title="Thousand tokens, and the share that repeats the request before")
    tokens.set(yticks=positions, yticklabels=windows)
    tokens.xaxis.set_major_formatter("{x:,.0f}")

    height = 0.6 / len(prompt_cache.PRICES)
    for number, models in enumerate(prompt_cache.PRICES):
        costs = [values[window, prompt_cache.price_case(models)] for window in windows]
        places = [position + height * (0.5 - number) for position in positions]
        colour = _PRICE_COLOURS[number]
        bars = prices.barh(places, costs, height, color=colour, label=models)
        prices.bar_label(bars, [f"{cost:.2f}" for cost in costs], padding=5)
    prices.set(title="US$, at the list prices of October 2026")

    for axes in (tokens, prices):
        axes.margins(x=0.12)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0, labelsize=11)
        axes.set_axisbelow(True)
        axes.grid(axis="x", alpha=0.2)
        axes.legend(loc="lower right", bbox_to_anchor=(1, 0.15), frameon=False, fontsize=11)
    return figure


def _spread(targets: Sequence[Target]) -> Figure:
    """Draw all rounds of each target as shares of its bound; at most 1 is within the bound."""
    shown = [target for target in reversed(targets) if target.bound > 0]
    figure, axes = plt.subplots(figsize=(11, 1.5 + 0.42 * len(shown)), layout="constrained")
    figure.suptitle("Targets: each round, with quartiles and median; left of 1 is better")

    for position, target in enumerate(shown):
        shares = [
            target.bound / value if target.at_least else value / target.bound
            for value in target.rounds
        ]
        found = quartiles(shares)
        colour = _MET_COLOUR if target.is_met else _OUR_COLOUR
        axes.plot(shares, [position] * len(shares), "|", color=colour, alpha=0.35, markersize=11)
        axes.plot([found.low, found.high], [position] * 2, color=colour, linewidth=4, alpha=0.6)
        axes.plot(found.median, position, "o", color=colour)

    axes.axvline(1, color="black", linewidth=1)
    labels = [fill(target.description, _LABEL_WIDTH) for target in shown]
    axes.set_yticks(range(len(shown)), labels, fontsize=8)
    axes.set_xscale("log")
    _plain_numbers(axes)
    axes.set(xlabel="value ÷ bound; bound ÷ value if the target is a lower bound")
    axes.grid(axis="x", alpha=0.2)
    return figure


def _lines(axes: Axes, series: Sequence[Series], positions: Mapping[str, int]) -> None:
    """Draw a line through the medians of each side, and a band between its quartiles."""
    sides = list(dict.fromkeys(each.side for each in series))
    peers = list(filter(is_peer, sides))

    for side in sides:
        of_side = [each for each in series if each.side == side]
        found = [quartiles(each.rounds) for each in of_side]
        at = [positions[each.case] for each in of_side]

        is_ours = side == OURS
        colour = _colour(side, peers)
        style = "--" if side.endswith("WAL") or side in BASELINES[1:] else "-"
        axes.plot(
            at,
            [each.median for each in found],
            style,
            marker="o",
            markersize=4,
            color=colour,
            linewidth=3 if is_ours else 1.6,
            zorder=5 if is_ours else 2,
            label=side,
        )
        axes.fill_between(
            at,
            [each.low for each in found],
            [each.high for each in found],
            color=colour,
            alpha=0.25 if is_ours else 0.15,
            linewidth=0,
        )

    axes.set(xscale="log", yscale="log")
    _plain_numbers(axes)
    axes.set_xticks(list(positions.values()))
    axes.minorticks_off()
    axes.grid(alpha=0.2)


def _divided_by_ours(series: Sequence[Series]) -> list[Series]:
    ours = {each.case: each.rounds for each in series if each.side == OURS}
    return [
        Series(each.case, each.side, "", ratios(each.rounds, ours[each.case]))
        for each in series
        if each.side != OURS
    ]


def _colour(side: str, peers: Sequence[str]) -> str:
    if side == OURS:
        return _OUR_COLOUR
    if side in peers:
        return _PEER_COLOURS[peers.index(side) % len(_PEER_COLOURS)]
    return _BASELINE_COLOURS[BASELINES.index(side) > 0]


def _plain_numbers(axes: Axes) -> None:
    """Label the logarithmic axes with plain numbers instead of powers."""
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: format_number(value)))
            axis.set_minor_formatter(NullFormatter())
